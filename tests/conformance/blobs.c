#include "suite.h"

#include <unistd.h>

#include "castore/outboard.h"

static const size_t sizes[] = {
	1,       2,
	1023,    1024,
	1025,    4095,
	4096,    4097,
	16383,   16384,
	16385,   131071,
	131072,  131073,
	262143,  262144,
	262145,  1048575,
	1048576, 1048577,
	2097152, 5 * 1048576 + 3,
};

/* ---- Checks that every group uses ---- */

static void check_range(struct blob_reader *r, struct bytes content, size_t offset, size_t len,
			uint8_t *buf)
{
	size_t wanted = MIN(len, content.len - MIN(offset, content.len));
	size_t got = SIZE_MAX;

	memset(buf, 0xee, len);
	expect(0, blob_reader_pread(r, buf, len, offset, &got, &err));
	assert_int_equal(got, wanted);
	if (wanted) {
		assert_memory_equal(buf, content.ptr + offset, wanted);
	}
	for (size_t i = wanted; i < len; i++) {
		assert_int_equal(buf[i], 0xee);
	}
}

/* Around each border that an implementation may have, from both sides. */
static void check_ranges(struct blob_reader *r, struct bytes content)
{
	static const size_t borders[] = {0, 1024, 4096, 16384, 65536, 131072, 1048576, 2097152};
	static const size_t lens[] = {1, 7, 4096, 16384, 20000};
	uint8_t buf[20000];

	for (size_t i = 0; i < ARRAY_SIZE(borders); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(lens); k++) {
			size_t at = borders[i];

			check_range(r, content, at, lens[k], buf);
			check_range(r, content, at + 1, lens[k], buf);
			check_range(r, content, at > 3 ? at - 3 : 0, lens[k], buf);
		}
	}
}

static void check_end(struct blob_reader *r, struct bytes content)
{
	uint8_t buf[64];
	size_t got = SIZE_MAX;

	check_range(r, content, content.len - 1, sizeof(buf), buf);
	check_range(r, content, content.len - 1, 1, buf);
	check_range(r, content, content.len, sizeof(buf), buf);
	check_range(r, content, content.len + 1, sizeof(buf), buf);
	check_range(r, content, 0, 0, buf);
	expect(0, blob_reader_pread(r, buf, sizeof(buf), UINT64_MAX, &got, &err));
	assert_int_equal(got, 0);
	got = SIZE_MAX;
	expect(0, blob_reader_pread(r, buf, sizeof(buf), INT64_MAX, &got, &err));
	assert_int_equal(got, 0);
}

static void check_fd(struct blob_reader *r, struct bytes content)
{
	int fd = blob_reader_fd(r);

	if (fd < 0) {
		return;
	}
	uint8_t *buf = xmalloc(content.len + 1);

	assert_int_equal(pread(fd, buf, content.len + 1, 0), content.len);
	assert_memory_equal(buf, content.ptr, content.len);
	free(buf);
}

/* What others need to check ranges, where it is to be had. */
static void check_outboard(struct blob_reader *r, struct bytes content)
{
	struct outboard_builder *builder = outboard_builder_new();
	struct buffer expected cleanup(buffer_done) = {0};
	struct digest digest;

	outboard_builder_update(builder, content);
	outboard_builder_finish(builder, &digest, &expected);
	outboard_builder_free(builder);
	size_t count = expected.len / DIGEST_SIZE;
	uint8_t *values cleanup(cleanup_free) = xmalloc(expected.len + 1);

	if (content.len > OUTBOARD_SPAN &&
	    blob_reader_outboard(r, 0, count, values, NULL) == -ERROR_UNSUPPORTED) {
		return;
	}
	expect(0, blob_reader_outboard(r, 0, count, values, &err));
	assert_true(bytes_equal(bytes_of(values, expected.len), buffer_bytes(&expected)));
	if (count > 2) {
		expect(0, blob_reader_outboard(r, 1, 2, values, &err));
		assert_memory_equal(values, expected.ptr + DIGEST_SIZE, 2 * DIGEST_SIZE);
	}
	expect_error(ERROR_INVALID, blob_reader_outboard(r, 1, count, values, &err));
}

static void check_reader(struct blob_service *s, struct bytes content,
			 const struct digest *digest)
{
	struct blob_reader *r = NULL;
	uint8_t *whole = xmalloc(content.len + 1);

	expect(1, blob_service_open(s, digest, &r, &err));
	assert_int_equal(blob_reader_size(r), content.len);
	check_range(r, content, 0, content.len, whole);
	check_range(r, content, 0, content.len + 1, whole);
	check_ranges(r, content);
	check_outboard(r, content);
	check_end(r, content);
	check_fd(r, content);
	blob_reader_free(r);
	free(whole);
}

