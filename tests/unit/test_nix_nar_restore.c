/* nix/nar_restore.h: NARs onto the disk. */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingest/ingest.h"
#include "nar_tree.h"
#include "nix/nar_restore.h"
#include "nix/nar_source.h"

static char folder[] = "/tmp/cairn-test-restore-XXXXXX";
static char dest[64];

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

static int setup(void **state)
{
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	if (!mkdtemp(folder)) {
		return -1;
	}
	snprintf(dest, sizeof(dest), "%s/out", folder);
	return nar_setup(state);
}

static int teardown(void **state)
{
	int r = nftw(folder, remove_one, 64, FTW_DEPTH | FTW_PHYS);

	return nar_teardown(state) || r ? -1 : 0;
}

static int restore(struct bytes nar, size_t piece, const struct nar_options *options,
		   struct error *err)
{
	struct bytes_source source = bytes_source_of(nar, piece);

	return nar_restore(&source.base, dest, options, err);
}

static void restore_badly(struct bytes nar, enum error_code code, const char *message)
{
	struct error err = {0};

	assert_int_equal(restore(nar, 0, NULL, &err), -(int)code);
	if (!strstr(err.text, message)) {
		fail_msg("\"%s\" is not in \"%s\"", message, err.text);
	}
	assert_int_equal(restore(nar, 0, NULL, NULL) < 0, 1);
}

/* What is on the disk then is the tree that the NAR was made of. */
static void restore_well(const struct node *node, size_t piece)
{
	struct root_node again cleanup(root_node_done) = {0};
	struct buffer nar cleanup(buffer_done) = {0};
	struct nar_stats stats = {0};
	struct ingest_stats counted = {0};
	struct nar_options options = {.stats = &stats};
	struct error err = {0};

	nar_expected(&nar, node);
	assert_int_equal(restore(buffer_bytes(&nar), piece, &options, &err), 0);
	assert_int_equal(ingest_path(&nar_store, dest, NULL, &again, &counted, &err), 0);
	assert_true(node_equal(&again.node, node));
	assert_int_equal(stats.files, counted.files);
	assert_int_equal(stats.symlinks, counted.symlinks);
	assert_int_equal(stats.directories, counted.directories);
	assert_int_equal(nftw(dest, remove_one, 64, FTW_DEPTH | FTW_PHYS), 0);
}

static void test_trees(void **state unused)
{
	struct dice dice = {.state = 11};

	for (int i = 0; i < 12; i++) {
		struct node node = nar_put_random_tree(&dice, 3);

		restore_well(&node, i % 2 ? 4099 : 0);
	}
	struct node deep = nar_put_deep(300);

	restore_well(&deep, 0);
}

static void test_single_nodes(void **state unused)
{
	struct dice dice = {.state = 12};
	struct node file = nar_put_random_blob(&dice, 700001);
	struct node script = nar_put_blob(bytes_of_string("#!/bin/sh\n"), true);
	struct node empty = nar_put_blob((struct bytes){0}, false);
	struct node link = {.kind = NODE_SYMLINK, .target = bytes_of_string("/no/where")};

	restore_well(&file, 0);
	restore_well(&script, 1);
	restore_well(&empty, 0);
	restore_well(&link, 0);
}

