/* The index of a local store: what no digest protects, and stores of older programs. */

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw_index.h"
#include "services/local/index.h"
#include "services/local/record.h"
#include "test_local_driver.h"

/* Tables whose values have a check, and what they were called before. */
static const struct {
	const char *name, *before;
} checked[] = {
	{"checked-roots", "roots"},
	{"checked-packs", "packs"},
	{"checked-meta", "meta"},
	{"checked-path-infos", "path-infos"},
};

static struct node file_node(unsigned seed)
{
	return (struct node){
		.kind = NODE_FILE, .digest = digest_of_blob(100, seed), .size = 100};
}

static void put_name(struct store *s, const char *name, unsigned seed)
{
	struct node node = file_node(seed);
	struct error err = {0};

	if (root_nodes_put(s->roots, bytes_of_string(name), &node, true, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static int lookup(struct store *s, const char *name, unsigned seed, struct error *err)
{
	struct root_node found = {0};
	struct node expected = file_node(seed);
	int rc = root_nodes_lookup(s->roots, bytes_of_string(name), &found, err);

	if (rc > 0) {
		assert_true(node_equal(&found.node, &expected));
	}
	root_node_done(&found);
	return rc;
}

static void put_record(struct store *s, const char *key, const char *value)
{
	struct record_entry e = {.key = bytes_of_string(key), .value = bytes_of_string(value)};
	struct error err = {0};

	if (record_table_put(s->path_infos, &e, 1, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void check_record(struct store *s, const char *key, const char *value)
{
	struct buffer got cleanup(buffer_done) = {0};
	struct error err = {0};

	assert_int_equal(record_table_get(s->path_infos, bytes_of_string(key), &got, &err), 1);
	assert_true(bytes_equal(buffer_bytes(&got), bytes_of_string(value)));
}

/* A store with a name and a path info. */
static void make_store(void)
{
	struct store s;

	open_store(&s, STORE_CREATE);
	put_blob(&s, 100, 1);
	put_blob(&s, 100, 2);
	put_name(&s, "first", 1);
	put_record(&s, "key", "value");
	store_close(&s);
}

/* What the index of this store would be if an older program had made it. */
static void make_older(void)
{
	MDB_env *env;
	MDB_txn *txn = raw_index_begin(&env);

	for (size_t i = 0; i < ARRAY_SIZE(checked); i++) {
		MDB_dbi from, to;
		MDB_cursor *cursor;
		MDB_val k, v;

		assert_int_equal(mdb_dbi_open(txn, checked[i].name, 0, &from), 0);
		assert_int_equal(mdb_dbi_open(txn, checked[i].before, MDB_CREATE, &to), 0);
		assert_int_equal(mdb_cursor_open(txn, from, &cursor), 0);
		while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
			v.mv_size -= 8;
			assert_int_equal(mdb_put(txn, to, &k, &v, 0), 0);
		}
		mdb_cursor_close(cursor);
		assert_int_equal(mdb_drop(txn, from, 1), 0);
	}
	raw_index_end(env, txn);
}

static void test_older_store(void **state unused)
{
	struct error err = {0};
	struct store s;

	make_store();
	make_older();
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(lookup(&s, "first", 1, &err), 1);
	assert_int_equal(lookup(&s, "second", 2, &err), 0);
	check_record(&s, "key", "value");
	store_close(&s);

	/* A writer gives the values their checks; sequences and packs go on. */
	open_store(&s, 0);
	put_name(&s, "second", 2);
	put_blob(&s, 100, 3);
	store_close(&s);
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(lookup(&s, "first", 1, &err), 1);
	assert_int_equal(lookup(&s, "second", 2, &err), 1);
	check_record(&s, "key", "value");
	check_blob(&s, 100, 1);
	store_close(&s);
}

/* A reader that opened an older store sees what a writer makes of it. */
static void test_older_store_converted(void **state unused)
{
	struct error err = {0};
	struct index *ix;
	char path[300];
	uint8_t value[8];
	struct store s;

	make_store();
	make_older();
	snprintf(path, sizeof(path), "%s/index", store_path);
	assert_int_equal(index_open(&ix, path, INDEX_READ_ONLY, &err), 0);
	struct bytes key = bytes_of_string("root-sequence");

	assert_int_equal(index_get(ix, INDEX_META, key, value, 8, &err), 1);
	assert_int_equal(value[0], 1);
	index_close(ix);

	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		/* One environment may be open once in a process. */
		int ready[2], done[2];

		if (pipe(ready) != 0 || pipe(done) != 0) {
			_exit(1);
		}
		pid_t writer = fork();

		if (writer == 0) {
			char byte;

			if (read(ready[0], &byte, 1) != 1) {
				_exit(1);
			}
			open_store(&s, 0);
			put_name(&s, "second", 2);
			store_close(&s);
			_exit(write(done[1], "", 1) == 1 ? 0 : 1);
		}
		char byte;

		open_store(&s, STORE_READ_ONLY);
		bool good = lookup(&s, "first", 1, &err) == 1 && write(ready[1], "", 1) == 1 &&
			    read(done[0], &byte, 1) == 1 && lookup(&s, "first", 1, &err) == 1 &&
			    lookup(&s, "second", 2, &err) == 1;

		check_record(&s, "key", "value");
		store_close(&s);
		_exit(good ? 0 : 1);
	}
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool visit_root(void *context, struct bytes name unused, const struct node *node unused)
{
	(*(unsigned *)context)++;
	return true;
}

static void test_damaged_root(void **state unused)
{
	struct error err = {0};
	unsigned count = 0;
	struct store s;

	make_store();
	/* The last byte of the size: still a node, but not this one. */
	raw_index_damage("checked-roots", bytes_of_string("first"), 40);
	open_store(&s, STORE_READ_ONLY);
	assert_int_equal(lookup(&s, "first", 1, &err), -ERROR_CORRUPT);
	assert_int_equal(root_nodes_list(s.roots, bytes_of(NULL, 0), visit_root, &count, &err),
			 -ERROR_CORRUPT);
	assert_int_equal(count, 0);
	store_close(&s);
}

static void test_damaged_sequence(void **state unused)
{
	struct node node = file_node(2);
	struct error err = {0};
	struct store s;

	make_store();
	raw_index_damage("checked-meta", bytes_of_string("root-sequence"), 0);
	open_store(&s, 0);
	assert_int_equal(root_nodes_put(s.roots, bytes_of_string("x"), &node, true, &err),
			 -ERROR_CORRUPT);
	store_close(&s);
}

/* A table that went is not one of an older store. */
static void test_lost_table(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(checked); i++) {
		struct error err = {0};
		struct store s;
		MDB_env *env;
		MDB_dbi dbi;

		snprintf(store_path, sizeof(store_path), "%s/lost-%zu", folder, i);
		make_store();
		MDB_txn *txn = raw_index_begin(&env);

		assert_int_equal(mdb_dbi_open(txn, checked[i].name, 0, &dbi), 0);
		assert_int_equal(mdb_drop(txn, dbi, 1), 0);
		raw_index_end(env, txn);
		assert_int_equal(local_store_open(&s, store_path, 0, &err), -ERROR_CORRUPT);
		assert_int_equal(local_store_open(&s, store_path, STORE_READ_ONLY, &err),
				 -ERROR_CORRUPT);
	}
}

static void test_location_check(void **state unused)
{
	static const struct location locations[] = {
		{LOCATION_PACK, ENCODING_RAW, 1, 5000, 64, 5000},
		{LOCATION_PACK, ENCODING_ZSTD, 7, 5000, 64 << 10, 100000},
		{LOCATION_FILE, ENCODING_RAW, 2, 65 * 32, 4096, 1 << 20},
	};

	for (size_t n = 0; n < ARRAY_SIZE(locations); n++) {
		uint8_t encoded[LOCATION_SIZE];
		struct location l;
		struct error err = {0};

		location_encode(encoded, &locations[n]);
		/* As stores have it that are there already. */
		assert_true(n || (encoded[2] == 0xd3 && encoded[3] == 0x6c));
		assert_int_equal(location_decode(encoded, &l, &err), 0);
		assert_int_equal(l.size, locations[n].size);
		for (size_t i = 0; i < LOCATION_SIZE; i++) {
			for (unsigned bits = 1; bits < 256; bits++) {
				bool none = (i == 2 && encoded[2] == bits && !encoded[3]) ||
					    (i == 3 && encoded[3] == bits && !encoded[2]);

				encoded[i] ^= (uint8_t)bits;
				assert_int_equal(location_decode(encoded, &l, &err),
						 none ? 0 : -ERROR_CORRUPT);
				encoded[i] ^= (uint8_t)bits;
			}
		}
		/* Of an older program. */
		encoded[2] = encoded[3] = 0;
		assert_int_equal(location_decode(encoded, &l, &err), 0);
	}
}

/* A file whose blob nobody could find is to be read again. */
static void test_seen_with_damaged_location(void **state unused)
{
	struct seen_key keys[2] = {{1, 2}, {1, 3}};
	struct seen_value seen[2] = {{.size = 5000}, {.size = 6000}}, out[2];
	struct error err = {0};
	bool found[2];
	struct store s;

	open_store(&s, STORE_CREATE);
	seen[0].digest = put_blob(&s, 5000, 1);
	seen[1].digest = put_blob(&s, 6000, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(seen_cache_remember(s.seen, &keys[i], &seen[i], &err), 0);
	}
	assert_int_equal(store_sync(&s, &err), 0);
	store_close(&s);
	raw_index_damage("blobs", digest_bytes(&seen[0].digest), LOCATION_SIZE - 1);

	open_store(&s, 0);
	assert_int_equal(seen_cache_lookup(s.seen, keys, 2, out, found, &err), 0);
	assert_true(!found[0] && found[1]);
	assert_true(digest_equal(&out[1].digest, &seen[1].digest));
	store_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_older_store, setup, teardown),
		cmocka_unit_test_setup_teardown(test_older_store_converted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_sequence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_table, setup, teardown),
		cmocka_unit_test(test_location_check),
		cmocka_unit_test_setup_teardown(test_seen_with_damaged_location, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
