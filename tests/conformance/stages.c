/* Staged stores: all that was put into them, or nothing. */

#include "suite.h"

#include <pthread.h>
#include <stdio.h>

static const size_t sizes[] = {1, 4096, 131073, 262145, 3000000};

static uint8_t *content_of(unsigned seed, size_t i, struct bytes *out)
{
	uint8_t *content = make_content(sizes[i], seed * 1000 + i);

	*out = bytes_of(content, sizes[i]);
	return content;
}

static struct directory *tree_of(unsigned seed, struct directory **leaf)
{
	char name[32];

	snprintf(name, sizeof(name), "leaf of %u", seed);
	*leaf = make_leaf(name);
	return make_parent(leaf, 1);
}

static void put_all(struct store *s, unsigned seed)
{
	struct directory *leaf cleanup(cleanup_directory) = NULL;
	struct directory *parent cleanup(cleanup_directory) = tree_of(seed, &leaf);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bytes bytes;
		uint8_t *content = content_of(seed, i, &bytes);

		expect(0, blob_service_put(s->blobs, bytes, NULL, &err));
		free(content);
	}
	expect(0, directory_service_put(s->directories, leaf, &err));
	expect(0, directory_service_put(s->directories, parent, &err));
}

static void check_all(struct store *s, unsigned seed)
{
	struct directory *leaf cleanup(cleanup_directory) = NULL;
	struct directory *parent cleanup(cleanup_directory) = tree_of(seed, &leaf);
	struct directory *found cleanup(cleanup_directory) = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bytes bytes;
		uint8_t *content = content_of(seed, i, &bytes);

		check_blob(s->blobs, bytes);
		free(content);
	}
	expect(1, directory_service_has(s->directories, directory_digest(leaf), &err));
	expect(1,
	       directory_service_get(s->directories, directory_digest(parent), &found, &err));
	assert_true(bytes_equal(directory_encoding(found), directory_encoding(parent)));
}

static void check_none(struct store *s, unsigned seed)
{
	struct directory *leaf cleanup(cleanup_directory) = NULL;
	struct directory *parent cleanup(cleanup_directory) = tree_of(seed, &leaf);
	struct directory *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct digest digest;
		struct bytes bytes;
		uint8_t *content = content_of(seed, i, &bytes);

		digest_of(&digest, bytes);
		check_blob_absent(s->blobs, &digest);
		free(content);
	}
	expect(0, directory_service_has(s->directories, directory_digest(leaf), &err));
	expect(0,
	       directory_service_get(s->directories, directory_digest(parent), &found, &err));
}

static void test_commit(void **state)
{
	struct fixture *f = *state;
	struct store staged = {0};

	put_all(&f->store, 1);
	expect(0, store_stage(&f->store, &staged, &err));
	put_all(&staged, 2);
	check_none(&f->store, 2);
	check_all(&staged, 1);
	check_all(&staged, 2);
	expect(0, store_sync(&staged, &err));
	check_none(&f->store, 2);
	expect(0, store_stage_commit(&staged, &err));
	assert_null(staged.blobs);
	assert_null(staged.directories);
	assert_null(staged.stage);
	check_all(&f->store, 1);
	check_all(&f->store, 2);
	expect(0, store_sync(&f->store, &err));
}

/* Nothing is asked between the puts and the commit. */
static void test_commit_unread(void **state)
{
	struct fixture *f = *state;
	struct store staged = {0};

	expect(0, store_stage(&f->store, &staged, &err));
	put_all(&staged, 2);
	expect(0, store_stage_commit(&staged, &err));
	check_all(&f->store, 2);
}

static void test_close(void **state)
{
	struct fixture *f = *state;
	struct store staged = {0};

	put_all(&f->store, 1);
	expect(0, store_stage(&f->store, &staged, &err));
	put_all(&staged, 1);
	put_all(&staged, 2);
	check_all(&staged, 2);
	store_close(&staged);
	check_all(&f->store, 1);
	check_none(&f->store, 2);
	/* What was given up can come again. */
	expect(0, store_stage(&f->store, &staged, &err));
	check_none(&staged, 2);
	put_all(&staged, 2);
	expect(0, store_stage_commit(&staged, &err));
	check_all(&f->store, 2);
}

static void test_empty(void **state)
{
	struct fixture *f = *state;
	struct store staged = {0};

	expect(0, store_stage(&f->store, &staged, &err));
	expect(0, store_sync(&staged, &err));
	expect(0, store_stage_commit(&staged, &err));
	expect(0, store_stage(&f->store, &staged, &err));
	store_close(&staged);
	/* Nothing new. */
	put_all(&f->store, 1);
	expect(0, store_stage(&f->store, &staged, &err));
	put_all(&staged, 1);
	expect(0, store_stage_commit(&staged, &err));
	check_all(&f->store, 1);
}

static void stage_two(struct fixture *f, struct store *a, struct store *b)
{
	expect(0, store_stage(&f->store, a, &err));
	expect(0, store_stage(&f->store, b, &err));
}

