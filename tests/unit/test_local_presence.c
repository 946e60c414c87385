/* Which blobs an index has, from memory: always what the index itself would say. */

#include "services/local/presence.h"

#include "services/local/record.h"
#include "test_local_driver.h"

#define BLOBS 200

static struct presence presence;
static struct index *ix;

static struct digest digest_number(unsigned i)
{
	struct digest d;

	digest_of(&d, bytes_of(&i, sizeof(i)));
	return d;
}

static void put(unsigned first, unsigned count, uint8_t kind)
{
	struct location l = {.kind = LOCATION_PACK, .pack = 1, .offset = 5000};
	uint8_t encoded[LOCATION_SIZE];
	struct index_write *w;

	location_encode(encoded, &l);
	encoded[0] = kind;
	assert_int_equal(index_write_begin(ix, &w, NULL), 0);
	for (unsigned i = first; i < first + count; i++) {
		struct digest d = digest_number(i);

		assert_int_equal(index_write_put(w, INDEX_BLOBS, digest_bytes(&d),
						 bytes_of(encoded, sizeof(encoded)), true,
						 NULL),
				 0);
	}
	assert_int_equal(index_write_commit(w, NULL), 0);
}

static void drop(unsigned i)
{
	struct digest d = digest_number(i);
	struct index_write *w;

	assert_int_equal(index_write_begin(ix, &w, NULL), 0);
	assert_int_equal(index_write_delete(w, INDEX_BLOBS, digest_bytes(&d), NULL), 1);
	assert_int_equal(index_write_commit(w, NULL), 0);
}

static bool is_there(unsigned i)
{
	struct digest d = digest_number(i);
	bool there;

	assert_int_equal(presence_find(&presence, ix, &d, 1, &there, NULL), 0);
	return there;
}

/* Until the index is not asked any more. */
static void ask_for_many(void)
{
	struct digest digests[BLOBS];
	bool there[BLOBS];

	for (unsigned i = 0; i < BLOBS; i++) {
		digests[i] = digest_number(i);
	}
	assert_int_equal(presence_find(&presence, ix, digests, BLOBS, there, NULL), 0);
	for (unsigned i = 0; i < BLOBS; i++) {
		assert_true(there[i]);
	}
	assert_int_equal(presence.blobs.count, BLOBS);
}

static int open_index(void **state)
{
	int rc = setup(state);

	assert_int_equal(index_open(&ix, folder, INDEX_CREATE, NULL), 0);
	presence_init(&presence);
	put(0, BLOBS, LOCATION_PACK);
	return rc;
}

static int close_index(void **state)
{
	presence_done(&presence);
	index_close(ix);
	return teardown(state);
}

static void test_read_when_many_are_asked_for(void **state unused)
{
	assert_true(is_there(0));
	assert_false(is_there(BLOBS));
	assert_null(presence.blobs.slots);
	ask_for_many();
	assert_true(is_there(1));
	assert_false(is_there(BLOBS));
}

static void test_changes_are_seen(void **state unused)
{
	ask_for_many();
	drop(7);
	assert_false(is_there(7));
	put(7, 1, LOCATION_PACK);
	put(BLOBS, 1, LOCATION_PACK);
	assert_true(is_there(7));
	assert_true(is_there(BLOBS));
	drop(BLOBS);
	ask_for_many();
	assert_false(is_there(BLOBS));
}

/* Of a blob that nobody could find; by the index and from memory. */
static void test_damaged_location(void **state unused)
{
	put(BLOBS, 1, 77);
	assert_false(is_there(BLOBS));
	ask_for_many();
	assert_false(is_there(BLOBS));
	assert_true(is_there(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read_when_many_are_asked_for, open_index,
						close_index),
		cmocka_unit_test_setup_teardown(test_changes_are_seen, open_index, close_index),
		cmocka_unit_test_setup_teardown(test_damaged_location, open_index, close_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
