/* The file system: the life of node ids, and services that wait, refuse or never change. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "fs/slot_table.h"
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

static void assert_empty(struct driver *d)
{
	struct fs_stats stats;

	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 0);
	assert_int_equal(stats.contents, 0);
}

/* ---- Forgetting ---- */

static void test_forget(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out tree;
	struct fuse_entry_out a;
	struct fuse_attr attr;

	assert_int_equal(lookup(d, FUSE_ROOT_ID, "tree", &tree), 0);
	assert_int_equal(lookup(d, tree.nodeid, "a", &a), 0);
	assert_int_equal(lookup(d, tree.nodeid, "a", &a), 0);
	forget(d, a.nodeid, 1);
	assert_int_equal(getattr(d, a.nodeid, &attr), 0);
	forget(d, a.nodeid, 1);
	forget(d, tree.nodeid, 1);
	assert_int_equal(getattr(d, a.nodeid, &attr), -ESTALE);
	assert_int_equal(getattr(d, tree.nodeid, &attr), -ESTALE);
	assert_int_equal(lookup(d, tree.nodeid, "a", &a), -ESTALE);
	assert_int_equal(read_at(d, FUSE_READDIR, tree.nodeid, 0, 4096), -ESTALE);
	assert_empty(d);
	/* The slot is used again, the id is not. */
	assert_int_not_equal(walk(d, "tree").nodeid, tree.nodeid);
}

/* The kernel need not forget children before their parents. */
static void test_forget_parents_first(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out tree;
	struct fuse_entry_out sub;
	struct fuse_entry_out in;
	struct fuse_entry_out deep;

	assert_int_equal(lookup(d, FUSE_ROOT_ID, "tree", &tree), 0);
	assert_int_equal(lookup(d, tree.nodeid, "sub", &sub), 0);
	assert_int_equal(lookup(d, sub.nodeid, "in", &in), 0);
	forget(d, tree.nodeid, 1);
	forget(d, sub.nodeid, 1);
	assert_int_equal(lookup(d, in.nodeid, "deep", &deep), 0);
	assert_int_equal(read_at(d, FUSE_READ, deep.nodeid, 0, 10), 0);
	assert_memory_equal(d->reply.data, "hello", 5);
	forget(d, in.nodeid, 1);
	assert_int_equal(read_at(d, FUSE_READ, deep.nodeid, 0, 10), 0);
	forget(d, deep.nodeid, 1);
	assert_empty(d);
}

static void test_forget_too_much(void **state)
{
	static const uint64_t wild[] = {
		0, 1, 2, UINT64_MAX, 1ULL << 62, 1ULL << 63, (1ULL << 62) + 3};
	struct driver *d = *state;
	struct fuse_entry_out tree = walk(d, "tree");
	struct fuse_entry_out in = walk(d, "tree/sub/in");
	struct fuse_attr attr;

	for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
		forget(d, wild[i], UINT64_MAX);
	}
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), 0);
	assert_int_equal(getattr(d, in.nodeid, &attr), 0);
	forget(d, tree.nodeid, UINT64_MAX);
	assert_int_equal(getattr(d, in.nodeid, &attr), 0);
	forget(d, in.nodeid, UINT64_MAX);
	forget(d, in.nodeid, UINT64_MAX);
	assert_int_equal(getattr(d, in.nodeid, &attr), -ESTALE);
}

static void test_batch_forget(void **state)
{
	struct driver *d = *state;
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one items[4];
	} batch = {.in = {.count = 3}};

	for (size_t i = 0; i < 3; i++) {
		static const char *const paths[] = {"tree", "tree/a", "tree/sub"};

		batch.items[i] = (struct fuse_forget_one){walk(d, paths[i]).nodeid, 5};
	}
	assert_int_equal(request(d, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch)), 1);
	assert_empty(d);
	/* A count beyond the end of the request. */
	batch.in.count = UINT32_MAX;
	batch.items[3].nodeid = walk(d, "many").nodeid;
	batch.items[3].nlookup = 1;
	assert_int_equal(request(d, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch)), 1);
	assert_empty(d);
}

/* Ids of files that nobody was told: refused or harmless, like those of other entries. */
static void test_made_up_ids(void **state)
{
	struct driver *d = *state;
	uint64_t a = walk(d, "tree/a").nodeid;
	uint64_t random = 0x123456789abcdef1;
	struct fuse_attr attr;

	for (uint64_t entry = 0; entry < 40; entry++) {
		int rc = getattr(d, (a & ~0xffffffULL) | entry, &attr);

		/* 0 to 5 are files and symlinks, 6 and 7 directories. */
		assert_int_equal(rc, entry < 6 ? 0 : -ESTALE);
	}
	assert_int_equal(getattr(d, a ^ 1 << 24, &attr), -ESTALE);
	for (int i = 0; i < 20000; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		getattr(d, random >> (i % 64), &attr);
		read_at(d, FUSE_READDIR, random >> (i % 64), 0, 4096);
		getattr(d, a ^ (random & 0x8000000fff000fffULL), &attr);
	}
}

