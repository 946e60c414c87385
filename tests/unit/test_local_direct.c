/* The local store: large files of which the page cache has nothing, read in order. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/disk.h"
#include "base/io.h"
#include "services/local/direct_reader.h"
#include "services/local/large_file.h"
#include "test_local_driver.h"

#define MIB ((size_t)1 << 20)
#define SIZE (10 * MIB + 777)
#define PIECE ((size_t)128 << 10)
/* More than are read past the cache at the same time. */
#define FILES 4u

struct path {
	char text[512];
};

static struct path path_of(const struct digest *digest)
{
	char name[LOCAL_NAME_SIZE];
	struct path p;

	local_file_name(name, digest);
	snprintf(p.text, sizeof(p.text), "%s/%s", store_path, name);
	return p;
}

static int open_file(const struct digest *digest, int flags)
{
	const struct path path = path_of(digest);
	int fd = open(path.text, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int64_t cached(const struct digest *digest)
{
	int fd cleanup(cleanup_close) = open_file(digest, O_RDONLY);

	return disk_cached(fd, 0, SIZE);
}

static void make_cold(const struct digest *digest)
{
	int fd cleanup(cleanup_close) = open_file(digest, O_RDONLY);

	assert_int_equal(fdatasync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

/* Needs a kernel that tells what is cached, and a disk that can be read past the cache. */
static bool can_be_direct(const struct digest *digest)
{
	const struct path path = path_of(digest);
	int fd cleanup(cleanup_close) = open(path.text, O_RDONLY | O_DIRECT | O_CLOEXEC);

	make_cold(digest);
	return fd >= 0 && cached(digest) == 0;
}

static struct digest make_store(struct store *s, unsigned files)
{
	struct digest first = digest_of_blob(SIZE, 0);

	open_store(s, STORE_CREATE);
	for (unsigned i = 0; i < files; i++) {
		put_blob(s, SIZE, i);
	}
	assert_int_equal(store_sync(s, NULL), 0);
	store_close(s);
	open_store(s, STORE_READ_ONLY);
	if (!can_be_direct(&first)) {
		store_close(s);
		print_message("this kernel or disk cannot read past the page cache\n");
		skip();
	}
	return first;
}

static int read_piece(struct store *s, const struct digest *digest, size_t offset, size_t len,
		      unsigned flags, const uint8_t *expected)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(len);
	struct error err = {.code = ERROR_NONE};
	size_t got = 0;
	int rc = blob_service_read(s->blobs, digest, offset, buf, len, flags, &got, &err);

	if (rc > 0) {
		assert_int_equal(got, MIN(len, SIZE - offset));
		assert_memory_equal(buf, expected + offset, got);
	}
	return rc;
}

/* What this process had the disk read up to now; -1 where the system does not count it. */
static int64_t disk_reads(void)
{
	static const char label[] = "\nread_bytes: ";
	struct buffer text cleanup(buffer_done) = {0};

	if (read_small_file(AT_FDCWD, "/proc/self/io", 4096, &text, NULL) <= 0) {
		return -1;
	}
	buffer_append_byte(&text, 0);
	const char *line = strstr((const char *)text.ptr, label);

	assert_non_null(line);
	return strtoll(line + sizeof(label) - 1, NULL, 10);
}

/* As a mount does: first without waiting. How often that was enough. */
static unsigned read_in_order(struct store *s, unsigned seed)
{
	uint8_t *expected cleanup(cleanup_free) = xmalloc(SIZE);
	unsigned at_once = 0;

	fill(expected, SIZE, seed);
	const struct digest digest = digest_of_blob(SIZE, seed);

	for (size_t at = 0; at < SIZE; at += PIECE) {
		int rc = read_piece(s, &digest, at, PIECE, BLOB_READ_NOWAIT, expected);

		at_once += rc > 0;
		if (rc == -ERROR_WOULD_BLOCK) {
			rc = read_piece(s, &digest, at, PIECE, 0, expected);
		}
		assert_int_equal(rc, 1);
	}
	return at_once;
}

static void test_past_the_cache(void **state unused)
{
	struct store s;
	const struct digest digest = make_store(&s, 1);
	const int64_t before = disk_reads();

	/* Of a span that was waited for, the rest is at hand. */
	assert_true(read_in_order(&s, 0) >= SIZE / PIECE / 2);
	assert_int_equal(cached(&digest), 0);
	assert_true(before < 0 || disk_reads() - before >= (int64_t)SIZE);
	/* Once more, from the beginning. */
	read_in_order(&s, 0);
	assert_int_equal(cached(&digest), 0);
	store_close(&s);
}

static void test_pieces_across_spans(void **state unused)
{
	const size_t odd = 300 * 1000 + 1;
	uint8_t *expected cleanup(cleanup_free) = xmalloc(SIZE);
	struct store s;
	const struct digest digest = make_store(&s, 1);

	fill(expected, SIZE, 0);
	for (size_t at = 0; at < SIZE; at += odd) {
		assert_int_equal(read_piece(&s, &digest, at, odd, 0, expected), 1);
	}
	assert_int_equal(cached(&digest), 0);
	store_close(&s);
}

/* What the cache has is not read from the disk again. */
static void test_cached_ones_stay_cached(void **state unused)
{
	struct store s;
	const struct digest digest = make_store(&s, 1);
	uint8_t *content cleanup(cleanup_free) = xmalloc(SIZE);
	int fd cleanup(cleanup_close) = open_file(&digest, O_RDONLY);

	assert_int_equal(pread_full(fd, content, SIZE, 0), SIZE);
	const int64_t before = disk_reads();

	/* Now and then the kernel says that it would wait when it moves pages about. */
	assert_true(read_in_order(&s, 0) >= SIZE / PIECE / 2);
	assert_true(disk_reads() - before < (int64_t)PIECE);
	assert_true(cached(&digest) >= (int64_t)SIZE);
	store_close(&s);
}

/* One here and one there: by the cache, 4 KiB at a time. */
static void test_random_places(void **state unused)
{
	uint8_t *expected cleanup(cleanup_free) = xmalloc(SIZE);
	struct store s;
	const struct digest digest = make_store(&s, 1);

	fill(expected, SIZE, 0);
	for (size_t i = 1; i < 200; i++) {
		size_t at = (i * 2654435761u) % (SIZE / 4096) * 4096;

		assert_int_equal(read_piece(&s, &digest, at, 4096, 0, expected), 1);
	}
	assert_true(cached(&digest) > 0);
	store_close(&s);
}

static void test_damage_is_found(void **state unused)
{
	const size_t damaged = 5 * MIB + 12345;
	uint8_t *expected cleanup(cleanup_free) = xmalloc(SIZE);
	struct store s;
	const struct digest digest = make_store(&s, 1);
	const struct path path = path_of(&digest);

	fill(expected, SIZE, 0);
	const uint8_t other = (uint8_t)~expected[damaged];

	assert_int_equal(chmod(path.text, 0644), 0);
	int fd cleanup(cleanup_close) = open_file(&digest, O_WRONLY);

	assert_int_equal(pwrite(fd, &other, 1, (off_t)damaged), 1);
	make_cold(&digest);
	for (size_t at = 0; at < SIZE; at += PIECE) {
		int rc = read_piece(&s, &digest, at, PIECE, 0, expected);
		bool hit = damaged >= at && damaged < at + PIECE;

		assert_int_equal(rc, hit ? -ERROR_CORRUPT : 1);
	}
	store_close(&s);
}

/* What a repair or another's discarding does while somebody reads. */
static void test_a_file_is_forgotten_meanwhile(void **state unused)
{
	uint8_t *expected cleanup(cleanup_free) = xmalloc(SIZE),
			  *got cleanup(cleanup_free) = xmalloc(PIECE);
	struct store s;
	const struct digest digest = make_store(&s, 1);
	struct local_store *local;
	struct cached_file *f;
	struct location l;

	fill(expected, SIZE, 0);
	assert_int_equal(local_store_get(&local, store_path, STORE_READ_ONLY, NULL), 0);
	assert_int_equal(local_locate(&local->view, INDEX_BLOBS, &digest, &l, NULL), 1);
	assert_int_equal(large_file_open(&local->view, &digest, &l, &f, NULL), 0);
	file_cache_forget(&local->files, &digest);
	for (size_t at = 0; at + PIECE <= SIZE; at += PIECE) {
		assert_int_equal(
			direct_reader_read(local->direct, f, &l, got, PIECE, at, 0, NULL), 1);
		assert_memory_equal(got, expected + at, PIECE);
	}
	file_cache_release(&local->files, f);
	/* Others open it anew. */
	read_in_order(&s, 0);
	local_store_unref(local);
	store_close(&s);
}

struct reader {
	pthread_t thread;
	struct store *store;
	unsigned seed;
};

static void *reader_main(void *context)
{
	const struct reader *r = context;

	read_in_order(r->store, r->seed);
	return NULL;
}

static void test_many_files_at_once(void **state unused)
{
	struct reader readers[2 * FILES];
	struct store s;

	make_store(&s, FILES);
	for (unsigned i = 1; i < FILES; i++) {
		const struct digest digest = digest_of_blob(SIZE, i);

		make_cold(&digest);
	}
	for (unsigned i = 0; i < 2 * FILES; i++) {
		readers[i] = (struct reader){.store = &s, .seed = i % FILES};
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
	}
	for (unsigned i = 0; i < 2 * FILES; i++) {
		assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
	}
	store_close(&s);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_past_the_cache),          test(test_pieces_across_spans),
		test(test_cached_ones_stay_cached), test(test_random_places),
		test(test_damage_is_found),         test(test_a_file_is_forgotten_meanwhile),
		test(test_many_files_at_once),
	};

	return cmocka_run_group_tests_name("local_direct", tests, NULL, NULL);
}
