/*
 * Makes a store in which objects are missing, as no import can: a tree that refers to a
 * directory and to a blob which are not there. Prints "name digest" lines for what is missing.
 *
 * usage: broken_store ADDRESS
 */

#include <stdio.h>
#include <stdlib.h>

#include "services/store.h"

#define MISSING_DIRECTORY_SIZE 7
#define MISSING_FILE_SIZE 1234

static struct node missing_directory(void)
{
	struct node n = {.kind = NODE_DIRECTORY, .size = MISSING_DIRECTORY_SIZE};

	digest_of(&n.digest, bytes_of_string("a directory that nobody put"));
	return n;
}

static struct node missing_file(void)
{
	struct node n = {.kind = NODE_FILE, .size = MISSING_FILE_SIZE};

	digest_of(&n.digest, bytes_of_string("a blob that nobody put"));
	return n;
}

static int put_file(struct store *s, struct directory_builder *b, const char *name,
		    struct error *err)
{
	struct bytes content = bytes_of_string("still here\n");
	struct node n = {.kind = NODE_FILE, .size = content.len};
	int rc = blob_service_put(s->blobs, content, &n.digest, err);

	return rc < 0 ? rc : directory_builder_add(b, bytes_of_string(name), &n, err);
}

static int put_directory(struct store *s, struct directory_builder *b, struct node *out,
			 struct error *err)
{
	struct directory *d = NULL;
	int rc = directory_builder_finish(b, &d, err);

	if (rc == 0) {
		rc = directory_service_put(s->directories, d, err);
	}
	if (rc == 0) {
		*out = directory_node(d);
	}
	directory_unref(d);
	return rc;
}

/* tree/{gone-directory, gone-file, here, inner/{gone-file, here}} */
static int put_tree(struct store *s, struct directory_builder *b, struct node *out,
		    struct error *err)
{
	struct node directory = missing_directory();
	struct node file = missing_file();
	struct node inner;
	int rc = directory_builder_add(b, bytes_of_string("gone-file"), &file, err);

	if (rc == 0) {
		rc = put_file(s, b, "here", err);
	}
	if (rc == 0) {
		rc = put_directory(s, b, &inner, err);
	}
	if (rc == 0) {
		rc = directory_builder_add(b, bytes_of_string("inner"), &inner, err);
	}
	if (rc == 0) {
		rc = directory_builder_add(b, bytes_of_string("gone-directory"), &directory,
					   err);
	}
	if (rc == 0) {
		rc = directory_builder_add(b, bytes_of_string("gone-file"), &file, err);
	}
	if (rc == 0) {
		rc = put_file(s, b, "here", err);
	}
	return rc < 0 ? rc : put_directory(s, b, out, err);
}

static int put_root(struct store *s, const char *name, const struct node *node,
		    struct error *err)
{
	return root_nodes_put(s->roots, bytes_of_string(name), node, false, err);
}

static int fill(struct store *s, struct error *err)
{
	struct directory_builder *b = directory_builder_new();
	struct node directory = missing_directory();
	struct node file = missing_file();
	struct node tree;
	int rc = put_tree(s, b, &tree, err);

	if (rc == 0) {
		rc = put_root(s, "tree", &tree, err);
	}
	if (rc == 0) {
		rc = put_root(s, "gone-directory", &directory, err);
	}
	if (rc == 0) {
		rc = put_root(s, "gone-file", &file, err);
	}
	directory_builder_free(b);
	return rc < 0 ? rc : store_sync(s, err);
}

int main(int argc, char **argv)
{
	struct node directory = missing_directory();
	struct node file = missing_file();
	struct store s = {0};
	struct error err;

	if (argc != 2) {
		fprintf(stderr, "usage: %s ADDRESS\n", argv[0]);
		return 2;
	}
	if (store_open(&s, argv[1], STORE_CREATE, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	if (fill(&s, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		store_close(&s);
		return 1;
	}
	store_close(&s);
	printf("directory %s\n", digest_text(&directory.digest));
	printf("file %s\n", digest_text(&file.digest));
	return 0;
}