static void check_read(struct blob_service *s, struct bytes content,
		       const struct digest *digest, size_t offset, size_t len)
{
	size_t wanted = MIN(len, content.len - MIN(offset, content.len));
	uint8_t *buf = xmalloc(len + 1);
	size_t got = SIZE_MAX;

	expect(1, blob_service_read(s, digest, offset, buf, len, 0, &got, &err));
	assert_int_equal(got, wanted);
	if (wanted) {
		assert_memory_equal(buf, content.ptr + offset, wanted);
	}
	got = SIZE_MAX;
	struct error why = {0};
	int rc = blob_service_read(s, digest, offset, buf, len, BLOB_READ_NOWAIT, &got, &why);

	if (rc != -ERROR_WOULD_BLOCK) {
		expect_at(1, rc, &why, "read without waiting", __FILE__, __LINE__);
		assert_int_equal(got, wanted);
		assert_true(wanted == 0 || memcmp(buf, content.ptr + offset, wanted) == 0);
	}
	free(buf);
}

static void check_chunks(struct blob_service *s, struct bytes content,
			 const struct digest *digest)
{
	struct chunk_list list = {.count = SIZE_MAX};
	size_t at = 0;

	expect(1, blob_service_chunks(s, digest, &list, &err));
	for (size_t i = 0; i < list.count; i++) {
		const struct chunk *c = &list.chunks[i];
		size_t got = 0;

		assert_true(c->size > 0 && c->size <= content.len - at);
		uint8_t *buf = xmalloc((size_t)c->size);

		expect(1, blob_service_has(s, &c->digest, &err));
		expect(1, blob_service_read(s, &c->digest, 0, buf, (size_t)c->size, 0, &got,
					    &err));
		assert_int_equal(got, c->size);
		assert_memory_equal(buf, content.ptr + at, got);
		at += got;
		free(buf);
	}
	assert_true(list.count == 0 || at == content.len);
	chunk_list_done(&list);
}

void check_blob(struct blob_service *s, struct bytes content)
{
	struct digest digest;
	uint64_t size = UINT64_MAX;

	digest_of(&digest, content);
	expect(1, blob_service_has(s, &digest, &err));
	expect(1, blob_service_size(s, &digest, &size, &err));
	assert_int_equal(size, content.len);
	check_reader(s, content, &digest);
	check_read(s, content, &digest, 0, content.len);
	check_read(s, content, &digest, 0, content.len + 5);
	check_read(s, content, &digest, content.len / 3, content.len / 2);
	check_read(s, content, &digest, content.len - 1, 10);
	check_read(s, content, &digest, content.len, 10);
	check_read(s, content, &digest, content.len + 100, 10);
	check_read(s, content, &digest, 0, 0);
	check_chunks(s, content, &digest);
}

void check_blob_absent(struct blob_service *s, const struct digest *digest)
{
	struct blob_reader *r = NULL;
	struct chunk_list list = {0};
	uint64_t size;
	uint8_t buf[8];
	size_t got;

	expect(0, blob_service_has(s, digest, &err));
	expect(0, blob_service_size(s, digest, &size, &err));
	expect(0, blob_service_open(s, digest, &r, &err));
	assert_null(r);
	expect(0, blob_service_read(s, digest, 0, buf, sizeof(buf), 0, &got, &err));
	expect(0, blob_service_read(s, digest, 0, buf, 0, 0, &got, &err));
	expect(0, blob_service_chunks(s, digest, &list, &err));
	struct error why = {0};
	int rc =
		blob_service_read(s, digest, 0, buf, sizeof(buf), BLOB_READ_NOWAIT, &got, &why);

	assert_true(rc == 0 || rc == -ERROR_WOULD_BLOCK);
}

/* ---- Tests ---- */

static void write_pieces(struct blob_service *s, struct bytes content, size_t piece)
{
	struct blob_writer *w = NULL;
	struct digest digest;
	struct digest wanted;
	uint64_t size = UINT64_MAX;

	expect(0, blob_service_create(s, &w, &err));
	for (size_t at = 0; at < content.len; at += piece) {
		size_t n = MIN(piece, content.len - at);

		expect(0, blob_writer_write(w, bytes_of(content.ptr + at, n), &err));
	}
	expect(0, blob_writer_commit(w, &digest, &size, &err));
	digest_of(&wanted, content);
	assert_memory_equal(&digest, &wanted, sizeof(digest));
	assert_int_equal(size, content.len);
}

