/*
 * Makes a store with a tree of any number of empty files, a thousand (or FILES) in each
 * directory, all of them different directories: much faster than an import of so many files,
 * which would have to exist first.
 *
 * usage: wide_store ADDRESS NAME DIRECTORIES [FILES]
 */

#include <stdio.h>
#include <stdlib.h>

#include "services/store.h"

#define FILES 1000ul
#define ENTRIES_MAX 10000000ul

struct shape {
	unsigned directories;
	unsigned files; /* in each */
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

/* The names tell the directories apart. */
static int put_folder(struct store *s, unsigned number, unsigned files, const struct node *file,
		      struct node *out, struct error *err)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < files; i++) {
		rc = add(b, "file", number * files + i, file, err);
	}
	return rc < 0 ? rc : put_directory(s, b, out, err);
}

static int fill(struct store *s, const char *name, const struct shape *shape, struct error *err)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node file = {.kind = NODE_FILE}, folder, top;
	int rc = blob_service_put(s->blobs, bytes_of("", 0), &file.digest, err);

	for (unsigned i = 0; rc == 0 && i < shape->directories; i++) {
		rc = put_folder(s, i, shape->files, &file, &folder, err);
		if (rc == 0) {
			rc = add(b, "folder", i, &folder, err);
		}
	}
	if (rc == 0) {
		rc = put_directory(s, b, &top, err);
	}
	if (rc == 0) {
		rc = root_nodes_put(s->roots, bytes_of_string(name), &top, false, err);
	}
	return rc < 0 ? rc : store_sync(s, err);
}

int main(int argc, char **argv)
{
	struct store s = {0};
	struct error err;
	bool fits = argc == 4 || argc == 5;
	unsigned long directories = fits ? strtoul(argv[3], NULL, 10) : 0;
	unsigned long files = argc == 5 ? strtoul(argv[4], NULL, 10) : FILES;

	if (directories == 0 || files == 0 || directories > ENTRIES_MAX ||
	    files > ENTRIES_MAX / directories) {
		fprintf(stderr, "usage: %s ADDRESS NAME DIRECTORIES [FILES]\n", argv[0]);
		return 2;
	}
	const struct shape shape = {(unsigned)directories, (unsigned)files};
	int rc = store_open(&s, argv[1], STORE_CREATE, &err);

	if (rc == 0) {
		rc = fill(&s, argv[2], &shape, &err);
	}
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
	}
	store_close(&s);
	return rc < 0;
}
