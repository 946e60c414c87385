/* A cache: what it asks of its stores, and what it does when they fail. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "probe_store.h"
#include "services/cache/cache.h"
#include "services/cache/range_store.h"
#include "services/memory.h"
#include "services/single_flight.h"

#define LARGE ((size_t)3 << 20)

struct fixture {
	struct store near, far; /* what is behind the probes */
	struct probe *near_probe, *far_probe;
	struct store cache;
};

static void open_cache(struct fixture *f, uint64_t ranges_max)
{
	const struct cache_options options = {.whole_max = CACHE_WHOLE_MIN,
					      .ranges_max = ranges_max};
	struct store near, far;
	struct error err;

	probe_store(f->near_probe, &near);
	probe_store(f->far_probe, &far);
	if (cache_store(&f->cache, &near, &far, &options, &err) < 0) {
		fail_msg("%s", err.text);
	}
	store_close(&near);
	store_close(&far);
}

/* What was in memory only is gone; what near has learned in the background, it has. */
static void reopen_cache(struct fixture *f)
{
	store_close(&f->cache);
	open_cache(f, CACHE_RANGES_MEMORY_DEFAULT);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	*state = f;
	memory_store_open(&f->near);
	memory_store_open(&f->far);
	f->near_probe = probe_new(&f->near);
	f->far_probe = probe_new(&f->far);
	open_cache(f, CACHE_RANGES_MEMORY_DEFAULT);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(&f->cache);
	probe_free(f->near_probe);
	probe_free(f->far_probe);
	store_close(&f->near);
	store_close(&f->far);
	free(f);
	return 0;
}

/* ---- Content ---- */

static uint8_t *make_content(size_t len, unsigned seed)
{
	uint8_t *content = xmalloc(len);
	uint64_t x = seed + 88172645463325252u;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		content[i] = (uint8_t)x;
	}
	return content;
}

static uint8_t *put_far(struct fixture *f, size_t len, struct digest *digest)
{
	uint8_t *content = make_content(len, (unsigned)len);

	assert_int_equal(blob_service_put(f->far.blobs, bytes_of(content, len), digest, NULL),
			 0);
	return content;
}

static int read_at(struct fixture *f, const struct digest *digest, uint64_t offset, void *buf,
		   size_t len, unsigned flags)
{
	size_t got = 0;
	int rc = blob_service_read(f->cache.blobs, digest, offset, buf, len, flags, &got, NULL);

	assert_true(rc <= 0 || got == len);
	return rc;
}

static void check_read(struct fixture *f, const struct digest *digest, const uint8_t *content,
		       uint64_t offset, size_t len)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(len);

	assert_int_equal(read_at(f, digest, offset, buf, len, 0), 1);
	assert_memory_equal(buf, content + offset, len);
}

static struct directory *make_directory(const char *name, struct directory *child)
{
	struct directory_builder *b = directory_builder_new();
	struct node node = {.kind = NODE_SYMLINK, .target = bytes_of_string(name)};
	struct directory *d = NULL;

	assert_int_equal(directory_builder_add(b, bytes_of_string("link"), &node, NULL), 0);
	if (child) {
		node = directory_node(child);
		assert_int_equal(
			directory_builder_add(b, bytes_of_string("child"), &node, NULL), 0);
	}
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	directory_builder_free(b);
	return d;
}

static int get_directory(struct fixture *f, const struct digest *digest)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	return directory_service_get(f->cache.directories, digest, &d, NULL);
}

/* ---- Blobs ---- */

static void test_small_blob(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, 5000, &digest);

	check_read(f, &digest, content, 100, 50);
	assert_int_equal(probe_reads(f->far_probe), 1);
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 1);
	check_read(f, &digest, content, 0, 5000);
	reopen_cache(f);
	check_read(f, &digest, content, 4000, 1000);
	assert_int_equal(probe_reads(f->far_probe), 0);
}

