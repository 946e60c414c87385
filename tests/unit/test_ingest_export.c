/* Export from a store in memory. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "ingest/export.h"
#include "services/memory.h"
#include "test_ingest_tree.h"

static void make_sample(void)
{
	tree_make_text("plain", "content");
	tree_make_file("run", "#!", 2, 0755);
	tree_make_text("empty", "");
	tree_make_large(9 << 20);
	assert_int_equal(symlink("../outside", tree_at("link")), 0);
	assert_int_equal(mkdir(tree_at("sub"), 0755), 0);
	tree_make_text("sub/inner", "inner");
	assert_int_equal(mkdir(tree_at("sub/void"), 0755), 0);
	int fd = open(tree_at("sparse"), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_int_equal(pwrite_full(fd, "middle", 6, (3 << 20) - 3), 0);
	assert_int_equal(ftruncate(fd, 20 << 20), 0);
	close(fd);
}

static void export_well(const struct node *node, const char *dest)
{
	struct error err = {0};

	if (export_tree(&tree_store, node, dest, NULL, NULL, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void export_badly(const struct node *node, const char *dest, enum error_code code,
			 const char *text)
{
	struct error err = {0};

	assert_int_equal(export_tree(&tree_store, node, dest, NULL, NULL, &err), -(int)code);
	if (!strstr(err.text, text)) {
		fail_msg("'%s' is not in '%s'", text, err.text);
	}
}

static void test_export(void **state unused)
{
	struct root_node root, again;
	char dest[128], inner[160];
	struct stat st;

	make_sample();
	tree_import_well(tree_path, NULL, &root, NULL);
	snprintf(dest, sizeof(dest), "%s/out", tree_folder);
	export_well(&root.node, dest);
	tree_import_well(dest, NULL, &again, NULL);
	assert_true(node_equal(&again.node, &root.node));
	root_node_done(&again);

	snprintf(inner, sizeof(inner), "%s/sparse", dest);
	assert_int_equal(stat(inner, &st), 0);
	assert_int_equal(st.st_size, 20 << 20);
	assert_true(st.st_blocks * 512 < 4 << 20);
	snprintf(inner, sizeof(inner), "%s/run", dest);
	assert_int_equal(stat(inner, &st), 0);
	assert_int_equal(st.st_mode & 0700, 0700);

	/* Not a second time, and not over anything else. */
	export_badly(&root.node, dest, ERROR_EXISTS, "/out: the directory is not empty");
	export_badly(&root.node, inner, ERROR_EXISTS, "/out/run: exists");
	snprintf(dest, sizeof(dest), "%s/missing/out", tree_folder);
	export_badly(&root.node, dest, ERROR_NOT_FOUND, "/missing/out: cannot create");
	snprintf(dest, sizeof(dest), "%s/void", tree_folder);
	assert_int_equal(mkdir(dest, 0755), 0);
	export_well(&root.node, dest);
	root_node_done(&root);
}

/* Neither symlinks in the destination nor the destination as a symlink lead anywhere. */
static void test_export_follows_nothing(void **state unused)
{
	struct root_node root;
	char dest[128], target[128];

	make_sample();
	tree_import_well(tree_path, NULL, &root, NULL);
	snprintf(dest, sizeof(dest), "%s/link", tree_folder);
	snprintf(target, sizeof(target), "%s/target", tree_folder);
	assert_int_equal(mkdir(target, 0755), 0);
	assert_int_equal(symlink("target", dest), 0);
	export_badly(&root.node, dest, ERROR_EXISTS, "/link: exists");
	assert_int_equal(rmdir(target), 0);
	root_node_done(&root);
	tree_import_well(tree_at("plain"), NULL, &root, NULL);
	export_badly(&root.node, dest, ERROR_EXISTS, "/link: cannot create");
	assert_int_equal(access(target, F_OK), -1);
	root_node_done(&root);
}

static void test_export_missing(void **state unused)
{
	struct root_node root;
	struct digest digest;
	char dest[128], path[160];

	make_sample();
	tree_import_well(tree_path, NULL, &root, NULL);
	digest_of(&digest, bytes_of_string("inner"));
	assert_true(memory_blob_remove(tree_store.blobs, &digest));
	snprintf(dest, sizeof(dest), "%s/out", tree_folder);
	export_badly(&root.node, dest, ERROR_UNAVAILABLE, "/out is incomplete");
	snprintf(dest, sizeof(dest), "%s/out2", tree_folder);
	export_badly(&root.node, dest, ERROR_UNAVAILABLE, "/out2/sub/inner: b3:");
	snprintf(path, sizeof(path), "%s/sub/inner", dest);
	assert_int_equal(access(path, F_OK), -1);
	assert_true(memory_directory_remove(tree_store.directories, &root.node.digest));
	snprintf(dest, sizeof(dest), "%s/out3", tree_folder);
	export_badly(&root.node, dest, ERROR_UNAVAILABLE, "the directory is not in the store");
	root_node_done(&root);
}

