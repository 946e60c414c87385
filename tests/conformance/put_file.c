/* Blobs from open files. */

#include "suite.h"

#include <unistd.h>

#include "base/io.h"

static const size_t sizes[] = {0,      1,      4096,    131072,  262143,
			       262144, 262145, 1048576, 1048577, 5 * 1048576 + 3};

/* Beside the store, so that a store on disk may share its blocks. The name is gone already. */
static int open_file_of(const struct fixture *f, struct bytes content)
{
	char *path = xasprintf("%s/source-XXXXXX", f->dir ? f->dir : "/tmp");
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(write_full(fd, content.ptr, content.len), 0);
	free(path);
	return fd;
}

struct counting_watch {
	struct blob_watch base;
	uint64_t bytes;
	unsigned calls_left; /* gives up when there are none */
};

static bool count(struct blob_watch *w, uint64_t bytes)
{
	struct counting_watch *c = container_of(w, struct counting_watch, base);

	c->bytes += bytes;
	return c->calls_left > 0 && c->calls_left-- > 1;
}

static void check_put_file(struct fixture *f, struct bytes content, struct blob_watch *watch)
{
	int fd = open_file_of(f, content);
	struct digest wanted;
	struct digest digest;

	digest_of(&wanted, content);
	/* The descriptor stands at the end; the blob begins at the start all the same. */
	expect(0, blob_service_put_file(f->store.blobs, fd, content.len, watch, &digest, &err));
	assert_memory_equal(&digest, &wanted, sizeof(digest));
	/* The file goes its own way afterwards. */
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	if (content.len) {
		check_blob(f->store.blobs, content);
	}
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i);
		struct bytes bytes = bytes_of(content, sizes[i]);

		check_put_file(f, bytes, NULL);
		check_put_file(f, bytes, NULL);
		expect(0, blob_service_sync(f->store.blobs, &err));
		check_put_file(f, bytes, NULL);
		free(content);
	}
}

static void test_watched(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i + 100);
		struct counting_watch watch = {.base = {count}, .calls_left = 1000000};

		check_put_file(f, bytes_of(content, sizes[i]), &watch.base);
		assert_int_equal(watch.bytes, sizes[i]);
		free(content);
	}
}

static void test_canceled(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 1; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i + 200);
		struct counting_watch watch = {.base = {count}, .calls_left = 1};
		int fd = open_file_of(f, bytes_of(content, sizes[i]));
		struct digest digest;

		expect_error(ERROR_CANCELED, blob_service_put_file(f->store.blobs, fd, sizes[i],
								   &watch.base, &digest, &err));
		close(fd);
		digest_of(&digest, bytes_of(content, sizes[i]));
		expect(0, blob_service_sync(f->store.blobs, &err));
		check_blob_absent(f->store.blobs, &digest);
		free(content);
	}
}

/* Shorter than it was said to be: by a byte, and by nearly all. */
static void test_shorter(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 1; i < ARRAY_SIZE(sizes); i++) {
		const size_t claims[] = {sizes[i] + 1, sizes[i] * 100};
		uint8_t *content = make_content(sizes[i], i + 300);
		int fd = open_file_of(f, bytes_of(content, sizes[i]));
		struct digest digest;

		for (size_t k = 0; k < ARRAY_SIZE(claims); k++) {
			expect_error(ERROR_CHANGED,
				     blob_service_put_file(f->store.blobs, fd, claims[k], NULL,
							   &digest, &err));
		}
		close(fd);
		digest_of(&digest, bytes_of(content, sizes[i]));
		check_blob_absent(f->store.blobs, &digest);
		free(content);
	}
}

/* A file that has grown: the bytes that were asked for, or a refusal; never others. */
static void test_longer(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 1; i < ARRAY_SIZE(sizes); i++) {
		size_t len = sizes[i];
		uint8_t *content = make_content(len + 10, i + 400);
		int fd = open_file_of(f, bytes_of(content, len + 10));
		struct digest digest;
		struct error why = {0};
		int rc = blob_service_put_file(f->store.blobs, fd, len, NULL, &digest, &why);

		close(fd);
		if (rc == 0) {
			check_blob(f->store.blobs, bytes_of(content, len));
		} else {
			assert_int_equal(rc, -ERROR_CHANGED);
		}
		digest_of(&digest, bytes_of(content, len + 10));
		check_blob_absent(f->store.blobs, &digest);
		free(content);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_put_file_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes),   TEST(test_watched), TEST(test_canceled),
		TEST(test_shorter), TEST(test_longer),
	};

	return cmocka_run_group_tests_name("put_file", tests, NULL, NULL);
}
