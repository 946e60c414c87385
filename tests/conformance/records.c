/* Tables of records: path infos, as opaque bytes. */

#include "suite.h"

#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct bytes text(const char *s)
{
	return bytes_of_string(s);
}

static void put_one(struct record_table *t, struct bytes key, struct bytes value)
{
	struct record_entry e = {.key = key, .value = value};

	expect(0, record_table_put(t, &e, 1, &err));
}

static void check_record(struct record_table *t, struct bytes key, struct bytes value)
{
	struct buffer got = {0};

	/* What it held is replaced. */
	buffer_append(&got, "before", 6);
	expect(1, record_table_get(t, key, &got, &err));
	assert_true(bytes_equal(buffer_bytes(&got), value));
	buffer_done(&got);
}

static void check_absent(struct record_table *t, struct bytes key)
{
	struct buffer got = {0};

	expect(0, record_table_get(t, key, &got, &err));
	buffer_done(&got);
}

static void test_absent(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;

	check_absent(t, text("nothing"));
	expect(0, record_table_remove(t, text("nothing"), &err));
	expect(0, record_table_put(t, NULL, 0, &err));
}

static void test_replace(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;

	put_one(t, text("key"), text("one"));
	put_one(t, text("key"), text("one"));
	check_record(t, text("key"), text("one"));
	put_one(t, text("key"), text("another"));
	check_record(t, text("key"), text("another"));
	put_one(t, text("key2"), text("\x01"));
	expect(1, record_table_remove(t, text("key"), &err));
	check_absent(t, text("key"));
	expect(0, record_table_remove(t, text("key"), &err));
	check_record(t, text("key2"), text("\x01"));
	put_one(t, text("key"), text("one"));
	check_record(t, text("key"), text("one"));
}

static void test_sizes(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;
	static const size_t sizes[] = {1, 2000, 2048, 4096, 100000, (size_t)5 << 20};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *value = make_content(sizes[i], i);
		uint8_t *key = make_content(RECORD_KEY_MAX, 100 + i);

		put_one(t, bytes_of(key, RECORD_KEY_MAX - i), bytes_of(value, sizes[i]));
		check_record(t, bytes_of(key, RECORD_KEY_MAX - i), bytes_of(value, sizes[i]));
		free(key);
		free(value);
	}
}

static void test_largest(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;
	uint8_t *value = make_content(RECORD_VALUE_MAX, 1);

	put_one(t, text("large"), bytes_of(value, RECORD_VALUE_MAX));
	check_record(t, text("large"), bytes_of(value, RECORD_VALUE_MAX));
	free(value);
}

static void test_invalid(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;
	uint8_t *large = xcalloc(1, RECORD_VALUE_MAX + 1);
	const struct record_entry bad[] = {
		{.key = text(""), .value = text("v")},
		{.key = bytes_of(large, RECORD_KEY_MAX + 1), .value = text("v")},
		{.key = text("k"), .value = text("")},
		{.key = text("k"), .value = bytes_of(large, RECORD_VALUE_MAX + 1)},
	};
	struct buffer got = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		/* None of them, when one is not possible. */
		struct record_entry two[] = {{.key = text("good"), .value = text("v")}, bad[i]};

		expect_error(ERROR_INVALID, record_table_put(t, two, 2, &err));
		check_absent(t, text("good"));
	}
	for (size_t i = 0; i < 2; i++) {
		expect_error(ERROR_INVALID, record_table_get(t, bad[i].key, &got, &err));
		expect_error(ERROR_INVALID, record_table_remove(t, bad[i].key, &err));
	}
	free(large);
}

#define MANY 3000

/* Values so large that a put of many does not fit into what is held in memory at once. */
static void make_entry(unsigned i, char key[32], uint8_t **value, size_t *len)
{
	/* Not in the order of their keys. */
	snprintf(key, 32, "%05u", i * 7919 % MANY);
	*len = 1 + i % 4096;
	*value = make_content(*len, i);
}

static void put_many(struct record_table *t)
{
	struct record_entry *entries = xcalloc(MANY, sizeof(*entries));
	char(*keys)[32] = xcalloc(MANY, sizeof(*keys));

	for (unsigned i = 0; i < MANY; i++) {
		uint8_t *value;
		size_t len;

		make_entry(i, keys[i], &value, &len);
		entries[i] = (struct record_entry){.key = text(keys[i]),
						   .value = bytes_of(value, len)};
	}
	expect(0, record_table_put(t, entries, MANY, &err));
	for (unsigned i = 0; i < MANY; i++) {
		free((void *)(uintptr_t)entries[i].value.ptr);
	}
	free(entries);
	free(keys);
}

static void check_many(struct record_table *t)
{
	for (unsigned i = 0; i < MANY; i++) {
		char key[32];
		uint8_t *value;
		size_t len;

		make_entry(i, key, &value, &len);
		check_record(t, text(key), bytes_of(value, len));
		free(value);
	}
}

struct listing {
	unsigned next;
	unsigned stop_at;
	size_t bytes;
};

