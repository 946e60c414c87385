/* The file system: listings, in buffers of any size and from any position. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "test_fs_driver.h"

#define ENTRIES_MAX 400

struct listed {
	char name[256];
	struct {
		uint64_t ino;
		uint64_t off;
		uint32_t namelen;
		uint32_t type;
	} dirent;                    /* struct fuse_dirent without its end */
	struct fuse_entry_out entry; /* READDIRPLUS */
};

struct listed_all {
	struct listed entries[ENTRIES_MAX];
	size_t count;
	unsigned replies;
};

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

/* Takes the records of one reply apart, as the kernel does. */
static void parse_reply(const struct driver *d, bool plus, struct listed_all *all)
{
	const uint8_t *p = d->reply.data;
	size_t left = d->reply.data_len;

	while (left > 0) {
		struct listed *e = &all->entries[all->count++];
		size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;

		assert_true(all->count <= ENTRIES_MAX);
		assert_true(left > head);
		if (plus) {
			memcpy(&e->entry, p, sizeof(e->entry));
		}
		memcpy(&e->dirent, p + head - FUSE_NAME_OFFSET, FUSE_NAME_OFFSET);
		size_t size = FUSE_REC_ALIGN(head + e->dirent.namelen);

		assert_in_range(e->dirent.namelen, 1, 255);
		assert_true(size <= left);
		memcpy(e->name, p + head, e->dirent.namelen);
		e->name[e->dirent.namelen] = '\0';
		p += size;
		left -= size;
	}
}

/* Lists from a position to the end with buffers of one size. */
static struct listed_all *list_from(struct driver *d, uint64_t nodeid, uint64_t offset,
				    bool plus, uint32_t size)
{
	struct listed_all *all = xcalloc(1, sizeof(*all));

	for (;;) {
		assert_int_equal(read_at(d, plus ? FUSE_READDIRPLUS : FUSE_READDIR, nodeid,
					 offset, size),
				 0);
		assert_true(d->reply.data_len <= size);
		if (d->reply.data_len == 0) {
			return all;
		}
		parse_reply(d, plus, all);
		all->replies++;
		offset = all->entries[all->count - 1].dirent.off;
	}
}

static void forget_all(struct driver *d, const struct listed_all *all)
{
	for (size_t i = 0; i < all->count; i++) {
		if (all->entries[i].entry.nodeid != 0) {
			forget(d, all->entries[i].entry.nodeid, 1);
		}
	}
}

static void assert_same(const struct listed_all *a, size_t from, const struct listed_all *b)
{
	assert_int_equal(a->count - from, b->count);
	for (size_t i = 0; i < b->count; i++) {
		assert_string_equal(a->entries[from + i].name, b->entries[i].name);
		assert_memory_equal(&a->entries[from + i].dirent, &b->entries[i].dirent,
				    FUSE_NAME_OFFSET);
		assert_memory_equal(&a->entries[from + i].entry.attr, &b->entries[i].entry.attr,
				    sizeof(struct fuse_attr));
	}
}

static void assert_in_order(const struct listed_all *all, size_t count)
{
	assert_int_equal(all->count, count + 2);
	assert_string_equal(all->entries[0].name, ".");
	assert_string_equal(all->entries[1].name, "..");
	for (size_t i = 3; i < all->count; i++) {
		assert_true(strcmp(all->entries[i - 1].name, all->entries[i].name) < 0);
	}
}

/* The forms agree, whatever the buffer, and every position resumes exactly. */
static void check_directory(struct driver *d, uint64_t nodeid, size_t count)
{
	struct listed_all *plain = list_from(d, nodeid, 0, false, 65536);
	struct listed_all *plus = list_from(d, nodeid, 0, true, 1 << 20);

	assert_in_order(plain, count);
	assert_in_order(plus, count);
	for (uint32_t size = 408; size < 3000; size += 151) {
		struct listed_all *pieces = list_from(d, nodeid, 0, true, size);

		assert_same(plus, 0, pieces);
		assert_true(count < 10 || pieces->replies > 1);
		free(pieces);
		pieces = list_from(d, nodeid, 0, false, size);
		assert_same(plain, 0, pieces);
		free(pieces);
	}
	for (size_t i = 0; i < plain->count; i += 7) {
		uint64_t position = plain->entries[i].dirent.off;
		struct listed_all *rest = list_from(d, nodeid, position, false, 700);

		assert_int_equal(plus->entries[i].dirent.off, position);
		assert_same(plain, i + 1, rest);
		free(rest);
	}
	free(plain);
	free(plus);
}

static void test_directories(void **state)
{
	struct driver *d = *state;

	check_directory(d, walk(d, "many").nodeid, MANY_FILES);
	check_directory(d, walk(d, "tree").nodeid, 8);
	check_directory(d, walk(d, "tree/sub").nodeid, 1);
	check_directory(d, FUSE_ROOT_ID, 7);
}

