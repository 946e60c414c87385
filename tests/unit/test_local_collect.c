/* Collecting garbage from a local store, and all that may happen meanwhile. */

#include <unistd.h>

#include "services/local/name_guard.h"
#include "services/mark.h"
#include "test_local_driver.h"

/* ---- Sets of marks ---- */

static void number(struct digest *d, uint64_t n)
{
	digest_of(d, bytes_of(&n, sizeof(n)));
}

static void test_mark_set(void **state unused)
{
	struct error err = {0};
	struct mark_set m;
	struct digest d;

	assert_int_equal(mark_set_init(&m, 10, &err), 0);
	for (uint64_t i = 0; i < 20000; i += 2) {
		number(&d, i);
		assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 1);
		assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 0);
		if (i % 3 == 0) {
			assert_int_equal(mark_set_add(&m, NODE_DIRECTORY, &d, &err), 1);
		}
	}
	for (uint64_t i = 0; i < 20000; i++) {
		number(&d, i);
		assert_int_equal(mark_set_has(&m, NODE_FILE, &d), i % 2 == 0);
		assert_int_equal(mark_set_has(&m, NODE_DIRECTORY, &d), i % 6 == 0);
	}
	/* A digest of zeros is one like others. */
	memset(&d, 0, sizeof(d));
	assert_false(mark_set_has(&m, NODE_FILE, &d));
	assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 1);
	assert_true(mark_set_has(&m, NODE_FILE, &d));
	assert_false(mark_set_has(&m, NODE_DIRECTORY, &d));
	mark_set_done(&m);
}

/* ---- Names ---- */

static struct local_store *local_of(struct store *s)
{
	return container_of(s->seen, struct local_store, seen);
}

static void raise_epoch(struct store *s)
{
	struct error err = {0};
	struct index_write *w;

	assert_int_equal(index_write_begin(local_of(s)->index, &w, &err), 0);
	assert_int_equal(epoch_raise(w, &err), 0);
	assert_int_equal(index_write_commit(w, &err), 0);
}

/* A Directory with one file in it. */
static struct node put_tree(struct store *s, const struct digest *file, uint64_t size)
{
	struct directory_builder *b = directory_builder_new();
	struct node node = {.kind = NODE_FILE, .digest = *file, .size = size};
	struct error err = {0};
	struct directory *d;

	assert_int_equal(directory_builder_add(b, bytes_of_string("file"), &node, &err), 0);
	assert_int_equal(directory_builder_finish(b, &d, &err), 0);
	directory_builder_free(b);
	assert_int_equal(directory_service_put(s->directories, d, &err), 0);
	node = directory_node(d);
	directory_unref(d);
	return node;
}

static int put_name(struct store *s, const char *name, const struct node *node)
{
	struct error err = {0};

	return root_nodes_put(s->roots, bytes_of_string(name), node, true, &err);
}

static int put_record(struct store *s, const char *key, const struct node *tree)
{
	struct record_entry e = {
		.key = bytes_of_string(key), .value = bytes_of_string("value"), .tree = tree};
	struct error err = {0};

	return record_table_put(s->path_infos, &e, 1, &err);
}

/* What was found in the store and is not there any more when its tree gets a name. */
static void test_name_of_what_was_collected(void **state unused)
{
	struct error err = {0};
	struct store s, incomplete;

	open_store(&s, STORE_CREATE);
	open_store(&incomplete, STORE_INCOMPLETE);
	struct digest file = put_blob(&s, 1000, 1), empty = put_blob(&s, 0, 2);
	struct node tree = put_tree(&s, &file, 1000), nothing = put_tree(&s, &empty, 0);

	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(blob_service_discard(s.blobs, &file, &err), 0);
	/* Nobody collects: there is no reason to look. */
	assert_int_equal(put_name(&s, "unseen", &tree), 0);
	raise_epoch(&s);
	assert_int_equal(put_name(&s, "name", &tree), -ERROR_COLLECTED);
	assert_int_equal(put_record(&s, "key", &tree), -ERROR_COLLECTED);
	assert_int_equal(put_record(&s, "key", NULL), 0);
	assert_int_equal(put_name(&s, "empty", &nothing), 0);
	/* The store near a cache never has all. */
	assert_int_equal(put_name(&incomplete, "name", &tree), 0);
	assert_int_equal(put_record(&incomplete, "other", &tree), 0);

	/* Once more, as the error says. */
	put_blob(&s, 1000, 1);
	assert_int_equal(put_name(&s, "again", &tree), 0);
	assert_int_equal(put_record(&s, "again", &tree), 0);
	assert_int_equal(directory_service_discard(s.directories, &tree.digest, &err), 0);
	assert_int_equal(put_name(&s, "no directory", &tree), -ERROR_COLLECTED);
	store_close(&incomplete);
	store_close(&s);

	/* Who comes later knows nothing of what was there. */
	open_store(&s, 0);
	assert_int_equal(put_name(&s, "later", &tree), 0);
	store_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark_set),
		cmocka_unit_test_setup_teardown(test_name_of_what_was_collected, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