static bool take(void *context, struct bytes key, struct bytes value)
{
	struct listing *l = context;
	char wanted[32];

	snprintf(wanted, sizeof(wanted), "%05u", l->next++);
	assert_true(bytes_equal(key, text(wanted)));
	l->bytes += value.len;
	return l->next != l->stop_at;
}

static void check_listing(struct record_table *t, const char *after, unsigned from, unsigned to)
{
	struct listing l = {.next = from, .stop_at = to};

	expect(0, record_table_list(t, text(after), take, &l, &err));
	assert_int_equal(l.next, to);
}

static void test_many(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;

	check_listing(t, "", 0, 0);
	put_many(t);
	check_many(t);
	check_listing(t, "", 0, MANY);
	check_listing(t, "", 0, 1);
	check_listing(t, "00000", 1, MANY);
	check_listing(t, "01233x", 1234, 1240);
	check_listing(t, "02999", MANY, MANY);
	check_listing(t, "\xff", MANY, MANY);
}

static void test_given_twice(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;
	const struct record_entry entries[] = {{.key = text("k"), .value = text("first")},
					       {.key = text("l"), .value = text("other")},
					       {.key = text("k"), .value = text("last")}};

	expect(0, record_table_put(t, entries, 3, &err));
	check_record(t, text("k"), text("last"));
	check_record(t, text("l"), text("other"));
}

static void test_remove_many(void **state)
{
	struct record_table *t = ((struct fixture *)*state)->store.path_infos;
	const struct bytes keys[] = {text("00003"), text("absent"), text("00001"),
				     text("00003")};
	const struct bytes bad[] = {text("00002"), text("")};
	size_t removed = 77;

	put_many(t);
	expect_error(ERROR_INVALID, record_table_remove_many(t, bad, 2, &removed, &err));
	assert_int_equal(removed, 77);
	expect(0, record_table_remove_many(t, keys, 4, &removed, &err));
	assert_int_equal(removed, 2);
	check_absent(t, text("00001"));
	check_absent(t, text("00003"));
	check_listing(t, "00003", 4, MANY);
	expect(0, record_table_remove_many(t, keys, 4, &removed, &err));
	assert_int_equal(removed, 0);
	expect(0, record_table_remove_many(t, NULL, 0, &removed, &err));
}

/* What was put before is there too, for others: see test_found_by_others. */
static void test_after_blobs(void **state)
{
	struct fixture *f = *state;

	expect(0, blob_service_put(f->store.blobs, text("below the record"), NULL, &err));
	put_one(f->store.path_infos, text("k"), text("v"));
	check_blob(f->store.blobs, text("below the record"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_record_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_absent),      TEST(test_replace),     TEST(test_sizes),
		TEST(test_largest),     TEST(test_invalid),     TEST(test_many),
		TEST(test_given_twice), TEST(test_remove_many), TEST(test_after_blobs),
	};

	return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}

/* ---- Stores on disk ---- */

static void test_reopen(void **state)
{
	struct fixture *f = *state;

	put_many(f->store.path_infos);
	put_one(f->store.path_infos, text("gone"), text("v"));
	expect(1, record_table_remove(f->store.path_infos, text("gone"), &err));
	store_close(&f->store);
	expect(0, store_open(&f->store, f->address, STORE_READ_ONLY, &err));
	check_many(f->store.path_infos);
	check_absent(f->store.path_infos, text("gone"));

	struct record_entry e = {.key = text("k"), .value = text("v")};

	expect_error(ERROR_DENIED, record_table_put(f->store.path_infos, &e, 1, &err));
	expect_error(ERROR_DENIED,
		     record_table_remove(f->store.path_infos, text("00000"), &err));
	check_listing(f->store.path_infos, "", 0, MANY);
}

/*
 * Another process, which opens the store when it is told to. It is made while this one has the
 * store closed, and leaves without closing anything, as if killed.
 */
struct other {
	pid_t child;
	int start;
};

static struct other other_new(struct fixture *f, void (*work)(struct store *s))
{
	struct other o;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	o = (struct other){.child = fork(), .start = ends[1]};
	if (o.child == 0) {
		struct store s;
		char byte;

		close(ends[1]);
		if (read(ends[0], &byte, 1) != 1 || store_open(&s, f->address, 0, NULL) != 0) {
			_exit(1);
		}
		work(&s);
		_exit(0);
	}
	close(ends[0]);
	return o;
}

static void other_run(struct other *o)
{
	int status;

	assert_int_equal(write(o->start, "x", 1), 1);
	close(o->start);
	assert_int_equal(waitpid(o->child, &status, 0), o->child);
	assert_int_equal(status, 0);
}

static void put_as_other(struct store *s)
{
	struct record_entry e = {.key = text("k"), .value = text("v")};

	if (blob_service_put(s->blobs, text("below the record"), NULL, NULL) != 0 ||
	    record_table_put(s->path_infos, &e, 1, NULL) != 0 ||
	    blob_service_put(s->blobs, text("not synced"), NULL, NULL) != 0) {
		_exit(2);
	}
}

static void remove_as_other(struct store *s)
{
	if (record_table_remove(s->path_infos, text("k"), NULL) != 1) {
		_exit(2);
	}
}