static void test_absent(void **state)
{
	struct fixture *f = *state;
	struct digest unknown = unknown_digest(0);

	check_blob_absent(f->store.blobs, &unknown);
	unknown = unknown_digest(0xff);
	check_blob_absent(f->store.blobs, &unknown);
}

static void check_empty(struct blob_service *s)
{
	struct blob_reader *r = NULL;
	struct chunk_list list = {.count = 1};
	uint64_t size = UINT64_MAX;
	uint8_t buf[8];
	size_t got = SIZE_MAX;

	expect(1, blob_service_has(s, &digest_empty, &err));
	expect(1, blob_service_size(s, &digest_empty, &size, &err));
	assert_int_equal(size, 0);
	expect(1, blob_service_open(s, &digest_empty, &r, &err));
	assert_int_equal(blob_reader_size(r), 0);
	expect(0, blob_reader_pread(r, buf, sizeof(buf), 0, &got, &err));
	assert_int_equal(got, 0);
	blob_reader_free(r);
	got = SIZE_MAX;
	expect(1, blob_service_read(s, &digest_empty, 0, buf, sizeof(buf), 0, &got, &err));
	assert_int_equal(got, 0);
	expect(1, blob_service_chunks(s, &digest_empty, &list, &err));
	assert_int_equal(list.count, 0);
}

static void test_empty(void **state)
{
	struct fixture *f = *state;
	struct blob_service *s = f->store.blobs;
	struct blob_writer *w = NULL;
	struct digest digest;

	check_empty(s);
	expect(0, blob_service_put(s, bytes_of(NULL, 0), &digest, &err));
	assert_memory_equal(&digest, &digest_empty, sizeof(digest));
	expect(0, blob_service_put_hashed(s, bytes_of(NULL, 0), &digest_empty, &err));
	expect(0, blob_service_create(s, &w, &err));
	expect(0, blob_writer_write(w, bytes_of(NULL, 0), &err));
	memset(&digest, 0, sizeof(digest));
	expect(0, blob_writer_commit(w, &digest, NULL, &err));
	assert_memory_equal(&digest, &digest_empty, sizeof(digest));
	expect(0, blob_service_sync(s, &err));
	check_empty(s);
}

static void test_put(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i);
		struct bytes bytes = bytes_of(content, sizes[i]);
		struct digest digest;
		struct digest wanted;

		digest_of(&wanted, bytes);
		check_blob_absent(f->store.blobs, &wanted);
		expect(0, blob_service_put(f->store.blobs, bytes, &digest, &err));
		assert_memory_equal(&digest, &wanted, sizeof(digest));
		check_blob(f->store.blobs, bytes);
		free(content);
	}
}

/* Again, when all of it was made durable, and by those who do not take the digest. */
static void test_put_sync(void **state)
{
	struct fixture *f = *state;
	uint8_t *contents[ARRAY_SIZE(sizes)];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		contents[i] = make_content(sizes[i], i + 100);
		struct bytes bytes = bytes_of(contents[i], sizes[i]);
		struct digest digest;

		digest_of(&digest, bytes);
		if (i % 2) {
			expect(0, blob_service_put(f->store.blobs, bytes, NULL, &err));
		} else {
			expect(0,
			       blob_service_put_hashed(f->store.blobs, bytes, &digest, &err));
		}
	}
	expect(0, store_sync(&f->store, &err));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		check_blob(f->store.blobs, bytes_of(contents[i], sizes[i]));
		free(contents[i]);
	}
	expect(0, store_sync(&f->store, &err));
}

static void test_put_hashed_refused(void **state)
{
	struct fixture *f = *state;
	struct bytes content = bytes_of_string("some content");
	struct digest digest;

	digest_of(&digest, content);
	expect_error(ERROR_INVALID,
		     blob_service_put_hashed(f->store.blobs, content, &digest_empty, &err));
	expect_error(ERROR_INVALID,
		     blob_service_put_hashed(f->store.blobs, bytes_of(NULL, 0), &digest, &err));
	check_blob_absent(f->store.blobs, &digest);
}

static void test_put_twice(void **state)
{
	struct fixture *f = *state;
	static const size_t some[] = {5, 300000, 2500000};

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		uint8_t *content = make_content(some[i], i);
		struct bytes bytes = bytes_of(content, some[i]);

		expect(0, blob_service_put(f->store.blobs, bytes, NULL, &err));
		expect(0, blob_service_put(f->store.blobs, bytes, NULL, &err));
		write_pieces(f->store.blobs, bytes, 100000);
		expect(0, blob_service_sync(f->store.blobs, &err));
		write_pieces(f->store.blobs, bytes, 70001);
		expect(0, blob_service_put(f->store.blobs, bytes, NULL, &err));
		check_blob(f->store.blobs, bytes);
		free(content);
	}
}