static void test_zeros_are_holes(void **state unused)
{
	size_t size = (size_t)8 << 20;
	uint8_t *zeros cleanup(cleanup_free) = xcalloc(1, size);
	struct node node = nar_put_blob(bytes_of(zeros, size), false);
	struct buffer nar cleanup(buffer_done) = {0};
	struct stat st;

	nar_expected(&nar, &node);
	assert_int_equal(restore(buffer_bytes(&nar), 70000, NULL, NULL), 0);
	assert_int_equal(stat(dest, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_true(st.st_blocks * 512 < 1 << 20);
}

/* Neither over what is there, nor through a symlink. */
static void test_existing_destination(void **state unused)
{
	struct buffer tree cleanup(buffer_done) = {0}, file cleanup(buffer_done) = {0};
	struct node deep = nar_put_deep(2), blob = nar_put_blob(bytes_of_string("new"), false);
	char inner[80];

	nar_expected(&tree, &deep);
	nar_expected(&file, &blob);
	assert_int_equal(mkdir(dest, 0755), 0);
	restore_badly(buffer_bytes(&file), ERROR_EXISTS, "/out: cannot create");
	assert_int_equal(restore(buffer_bytes(&tree), 0, NULL, NULL), 0);
	restore_badly(buffer_bytes(&tree), ERROR_EXISTS, "/out: the directory is not empty");
	assert_int_equal(nftw(dest, remove_one, 64, FTW_DEPTH | FTW_PHYS), 0);

	assert_int_equal(symlink("aim", dest), 0);
	restore_badly(buffer_bytes(&file), ERROR_EXISTS, "/out: cannot create");
	snprintf(inner, sizeof(inner), "%s/aim", folder);
	assert_int_equal(access(inner, F_OK), -1);
	assert_int_equal(mkdir(inner, 0755), 0);
	restore_badly(buffer_bytes(&tree), ERROR_EXISTS, "/out: exists and is no");
	assert_int_equal(rmdir(inner), 0);
}

/* A directory of a file, and then what the caller makes of it. */
static void begin_tree(struct buffer *b)
{
	nar_words(b, "nix-archive-1", "(", "type", "directory", "entry", "(", "name", "a",
		  "node", "(", "type", "regular", "contents", "first", ")", ")", NULL);
}

/* Cut anywhere: the error says so, and no file is there that looks complete. */
static void test_cut_short(void **state unused)
{
	struct buffer nar cleanup(buffer_done) = {0};
	char inner[80];
	struct stat st;

	begin_tree(&nar);
	snprintf(inner, sizeof(inner), "%s/a", dest);
	for (size_t len = nar.len; len > 0; len -= 8) {
		restore_badly(bytes_of(nar.ptr, len - 8 + 3), ERROR_INVALID,
			      "it ends too early");
		if (stat(inner, &st) == 0) {
			assert_int_equal(st.st_size, 5);
		}
		(void)nftw(dest, remove_one, 64, FTW_DEPTH | FTW_PHYS);
	}
	restore_badly(buffer_bytes(&nar), ERROR_INVALID, "/out is incomplete: ");
}

static void test_names_lead_nowhere(void **state unused)
{
	static const char *const names[] = {"..", ".", "b/c", "/etc", ""};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct buffer nar cleanup(buffer_done) = {0};

		begin_tree(&nar);
		nar_words(&nar, "entry", "(", "name", names[i], "node", "(", "type", "regular",
			  "contents", "x", ")", ")", ")", NULL);
		restore_badly(buffer_bytes(&nar), ERROR_INVALID, "/out is incomplete: byte");
		assert_int_equal(nftw(dest, remove_one, 64, FTW_DEPTH | FTW_PHYS), 0);
	}
}

static void test_trailing_bytes(void **state unused)
{
	struct node blob = nar_put_blob(bytes_of_string("content"), false);
	struct buffer nar cleanup(buffer_done) = {0};

	nar_expected(&nar, &blob);
	buffer_append_byte(&nar, 0);
	restore_badly(buffer_bytes(&nar), ERROR_INVALID, "/out is incomplete: ");
}

static void test_canceled(void **state unused)
{
	atomic_bool cancel = true;
	struct nar_options options = {.cancel = &cancel};
	struct node deep = nar_put_deep(3);
	struct buffer nar cleanup(buffer_done) = {0};
	struct error err;

	nar_expected(&nar, &deep);
	assert_int_equal(restore(buffer_bytes(&nar), 0, &options, &err), -(int)ERROR_CANCELED);
}

static void test_source_fails(void **state unused)
{
	struct bytes_source source = bytes_source_of((struct bytes){0}, 0);
	struct error err;

	source.fails = true;
	assert_int_equal(nar_restore(&source.base, dest, NULL, &err), -(int)ERROR_IO);
	assert_int_equal(access(dest, F_OK), -1);
}

/* ---- Sources ---- */

static void test_fd_source(void **state unused)
{
	struct node deep = nar_put_deep(3);
	struct buffer nar cleanup(buffer_done) = {0};
	struct nar_fd_source source;
	atomic_bool cancel = false;
	struct error err;
	int ends[2];

	nar_expected(&nar, &deep);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(write(ends[1], nar.ptr, nar.len), nar.len);
	close(ends[1]);
	nar_fd_source_init(&source, ends[0], &cancel);
	assert_int_equal(nar_restore(&source.base, dest, NULL, &err), 0);
	atomic_store(&cancel, true);
	assert_int_equal(nar_restore(&source.base, dest, NULL, &err), -(int)ERROR_CANCELED);
	close(ends[0]);
	nar_fd_source_init(&source, -1, NULL);
	assert_true(nar_restore(&source.base, dest, NULL, &err) < 0);
	assert_non_null(strstr(err.text, "cannot read the NAR"));
}

static void test_hashed_source(void **state unused)
{
	struct hash_stream *stream cleanup(cleanup_hash_stream) = hash_stream_new(HASH_SHA512);
	struct node deep = nar_put_deep(3);
	struct buffer nar cleanup(buffer_done) = {0};
	struct nar_hashed_source hashed;
	struct hash expected, got;

	nar_expected(&nar, &deep);
	struct bytes_source source = bytes_source_of(buffer_bytes(&nar), 13);

	nar_hashed_source_init(&hashed, &source.base, stream);
	assert_int_equal(nar_restore(&hashed.base, dest, NULL, NULL), 0);
	hash_stream_finish(stream, &got);
	hash_of(HASH_SHA512, buffer_bytes(&nar), &expected);
	assert_true(hash_equal(&got, &expected));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_trees),           TEST(test_single_nodes),
		TEST(test_zeros_are_holes), TEST(test_existing_destination),
		TEST(test_cut_short),       TEST(test_names_lead_nowhere),
		TEST(test_trailing_bytes),  TEST(test_canceled),
		TEST(test_source_fails),    TEST(test_fd_source),
		TEST(test_hashed_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
