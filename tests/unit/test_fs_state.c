/* The file system: sessions that go on in another server. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "test_fs_driver.h"

static int setup(void **state)
{
	*state = driver_new();
	return 0;
}

static int teardown(void **state)
{
	driver_free(*state);
	return 0;
}

/* A new file system over the same store, which has had no INIT. */
static void begin_anew(struct driver *d)
{
	fs_free(d->fs);
	assert_int_equal(fs_new(&d->options, &d->fs, NULL), 0);
}

static void save(struct driver *d, struct buffer *out)
{
	*out = (struct buffer){.ptr = NULL};
	assert_int_equal(fs_save(d->fs, out, NULL), 0);
}

static void test_ids_stay(void **state)
{
	struct driver *d = *state;
	struct known known;
	struct buffer saved;

	know_paths(d, &known);
	save(d, &saved);
	begin_anew(d);
	assert_int_equal(fs_restore(d->fs, buffer_bytes(&saved), NULL), 0);
	buffer_done(&saved);
	assert_true(fs_has_session(d->fs));
	check_known(d, &known);
}

/* What was forgotten before stays so, and what is forgotten afterwards goes. */
static void test_lookups_are_counted_on(void **state)
{
	struct driver *d = *state;
	struct fs_stats stats;
	struct buffer saved;
	uint64_t gone = walk(d, "tree/sub2").nodeid;
	uint64_t tree = walk(d, "tree").nodeid;
	uint64_t many = walk(d, "many").nodeid;
	uint64_t a = walk(d, "tree/a").nodeid;
	struct fuse_attr attr;

	forget(d, gone, 1);
	save(d, &saved);
	begin_anew(d);
	assert_int_equal(fs_restore(d->fs, buffer_bytes(&saved), NULL), 0);
	buffer_done(&saved);
	assert_int_equal(getattr(d, gone, &attr), -ESTALE);
	/* Its slot has another use now. */
	assert_int_not_equal(walk(d, "tree/sub").nodeid, gone);
	assert_int_equal(getattr(d, gone, &attr), -ESTALE);
	forget(d, walk(d, "tree/sub").nodeid, 2);
	forget(d, many, 1);
	forget(d, a, 1);
	forget(d, tree, 4);
	assert_int_equal(getattr(d, tree, &attr), 0);
	forget(d, tree, 1);
	assert_int_equal(getattr(d, tree, &attr), -ESTALE);
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 0);
	assert_int_equal(stats.contents, 0);
}

static void test_restore_needs_a_new_one(void **state)
{
	struct driver *d = *state;
	uint64_t tree = walk(d, "tree").nodeid;
	struct fuse_attr attr;
	struct buffer saved;

	save(d, &saved);
	assert_int_equal(fs_restore(d->fs, buffer_bytes(&saved), NULL), -ERROR_INVALID);
	assert_int_equal(getattr(d, tree, &attr), 0);
	buffer_done(&saved);
}

static void test_another_store(void **state)
{
	struct driver *d = *state;
	struct buffer saved;

	walk(d, "tree/sub/in");
	save(d, &saved);
	assert_true(memory_directory_remove(d->store.directories, &d->tree));
	begin_anew(d);
	assert_int_equal(fs_restore(d->fs, buffer_bytes(&saved), NULL), -ERROR_UNAVAILABLE);
	assert_false(fs_has_session(d->fs));
	buffer_done(&saved);
}

/* What was restored from any bytes does no harm. */
static void use(struct driver *d)
{
	struct fuse_entry_out e;
	struct fuse_attr attr;
	struct buffer again;

	if (!fs_has_session(d->fs)) {
		return;
	}
	if (lookup(d, FUSE_ROOT_ID, "tree", &e) == 0) {
		lookup(d, e.nodeid, "sub", &e);
		getattr(d, e.nodeid, &attr);
		forget(d, e.nodeid, 3);
	}
	save(d, &again);
	begin_anew(d);
	assert_int_equal(fs_restore(d->fs, buffer_bytes(&again), NULL), 0);
	buffer_done(&again);
}

static void test_damaged_state(void **state)
{
	struct driver *d = *state;
	struct buffer saved;
	struct error err;
	unsigned refused = 0;

	for (size_t i = 0; i < KNOWN_PATHS; i++) {
		walk(d, known_paths[i]);
	}
	save(d, &saved);
	for (size_t len = 0; len < saved.len; len++) {
		/* exactly as long as it is, for the sanitizer */
		uint8_t *cut = xmalloc(len);

		memcpy(cut, saved.ptr, len);
		begin_anew(d);
		assert_true(fs_restore(d->fs, bytes_of(cut, len), &err) < 0);
		assert_int_not_equal(err.text[0], '\0');
		assert_false(fs_has_session(d->fs));
		free(cut);
	}
	for (size_t at = 0; at < saved.len * 3; at++) {
		static const uint8_t flips[] = {1, 0x80, 0xff};
		const uint8_t flip = flips[at / saved.len];

		saved.ptr[at % saved.len] ^= flip;
		begin_anew(d);
		refused += fs_restore(d->fs, buffer_bytes(&saved), NULL) < 0;
		use(d);
		saved.ptr[at % saved.len] ^= flip;
	}
	/* Counters, salts and inode numbers may be anything; most else may not. */
	assert_true(refused > saved.len * 3 / 2);
	buffer_done(&saved);
}

static void test_adopted_session(void **state)
{
	struct driver *d = *state;
	uint64_t tree = walk(d, "tree").nodeid;
	struct fuse_attr attr;

	fs_adopt(d->fs);
	assert_int_equal(getattr(d, tree, &attr), 0);
	begin_anew(d);
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), -EIO);
	fs_adopt(d->fs);
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), 0);
	assert_int_equal(getattr(d, tree, &attr), -ESTALE);
	assert_int_not_equal(walk(d, "tree").nodeid, tree);
	/* Whatever was agreed on, a kernel that opens files gets an answer. */
	const struct fuse_open_in in = {.flags = 0};

	assert_int_equal(request(d, FUSE_OPEN, walk(d, "file").nodeid, &in, sizeof(in)), 0);
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in)), 0);
}

int main(void)
{
#define WITH_DRIVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_DRIVER(test_ids_stay),
		WITH_DRIVER(test_lookups_are_counted_on),
		WITH_DRIVER(test_restore_needs_a_new_one),
		WITH_DRIVER(test_another_store),
		WITH_DRIVER(test_damaged_state),
		WITH_DRIVER(test_adopted_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
