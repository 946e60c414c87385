/* What a store gives when the bytes under it have changed: an error, never other bytes. */

#include "suite.h"

#include "services/memory.h"

static const size_t sizes[] = {1, 10, 16384, 16385, 300000, 1048576, 1048577, 3 * 1048576 + 5};

static void expect_corrupt_at(int rc, const struct error *err, const struct digest *digest,
			      int line)
{
	expect_at(-ERROR_CORRUPT, rc, err, "reading what is corrupt", __FILE__, line);
	if (!strstr(err->text, digest_text(digest))) {
		print_error("no digest in: %s\n", err->text);
		_fail(__FILE__, line);
	}
}

#define expect_corrupt(digest, call)                                   \
	do {                                                           \
		struct error err = {0};                                \
		int corrupt_rc = (call);                               \
		expect_corrupt_at(corrupt_rc, &err, digest, __LINE__); \
	} while (0)

static void check_blob_corrupt(struct blob_service *s, const struct digest *digest)
{
	struct blob_reader *r = NULL;
	uint8_t byte;
	size_t got;

	expect(1, blob_service_has(s, digest, &err));
	expect_corrupt(digest, blob_service_open(s, digest, &r, &err));
	assert_null(r);
	expect_corrupt(digest, blob_service_read(s, digest, 0, &byte, 1, 0, &got, &err));
}

/* One bit anywhere, a byte less, a byte more, nothing at all. */
static void corrupt_every_way(struct blob_service *s, const struct digest *digest, size_t len)
{
	uint8_t *bytes = make_content(len + 1, len);
	const size_t flips[] = {0, len / 2, len - 1};

	for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
		bytes[flips[i]] ^= 0x10;
		assert_true(memory_blob_corrupt(s, digest, bytes_of(bytes, len)));
		check_blob_corrupt(s, digest);
		bytes[flips[i]] ^= 0x10;
	}
	assert_true(memory_blob_corrupt(s, digest, bytes_of(bytes, len - 1)));
	if (len > 1) {
		check_blob_corrupt(s, digest);
	}
	assert_true(memory_blob_corrupt(s, digest, bytes_of(bytes, len + 1)));
	check_blob_corrupt(s, digest);
	assert_true(memory_blob_corrupt(s, digest, bytes_of(NULL, 0)));
	check_blob_corrupt(s, digest);
	assert_true(memory_blob_corrupt(s, digest, bytes_of(bytes, len)));
	check_blob(s, bytes_of(bytes, len));
	free(bytes);
}

static void test_corrupt_blob(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], sizes[i]);
		struct digest digest;

		expect(0, blob_service_put(f->store.blobs, bytes_of(content, sizes[i]), &digest,
					   &err));
		corrupt_every_way(f->store.blobs, &digest, sizes[i]);
		free(content);
	}
}

static void test_removed_blob(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	struct bytes content = bytes_of_string("here today");

	assert_false(memory_blob_corrupt(f->store.blobs, &digest_empty, content));
	assert_false(memory_blob_remove(f->store.blobs, &digest_empty));
	expect(0, blob_service_put(f->store.blobs, content, &digest, &err));
	assert_true(memory_blob_remove(f->store.blobs, &digest));
	check_blob_absent(f->store.blobs, &digest);
	assert_false(memory_blob_remove(f->store.blobs, &digest));
	assert_false(memory_blob_corrupt(f->store.blobs, &digest, content));
	expect(0, blob_service_put(f->store.blobs, content, NULL, &err));
	check_blob(f->store.blobs, content);
}

/* A reader that is open gives the old bytes or an error; the whole of what is asked for. */
static void check_open_reader(struct blob_reader *r, struct bytes content,
			      const struct digest *digest, size_t offset, size_t len)
{
	uint8_t *buf = xmalloc(len);
	struct error err = {0};
	size_t got = 0;
	int rc = blob_reader_pread(r, buf, len, offset, &got, &err);

	if (rc < 0) {
		expect_corrupt_at(rc, &err, digest, __LINE__);
	} else {
		assert_int_equal(got, MIN(len, content.len - offset));
		assert_memory_equal(buf, content.ptr + offset, got);
	}
	free(buf);
}