/* One content however many places show it, and a node for each place. */
static void test_contents_are_shared(void **state)
{
	struct driver *d = *state;
	struct fs_stats stats;

	walk(d, "tree/sub/in/deep");
	walk(d, "tree/sub2/in/deep");
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 5);
	assert_int_equal(stats.contents, 3);
}

/* Two levels of 1000 directories: live memory per entry, and nothing left behind. */
static void test_memory(void **state)
{
	enum { WIDTH = 1000 };
	struct driver *d = *state;
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node hello = {.kind = NODE_FILE, .digest = d->hello, .size = 5};
	uint64_t *ids = xcalloc(WIDTH, sizeof(*ids));
	struct fs_stats stats;
	char name[32];

	for (unsigned i = 0; i < WIDTH; i++) {
		snprintf(name, sizeof(name), "%u", i);
		add_entry(b, name, hello);
	}
	struct node leaf = put_directory(d, b);

	for (unsigned i = 0; i < WIDTH; i++) {
		snprintf(name, sizeof(name), "%u", i);
		add_entry(b, name, leaf);
	}
	put_root(d, "wide", put_directory(d, b));
	uint64_t wide = walk(d, "wide").nodeid;

	for (unsigned i = 0; i < WIDTH; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(lookup(d, wide, name, &e), 0);
		ids[i] = e.nodeid;
		assert_int_equal(lookup(d, ids[i], "7", &e), 0);
		forget(d, e.nodeid, 1);
	}
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, WIDTH + 1);
	assert_int_equal(stats.contents, 2);
	/* 1000 nodes, two Directory objects of about 50 bytes an entry. */
	assert_true(stats.memory < 250 * WIDTH);
	for (unsigned i = 0; i < WIDTH; i++) {
		forget(d, ids[i], 1);
	}
	forget(d, wide, 1);
	assert_empty(d);
	free(ids);
}

/* ---- The table of slots ---- */

static uint64_t number_hash(const void *item, const void *context unused)
{
	const uint64_t *number = item;

	return *number * 0x9e3779b97f4a7c15ULL >> 32;
}

static uint32_t find_number(const struct slot_table *t, uint64_t number)
{
	uint32_t s = slot_table_first(t, number_hash(&number, NULL));

	while (s != SLOT_NONE && *(const uint64_t *)slot_table_get(t, s) != number) {
		s = slot_table_next(t, s);
	}
	return s;
}

static void test_slot_table(void **state unused)
{
	enum { COUNT = 20000 };
	struct slot_table t;
	uint32_t *slots = xcalloc(COUNT, sizeof(*slots));
	uint32_t *generations = xcalloc(COUNT, sizeof(*generations));

	slot_table_init(&t, sizeof(uint64_t), COUNT, number_hash, NULL);
	for (unsigned round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < COUNT; i++) {
			uint64_t number = i * 3 + round;

			slots[i] = slot_table_add(&t, &number);
			assert_int_not_equal(slots[i], SLOT_NONE);
			uint32_t generation = slot_table_generation(&t, slots[i]);

			/* Also over chunks that were given back meanwhile. */
			assert_true(generation > generations[slots[i]]);
			generations[slots[i]] = generation;
		}
		for (uint64_t i = 0; i < COUNT; i++) {
			assert_int_equal(find_number(&t, i * 3 + round), slots[i]);
		}
		assert_int_equal(find_number(&t, round + 1), SLOT_NONE);
		for (uint64_t i = 0; i < COUNT; i++) {
			slot_table_remove(&t, slots[(i * 7919) % COUNT]);
			assert_null(slot_table_get(&t, slots[(i * 7919) % COUNT]));
		}
		assert_int_equal(t.count, 0);
		assert_int_equal(slot_table_scan(&t, 0), SLOT_NONE);
		assert_true(slot_table_memory(&t) < 200000);
	}
	assert_null(slot_table_get(&t, SLOT_NONE));
	assert_null(slot_table_get(&t, 1u << 30));
	slot_table_done(&t);
	free(slots);
	free(generations);
}