/* Of a large blob, what is asked for comes, and not again. */
static void test_large_blob(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, LARGE, &digest);

	check_read(f, &digest, content, LARGE / 2 + 100, 4096);
	assert_in_range(probe_bytes(f->far_probe), 4096, RANGE_UNIT);
	probe_reads(f->far_probe);
	check_read(f, &digest, content, LARGE / 2, 50000);
	assert_int_equal(probe_reads(f->far_probe), 0);
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 0);
	/* The end, which is no whole unit. */
	check_read(f, &digest, content, LARGE - 10, 10);
	check_read(f, &digest, content, 0, 10);
}

/* When all of it was read, near has it. */
static void test_large_blob_complete(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	const size_t len = LARGE + 12345;
	uint8_t *content cleanup(cleanup_free) = put_far(f, len, &digest);

	for (size_t at = 0; at < len; at += 100000) {
		check_read(f, &digest, content, at, MIN(len - at, 100000));
	}
	/* Nothing comes twice but the byte that tells that it is large. */
	assert_in_range(probe_bytes(f->far_probe), len, len + RANGE_UNIT);
	/* Closing waits for that. */
	reopen_cache(f);
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 1);
	probe_reads(f->far_probe);
	check_read(f, &digest, content, 0, len);
	assert_int_equal(probe_reads(f->far_probe), 0);
}

/* More than the bound of ranges: slower, and right. */
static void test_ranges_bounded(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, LARGE, &digest);

	for (uint64_t max = 0; max <= 4 * RANGE_UNIT; max += 4 * RANGE_UNIT) {
		store_close(&f->cache);
		open_cache(f, max);
		for (unsigned turn = 0; turn < 2; turn++) {
			for (size_t at = 0; at < LARGE; at += 300000) {
				check_read(f, &digest, content, at, MIN(LARGE - at, 70000));
			}
		}
		check_read(f, &digest, content, 0, LARGE);
		assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 0);
	}
}

/* The file of ranges is damaged, and what was in it comes again. */
static void test_ranges_damaged(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, LARGE, &digest);
	char name[64], target[64];

	check_read(f, &digest, content, LARGE / 2, 4096);
	probe_reads(f->far_probe);
	for (int fd = 3; fd < 64; fd++) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		ssize_t n = readlink(name, target, sizeof(target) - 1);

		target[MAX(n, 0)] = '\0';
		if (strstr(target, "cairn ranges")) {
			assert_int_equal(pwrite(fd, "damage", 6, 5000), 6);
		}
	}
	check_read(f, &digest, content, LARGE / 2, 4096);
	assert_int_equal(probe_reads(f->far_probe), 1);
	check_read(f, &digest, content, LARGE / 2, 4096);
	assert_int_equal(probe_reads(f->far_probe), 0);
}

static void test_readers(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = {3000, LARGE};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct blob_reader *r = NULL;
		struct digest digest;
		uint8_t *content cleanup(cleanup_free) = put_far(f, sizes[i], &digest);
		uint8_t buf[2000];
		size_t got = 0;

		assert_int_equal(blob_service_open(f->cache.blobs, &digest, &r, NULL), 1);
		assert_int_equal(blob_reader_size(r), sizes[i]);
		assert_int_equal(
			blob_reader_pread(r, buf, sizeof(buf), sizes[i] - 2500, &got, NULL), 0);
		assert_int_equal(got, sizeof(buf));
		assert_memory_equal(buf, content + sizes[i] - 2500, got);
		blob_reader_free(r);
	}
}

/* Nothing is waited for: what is not here would have to be. */
static void test_nowait(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, LARGE, &digest);
	uint8_t byte;

	assert_int_equal(read_at(f, &digest, 9, &byte, 1, BLOB_READ_NOWAIT),
			 -ERROR_WOULD_BLOCK);
	assert_int_equal(read_at(f, &digest, 9, &byte, 1, BLOB_READ_LOCAL), -ERROR_WOULD_BLOCK);
	assert_int_equal(probe_reads(f->far_probe), 0);
	check_read(f, &digest, content, 9, 1);
	assert_int_equal(read_at(f, &digest, 9, &byte, 1, BLOB_READ_LOCAL), 1);
}

/* ---- Failures ---- */

