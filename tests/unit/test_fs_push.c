/* What is sent to the kernel before it asks: when, and that it is the right content. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "test_fs_driver.h"

#define FILES 100u
/* More than a directory has that is sent in whatever order. */
#define MANY 600u
#define ROWS 6u

struct fixture {
	struct driver *d;
	struct fs_reply pushed;
};

/* A reader with the page cache of a kernel. */
struct reader {
	const char *path;
	unsigned files;
	uint64_t first; /* node id of the first file */
	bool cached[MANY];
	unsigned reads;
	unsigned pushes;
	unsigned in_vain; /* pushed although it was there */
};

static void name_file(char out[16], unsigned i)
{
	snprintf(out, 16, "f%04u", i);
}

static size_t content_of(char out[32], unsigned i)
{
	return (size_t)snprintf(out, 32, "content of file %u", i);
}

static struct node put_row(struct driver *d, unsigned files)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	char name[16], content[32];

	for (unsigned i = 0; i < files; i++) {
		size_t len = content_of(content, i);

		name_file(name, i);
		add_entry(b, name, put_blob(d, content, len, false));
	}
	return put_directory(d, b);
}

/* Files 0, 2, 4 are small; between them are all that is not sent. */
static struct node put_mixed(struct driver *d)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node empty = {.kind = NODE_FILE, .digest = digest_empty};
	struct node lost = put_blob(d, "x", 1, false);

	memset(lost.digest.bytes, 9, DIGEST_SIZE);
	add_entry(b, "f0000", put_blob(d, "0", 1, false));
	add_entry(b, "f0001", put_blob(d, "1", 1, false));
	add_entry(b, "f0002", d->big);
	add_entry(b, "f0003", symlink_node("f0000"));
	add_entry(b, "f0004", empty);
	add_entry(b, "f0005", put_blob(d, "5", 1, false));
	add_entry(b, "f0006", put_blob(d, "6", 1, false));
	add_entry(b, "f0007", put_blob(d, "7", 1, false));
	add_entry(b, "f0008", lost);
	add_entry(b, "f0009", put_blob(d, "9", 1, false));
	return put_directory(d, b);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	char name[16];

	f->d = driver_new();
	f->pushed.data = xmalloc(FS_DATA_MAX);
	f->pushed.data_capacity = FS_DATA_MAX;
	put_root(f->d, "row", put_row(f->d, FILES));
	put_root(f->d, "long", put_row(f->d, MANY));
	put_root(f->d, "mixed", put_mixed(f->d));
	for (unsigned i = 0; i < ROWS; i++) {
		snprintf(name, sizeof(name), "row%u", i);
		put_root(f->d, name, put_row(f->d, 10 + i));
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_free(f->d);
	free(f->pushed.data);
	free(f);
	return 0;
}

/* Knows all files of a directory whose files are f0000 and so on, as after a listing. */
static struct reader reader_of(struct fixture *f, const char *path, unsigned files)
{
	struct reader r = {.path = path, .files = files};
	uint64_t parent = walk(f->d, path).nodeid;
	struct fuse_entry_out e;
	char name[16];

	for (unsigned i = 0; i < files; i++) {
		name_file(name, i);
		assert_int_equal(lookup(f->d, parent, name, &e), 0);
		r.first = i ? r.first : e.nodeid;
		assert_int_equal(e.nodeid, r.first + i);
	}
	return r;
}

static int begin(struct fixture *f, uint64_t nodeid, uint64_t offset, struct fs_push *push)
{
	struct {
		struct fuse_in_header header;
		struct fuse_read_in in;
	} request = {
		.header = {.len = sizeof(request), .opcode = FUSE_READ, .nodeid = nodeid},
		.in = {.offset = offset, .size = 4096},
	};

	return fs_push_begin(f->d->fs, bytes_of(&request, sizeof(request)), push);
}

/* Takes one push as the kernel does; returns which file it is for. */
static unsigned take(const struct fixture *f, const struct reader *r)
{
	const struct fs_reply *p = &f->pushed;
	struct fuse_notify_store_out store;

	assert_int_equal(p->header.unique, 0);
	assert_int_equal(p->header.error, FUSE_NOTIFY_STORE);
	assert_int_equal(p->fixed_len, sizeof(store));
	assert_int_equal(p->header.len, sizeof(p->header) + sizeof(store) + p->data_len);
	memcpy(&store, p->fixed, sizeof(store));
	assert_int_equal(store.offset, 0);
	assert_int_equal(store.size, p->data_len);
	assert_true(store.nodeid >= r->first && store.nodeid < r->first + r->files);
	return (unsigned)(store.nodeid - r->first);
}

static void take_all(struct fixture *f, struct reader *r, unsigned reading,
		     struct fs_push *push)
{
	char content[32];

	while (fs_push_next(f->d->fs, push, &f->pushed) > 0) {
		unsigned i = take(f, r);

		/* its pages are locked until it is answered */
		assert_int_not_equal(i, reading);
		assert_int_equal(f->pushed.data_len, content_of(content, i));
		assert_memory_equal(f->pushed.data, content, f->pushed.data_len);
		r->in_vain += r->cached[i];
		r->cached[i] = true;
		r->pushes++;
	}
	fs_push_done(f->d->fs, push, false);
}

