#pragma once

/* What the tests of import and export share: a folder with a tree, and a store in memory. */

#include <sys/types.h>

#include "castore/directory.h"
#include "ingest/ingest.h"

extern char tree_folder[];
extern char tree_path[64]; /* of the tree, in the folder */
extern struct store tree_store;

/* Around each test: an empty tree, an empty store. */
int tree_setup(void **state);
int tree_teardown(void **state);

/* A path in the tree, in one of four buffers. */
const char *tree_at(const char *name);
void tree_make_file(const char *name, const char *content, size_t len, mode_t mode);
void tree_make_text(const char *name, const char *content);
/* The file "large", new, with pseudo-random content. */
void tree_make_large(size_t size);

int tree_import(const char *path, const struct ingest_options *options, struct root_node *out,
		struct ingest_stats *stats, struct error *err);
void tree_import_well(const char *path, const struct ingest_options *options,
		      struct root_node *out, struct ingest_stats *stats);
/* Imports, which must fail with this code and name what is to blame. */
void tree_import_badly(const char *path, const struct ingest_options *options,
		       enum error_code code, const char *blamed);

/* From the store; a reference for the caller. */
struct directory *tree_get_directory(const struct node *node);
struct node tree_get_entry(const struct directory *d, const char *name);
/* The node is a file with this content, and the store has it. */
void tree_assert_blob(const struct node *node, const char *content, size_t len);