/* They do not see each other, and what both have survives the end of either. */
static void test_two_stages(void **state)
{
	struct fixture *f = *state;
	struct store a = {0}, b = {0};

	stage_two(f, &a, &b);
	put_all(&a, 1);
	put_all(&b, 2);
	check_none(&a, 2);
	check_none(&b, 1);
	put_all(&a, 3);
	put_all(&b, 3);
	put_all(&f->store, 4);
	check_all(&a, 4);
	expect(0, store_stage_commit(&a, &err));
	check_all(&f->store, 1);
	check_all(&f->store, 3);
	check_none(&f->store, 2);
	check_all(&b, 1);
	check_all(&b, 3);
	store_close(&b);
	check_none(&f->store, 2);
	for (unsigned seed = 1; seed <= 4; seed++) {
		if (seed != 2) {
			check_all(&f->store, seed);
		}
	}
}

static void test_both_commit(void **state)
{
	struct fixture *f = *state;
	struct store a = {0}, b = {0};

	stage_two(f, &a, &b);
	put_all(&a, 1);
	put_all(&b, 1);
	put_all(&b, 2);
	check_all(&a, 1);
	check_all(&b, 1);
	expect(0, store_stage_commit(&b, &err));
	check_all(&a, 2);
	expect(0, store_stage_commit(&a, &err));
	check_all(&f->store, 1);
	check_all(&f->store, 2);
}

/* Writers that are given up, and one that fails, leave the rest as it is. */
static void test_writers(void **state)
{
	struct fixture *f = *state;
	struct store staged = {0};
	struct digest digest;
	struct bytes bytes;
	uint8_t *content = content_of(5, 4, &bytes);

	expect(0, store_stage(&f->store, &staged, &err));
	for (unsigned turn = 0; turn < 2; turn++) {
		struct blob_writer *w = NULL;

		expect(0, blob_service_create(staged.blobs, &w, &err));
		expect(0, blob_writer_write(w, bytes_of(bytes.ptr, 1000000), &err));
		if (turn == 0) {
			blob_writer_free(w);
			continue;
		}
		expect(0, blob_writer_write(
				  w, bytes_of(bytes.ptr + 1000000, bytes.len - 1000000), &err));
		expect(0, blob_writer_commit(w, &digest, NULL, &err));
	}
	check_blob(staged.blobs, bytes);
	check_blob_absent(f->store.blobs, &digest);
	expect(0, store_stage_commit(&staged, &err));
	check_blob(f->store.blobs, bytes);
	free(content);
}

/* The store below may be closed first. */
static void test_outlives_store(void **state)
{
	struct fixture *f = *state;
	struct store kept = {.blobs = blob_service_ref(f->store.blobs),
			     .directories = directory_service_ref(f->store.directories)};
	struct store staged = {0};

	expect(0, store_stage(&f->store, &staged, &err));
	store_close(&f->store);
	put_all(&staged, 1);
	check_none(&kept, 1);
	check_all(&staged, 1);
	expect(0, store_stage_commit(&staged, &err));
	check_all(&kept, 1);
	store_close(&kept);
}

/* Whoever holds the services of a staged store that has ended reads on, but puts no more. */
static void test_held_services(void **state)
{
	struct fixture *f = *state;

	for (unsigned turn = 0; turn < 2; turn++) {
		struct directory *d cleanup(cleanup_directory) = make_leaf("too late");
		struct store staged = {0};

		expect(0, store_stage(&f->store, &staged, &err));
		put_all(&staged, 1);
		struct store held = {.blobs = blob_service_ref(staged.blobs),
				     .directories = directory_service_ref(staged.directories)};

		if (turn == 0) {
			store_close(&staged);
			check_none(&held, 1);
		} else {
			expect(0, store_stage_commit(&staged, &err));
			check_all(&held, 1);
		}
		expect_error(ERROR_INVALID,
			     blob_service_put(held.blobs, bytes_of("late", 4), NULL, &err));
		expect_error(ERROR_INVALID, directory_service_put(held.directories, d, &err));
		store_close(&held);
	}
	check_all(&f->store, 1);
}

static void test_not_twice(void **state)
{
	struct fixture *f = *state;
	struct store staged = {0};
	struct store above = {0};

	expect(0, store_stage(&f->store, &staged, &err));
	expect_error(ERROR_UNSUPPORTED, store_stage(&staged, &above, &err));
	assert_null(above.blobs);
	store_close(&staged);
}

/* ---- Many objects ---- */

#define MANY 20000u

static size_t number_content(uint8_t *out, unsigned i)
{
	return (size_t)snprintf((char *)out, 64, "object number %u of a staged store", i);
}

static void put_number(struct store *s, unsigned i)
{
	uint8_t content[64];
	size_t len = number_content(content, i);

	expect(0, blob_service_put(s->blobs, bytes_of(content, len), NULL, &err));
}

static int has_number(struct store *s, unsigned i)
{
	uint8_t content[64];
	size_t len = number_content(content, i);
	struct digest digest;
	struct error err = {0};

	digest_of(&digest, bytes_of(content, len));
	return blob_service_has(s->blobs, &digest, &err);
}