static void check_all_fail(struct fixture *f, enum error_code code)
{
	struct digest digest;
	struct blob_reader *r;
	struct root_node node = {.node.size = 0};
	struct buffer value cleanup(buffer_done) = {0};
	struct bytes name = bytes_of_string("unknown");
	uint64_t size;
	uint8_t byte;

	memset(&digest, 7, sizeof(digest));
	assert_int_equal(blob_service_size(f->cache.blobs, &digest, &size, NULL), -(int)code);
	assert_int_equal(blob_service_open(f->cache.blobs, &digest, &r, NULL), -(int)code);
	assert_int_equal(read_at(f, &digest, 0, &byte, 1, 0), -(int)code);
	assert_int_equal(read_at(f, &digest, LARGE, &byte, 1, 0), -(int)code);
	assert_int_equal(directory_service_has(f->cache.directories, &digest, NULL),
			 -(int)code);
	assert_int_equal(get_directory(f, &digest), -(int)code);
	assert_int_equal(root_nodes_lookup(f->cache.roots, name, &node, NULL), -(int)code);
	assert_int_equal(record_table_get(f->cache.path_infos, name, &value, NULL), -(int)code);
}

/* What far cannot say is never absent, and what it says is. */
static void test_far_fails(void **state)
{
	struct fixture *f = *state;

	check_all_fail(f, ERROR_NONE);
	probe_fail(f->far_probe, PROBE_READS, ERROR_UNAVAILABLE);
	check_all_fail(f, ERROR_UNAVAILABLE);
	probe_fail(f->far_probe, PROBE_READS, ERROR_TIMEOUT);
	check_all_fail(f, ERROR_TIMEOUT);
	probe_fail(f->far_probe, 0, ERROR_NONE);
	check_all_fail(f, ERROR_NONE);
}

/* What came before is there while far is not, and the rest again when far is. */
static void test_far_gone(void **state)
{
	struct fixture *f = *state;
	struct digest small, large, other;
	uint8_t *content cleanup(cleanup_free) = put_far(f, 5000, &small);
	uint8_t *more cleanup(cleanup_free) = put_far(f, LARGE, &large);
	uint8_t *rest cleanup(cleanup_free) = put_far(f, 6000, &other);
	uint8_t byte;

	check_read(f, &small, content, 0, 10);
	check_read(f, &large, more, 1000000, 1000);
	probe_fail(f->far_probe, PROBE_READS, ERROR_UNAVAILABLE);
	check_read(f, &small, content, 100, 4900);
	check_read(f, &large, more, 1000000, 1000);
	assert_int_equal(read_at(f, &large, 2000000, &byte, 1, 0), -ERROR_UNAVAILABLE);
	assert_int_equal(read_at(f, &other, 0, &byte, 1, 0), -ERROR_UNAVAILABLE);
	probe_fail(f->far_probe, 0, ERROR_NONE);
	check_read(f, &large, more, 2000000, 1000);
	check_read(f, &other, rest, 0, 6000);
}

/* A put that far refuses is refused, and near does not have it either. */
static void test_puts(void **state)
{
	struct fixture *f = *state;
	struct directory *d cleanup(cleanup_directory) = make_directory("x", NULL);
	struct digest digest;

	assert_int_equal(blob_service_put(f->cache.blobs, bytes_of("abc", 3), &digest, NULL),
			 0);
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 1);
	assert_int_equal(blob_service_has(f->far.blobs, &digest, NULL), 1);
	probe_fail(f->far_probe, PROBE_WRITES, ERROR_DENIED);
	assert_int_equal(blob_service_put(f->cache.blobs, bytes_of("abcd", 4), NULL, NULL),
			 -ERROR_DENIED);
	digest_of(&digest, bytes_of("abcd", 4));
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 0);
	assert_int_equal(directory_service_put(f->cache.directories, d, NULL), -ERROR_DENIED);
	assert_int_equal(directory_service_has(f->near.directories, directory_digest(d), NULL),
			 0);
	assert_int_equal(store_sync(&f->cache, NULL), -ERROR_DENIED);
}

