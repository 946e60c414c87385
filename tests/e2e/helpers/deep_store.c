/*
 * Makes a store with a tree of any depth: a directory `d` in each, and a file `bottom` in the
 * last one. An import makes no tree that is deeper than what can be exported again; others may.
 *
 * usage: deep_store ADDRESS NAME DEPTH
 */

#include <stdio.h>
#include <stdlib.h>

#include "services/store.h"

#define DEPTH_MAX 1000000

static int put_bottom(struct store *s, struct node *out, struct error *err)
{
	const struct bytes content = bytes_of_string("bottom\n");

	*out = (struct node){.kind = NODE_FILE, .size = content.len};
	return blob_service_put(s->blobs, content, &out->digest, err);
}

/* A directory with this alone, which it takes the place of. */
static int put_level(struct store *s, const char *name, struct node *node, struct error *err)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;
	int rc = directory_builder_add(b, bytes_of_string(name), node, err);

	if (rc == 0) {
		rc = directory_builder_finish(b, &d, err);
	}
	if (rc == 0) {
		rc = directory_service_put(s->directories, d, err);
	}
	if (rc == 0) {
		*node = directory_node(d);
	}
	return rc;
}

static int fill(struct store *s, const char *name, long depth, struct error *err)
{
	struct node node;
	int rc = put_bottom(s, &node, err);

	for (long i = 0; rc == 0 && i < depth; i++) {
		rc = put_level(s, i == 0 ? "bottom" : "d", &node, err);
	}
	if (rc == 0) {
		rc = root_nodes_put(s->roots, bytes_of_string(name), &node, false, err);
	}
	return rc < 0 ? rc : store_sync(s, err);
}

int main(int argc, char **argv)
{
	struct store s = {0};
	struct error err;
	long depth = argc == 4 ? strtol(argv[3], NULL, 10) : 0;

	if (depth < 1 || depth > DEPTH_MAX) {
		fprintf(stderr, "usage: %s ADDRESS NAME DEPTH\n", argv[0]);
		return 2;
	}
	int rc = store_open(&s, argv[1], STORE_CREATE, &err);

	if (rc == 0) {
		rc = fill(&s, argv[2], depth, &err);
	}
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
	}
	store_close(&s);
	return rc < 0;
}