/* All in one question, some also by themselves: of a peer each asks once more. */
static void check_numbers(struct store *s, unsigned count, int wanted)
{
	struct digest *digests cleanup(cleanup_free) = xcalloc(count, sizeof(*digests));
	bool *missing cleanup(cleanup_free) = xcalloc(count, sizeof(*missing));
	uint8_t content[64];

	for (unsigned i = 0; i < count; i++) {
		digest_of(&digests[i], bytes_of(content, number_content(content, i)));
		missing[i] = wanted > 0;
	}
	expect(0, blob_service_find_missing(s->blobs, digests, count, missing, &err));
	for (unsigned i = 0; i < count; i++) {
		if (missing[i] == (wanted > 0) || (i % 16 == 0 && has_number(s, i) != wanted)) {
			fail_msg("object %u of %u: not %d", i, count, wanted);
		}
	}
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	uint8_t content[64];

	for (unsigned turn = 0; turn < 2; turn++) {
		struct store staged = {0};

		expect(0, store_stage(&f->store, &staged, &err));
		put_all(&staged, 1);
		for (unsigned i = 0; i < MANY; i++) {
			put_number(&staged, i);
			/* Early ones again: they are there already. */
			put_number(&staged, i / 7);
		}
		put_all(&staged, 2);
		check_numbers(&staged, MANY, 1);
		check_numbers(&f->store, MANY, 0);
		check_all(&staged, 1);
		check_all(&staged, 2);
		if (turn == 0) {
			store_close(&staged);
			check_numbers(&f->store, MANY, 0);
			check_none(&f->store, 1);
		} else {
			expect(0, store_stage_commit(&staged, &err));
		}
	}
	check_numbers(&f->store, MANY, 1);
	check_blob(f->store.blobs, bytes_of(content, number_content(content, MANY - 1)));
	check_all(&f->store, 1);
	check_all(&f->store, 2);
}

/* ---- Threads: stages beside each other and beside writers of the store ---- */

#define STAGERS 4u
#define OBJECTS 3000u

struct stager_thread {
	struct store *store;
	unsigned number;
	bool commit;
	char complaint[1200];
};

static int put_some(struct store *s, unsigned number, struct error *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < OBJECTS; i++) {
		uint8_t content[64];
		/* Half of them are what all put. */
		size_t len = number_content(content, i % 2 ? i : number * MANY + i);

		rc = blob_service_put(s->blobs, bytes_of(content, len), NULL, err);
	}
	if (rc == 0) {
		uint8_t *large = make_content(700000, number % 2);

		rc = blob_service_put(s->blobs, bytes_of(large, 700000), NULL, err);
		free(large);
	}
	return rc;
}

static void *stage_main(void *context)
{
	struct stager_thread *t = context;
	struct store staged = {0};
	struct error err = {0};
	int rc = store_stage(t->store, &staged, &err);

	if (rc == 0) {
		rc = put_some(&staged, t->number, &err);
	}
	if (rc == 0 && t->commit) {
		rc = store_stage_commit(&staged, &err);
	}
	store_close(&staged);
	if (rc) {
		snprintf(t->complaint, sizeof(t->complaint), "stager %u: %s", t->number,
			 err.text);
	}
	return NULL;
}

static void *writer_main(void *context)
{
	struct stager_thread *t = context;
	struct error err = {0};
	int rc = put_some(t->store, t->number, &err);

	if (rc == 0) {
		rc = store_sync(t->store, &err);
	}
	if (rc) {
		snprintf(t->complaint, sizeof(t->complaint), "writer %u: %s", t->number,
			 err.text);
	}
	return NULL;
}

static void test_beside_each_other(void **state)
{
	struct fixture *f = *state;
	struct stager_thread *t = xcalloc(STAGERS + 1, sizeof(*t));
	pthread_t threads[STAGERS + 1];
	unsigned failed = 0;

	for (unsigned i = 0; i <= STAGERS; i++) {
		t[i].store = &f->store;
		t[i].number = i + 1;
		t[i].commit = i != 1;
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < STAGERS ? stage_main : writer_main, &t[i]),
				 0);
	}
	for (unsigned i = 0; i <= STAGERS; i++) {
		pthread_join(threads[i], NULL);
		if (t[i].complaint[0]) {
			print_error("%s\n", t[i].complaint);
			failed++;
		}
	}
	assert_int_equal(failed, 0);
	for (unsigned i = 0; i <= STAGERS; i++) {
		for (unsigned k = 0; k < OBJECTS; k += 2) {
			assert_int_equal(has_number(&f->store, t[i].number * MANY + k),
					 t[i].commit ? 1 : 0);
		}
	}
	free(t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_stage_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_commit),    TEST(test_commit_unread),  TEST(test_close),
		TEST(test_empty),     TEST(test_two_stages),     TEST(test_both_commit),
		TEST(test_writers),   TEST(test_outlives_store), TEST(test_held_services),
		TEST(test_not_twice), TEST(test_many),           TEST(test_beside_each_other),
	};

	return cmocka_run_group_tests_name("stages", tests, NULL, NULL);
}