static void test_export_corrupt(void **state unused)
{
	struct root_node root;
	struct digest digest;
	char dest[128];

	make_sample();
	tree_import_well(tree_path, NULL, &root, NULL);
	digest_of(&digest, bytes_of_string("inner"));
	assert_true(memory_blob_corrupt(tree_store.blobs, &digest, bytes_of_string("INNER")));
	snprintf(dest, sizeof(dest), "%s/out", tree_folder);
	export_badly(&root.node, dest, ERROR_CORRUPT, "/out/sub/inner");
	root_node_done(&root);
}

/* A directory that says a wrong size of a file is as corrupt as a wrong file. */
static void test_export_wrong_size(void **state unused)
{
	struct node node = {.kind = NODE_FILE, .size = 4};
	char dest[128];

	snprintf(dest, sizeof(dest), "%s/out", tree_folder);
	assert_int_equal(blob_service_put(tree_store.blobs, bytes_of_string("12345"),
					  &node.digest, NULL),
			 0);
	for (node.size = 0; node.size < 8; node.size++) {
		if (node.size == 5) {
			continue;
		}
		export_badly(&node, dest, ERROR_CORRUPT, "the blob does not have the");
		assert_int_equal(access(dest, F_OK), -1);
	}
	node.size = 5 << 20;
	export_badly(&node, dest, ERROR_CORRUPT, "the blob does not have the");
}

/* More files, bytes and directories than are asked for in one go, and all kinds between them.
 */
static void make_many(void)
{
	size_t len = (size_t)1 << 20;
	char *content cleanup(cleanup_free) = xcalloc(1, len + 1);
	char name[64];

	for (unsigned d = 0; d < 80; d++) {
		snprintf(name, sizeof(name), "d%u", d);
		assert_int_equal(mkdir(tree_at(name), 0755), 0);
		for (unsigned f = 0; f < 20; f++) {
			snprintf(name, sizeof(name), "d%u/f%u", d, f);
			tree_make_text(name, f % 5 ? name : "");
		}
		snprintf(name, sizeof(name), "d%u/link", d);
		assert_int_equal(symlink("f0", tree_at(name)), 0);
	}
	for (unsigned f = 0; f < 12; f++) {
		snprintf(name, sizeof(name), "d7/large%u", f);
		snprintf(content, 16, "%u", f);
		tree_make_file(name, content, len + f % 2, 0644);
	}
	assert_int_equal(mkdir(tree_at("wide"), 0755), 0);
	for (unsigned f = 0; f < 1500; f++) {
		snprintf(name, sizeof(name), "wide/%u", f);
		tree_make_text(name, name);
	}
}

static void test_export_many(void **state unused)
{
	struct root_node root, again;
	struct export_stats stats = {0};
	char dest[128];

	make_many();
	tree_import_well(tree_path, NULL, &root, NULL);
	snprintf(dest, sizeof(dest), "%s/out", tree_folder);
	assert_int_equal(export_tree(&tree_store, &root.node, dest, NULL, &stats, NULL), 0);
	tree_import_well(dest, NULL, &again, NULL);
	assert_true(node_equal(&again.node, &root.node));
	assert_int_equal(stats.files, 80 * 20 + 12 + 1500);
	assert_int_equal(stats.directories, 1 + 80 + 1);
	assert_int_equal(stats.symlinks, 80);
	root_node_done(&again);
	root_node_done(&root);
}

static void test_export_cancelled(void **state unused)
{
	const atomic_bool cancel = true;
	const struct export_options options = {.cancel = &cancel};
	struct root_node root;
	char dest[128];

	make_sample();
	tree_import_well(tree_path, NULL, &root, NULL);
	snprintf(dest, sizeof(dest), "%s/out", tree_folder);
	assert_int_equal(export_tree(&tree_store, &root.node, dest, &options, NULL, NULL),
			 -ERROR_CANCELED);
	root_node_done(&root);
}

/* A store that is far is asked for many files at once. */
static int far_setup(void **state)
{
	int rc = tree_setup(state);

	tree_store.directories->fetches = true;
	return rc;
}

#define NEAR(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)
#define FAR(name) cmocka_unit_test_setup_teardown(name, far_setup, tree_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		NEAR(test_export),
		FAR(test_export),
		NEAR(test_export_follows_nothing),
		FAR(test_export_follows_nothing),
		NEAR(test_export_missing),
		FAR(test_export_missing),
		NEAR(test_export_corrupt),
		FAR(test_export_corrupt),
		NEAR(test_export_wrong_size),
		FAR(test_export_wrong_size),
		NEAR(test_export_many),
		FAR(test_export_many),
		NEAR(test_export_cancelled),
		FAR(test_export_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