static void test_slot_table_limit(void **state unused)
{
	struct slot_table t;
	uint64_t number = 1;

	slot_table_init(&t, sizeof(number), 5000, number_hash, NULL);
	for (; number <= 5000; number++) {
		assert_int_not_equal(slot_table_add(&t, &number), SLOT_NONE);
	}
	assert_int_equal(slot_table_add(&t, &number), SLOT_NONE);
	slot_table_remove(&t, 17);
	assert_int_equal(slot_table_add(&t, &number), 17);
	slot_table_done(&t);
}

/* ---- Other services ---- */

/* Blobs that would have to be waited for. */
struct slow_blobs {
	struct blob_service base;
	struct blob_service *inner;
};

static int slow_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		     void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	if (flags & BLOB_READ_NOWAIT) {
		return error_set(err, ERROR_WOULD_BLOCK, "slow");
	}
	const struct slow_blobs *slow = container_of(s, struct slow_blobs, base);

	return blob_service_read(slow->inner, digest, offset, buf, len, flags, got, err);
}

static void slow_destroy(struct blob_service *s unused)
{
}

static void test_nowait(void **state)
{
	static const struct blob_service_ops ops = {.name = "slow",
						    .verifies_ranges = true,
						    .destroy = slow_destroy,
						    .read = slow_read};
	struct driver *d = *state;
	struct slow_blobs slow = {.inner = d->store.blobs};
	char text[FS_REQUESTS_TEXT_SIZE];

	blob_service_init(&slow.base, &ops);
	d->options.blobs = &slow.base;
	driver_remount(d);
	uint64_t a = walk(d, "tree/a").nodeid;

	d->flags = FS_NOWAIT;
	assert_int_equal(read_at(d, FUSE_READ, a, 0, 10), 1);
	assert_int_equal(d->outcome, FS_BLOCKED);
	/* Nothing to wait for. */
	assert_int_equal(read_at(d, FUSE_READ, a, 5, 10), 0);
	assert_int_equal(lookup(d, a, "x", &(struct fuse_entry_out){0}), -ENOTDIR);
	d->flags = 0;
	assert_int_equal(read_at(d, FUSE_READ, a, 0, 10), 0);
	assert_memory_equal(d->reply.data, "hello", 5);
	/* What was asked twice counts once. */
	assert_non_null(strstr(fs_describe_requests(d->fs, text), "READ 2,"));
	/* Gone before the services on the stack are. */
	d->options.blobs = d->store.blobs;
	driver_remount(d);
}

/* Roots that refuse to list, and never change. */
struct fixed_roots {
	struct root_nodes base;
	struct root_nodes *inner;
};

static int fixed_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err)
{
	return root_nodes_lookup(container_of(r, struct fixed_roots, base)->inner, name, out,
				 err);
}

static int refuse_list(struct root_nodes *r unused, struct bytes after unused,
		       root_nodes_visit visit unused, void *context unused, struct error *err)
{
	return error_set(err, ERROR_DENIED, "not to be listed");
}

static int fixed_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	return root_nodes_list(container_of(r, struct fixed_roots, base)->inner, after, visit,
			       context, err);
}

static void fixed_destroy(struct root_nodes *r unused)
{
}

static void test_fixed_roots(void **state)
{
	static const struct root_nodes_ops refusing = {.name = "refusing",
						       .destroy = fixed_destroy,
						       .lookup = fixed_lookup,
						       .list = refuse_list};
	static const struct root_nodes_ops fixed = {.name = "fixed",
						    .destroy = fixed_destroy,
						    .lookup = fixed_lookup,
						    .list = fixed_list};
	const struct fuse_open_in in = {.flags = 0};
	struct driver *d = *state;
	struct fixed_roots roots = {.inner = d->store.roots};
	struct fuse_entry_out e;

	root_nodes_init(&roots.base, &refusing);
	d->options.roots = &roots.base;
	driver_remount(d);
	assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 0, 4096), -EPERM);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "nope", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_int_equal(e.entry_valid, UINT64_MAX);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "tree", &e), 0);
	assert_int_not_equal(e.nodeid, 0);
	root_nodes_init(&roots.base, &fixed);
	driver_remount(d);
	assert_int_equal(driver_init(d, FUSE_NO_OPENDIR_SUPPORT), 0);
	/* Nothing to refuse, nothing that changes: no more OPENDIR. */
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in)), -ENOSYS);
	assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 0, 4096), 0);
	d->options.roots = d->store.roots;
	driver_remount(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget_parents_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batch_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made_up_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_contents_are_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test(test_slot_table),
		cmocka_unit_test(test_slot_table_limit),
		cmocka_unit_test_setup_teardown(test_nowait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fixed_roots, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
