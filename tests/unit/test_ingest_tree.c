#include "test_ingest_tree.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "services/memory.h"

char tree_folder[] = "/tmp/cairn-test-ingest-XXXXXX";
char tree_path[64]; /* in folder */
struct store tree_store;

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

int tree_setup(void **state unused)
{
	memcpy(tree_folder + sizeof(tree_folder) - 7, "XXXXXX", 6);
	if (!mkdtemp(tree_folder)) {
		return -1;
	}
	snprintf(tree_path, sizeof(tree_path), "%s/tree", tree_folder);
	memory_store_open(&tree_store);
	return mkdir(tree_path, 0755);
}

int tree_teardown(void **state unused)
{
	store_close(&tree_store);
	return nftw(tree_folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in the tree, in one of four buffers. */
const char *tree_at(const char *name)
{
	static char paths[4][512];
	static unsigned turn;
	char *path = paths[turn++ % ARRAY_SIZE(paths)];

	snprintf(path, sizeof(paths[0]), "%s/%s", tree_path, name);
	return path;
}

void tree_make_file(const char *name, const char *content, size_t len, mode_t mode)
{
	int fd = open(tree_at(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, content, len), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

void tree_make_text(const char *name, const char *content)
{
	tree_make_file(name, content, strlen(content), 0644);
}

int tree_import(const char *path, const struct ingest_options *options, struct root_node *out,
		struct ingest_stats *stats, struct error *err)
{
	*out = (struct root_node){0};
	*err = (struct error){0};
	return ingest_path(&tree_store, path, options, out, stats, err);
}

void tree_import_well(const char *path, const struct ingest_options *options,
		      struct root_node *out, struct ingest_stats *stats)
{
	struct error err;

	if (tree_import(path, options, out, stats, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

/* Imports, which must fail with this code and name what is to blame. */
void tree_import_badly(const char *path, const struct ingest_options *options,
		       enum error_code code, const char *blamed)
{
	struct root_node out;
	struct error err;

	assert_int_equal(tree_import(path, options, &out, NULL, &err), -(int)code);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, blamed)) {
		fail_msg("'%s' is not in '%s'", blamed, err.text);
	}
	assert_int_equal(out.node.kind, 0);
}

struct directory *tree_get_directory(const struct node *node)
{
	struct directory *d;

	assert_int_equal(node->kind, NODE_DIRECTORY);
	assert_int_equal(directory_service_get(tree_store.directories, &node->digest, &d, NULL),
			 1);
	return d;
}

struct node tree_get_entry(const struct directory *d, const char *name)
{
	struct directory_entry e;
	ssize_t i = directory_find(d, bytes_of_string(name));

	assert_true(i >= 0);
	directory_entry(d, (size_t)i, &e);
	return e.node;
}

void tree_assert_blob(const struct node *node, const char *content, size_t len)
{
	struct digest digest;

	digest_of(&digest, bytes_of(content, len));
	assert_int_equal(node->kind, NODE_FILE);
	assert_memory_equal(node->digest.bytes, digest.bytes, DIGEST_SIZE);
	assert_int_equal(node->size, len);
	assert_int_equal(blob_service_has(tree_store.blobs, &digest, NULL), 1);
}

void tree_make_large(size_t size)
{
	char *content cleanup(cleanup_free) = xmalloc(size);

	for (size_t i = 0; i < size; i++) {
		content[i] = (char)(i * 2654435761u >> 13);
	}
	unlink(tree_at("large"));
	tree_make_file("large", content, size, 0644);
}