static void test_writer_sizes(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i + 200);
		struct bytes bytes = bytes_of(content, sizes[i]);

		write_pieces(f->store.blobs, bytes, sizes[i]);
		check_blob(f->store.blobs, bytes);
		free(content);
	}
}

static void test_writer_pieces(void **state)
{
	struct fixture *f = *state;
	static const struct {
		size_t size;
		size_t piece;
	} cases[] = {
		{70000, 1},         {70001, 3},         {300007, 1000},     {1100003, 4096},
		{1100005, 16384},   {2100001, 16385},   {2100007, 65537},   {2500009, 262143},
		{3200001, 1048575}, {3200003, 1048576}, {3200009, 1048583}, {4200001, 2097152},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t *content = make_content(cases[i].size, i + 300);
		struct bytes bytes = bytes_of(content, cases[i].size);

		write_pieces(f->store.blobs, bytes, cases[i].piece);
		check_blob(f->store.blobs, bytes);
		free(content);
	}
}

static void test_writer_abort(void **state)
{
	struct fixture *f = *state;
	static const size_t some[] = {0, 1, 5000, 200000, 3000000};

	blob_writer_free(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		uint8_t *content = make_content(some[i], i + 400);
		struct bytes bytes = bytes_of(content, some[i]);
		struct blob_writer *w = NULL;
		struct digest digest;

		digest_of(&digest, bytes);
		expect(0, blob_service_create(f->store.blobs, &w, &err));
		expect(0, blob_writer_write(w, bytes, &err));
		if (some[i]) {
			check_blob_absent(f->store.blobs, &digest);
		}
		blob_writer_free(w);
		expect(0, blob_service_sync(f->store.blobs, &err));
		if (some[i]) {
			check_blob_absent(f->store.blobs, &digest);
		}
		free(content);
	}
}

static void test_two_writers(void **state)
{
	struct fixture *f = *state;
	const size_t len = 1500000;
	uint8_t *content[2] = {make_content(len, 500), make_content(len, 501)};
	struct blob_writer *w[2] = {NULL, NULL};
	struct digest digest;

	expect(0, blob_service_create(f->store.blobs, &w[0], &err));
	expect(0, blob_service_create(f->store.blobs, &w[1], &err));
	for (size_t at = 0; at < len; at += 75000) {
		for (size_t i = 0; i < 2; i++) {
			expect(0,
			       blob_writer_write(w[i], bytes_of(content[i] + at, 75000), &err));
		}
	}
	expect(0, blob_writer_commit(w[1], &digest, NULL, &err));
	check_blob(f->store.blobs, bytes_of(content[1], len));
	digest_of(&digest, bytes_of(content[0], len));
	check_blob_absent(f->store.blobs, &digest);
	expect(0, blob_writer_commit(w[0], &digest, NULL, &err));
	check_blob(f->store.blobs, bytes_of(content[0], len));
	check_blob(f->store.blobs, bytes_of(content[1], len));
	free(content[0]);
	free(content[1]);
}

/* A reader goes on while the store changes around it. */
static void test_reader_lasts(void **state)
{
	struct fixture *f = *state;
	static const size_t some[] = {100, 100000, 3000000};

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		uint8_t *content = make_content(some[i], i + 600);
		struct bytes bytes = bytes_of(content, some[i]);
		struct blob_reader *r = NULL;
		struct digest digest;

		expect(0, blob_service_put(f->store.blobs, bytes, &digest, &err));
		expect(1, blob_service_open(f->store.blobs, &digest, &r, &err));
		expect(0, blob_service_put(f->store.blobs, bytes_of(content, some[i] / 2), NULL,
					   &err));
		expect(0, blob_service_sync(f->store.blobs, &err));
		check_ranges(r, bytes);
		blob_reader_free(r);
		free(content);
	}
}

/* A store that can forget a blob takes it again; one that cannot says so, and keeps it. */
static void test_discard(void **state)
{
	struct fixture *f = *state;
	static const size_t some[] = {100, 3000000};

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		uint8_t *content = make_content(some[i], i + 700);
		struct bytes bytes = bytes_of(content, some[i]);
		struct digest digest;

		expect(0, blob_service_put(f->store.blobs, bytes, &digest, &err));
		expect(0, blob_service_sync(f->store.blobs, &err));
		check_blob(f->store.blobs, bytes);
		int rc = blob_service_discard(f->store.blobs, &digest, NULL);

		if (rc == 0) {
			check_blob_absent(f->store.blobs, &digest);
			expect(0, blob_service_discard(f->store.blobs, &digest, &err));
		} else {
			assert_int_equal(rc, -ERROR_UNSUPPORTED);
		}
		expect(0, blob_service_put(f->store.blobs, bytes, NULL, &err));
		check_blob(f->store.blobs, bytes);
		free(content);
	}
}