/* In a store that is open already, without a sync, with what was put before. */
static void test_found_by_others(void **state)
{
	struct fixture *f = *state;
	struct digest lost;

	store_close(&f->store);
	struct other putting = other_new(f, put_as_other);
	struct other removing = other_new(f, remove_as_other);

	expect(0, store_open(&f->store, f->address, STORE_READ_ONLY, &err));
	other_run(&putting);
	check_record(f->store.path_infos, text("k"), text("v"));
	check_blob(f->store.blobs, text("below the record"));
	digest_of(&lost, text("not synced"));
	check_blob_absent(f->store.blobs, &lost);
	other_run(&removing);
	check_absent(f->store.path_infos, text("k"));
}

/* The store, which is empty, as it was before there were tables of records, and checks. */
static void remove_table(struct fixture *f)
{
	static const char *const added[] = {"checked-path-infos", "checked-roots",
					    "checked-packs", "checked-meta"};
	static const char *const instead[] = {"roots", "packs", "meta"};
	char *path cleanup(cleanup_free) = xasprintf("%s/store/index", f->dir);
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi table;

	assert_int_equal(mdb_env_create(&env), 0);
	mdb_env_set_maxdbs(env, 32);
	mdb_env_set_mapsize(env, (size_t)1 << 30);
	assert_int_equal(mdb_env_open(env, path, 0, 0644), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	for (size_t i = 0; i < ARRAY_SIZE(added); i++) {
		assert_int_equal(mdb_dbi_open(txn, added[i], 0, &table), 0);
		assert_int_equal(mdb_drop(txn, table, 1), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(instead); i++) {
		assert_int_equal(mdb_dbi_open(txn, instead[i], MDB_CREATE, &table), 0);
	}
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void test_old_store(void **state)
{
	struct fixture *f = *state;

	store_close(&f->store);
	remove_table(f);
	struct other putting = other_new(f, put_as_other);

	expect(0, store_open(&f->store, f->address, STORE_READ_ONLY, &err));
	check_absent(f->store.path_infos, text("k"));
	check_listing(f->store.path_infos, "", 0, 0);
	/* A reader that is there already sees what the first writer puts. */
	other_run(&putting);
	check_record(f->store.path_infos, text("k"), text("v"));
	store_close(&f->store);

	remove_table(f);
	expect(0, store_open(&f->store, f->address, 0, &err));
	check_absent(f->store.path_infos, text("k"));
	put_many(f->store.path_infos);
	check_many(f->store.path_infos);
}

static void lose_index(struct fixture *f)
{
	static const char *const files[] = {"data.mdb", "lock.mdb"};

	store_close(&f->store);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *path cleanup(cleanup_free) =
			xasprintf("%s/store/index/%s", f->dir, files[i]);

		assert_int_equal(unlink(path), 0);
	}
}

static void rebuild(struct fixture *f, struct store_rebuilt *result)
{
	lose_index(f);
	expect(0, store_rebuild(f->address, result, &err));
	expect(0, store_open(&f->store, f->address, 0, &err));
}

static void test_rebuild(void **state)
{
	struct fixture *f = *state;
	struct node node = make_symlink("target");
	struct store_rebuilt result;

	put_one(f->store.path_infos, text("gone"), text("v"));
	/* Roots are counted and replayed apart, though the keys are the same. */
	expect(0, root_nodes_put(f->store.roots, text("00007"), &node, false, &err));
	put_one(f->store.path_infos, text("00007"), text("replaced below"));
	put_many(f->store.path_infos);
	expect(1, record_table_remove(f->store.path_infos, text("gone"), &err));
	expect(0, root_nodes_put(f->store.roots, text("gone"), &node, false, &err));
	rebuild(f, &result);
	assert_int_equal(result.path_infos, MANY);
	assert_int_equal(result.roots, 2);
	assert_int_equal(result.damaged_bytes, 0);
	check_many(f->store.path_infos);
	check_listing(f->store.path_infos, "", 0, MANY);
	check_absent(f->store.path_infos, text("gone"));

	/* And it goes on from the last change. */
	put_one(f->store.path_infos, text("00007"), text("later"));
	expect(1, record_table_remove(f->store.path_infos, text("00008"), &err));
	rebuild(f, &result);
	assert_int_equal(result.path_infos, MANY - 1);
	check_record(f->store.path_infos, text("00007"), text("later"));
	check_absent(f->store.path_infos, text("00008"));
}

/* What is there already is not written again. */
static void test_put_again(void **state)
{
	struct fixture *f = *state;
	char *path cleanup(cleanup_free) = xasprintf("%s/store/packs/00000001.pack", f->dir);
	struct stat before, after;

	put_many(f->store.path_infos);
	assert_int_equal(stat(path, &before), 0);
	put_many(f->store.path_infos);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
}

int run_file_record_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reopen),  TEST(test_found_by_others), TEST(test_old_store),
		TEST(test_rebuild), TEST(test_put_again),
	};

	return cmocka_run_group_tests_name("records on disk", tests, NULL, NULL);
}