/* Reads one file, unless it is in the cache; takes what comes along. */
static void read_file(struct fixture *f, struct reader *r, unsigned i)
{
	struct fs_push push;

	if (r->cached[i]) {
		return;
	}
	assert_int_equal(read_at(f->d, FUSE_READ, r->first + i, 0, 4096), 0);
	r->reads++;
	if (begin(f, r->first + i, 0, &push) > 0) {
		take_all(f, r, i, &push);
	}
	r->cached[i] = true;
}

static void test_in_order(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "long", MANY);

	for (unsigned i = 0; i < MANY; i++) {
		read_file(f, &r, i);
	}
	assert_int_equal(r.in_vain, 0);
	assert_int_equal(r.reads + r.pushes, MANY);
	assert_true(r.reads < MANY / 20);
}

/* Reads that leave out some are still in order. */
static void test_with_gaps(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "long", MANY);

	for (unsigned i = 0; i < MANY; i += 3) {
		read_file(f, &r, i);
	}
	assert_true(r.reads < MANY / 20);
}

static void test_here_and_there(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "long", MANY);

	for (unsigned i = 0; i < 40; i++) {
		read_file(f, &r, i * 7919 % MANY);
	}
	assert_int_equal(r.pushes, 0);
}

/* A small directory is worth sending whatever the order. */
static void test_small_in_any_order(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "row", FILES);

	for (unsigned i = 0; i < FILES; i++) {
		read_file(f, &r, i * 37 % FILES);
	}
	assert_true(r.reads < 10);
	assert_true(r.in_vain < 10);
}

/* Whoever has gone through directories gets the next one with its first file. */
static void test_next_directory(void **state)
{
	struct fixture *f = *state;
	unsigned reads = 0;
	char name[16];

	for (unsigned i = 0; i < ROWS; i++) {
		snprintf(name, sizeof(name), "row%u", i);
		struct reader r = reader_of(f, name, 10 + i);

		for (unsigned k = 0; k < r.files; k++) {
			read_file(f, &r, k);
		}
		reads = r.reads;
	}
	assert_int_equal(reads, 1);
}

static void test_what_is_left_out(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "mixed", 10);
	struct fs_push push;

	assert_int_equal(begin(f, r.first, 0, &push), 0);
	/* Not before the large file. */
	assert_int_equal(begin(f, r.first + 1, 0, &push), 0);
	assert_int_equal(begin(f, r.first + 2, 0, &push), 1);
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 1);
	assert_int_equal(take(f, &r), 5);
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 1);
	assert_int_equal(take(f, &r), 6);
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 1);
	assert_int_equal(take(f, &r), 7);
	/* A blob that is lost: who reads it will hear of it. */
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 0);
	fs_push_done(f->d->fs, &push, false);
	assert_int_equal(read_at(f->d, FUSE_READ, r.first + 8, 0, 4096), -EIO);
}

/* The rest of a large file says nothing, nor do other requests and wrong ids. */
static void test_what_is_no_sign(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "row", FILES);
	struct fuse_in_header header = {.len = sizeof(header), .opcode = FUSE_READ};
	struct fs_push push;

	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(begin(f, r.first + i, 4096, &push), 0);
		assert_int_equal(begin(f, FUSE_ROOT_ID, 0, &push), 0);
		assert_int_equal(begin(f, walk(f->d, "file").nodeid, 0, &push), 0);
		assert_int_equal(begin(f, walk(f->d, "row").nodeid, 0, &push), 0);
		assert_int_equal(begin(f, r.first ^ (uint64_t)1 << 40, 0, &push), 0);
		assert_int_equal(
			fs_push_begin(f->d->fs, bytes_of(&header, sizeof(header)), &push), 0);
		assert_int_equal(fs_push_begin(f->d->fs, bytes_of(&header, 4), &push), 0);
	}
}

/* What was not sent is sent with the next one. */
static void test_ended_early(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "row", FILES);
	struct fs_push push;

	assert_int_equal(begin(f, r.first, 0, &push), 0);
	assert_int_equal(begin(f, r.first + 1, 0, &push), 1);
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 1);
	assert_int_equal(take(f, &r), 2);
	fs_push_done(f->d->fs, &push, false);
	assert_int_equal(begin(f, r.first + 3, 0, &push), 1);
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 1);
	assert_int_equal(take(f, &r), 4);
	fs_push_done(f->d->fs, &push, false);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct reader r = reader_of(f, "row", FILES);
	struct fs_push push;

	assert_int_equal(begin(f, r.first, 0, &push), 0);
	assert_int_equal(begin(f, r.first + 1, 0, &push), 1);
	assert_int_equal(fs_push_next(f->d->fs, &push, &f->pushed), 1);
	fs_push_done(f->d->fs, &push, true);
	for (unsigned i = 2; i < FILES; i++) {
		assert_int_equal(begin(f, r.first + i, 0, &push), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_with_gaps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_here_and_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_next_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_no_sign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
