/*
 * Makes a store with a tree of any number of files, FILES of them in each directory, all of
 * them different, directories and files: much faster than an import of so many files, which
 * would have to exist first. The files can be listed and looked up, but not read: their
 * contents are not in the store, unless "whole" is said. ROOTS directories have names of their
 * own as well: NAME0, NAME1 and so on.
 *
 * usage: wide_store ADDRESS NAME DIRECTORIES [FILES [ROOTS [whole]]]
 */

#include <stdio.h>
#include <stdlib.h>

#include "services/store.h"

#define COUNT_MAX 1000000

struct shape {
	const char *name;
	unsigned directories;
	unsigned files; /* in each directory */
	unsigned roots;
	bool whole;
};

static int add(struct directory_builder *b, const char *prefix, unsigned number,
	       const struct node *node, struct error *err)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%06u", prefix, number);
	return directory_builder_add(b, bytes_of_string(name), node, err);
}

static int put_directory(struct store *s, struct directory_builder *b, struct node *out,
			 struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	int rc = directory_builder_finish(b, &d, err);

	if (rc == 0) {
		rc = directory_service_put(s->directories, d, err);
	}
	if (rc == 0) {
		*out = directory_node(d);
	}
	return rc;
}

static int make_file(struct store *s, uint32_t number, bool whole, struct node *out,
		     struct error *err)
{
	struct bytes content = bytes_of(&number, sizeof(number));

	*out = (struct node){.kind = NODE_FILE, .size = sizeof(number)};
	digest_of(&out->digest, content);
	return whole ? blob_service_put(s->blobs, content, NULL, err) : 0;
}

static int put_folder(struct store *s, unsigned number, const struct shape *shape,
		      struct node *out, struct error *err)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < shape->files; i++) {
		struct node file;

		rc = make_file(s, number * shape->files + i, shape->whole, &file, err);
		if (rc == 0) {
			rc = add(b, "file", number * shape->files + i, &file, err);
		}
	}
	return rc < 0 ? rc : put_directory(s, b, out, err);
}

static int put_root(struct store *s, const char *name, unsigned number, const struct node *node,
		    struct error *err)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%u", name, number);
	return root_nodes_put(s->roots, bytes_of_string(text), node, false, err);
}

static int fill(struct store *s, const struct shape *shape, struct error *err)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node folder, top;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < shape->directories; i++) {
		rc = put_folder(s, i, shape, &folder, err);
		if (rc == 0) {
			rc = add(b, "folder", i, &folder, err);
		}
		if (rc == 0 && i < shape->roots) {
			rc = put_root(s, shape->name, i, &folder, err);
		}
	}
	if (rc == 0) {
		rc = put_directory(s, b, &top, err);
	}
	if (rc == 0) {
		rc = root_nodes_put(s->roots, bytes_of_string(shape->name), &top, false, err);
	}
	return rc < 0 ? rc : store_sync(s, err);
}

/* 0 when it is no such count. */
static unsigned count_of(const char *text, unsigned fallback)
{
	unsigned long count = text ? strtoul(text, NULL, 10) : fallback;

	return count <= COUNT_MAX ? (unsigned)count : 0;
}

int main(int argc, char **argv)
{
	struct store s = {0};
	struct error err;
	struct shape shape = {0};

	if (argc >= 4 && argc <= 7) {
		shape = (struct shape){.name = argv[2],
				       .directories = count_of(argv[3], 0),
				       .files = count_of(argc > 4 ? argv[4] : NULL, 1000),
				       .roots = count_of(argc > 5 ? argv[5] : NULL, 0),
				       .whole = argc > 6 && strcmp(argv[6], "whole") == 0};
	}
	if (shape.directories == 0 || shape.files == 0) {
		fprintf(stderr, "usage: %s ADDRESS NAME DIRECTORIES [FILES [ROOTS [whole]]]\n",
			argv[0]);
		return 2;
	}
	int rc = store_open(&s, argv[1], STORE_CREATE, &err);

	if (rc == 0) {
		rc = fill(&s, &shape, &err);
	}
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
	}
	store_close(&s);
	return rc < 0;
}