/* A near store that fails costs time, nothing else. */
static void test_near_fails(void **state)
{
	struct fixture *f = *state;
	struct directory *d cleanup(cleanup_directory) = make_directory("x", NULL);
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, 5000, &digest);

	assert_int_equal(directory_service_put(f->far.directories, d, NULL), 0);
	for (unsigned faults = PROBE_READS; faults <= (PROBE_READS | PROBE_WRITES); faults++) {
		probe_fail(f->near_probe, faults, ERROR_NO_SPACE);
		check_read(f, &digest, content, 0, 5000);
		assert_int_equal(get_directory(f, directory_digest(d)), 1);
		assert_int_equal(
			blob_service_put(f->cache.blobs, bytes_of("abc", 3), NULL, NULL), 0);
		assert_int_equal(store_sync(&f->cache, NULL), 0);
		reopen_cache(f);
	}
	probe_fail(f->near_probe, 0, ERROR_NONE);
}

static void test_near_damaged(void **state)
{
	struct fixture *f = *state;
	struct directory *d cleanup(cleanup_directory) = make_directory("x", NULL);
	struct directory *found cleanup(cleanup_directory) = NULL;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, 5000, &digest);
	uint8_t *buf cleanup(cleanup_free) = xmalloc(5000);
	size_t got;

	assert_int_equal(directory_service_put(f->far.directories, d, NULL), 0);
	check_read(f, &digest, content, 0, 1);
	assert_int_equal(get_directory(f, directory_digest(d)), 1);
	assert_true(memory_blob_corrupt(f->near.blobs, &digest, bytes_of("wrong", 5)));
	assert_true(memory_directory_corrupt(f->near.directories, directory_digest(d),
					     bytes_of("wrong", 5)));
	reopen_cache(f);
	check_read(f, &digest, content, 0, 5000);
	assert_int_equal(get_directory(f, directory_digest(d)), 1);
	/* It is not only passed over. */
	assert_int_equal(blob_service_read(f->near.blobs, &digest, 0, buf, 5000, 0, &got, NULL),
			 1);
	assert_memory_equal(buf, content, 5000);
	assert_int_equal(
		directory_service_get(f->near.directories, directory_digest(d), &found, NULL),
		1);
}

/* A large blob of near that is damaged: right at once, and later replaced. */
static void test_near_damaged_large(void **state)
{
	struct fixture *f = *state;
	struct blob_reader *r = NULL;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, LARGE, &digest);
	uint8_t buf[100];
	size_t got;

	assert_int_equal(blob_service_put(f->near.blobs, bytes_of(content, LARGE), NULL, NULL),
			 0);
	/* Damaged while a reader has it open. */
	assert_int_equal(blob_service_open(f->cache.blobs, &digest, &r, NULL), 1);
	assert_true(memory_blob_corrupt(f->near.blobs, &digest, bytes_of("wrong", 5)));
	assert_int_equal(blob_reader_pread(r, buf, sizeof(buf), 1000000, &got, NULL), 0);
	assert_memory_equal(buf, content + 1000000, sizeof(buf));
	blob_reader_free(r);
	check_read(f, &digest, content, 0, LARGE);
	/* Closing waits for that. */
	reopen_cache(f);
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 1);
	probe_reads(f->far_probe);
	check_read(f, &digest, content, 0, LARGE);
	assert_int_equal(probe_reads(f->far_probe), 0);
}

static void test_near_lost(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint8_t *content cleanup(cleanup_free) = put_far(f, 5000, &digest);

	check_read(f, &digest, content, 0, 1);
	assert_true(memory_blob_remove(f->near.blobs, &digest));
	reopen_cache(f);
	check_read(f, &digest, content, 0, 5000);
	assert_int_equal(blob_service_has(f->near.blobs, &digest, NULL), 1);
}

/* ---- Closures ---- */