/* What looks like a directory is a blob all the same, and not a directory. */
static void test_no_mixing(void **state)
{
	struct fixture *f = *state;
	struct directory *leaf = make_leaf("mixed");
	struct directory *d = NULL;

	expect(0, blob_service_put(f->store.blobs, directory_encoding(leaf), NULL, &err));
	expect(0, directory_service_has(f->store.directories, directory_digest(leaf), &err));
	expect(0,
	       directory_service_get(f->store.directories, directory_digest(leaf), &d, &err));
	check_blob(f->store.blobs, directory_encoding(leaf));
	directory_unref(leaf);
}

/* ---- Many at once ---- */

#define MANY 40u

struct many {
	uint8_t *contents[MANY];
	struct blob_want wants[MANY];
	struct digest digests[MANY + 1];
	unsigned taken[MANY];
};

/* The last one is the empty blob. */
static void many_put(struct many *m, struct blob_service *s)
{
	for (size_t i = 0; i < MANY; i++) {
		struct blob_want *w = &m->wants[i];

		w->size = i + 1 < MANY ? i * i * i + 1 : 0;
		m->contents[i] = make_content(w->size, i);
		expect(0, blob_service_put(s, bytes_of(m->contents[i], w->size), &w->digest,
					   &err));
		m->digests[i] = w->digest;
	}
	m->digests[MANY] = unknown_digest(9);
}

static int many_take(void *context, size_t i, struct bytes content, struct error *err unused)
{
	struct many *m = context;

	assert_true(i < MANY);
	assert_int_equal(content.len, m->wants[i].size);
	assert_memory_equal(content.ptr, m->contents[i], content.len);
	m->taken[i]++;
	return 0;
}

static int take_and_stop(void *context unused, size_t i unused, struct bytes content unused,
			 struct error *err)
{
	return error_set(err, ERROR_CANCELED, "enough");
}

static void check_faults(struct blob_service *s, struct many *m)
{
	const struct blob_want there = m->wants[5];

	expect_error(ERROR_CANCELED,
		     blob_service_get_many(s, m->wants, MANY, take_and_stop, m, &err));
	m->wants[5].digest = m->digests[MANY];
	expect_error(ERROR_NOT_FOUND,
		     blob_service_get_many(s, m->wants, MANY, many_take, m, &err));
	m->wants[5] = there;
	m->wants[5].size--;
	expect_error(ERROR_CORRUPT,
		     blob_service_get_many(s, &m->wants[5], 1, many_take, m, &err));
	m->wants[5].size = BLOB_MANY_SIZE_MAX + 1;
	expect_error(ERROR_LIMIT,
		     blob_service_get_many(s, &m->wants[5], 1, many_take, m, &err));
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	struct blob_service *s = f->store.blobs;
	struct many m = {.taken = {0}};
	bool missing[MANY + 1];

	many_put(&m, s);
	expect(0, blob_service_find_missing(s, m.digests, 0, missing, &err));
	expect(0, blob_service_find_missing(s, m.digests, MANY + 1, missing, &err));
	for (size_t i = 0; i <= MANY; i++) {
		assert_int_equal(missing[i], i == MANY);
	}
	expect(0, blob_service_sync(s, &err));
	expect(0, blob_service_get_many(s, m.wants, 0, many_take, &m, &err));
	expect(0, blob_service_get_many(s, m.wants, MANY, many_take, &m, &err));
	for (size_t i = 0; i < MANY; i++) {
		assert_int_equal(m.taken[i], 1);
	}
	check_faults(s, &m);
	for (size_t i = 0; i < MANY; i++) {
		free(m.contents[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_blob_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_absent),
		TEST(test_empty),
		TEST(test_put),
		TEST(test_put_sync),
		TEST(test_put_hashed_refused),
		TEST(test_put_twice),
		TEST(test_writer_sizes),
		TEST(test_writer_pieces),
		TEST(test_writer_abort),
		TEST(test_two_writers),
		TEST(test_reader_lasts),
		TEST(test_discard),
		TEST(test_no_mixing),
		TEST(test_many),
	};

	return cmocka_run_group_tests_name("blobs", tests, NULL, NULL);
}
