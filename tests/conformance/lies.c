/* A back end that verifies nothing, and lies: no lie gets past the service's functions. */

#include "suite.h"

static const size_t sizes[] = {1, 1000, 16384, 16385, 1048576, 1048577, 3 * 1048576 + 5};

struct subject {
	uint8_t *content;
	size_t len;
	struct digest digest;
};

static struct subject subject_put(struct fixture *f, size_t len)
{
	struct subject s = {.content = make_content(len, len), .len = len};

	expect(0, blob_service_put(f->store.blobs, bytes_of(s.content, len), &s.digest, &err));
	return s;
}

static void check_refused(struct fixture *f, const struct subject *s)
{
	struct blob_reader *r = NULL;
	uint8_t byte;
	size_t got;

	expect_error(ERROR_CORRUPT, blob_service_open(f->store.blobs, &s->digest, &r, &err));
	assert_null(r);
	expect_error(ERROR_CORRUPT,
		     blob_service_read(f->store.blobs, &s->digest, 0, &byte, 1, 0, &got, &err));
}

static void check_lies_at_open(struct fixture *f, size_t len)
{
	struct subject s = subject_put(f, len);
	const struct unchecked_lies lies[] = {
		{.size_off = 1},
		{.size_off = -1},
		{.size_off = 1, .give_off = 1},
		{.size_off = -1, .give_off = -1},
		{.give_off = -1},
		{.give_off = 1},
		{.size_off = 20000000},
		{.flip = true, .flip_at = 0},
		{.flip = true, .flip_at = len / 2},
		{.flip = true, .flip_at = len - 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		unchecked_service_lie(f->unchecked, lies[i]);
		check_refused(f, &s);
	}
	unchecked_service_lie(f->unchecked, (struct unchecked_lies){0});
	check_blob(f->store.blobs, bytes_of(s.content, len));
	free(s.content);
}

static void test_at_open(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		check_lies_at_open(*state, sizes[i]);
	}
}

/* A size that no memory holds is not believed to the point of asking for it. */
static void test_huge_size(void **state)
{
	struct fixture *f = *state;
	struct subject s = subject_put(f, 1000);
	struct blob_reader *r = NULL;

	unchecked_service_lie(f->unchecked, (struct unchecked_lies){.size_off = -1001});
	expect_error(ERROR_LIMIT, blob_service_open(f->store.blobs, &s.digest, &r, &err));
	unchecked_service_lie(f->unchecked,
			      (struct unchecked_lies){.size_off = (int64_t)1 << 39});
	expect_error(ERROR_CORRUPT, blob_service_open(f->store.blobs, &s.digest, &r, &err));
	free(s.content);
}

/* Of a large blob, only the groups that are hit are refused; a small one is in memory. */
static void check_flip_while_open(struct fixture *f, size_t len, size_t at)
{
	struct subject s = subject_put(f, len);
	struct blob_reader *r = NULL;
	size_t group = at / 16384 * 16384;
	size_t group_end = MIN(group + 16384, len);
	uint8_t *buf = xmalloc(len);
	int wanted = len > 1048576 ? -ERROR_CORRUPT : 0;
	size_t got = 0;

	unchecked_service_lie(f->unchecked, (struct unchecked_lies){0});
	expect(1, blob_service_open(f->store.blobs, &s.digest, &r, &err));
	unchecked_service_lie(f->unchecked,
			      (struct unchecked_lies){.flip = true, .flip_at = at});
	expect(wanted, blob_reader_pread(r, buf, len, 0, &got, &err));
	expect(wanted, blob_reader_pread(r, buf, 1, at, &got, &err));
	expect(wanted, blob_reader_pread(r, buf, 1, group, &got, &err));
	expect(wanted, blob_reader_pread(r, buf, 1, group_end - 1, &got, &err));
	if (group > 0) {
		expect(0, blob_reader_pread(r, buf, group, 0, &got, &err));
		assert_int_equal(got, group);
		assert_memory_equal(buf, s.content, got);
	}
	if (group_end < len) {
		expect(0, blob_reader_pread(r, buf, len, group_end, &got, &err));
		assert_int_equal(got, len - group_end);
		assert_memory_equal(buf, s.content + group_end, got);
	}
	blob_reader_free(r);
	free(buf);
	free(s.content);
}

static void test_flip_while_open(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		check_flip_while_open(*state, sizes[i], 0);
		check_flip_while_open(*state, sizes[i], sizes[i] / 2);
		check_flip_while_open(*state, sizes[i], sizes[i] - 1);
	}
}

static void test_short_while_open(void **state)
{
	struct fixture *f = *state;
	struct subject s = subject_put(f, 2000000);
	struct blob_reader *r = NULL;
	uint8_t buf[100];
	size_t got;

	expect(1, blob_service_open(f->store.blobs, &s.digest, &r, &err));
	unchecked_service_lie(f->unchecked, (struct unchecked_lies){.give_off = -1});
	expect_error(ERROR_CORRUPT, blob_reader_pread(r, buf, sizeof(buf), 5000, &got, &err));
	expect_error(ERROR_CORRUPT,
		     blob_reader_pread(r, buf, sizeof(buf), 1999950, &got, &err));
	blob_reader_free(r);
	free(s.content);
}

/* The same for back ends that verify ranges: their readers too must keep to their size. */
static void test_reader_alone(void **state)
{
	struct fixture *f = *state;
	struct subject s = subject_put(f, 1000);
	struct blob_reader *r = NULL;
	uint8_t buf[100];
	size_t got = 0;

	expect(1, unchecked_service_open(f->unchecked, &s.digest, &r, &err));
	expect(0, blob_reader_pread(r, buf, sizeof(buf), 950, &got, &err));
	assert_int_equal(got, 50);
	unchecked_service_lie(f->unchecked, (struct unchecked_lies){.give_off = -1});
	expect_error(ERROR_CORRUPT, blob_reader_pread(r, buf, sizeof(buf), 0, &got, &err));
	expect_error(ERROR_CORRUPT, blob_reader_pread(r, buf, sizeof(buf), 950, &got, &err));
	assert_int_equal(got, 50);
	blob_reader_free(r);
	free(s.content);
}

/* The descriptor of an unchecked reader would be a way around all checks. */
static void test_no_fd(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct subject s = subject_put(f, sizes[i]);
		struct blob_reader *r = NULL;

		expect(1, blob_service_open(f->store.blobs, &s.digest, &r, &err));
		assert_int_equal(blob_reader_fd(r), -1);
		blob_reader_free(r);
		free(s.content);
	}
}

/* What is asked without waiting must not go to a back end that may wait. */
static void test_nowait(void **state)
{
	struct fixture *f = *state;
	struct subject s = subject_put(f, 50000);
	uint8_t byte;
	size_t got;

	unchecked_service_reads(f->unchecked);
	expect_error(ERROR_WOULD_BLOCK, blob_service_read(f->store.blobs, &s.digest, 0, &byte,
							  1, BLOB_READ_NOWAIT, &got, &err));
	assert_int_equal(unchecked_service_reads(f->unchecked), 0);
	free(s.content);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_unchecked_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_at_open),          TEST(test_huge_size), TEST(test_flip_while_open),
		TEST(test_short_while_open), TEST(test_no_fd),     TEST(test_reader_alone),
		TEST(test_nowait),
	};

	return cmocka_run_group_tests_name("lies", tests, NULL, NULL);
}
