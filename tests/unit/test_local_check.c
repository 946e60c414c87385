/* The check of a local store: each kind of fault, and damage to the pages of the index. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "raw_index.h"
#include "services/local/index.h"
#include "services/local/index_pages.h"
#include "services/store_check.h"
#include "test_local_driver.h"

/* The blobs of the store, by their seeds. */
enum { IN_TREE = 1, IN_BOTH, LARGE_IN_TREE, UNUSED };

static struct digest tree;

static void add_file(struct directory_builder *b, const char *name, size_t len, unsigned seed)
{
	struct node node = {
		.kind = NODE_FILE, .digest = digest_of_blob(len, seed), .size = len};

	assert_int_equal(directory_builder_add(b, bytes_of_string(name), &node, NULL), 0);
}

static void put_name(struct store *s, const char *name, const struct node *node)
{
	struct error err = {0};

	if (root_nodes_put(s->roots, bytes_of_string(name), node, true, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

/* A tree of three files, a name for it and one for a file in it, and a path info. */
static void make_store(void)
{
	struct directory_builder *b = directory_builder_new();
	struct record_entry info = {.key = bytes_of_string("key"),
				    .value = bytes_of_string("value")};
	struct node file = {.kind = NODE_FILE, .size = 5000};
	struct error err = {0};
	struct directory *d;
	struct store s;

	open_store(&s, STORE_CREATE);
	put_blob(&s, 100, IN_TREE);
	file.digest = put_blob(&s, 5000, IN_BOTH);
	put_blob(&s, LARGE, LARGE_IN_TREE);
	put_blob(&s, 300, UNUSED);
	add_file(b, "a", 100, IN_TREE);
	add_file(b, "b", 5000, IN_BOTH);
	add_file(b, "c", LARGE, LARGE_IN_TREE);
	assert_int_equal(directory_builder_finish(b, &d, &err), 0);
	assert_int_equal(directory_service_put(s.directories, d, &err), 0);
	struct node root = directory_node(d);

	tree = *directory_digest(d);
	put_name(&s, "tree", &root);
	put_name(&s, "file", &file);
	assert_int_equal(record_table_put(s.path_infos, &info, 1, &err), 0);
	directory_unref(d);
	directory_builder_free(b);
	store_close(&s);
}

static struct store_check_report check(const struct store_check_options *o)
{
	static const struct store_check_options everything = {.read_data = true};
	struct store_check_report r;
	struct error err = {0};

	if (local_store_check(store_path, o ? o : &everything, &r, &err) != 0) {
		fail_msg("%s", err.text);
	}
	return r;
}

/* One fault, of this kind, that affects so many names. */
static void expect_fault(enum store_fault_kind kind, size_t names)
{
	struct store_check_report r = check(NULL);

	assert_int_equal(r.fault_count, 1);
	assert_int_equal(r.faults[0].kind, kind);
	assert_true(r.faults[0].text[0]);
	assert_int_equal(r.faults[0].name_count, names);
	assert_int_equal(r.affected_count, names);
	store_check_report_done(&r);
}

static void test_clean(void **state unused)
{
	make_store();
	struct store_check_report r = check(NULL);

	assert_int_equal(r.fault_count, 0);
	assert_int_equal(r.affected_count, 0);
	assert_int_equal(r.objects, 5);
	assert_int_equal(r.names, 3);
	assert_true(r.bytes > LARGE + 5400);
	store_check_report_done(&r);
}

static void test_subset(void **state unused)
{
	uint64_t whole, sum = 0;

	make_store();
	struct store_check_report r = check(NULL);

	whole = r.bytes;
	store_check_report_done(&r);
	for (uint32_t i = 1; i <= 7; i++) {
		r = check(&(struct store_check_options){
			.read_data = true, .subset = i, .subset_count = 7});
		sum += r.bytes;
		store_check_report_done(&r);
	}
	assert_int_equal(sum, whole);
}

static void test_canceled(void **state unused)
{
	atomic_bool cancel = true;
	struct store_check_options o = {.cancel = &cancel};
	struct store_check_report r;
	struct error err = {0};

	make_store();
	assert_int_equal(local_store_check(store_path, &o, &r, &err), -ERROR_CANCELED);
	store_check_report_done(&r);
}

static void lose(const char *table, size_t len, unsigned seed)
{
	struct digest d = digest_of_blob(len, seed);

	raw_index_delete(table, digest_bytes(&d));
}

static void test_lost_entry(void **state unused)
{
	make_store();
	lose("blobs", 300, UNUSED);
	struct store_check_report r = check(NULL);

	/* Nothing needs it. */
	assert_int_equal(r.fault_count, 0);
	store_check_report_done(&r);
	lose("blobs", 5000, IN_BOTH);
	expect_fault(STORE_FAULT_MISSING, 2);
}

static void test_lost_directory(void **state unused)
{
	make_store();
	raw_index_delete("directories", digest_bytes(&tree));
	expect_fault(STORE_FAULT_MISSING, 1);
}

static void test_damaged_location(void **state unused)
{
	struct digest d = digest_of_blob(100, IN_TREE);

	make_store();
	raw_index_damage("blobs", digest_bytes(&d), 8);
	expect_fault(STORE_FAULT_INDEX, 1);
}

/* A location that checks, but is another object's. */
static void test_wrong_location(void **state unused)
{
	struct digest d = digest_of_blob(100, IN_TREE), other = digest_of_blob(300, UNUSED);

	make_store();
	raw_index_copy("blobs", digest_bytes(&other), digest_bytes(&d));
	expect_fault(STORE_FAULT_OBJECT, 1);
}

static void test_large_sizes(void **state unused)
{
	struct digest d = digest_of_blob(LARGE, LARGE_IN_TREE);
	uint8_t key[8 + DIGEST_SIZE];

	make_store();
	put_be64(key, LARGE);
	memcpy(key + 8, d.bytes, DIGEST_SIZE);
	raw_index_copy("large-sizes", bytes_of(key, sizeof(key)), bytes_of(key, 39));
	expect_fault(STORE_FAULT_INDEX, 0);
	raw_index_delete("large-sizes", bytes_of(key, 39));
	raw_index_delete("large-sizes", bytes_of(key, sizeof(key)));
	expect_fault(STORE_FAULT_INDEX, 1);
}

/* Puts values that check, but should not be. */
static void put_value(enum index_table table, struct bytes key, struct bytes value)
{
	struct error err = {0};
	struct index_write *w;
	struct index *ix;
	char path[300];

	snprintf(path, sizeof(path), "%s/index", store_path);
	assert_int_equal(index_open(&ix, path, 0, &err), 0);
	assert_int_equal(index_write_begin(ix, &w, &err), 0);
	assert_int_equal(index_write_put(w, table, key, value, true, &err), 0);
	assert_int_equal(index_write_commit(w, &err), 0);
	index_close(ix);
}

static void test_sequence(void **state unused)
{
	uint8_t value[8];

	make_store();
	put_le64(value, 1);
	put_value(INDEX_META, bytes_of_string("root-sequence"), bytes_of(value, 8));
	expect_fault(STORE_FAULT_INDEX, 0);
}

static void test_committed_length(void **state unused)
{
	uint8_t key[8], value[8];

	make_store();
	put_be64(key, 1);
	put_le64(value, 1 << 20);
	put_value(INDEX_PACKS, bytes_of(key, 8), bytes_of(value, 8));
	expect_fault(STORE_FAULT_PACK, 0);
	put_le64(value, 64);
	put_value(INDEX_PACKS, bytes_of(key, 8), bytes_of(value, 8));
	struct store_check_report r = check(NULL);

	/* All objects, and what the packs would say of the names. */
	assert_int_equal(r.fault_count, 5 + 3);
	assert_int_equal(r.affected_count, 2);
	store_check_report_done(&r);
}

static void test_names(void **state unused)
{
	struct store_check_report r;

	make_store();
	put_value(INDEX_ROOTS, bytes_of_string("odd"), bytes_of_string("no node"));
	r = check(NULL);
	assert_int_equal(r.fault_count, 2);
	assert_int_equal(r.faults[0].kind, STORE_FAULT_NAME);
	assert_int_equal(r.faults[1].kind, STORE_FAULT_LOG);
	assert_int_equal(r.affected_count, 1);
	assert_string_equal(r.affected[0], "odd");
	store_check_report_done(&r);
}

static int refuse(struct bytes key unused, struct bytes value unused,
		  struct buffer *name unused, struct root_node *node unused, struct error *err)
{
	return error_set(err, ERROR_INVALID, "refused");
}

static void test_path_infos(void **state unused)
{
	make_store();
	struct store_check_report r =
		check(&(struct store_check_options){.read_path_info = refuse});

	assert_int_equal(r.fault_count, 1);
	assert_int_equal(r.faults[0].kind, STORE_FAULT_NAME);
	assert_int_equal(r.affected_count, 1);
	store_check_report_done(&r);
}

/* ---- pages of the index ---- */

static void count_fault(void *context, uint64_t page unused, const char *text)
{
	assert_true(text[0]);
	++*(unsigned *)context;
}

static unsigned page_faults(int fd)
{
	unsigned count = 0;
	const struct index_pages_watch watch = {.fault = count_fault, .context = &count};
	struct index_pages_counts counts;
	struct error err = {0};

	assert_int_equal(index_pages_check(fd, 0, &watch, &counts, &err), 0);
	return count;
}

/* Everything that the store has is right, or an error. False: an error. */
static bool answers(void)
{
	struct root_node found = {0};
	struct error err = {0};
	uint8_t *buf = xmalloc(LARGE);
	bool all = true;
	struct store s;

	if (local_store_open(&s, store_path, STORE_READ_ONLY, &err) != 0) {
		free(buf);
		return false;
	}
	for (unsigned seed = IN_TREE; seed <= IN_BOTH; seed++) {
		size_t len = seed == IN_TREE ? 100 : 5000, got = 0;
		struct digest d = digest_of_blob(len, seed), actual;

		if (blob_service_read(s.blobs, &d, 0, buf, LARGE, 0, &got, &err) <= 0) {
			all = false;
			continue;
		}
		digest_of(&actual, bytes_of(buf, got));
		assert_true(digest_equal(&actual, &d));
	}
	struct digest file = digest_of_blob(5000, IN_BOTH);

	if (root_nodes_lookup(s.roots, bytes_of_string("file"), &found, &err) > 0) {
		assert_true(digest_equal(&found.node.digest, &file));
		assert_int_equal(found.node.size, 5000);
		assert_false(found.node.executable);
	} else {
		all = false;
	}
	if (root_nodes_lookup(s.roots, bytes_of_string("tree"), &found, &err) > 0) {
		assert_true(digest_equal(&found.node.digest, &tree));
	} else {
		all = false;
	}
	root_node_done(&found);
	store_close(&s);
	free(buf);
	return all;
}

/*
 * Changes bytes of pages one after the other: all that are not zero, or every so manieth of
 * them. CAIRN_INDEX_FLIPS: how many at least.
 */
static void test_pages(void **state unused)
{
	const char *wish = getenv("CAIRN_INDEX_FLIPS");
	size_t wanted = wish ? strtoul(wish, NULL, 10) : 150, used = 0, tried = 0;
	unsigned found = 0, harmless = 0;
	char path[300];
	struct stat st;

	make_store();
	assert_true(answers());
	snprintf(path, sizeof(path), "%s/index/data.mdb", store_path);
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(page_faults(fd), 0);
	uint8_t *pages = xmalloc((size_t)st.st_size);

	assert_int_equal(pread_full(fd, pages, (size_t)st.st_size, 0), st.st_size);
	for (off_t i = 0; i < st.st_size; i++) {
		used += pages[i] != 0;
	}
	size_t step = MAX(used / wanted, (size_t)1);

	for (off_t i = 0, n = 0; i < st.st_size; i++) {
		if (pages[i] == 0 || n++ % (off_t)step) {
			continue;
		}
		uint8_t changed = pages[i] ^ (uint8_t)(1u << (tried % 8));

		assert_int_equal(pwrite_full(fd, &changed, 1, i), 0);
		bool faulty = page_faults(fd) > 0, right = answers();

		if (!faulty) {
			struct store_check_report r = check(NULL);

			faulty = r.fault_count > 0;
			store_check_report_done(&r);
		}
		if (!faulty && !right) {
			fail_msg("byte %lld: not found", (long long)i);
		}
		assert_int_equal(pwrite_full(fd, &pages[i], 1, i), 0);
		*(faulty ? &found : &harmless) += 1;
		tried++;
	}
	print_message("%zu bytes changed: %u found, %u harmless\n", tried, found, harmless);
	assert_true(found > 0);
	assert_true(answers());
	free(pages);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clean, setup, teardown),
		cmocka_unit_test_setup_teardown(test_subset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_canceled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_location, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_location, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sequence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_committed_length, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_path_infos, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