static void test_prefetch(void **state)
{
	struct fixture *f = *state;
	struct directory *leaf cleanup(cleanup_directory) = make_directory("leaf", NULL);
	struct directory *middle cleanup(cleanup_directory) = make_directory("middle", leaf);
	struct directory *root cleanup(cleanup_directory) = make_directory("root", middle);

	assert_int_equal(directory_service_put(f->far.directories, leaf, NULL), 0);
	assert_int_equal(directory_service_put(f->far.directories, middle, NULL), 0);
	assert_int_equal(directory_service_put(f->far.directories, root, NULL), 0);
	directory_service_prefetch(f->cache.directories, directory_digest(root));
	while (directory_service_has(f->near.directories, directory_digest(leaf), NULL) == 0) {
		sched_yield();
	}
	probe_fail(f->far_probe, PROBE_READS, ERROR_UNAVAILABLE);
	assert_int_equal(get_directory(f, directory_digest(root)), 1);
	assert_int_equal(get_directory(f, directory_digest(middle)), 1);
	assert_int_equal(get_directory(f, directory_digest(leaf)), 1);
	/* One that fails, and a close that does not wait for more. */
	struct digest unknown;

	memset(&unknown, 3, sizeof(unknown));
	directory_service_prefetch(f->cache.directories, &unknown);
	directory_service_prefetch(f->cache.directories, &unknown);
}

/* ---- Names and records ---- */

static struct node node_of(const char *target)
{
	return (struct node){.kind = NODE_SYMLINK, .target = bytes_of_string(target)};
}

static void check_name(struct root_nodes *r, const char *name, const char *target)
{
	struct root_node found cleanup(root_node_done) = {.node.size = 0};
	int rc = root_nodes_lookup(r, bytes_of_string(name), &found, NULL);

	assert_int_equal(rc, target ? 1 : 0);
	if (target) {
		assert_true(bytes_equal(found.node.target, bytes_of_string(target)));
	}
}

static void put_name(struct root_nodes *r, const char *name, const char *target)
{
	struct node node = node_of(target);

	assert_int_equal(root_nodes_put(r, bytes_of_string(name), &node, true, NULL), 0);
}

/* What near is to learn it has learned when the cache is closed. */
static void test_names(void **state)
{
	struct fixture *f = *state;
	struct root_node found cleanup(root_node_done) = {.node.size = 0};

	put_name(f->far.roots, "a", "one");
	check_name(f->cache.roots, "a", "one");
	check_name(f->cache.roots, "b", NULL);
	reopen_cache(f);
	check_name(f->near.roots, "a", "one");
	/* Far is asked, and only without it near answers. */
	put_name(f->far.roots, "a", "two");
	check_name(f->cache.roots, "a", "two");
	probe_fail(f->far_probe, PROBE_READS, ERROR_UNAVAILABLE);
	assert_int_equal(root_nodes_lookup(f->cache.roots, bytes_of_string("b"), &found, NULL),
			 -ERROR_UNAVAILABLE);
	assert_int_equal(root_nodes_lookup(f->cache.roots, bytes_of_string("a"), &found, NULL),
			 1);
	probe_fail(f->far_probe, PROBE_READS, ERROR_CORRUPT);
	assert_int_equal(root_nodes_lookup(f->cache.roots, bytes_of_string("b"), &found, NULL),
			 -ERROR_CORRUPT);
	probe_fail(f->far_probe, 0, ERROR_NONE);
	assert_int_equal(root_nodes_remove(f->cache.roots, bytes_of_string("a"), NULL), 1);
	check_name(f->near.roots, "a", NULL);
	put_name(f->cache.roots, "c", "three");
	check_name(f->near.roots, "c", "three");
	check_name(f->far.roots, "c", "three");
}

static void put_record(struct record_table *t, const char *key, const char *value)
{
	struct record_entry e = {.key = bytes_of_string(key), .value = bytes_of_string(value)};

	assert_int_equal(record_table_put(t, &e, 1, NULL), 0);
}

static void check_record(struct record_table *t, const char *key, const char *value)
{
	struct buffer found cleanup(buffer_done) = {0};
	int rc = record_table_get(t, bytes_of_string(key), &found, NULL);

	assert_int_equal(rc, value ? 1 : 0);
	assert_true(!value || bytes_equal(buffer_bytes(&found), bytes_of_string(value)));
}