static void corrupt_while_open(struct blob_service *s, size_t len)
{
	uint8_t *content = make_content(len, len);
	uint8_t *changed = make_content(len, len);
	struct blob_reader *r = NULL;
	struct digest digest;
	uint8_t byte;
	size_t got;

	expect(0, blob_service_put(s, bytes_of(content, len), &digest, &err));
	expect(1, blob_service_open(s, &digest, &r, &err));
	changed[len / 2] ^= 1;
	assert_true(memory_blob_corrupt(s, &digest, bytes_of(changed, len)));
	check_open_reader(r, bytes_of(content, len), &digest, 0, len);
	check_open_reader(r, bytes_of(content, len), &digest, len / 2, 1);
	if (len > 1048576) {
		expect_corrupt(&digest, blob_reader_pread(r, &byte, 1, len / 2, &got, &err));
		/* What is right is still given. */
		expect(0, blob_reader_pread(r, &byte, 1, 0, &got, &err));
		assert_int_equal(byte, content[0]);
	}
	assert_true(memory_blob_corrupt(s, &digest, bytes_of(content, len / 2)));
	check_open_reader(r, bytes_of(content, len), &digest, 0, len);
	check_open_reader(r, bytes_of(content, len), &digest, len / 2, len);
	blob_reader_free(r);
	free(content);
	free(changed);
}

static void test_corrupt_while_open(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		corrupt_while_open(f->store.blobs, sizes[i]);
	}
}

static void test_removed_while_open(void **state)
{
	struct fixture *f = *state;
	const size_t len = 2000000;
	uint8_t *content = make_content(len, 1);
	uint8_t *buf = xmalloc(len);
	struct blob_reader *r = NULL;
	struct digest digest;
	struct error why = {0};
	size_t got = 0;

	expect(0, blob_service_put(f->store.blobs, bytes_of(content, len), &digest, &err));
	expect(1, blob_service_open(f->store.blobs, &digest, &r, &err));
	assert_true(memory_blob_remove(f->store.blobs, &digest));
	int rc = blob_reader_pread(r, buf, len, 0, &got, &why);

	if (rc < 0) {
		assert_int_equal(rc, -ERROR_UNAVAILABLE);
	} else {
		assert_int_equal(got, len);
		assert_memory_equal(buf, content, len);
	}
	blob_reader_free(r);
	free(content);
	free(buf);
}

static void check_directory_corrupt(struct directory_service *s, const struct digest *digest)
{
	struct closure_walk *walk = NULL;
	struct directory *d = NULL;

	expect(1, directory_service_has(s, digest, &err));
	expect_corrupt(digest, directory_service_get(s, digest, &d, &err));
	assert_null(d);
	expect(1, directory_service_get_recursive(s, digest, &walk, &err));
	expect_corrupt(digest, closure_walk_next(walk, &d, &err));
	assert_null(d);
	closure_walk_free(walk);
}

static void test_corrupt_directory(void **state)
{
	struct fixture *f = *state;
	struct directory_service *s = f->store.directories;
	struct directory *leaf = make_leaf("right");
	struct directory *other = make_leaf("wrong");
	const struct digest *digest = directory_digest(leaf);
	struct bytes encoding = directory_encoding(leaf);
	/* Field 4 does not exist; names must not hold '/'. */
	static const uint8_t unknown_field[] = {0x20, 0x01};
	static const uint8_t bad_name[] = {0x1a, 0x06, 0x0a, 0x01, '/', 0x12, 0x01, 't'};

	expect(0, directory_service_put(s, leaf, &err));
	assert_true(memory_directory_corrupt(s, digest, directory_encoding(other)));
	check_directory_corrupt(s, digest);
	assert_true(memory_directory_corrupt(s, digest, bytes_of(NULL, 0)));
	check_directory_corrupt(s, digest);
	assert_true(
		memory_directory_corrupt(s, digest, bytes_of(encoding.ptr, encoding.len - 1)));
	check_directory_corrupt(s, digest);
	assert_true(memory_directory_corrupt(s, digest,
					     bytes_of(unknown_field, sizeof(unknown_field))));
	check_directory_corrupt(s, digest);
	assert_true(memory_directory_corrupt(s, digest, bytes_of(bad_name, sizeof(bad_name))));
	check_directory_corrupt(s, digest);
	directory_unref(leaf);
	directory_unref(other);
}

static void test_removed_directory(void **state)
{
	struct fixture *f = *state;
	struct directory_service *s = f->store.directories;
	struct directory *leaf = make_leaf("leaf");
	struct directory *d = NULL;

	assert_false(memory_directory_remove(s, directory_digest(leaf)));
	expect(0, directory_service_put(s, leaf, &err));
	assert_true(memory_directory_remove(s, directory_digest(leaf)));
	expect(0, directory_service_has(s, directory_digest(leaf), &err));
	expect(0, directory_service_get(s, directory_digest(leaf), &d, &err));
	assert_false(memory_directory_corrupt(s, directory_digest(leaf), bytes_of(NULL, 0)));
	expect(0, directory_service_put(s, leaf, &err));
	expect(1, directory_service_has(s, directory_digest(leaf), &err));
	directory_unref(leaf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_memory_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_corrupt_blob),       TEST(test_removed_blob),
		TEST(test_corrupt_while_open), TEST(test_removed_while_open),
		TEST(test_corrupt_directory),  TEST(test_removed_directory),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
