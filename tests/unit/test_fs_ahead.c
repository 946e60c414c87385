/* The file system: the file that is read before it is asked for. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "fs/ahead.h"
#include "test_fs_driver.h"

#define FILES 12u
#define FILE_SIZE 3000u

/*
 * Below the root is "files": f00 to f11, with contents of their own, between f03 and f04 an
 * empty file and a symlink, behind f06 the file f06-lost, whose blob is not there, and behind
 * f08 the file f08-long, which is too long to be read ahead.
 */
struct fixture {
	struct driver *d;
	void *second; /* the room that was lent to look ahead with */
	uint64_t ids[FILES];
};

static void content_of(unsigned i, uint8_t out[FILE_SIZE])
{
	memset(out, (int)('a' + i), FILE_SIZE);
}

static void put_files(struct driver *d)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node none = {.kind = NODE_FILE, .digest = digest_empty};
	uint8_t content[FILE_SIZE];
	char name[16];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%02u", i);
		content_of(i, content);
		add_entry(b, name, put_blob(d, content, sizeof(content), false));
	}
	add_entry(b, "f03-empty", none);
	add_entry(b, "f03-link", symlink_node("f00"));
	struct node lost = {.kind = NODE_FILE, .size = 10};

	memset(lost.digest.bytes, 9, DIGEST_SIZE);
	add_entry(b, "f06-lost", lost);
	add_entry(b, "f08-long", d->big);
	put_root(d, "files", put_directory(d, b));
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	char path[32];

	log_set_level(LOG_LEVEL_ERROR);
	f->d = driver_new();
	put_files(f->d);
	f->second = xmalloc(FS_DATA_MAX);
	f->d->reply.ahead = fs_ahead_new(f->d->fs, f->second);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "files/f%02u", i);
		f->ids[i] = walk(f->d, path).nodeid;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(fs_ahead_free(f->d->reply.ahead));
	driver_free(f->d);
	free(f);
	return 0;
}

/* Asks for all of a file. True when it was at hand. */
static bool read_whole(struct fixture *f, unsigned i)
{
	void *before = f->d->reply.data;
	uint8_t content[FILE_SIZE];

	content_of(i, content);
	assert_int_equal(read_at(f->d, FUSE_READ, f->ids[i], 0, 4096), 0);
	assert_int_equal(f->d->reply.data_len, FILE_SIZE);
	assert_memory_equal(f->d->reply.data, content, FILE_SIZE);
	return f->d->reply.data != before;
}

static bool prepare(struct fixture *f)
{
	return fs_ahead_prepare(f->d->reply.ahead);
}

static void test_in_order(void **state)
{
	struct fixture *f = *state;

	assert_false(prepare(f));
	assert_false(read_whole(f, 0));
	/* One file says nothing. */
	assert_false(prepare(f));
	assert_false(read_whole(f, 1));
	for (unsigned i = 2; i < 7; i++) {
		assert_true(prepare(f));
		/* Once for each: what is ready stays so. */
		assert_false(prepare(f));
		assert_true(read_whole(f, i));
	}
}

static void test_without_a_pause(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 6; i++) {
		assert_false(read_whole(f, i));
	}
	assert_true(prepare(f));
	assert_true(read_whole(f, 6));
}

static void test_something_else_is_read(void **state)
{
	struct fixture *f = *state;

	read_whole(f, 0);
	read_whole(f, 1);
	assert_true(prepare(f));
	assert_false(read_whole(f, 5));
	/* Still at hand: it is the content that counts, whatever was read meanwhile. */
	assert_true(read_whole(f, 2));
}

static void test_a_jump_ends_it(void **state)
{
	struct fixture *f = *state;

	read_whole(f, 0);
	read_whole(f, 1);
	read_whole(f, 0);
	assert_false(prepare(f));
	read_whole(f, 0);
	assert_false(prepare(f));
}

/* A reader that takes it in pieces gets all of them from what was read ahead. */
static void test_pieces(void **state)
{
	struct fixture *f = *state;
	void *room = f->d->reply.data;
	uint8_t content[FILE_SIZE];

	content_of(2, content);
	read_whole(f, 0);
	read_whole(f, 1);
	assert_true(prepare(f));
	assert_int_equal(read_at(f->d, FUSE_READ, f->ids[2], 0, 1000), 0);
	assert_int_equal(f->d->reply.data_len, 1000);
	assert_memory_equal(f->d->reply.data, content, 1000);
	assert_int_equal(read_at(f->d, FUSE_READ, f->ids[2], 1000, 4096), 0);
	assert_int_equal(f->d->reply.data_len, FILE_SIZE - 1000);
	assert_memory_equal(f->d->reply.data, content, FILE_SIZE - 1000);
	assert_ptr_equal(f->d->reply.data, room);
}

static void test_what_cannot_be_read(void **state)
{
	struct fixture *f = *state;

	read_whole(f, 5);
	read_whole(f, 6);
	/* The next one is lost, and nobody is told who does not ask for it. */
	assert_true(prepare(f));
	uint64_t lost = walk(f->d, "files/f06-lost").nodeid;

	assert_int_equal(read_at(f->d, FUSE_READ, lost, 0, 4096), -EIO);
	assert_false(read_whole(f, 7));
	assert_true(prepare(f));
	assert_true(read_whole(f, 8));
	/* Behind this one comes a long one. */
	assert_false(prepare(f));
	assert_false(read_whole(f, 9));
	assert_true(prepare(f));
	assert_true(read_whole(f, 10));
	assert_true(prepare(f));
	assert_true(read_whole(f, 11));
	/* And there it ends. */
	assert_false(prepare(f));
}

static void test_after_a_reset(void **state)
{
	struct fixture *f = *state;

	read_whole(f, 0);
	read_whole(f, 1);
	fs_reset(f->d->fs);
	assert_false(prepare(f));
	assert_int_equal(driver_init(f->d, FUSE_INIT_EXT), 0);
	assert_int_equal(read_at(f->d, FUSE_READ, f->ids[2], 0, 4096), -ESTALE);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_in_order),
		test(test_without_a_pause),
		test(test_something_else_is_read),
		test(test_a_jump_ends_it),
		test(test_pieces),
		test(test_what_cannot_be_read),
		test(test_after_a_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