static void test_records(void **state)
{
	struct fixture *f = *state;

	put_record(f->far.path_infos, "a", "one");
	check_record(f->cache.path_infos, "a", "one");
	check_record(f->cache.path_infos, "b", NULL);
	reopen_cache(f);
	check_record(f->near.path_infos, "a", "one");
	probe_reads(f->far_probe);
	check_record(f->cache.path_infos, "a", "one");
	assert_int_equal(probe_reads(f->far_probe), 0);
	put_record(f->cache.path_infos, "a", "two");
	check_record(f->cache.path_infos, "a", "two");
	check_record(f->far.path_infos, "a", "two");
	/* Near could write no more, and what it has would be found later. */
	probe_fail(f->near_probe, PROBE_WRITES, ERROR_NO_SPACE);
	assert_int_equal(record_table_remove(f->cache.path_infos, bytes_of_string("a"), NULL),
			 -ERROR_NO_SPACE);
	check_record(f->far.path_infos, "a", "two");
	put_record(f->cache.path_infos, "new", "three");
	check_record(f->cache.path_infos, "new", "three");
	probe_fail(f->near_probe, 0, ERROR_NONE);
	assert_int_equal(record_table_remove(f->cache.path_infos, bytes_of_string("a"), NULL),
			 1);
	check_record(f->near.path_infos, "a", NULL);
	check_record(f->cache.path_infos, "a", NULL);
}

/* ---- Many at once ---- */

#define THREADS 100

static void run_threads(void *(*run)(void *), void *context)
{
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, run, context), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

struct reading {
	struct fixture *fixture;
	struct digest digest;
	uint64_t offset;
	const uint8_t *content;
};

static void *read_one(void *arg)
{
	static char failed[] = "failed";
	struct reading *r = arg;
	uint8_t buf[1000];

	return read_at(r->fixture, &r->digest, r->offset, buf, sizeof(buf), 0) == 1 &&
			       memcmp(buf, r->content + r->offset, sizeof(buf)) == 0
		       ? NULL
		       : failed;
}

/* Whoever comes while it is fetched waits, and whoever comes later finds it. */
static void test_hundred_readers(void **state)
{
	struct fixture *f = *state;
	struct reading small = {.fixture = f}, large = {.fixture = f, .offset = 1500000};
	uint8_t *content cleanup(cleanup_free) = put_far(f, 5000, &small.digest);
	uint8_t *more cleanup(cleanup_free) = put_far(f, LARGE, &large.digest);

	small.content = content;
	large.content = more;
	run_threads(read_one, &small);
	assert_int_equal(probe_reads(f->far_probe), 1);
	run_threads(read_one, &large);
	assert_int_equal(probe_bytes(f->far_probe), 5000 + RANGE_UNIT);
}

struct flying {
	struct single_flight flights;
	_Atomic unsigned calls;
};

static const struct bytes flight_key = {.ptr = (const uint8_t *)"key", .len = 3};

/* Fails when all threads wait for it. */
static int fail_for_all(void *context, struct object **out unused, struct error *err)
{
	struct flying *f = context;

	atomic_fetch_add(&f->calls, 1);
	while (single_flight_users(&f->flights, flight_key) < THREADS) {
		sched_yield();
	}
	return error_set(err, ERROR_TIMEOUT, "far is slow");
}

static void *fly(void *arg)
{
	static char failed[] = "failed";
	struct flying *f = arg;
	struct object *o = NULL;
	struct error err = {.code = ERROR_NONE};
	int rc = single_flight_get(&f->flights, flight_key, fail_for_all, f, &o, &err);

	return rc == -ERROR_TIMEOUT && !o && strcmp(err.text, "far is slow") == 0 ? NULL
										  : failed;
}

/* A failure is everybody's: nobody tries again for himself. */
static void test_shared_failure(void **state unused)
{
	struct flying f = {.calls = 0};

	single_flight_init(&f.flights);
	run_threads(fly, &f);
	assert_int_equal(f.calls, 1);
	single_flight_done(&f.flights);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_small_blob),
		TEST(test_large_blob),
		TEST(test_large_blob_complete),
		TEST(test_ranges_bounded),
		TEST(test_ranges_damaged),
		TEST(test_readers),
		TEST(test_nowait),
		TEST(test_far_fails),
		TEST(test_far_gone),
		TEST(test_puts),
		TEST(test_near_fails),
		TEST(test_near_damaged),
		TEST(test_near_damaged_large),
		TEST(test_near_lost),
		TEST(test_prefetch),
		TEST(test_names),
		TEST(test_records),
		TEST(test_hundred_readers),
		cmocka_unit_test(test_shared_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