static void test_plus_fills_attributes(void **state)
{
	static const unsigned char types[] = {DT_DIR, DT_DIR, DT_REG, DT_REG, DT_REG,
					      DT_REG, DT_LNK, DT_LNK, DT_DIR, DT_DIR};
	struct driver *d = *state;
	struct fuse_entry_out tree = walk(d, "tree");
	struct listed_all *all = list_from(d, tree.nodeid, 0, true, 4096);
	struct fuse_entry_out e;

	assert_int_equal(all->count, ARRAY_SIZE(types));
	assert_int_equal(all->entries[0].entry.nodeid, 0);
	assert_int_equal(all->entries[1].entry.nodeid, 0);
	assert_int_equal(all->entries[0].dirent.ino, tree.attr.ino);
	assert_int_equal(all->entries[1].dirent.ino, 1);
	for (size_t i = 0; i < all->count; i++) {
		assert_int_equal(all->entries[i].dirent.type, types[i]);
		if (i >= 2) {
			assert_int_equal(lookup(d, tree.nodeid, all->entries[i].name, &e), 0);
			assert_memory_equal(&e, &all->entries[i].entry, sizeof(e));
			assert_int_equal(e.attr.ino, all->entries[i].dirent.ino);
		}
	}
	free(all);
}

static void test_dot_dot(void **state)
{
	struct driver *d = *state;
	struct listed_all *all = list_from(d, walk(d, "tree/sub/in").nodeid, 0, false, 4096);

	assert_int_equal(all->entries[0].dirent.ino, walk(d, "tree/sub/in").attr.ino);
	assert_int_equal(all->entries[1].dirent.ino, walk(d, "tree/sub").attr.ino);
	free(all);
}

/* Exactly what was in replies is counted: everything goes when that is forgotten. */
static void test_counts(void **state)
{
	struct driver *d = *state;
	uint64_t many = walk(d, "many").nodeid;
	struct fs_stats stats;

	for (uint32_t size = 408; size < 2000; size += 333) {
		struct listed_all *all = list_from(d, many, 0, true, size);

		forget_all(d, all);
		free(all);
		all = list_from(d, FUSE_ROOT_ID, 0, true, size);
		forget_all(d, all);
		free(all);
	}
	forget(d, many, 1);
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 0);
	assert_int_equal(stats.contents, 0);
}

static void test_buffer_too_small(void **state)
{
	struct driver *d = *state;
	uint64_t many = walk(d, "many").nodeid;

	assert_int_equal(read_at(d, FUSE_READDIR, many, 0, 31), -EINVAL);
	assert_int_equal(read_at(d, FUSE_READDIR, many, 0, 32), 0);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, many, 0, 150), -EINVAL);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, many, 0, 0), -EINVAL);
	/* At the end there is nothing to fit. */
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, many, MANY_FILES + 2, 10), 0);
	assert_int_equal(d->reply.data_len, 0);
}

static void test_wild_positions(void **state)
{
	static const uint64_t offsets[] = {MANY_FILES + 3, 1ULL << 24, 1ULL << 32, INT64_MAX,
					   UINT64_MAX};
	struct driver *d = *state;
	uint64_t many = walk(d, "many").nodeid;

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		assert_int_equal(read_at(d, FUSE_READDIR, many, offsets[i], 4096), 0);
		assert_int_equal(d->reply.data_len, 0);
		assert_int_equal(read_at(d, FUSE_READDIRPLUS, FUSE_ROOT_ID, offsets[i], 4096),
				 0);
		assert_int_equal(d->reply.data_len, 0);
	}
}

/* Names that come while the root is listed neither hide nor repeat others. */
static void test_root_grows(void **state)
{
	struct driver *d = *state;
	struct listed_all *before = list_from(d, FUSE_ROOT_ID, 0, false, 4096);
	size_t at = 4; /* "link" */

	assert_string_equal(before->entries[at].name, "link");
	put_root(d, "a-first", symlink_node("x"));
	put_root(d, "link0", symlink_node("x"));
	put_root(d, "z-last", symlink_node("x"));
	struct listed_all *rest =
		list_from(d, FUSE_ROOT_ID, before->entries[at].dirent.off, true, 700);

	assert_string_equal(rest->entries[0].name, "link0");
	assert_string_equal(rest->entries[1].name, before->entries[at + 1].name);
	assert_int_equal(rest->count, before->count - at - 1 + 2);
	free(rest);
	rest = list_from(d, FUSE_ROOT_ID, 0, false, 4096);
	assert_in_order(rest, before->count - 2 + 3);
	/* The name that a position stands for may be gone as well. */
	assert_int_equal(root_nodes_remove(d->store.roots, bytes_of_string("link"), NULL), 1);
	struct listed_all *after =
		list_from(d, FUSE_ROOT_ID, before->entries[at].dirent.off, false, 4096);

	assert_string_equal(after->entries[0].name, "link0");
	free(after);
	free(rest);
	free(before);
}

static void test_root_without_list(void **state)
{
	struct driver *d = *state;
	const struct fuse_open_in in = {.flags = 0};

	d->options.list_root = false;
	driver_remount(d);
	assert_int_equal(driver_init(d, FUSE_NO_OPENDIR_SUPPORT), 0);
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in)), -EPERM);
	assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 0, 4096), -EPERM);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, FUSE_ROOT_ID, 0, 4096), -EPERM);
	uint64_t tree = walk(d, "tree").nodeid;

	assert_int_equal(request(d, FUSE_OPENDIR, tree, &in, sizeof(in)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plus_fills_attributes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dot_dot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_buffer_too_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wild_positions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_root_grows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_root_without_list, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
