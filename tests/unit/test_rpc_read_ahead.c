/* rpc/read_ahead.h, and the readers that it is for, over a peer that misbehaves. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "odd_peer.h"
#include "rpc/read_ahead.h"
#include "rpc/remote_store.h"

/* ---- By itself ---- */

#define PART READ_AHEAD_PART

struct numbers {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t highest; /* the furthest that was asked for */
	uint64_t fail_at; /* the part with this byte fails; 0: none */
	bool hold;        /* fetches wait until they are stopped */
	unsigned held;
	bool stopped;
};

static int fetch_numbers(void *context, uint64_t offset, uint8_t *buf, size_t len,
			 struct error *err)
{
	struct numbers *n = context;

	pthread_mutex_lock(&n->lock);
	n->highest = MAX(n->highest, offset + len);
	n->held++;
	pthread_cond_broadcast(&n->changed);
	while (n->hold && !n->stopped) {
		pthread_cond_wait(&n->changed, &n->lock);
	}
	bool stopped = n->stopped;

	pthread_mutex_unlock(&n->lock);
	if (stopped) {
		return error_set(err, ERROR_CANCELED, "stopped");
	}
	if (n->fail_at && n->fail_at >= offset && n->fail_at < offset + len) {
		return error_set(err, ERROR_CORRUPT, "part at %ju", (uintmax_t)offset);
	}
	for (size_t i = 0; i < len; i += 512) {
		memcpy(buf + i, &(uint64_t){offset + i}, MIN(len - i, sizeof(uint64_t)));
	}
	return 0;
}

static void stop_numbers(void *context)
{
	struct numbers *n = context;

	pthread_mutex_lock(&n->lock);
	n->stopped = true;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
}

static struct read_ahead *start(struct numbers *n, uint64_t from, uint64_t to)
{
	const struct read_ahead_source source = {fetch_numbers, stop_numbers, n};

	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->changed, NULL);
	struct read_ahead *a = read_ahead_new(&source, from, to);

	assert_non_null(a);
	return a;
}

static void check_part(struct bytes part, uint64_t offset)
{
	uint64_t number;

	for (size_t i = 0; i + sizeof(number) <= part.len; i += 512) {
		memcpy(&number, part.ptr + i, sizeof(number));
		assert_int_equal(number, offset + i);
	}
}

static void test_in_a_row(void **state unused)
{
	struct numbers n = {0};
	const uint64_t from = 12345, to = from + 9 * PART + 77;
	struct read_ahead *a = start(&n, from, to);
	uint64_t at = from;
	struct bytes part;

	while (read_ahead_next(a, &part, NULL) > 0) {
		check_part(part, at);
		at += part.len;
	}
	assert_int_equal(at, to);
	assert_int_equal(read_ahead_next(a, &part, NULL), 0);
	read_ahead_free(a);
}

/* The reader looks at one part; as many as there is room for are fetched, and no more. */
static void test_bounded(void **state unused)
{
	struct numbers n = {0};
	struct read_ahead *a = start(&n, 0, 100 * PART);
	struct bytes part;

	assert_int_equal(read_ahead_next(a, &part, NULL), 1);
	pthread_mutex_lock(&n.lock);
	while (n.held < READ_AHEAD_PARTS) {
		pthread_cond_wait(&n.changed, &n.lock);
	}
	pthread_mutex_unlock(&n.lock);
	check_part(part, 0);
	read_ahead_free(a);
	assert_int_equal(n.highest, READ_AHEAD_PARTS * PART);
}

static void test_failure_in_its_place(void **state unused)
{
	struct numbers n = {.fail_at = 5 * PART + 1};
	struct read_ahead *a = start(&n, 0, 20 * PART);
	struct bytes part;
	struct error err = {0};

	for (uint64_t i = 0; i < 5; i++) {
		assert_int_equal(read_ahead_next(a, &part, &err), 1);
		check_part(part, i * PART);
	}
	for (int again = 0; again < 2; again++) {
		assert_int_equal(read_ahead_next(a, &part, &err), -ERROR_CORRUPT);
		assert_string_equal(err.text, "part at 10485760");
	}
	read_ahead_free(a);
}

static void test_end_while_fetching(void **state unused)
{
	struct numbers n = {.hold = true};
	struct read_ahead *a = start(&n, 0, 20 * PART);

	pthread_mutex_lock(&n.lock);
	while (n.held < READ_AHEAD_THREADS) {
		pthread_cond_wait(&n.changed, &n.lock);
	}
	pthread_mutex_unlock(&n.lock);
	read_ahead_free(a);
	assert_int_equal(n.held, READ_AHEAD_THREADS);
}

/* ---- A peer ---- */

#define BLOB_SIZE (((size_t)20 << 20) + 12345)
#define PIECE ((size_t)300000)

struct peer_test {
	struct odd_peer peer;
	uint8_t *content;
	struct digest digest;
};

static struct peer_test begin(void **state)
{
	struct rpc_fixture *f = *state;
	struct peer_test t = {.content = odd_peer_content(BLOB_SIZE)};

	assert_int_equal(blob_service_put(f->store.blobs, bytes_of(t.content, BLOB_SIZE),
					  &t.digest, NULL),
			 0);
	odd_peer_start(&t.peer, state);
	return t;
}

static void finish(struct peer_test *t)
{
	odd_peer_stop(&t->peer);
	free(t->content);
}

static struct blob_reader *open_reader(struct peer_test *t)
{
	struct blob_reader *r;
	struct error err = {0};

	assert_int_equal(blob_service_open(t->peer.client.blobs, &t->digest, &r, &err), 1);
	assert_int_equal(blob_reader_size(r), BLOB_SIZE);
	return r;
}

/* Reads in a row from *at on; what comes is right. Returns the first failure. */
static int read_to(struct peer_test *t, struct blob_reader *r, size_t *at, size_t end,
		   struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(PIECE);
	size_t got;
	int rc = 0;

	while (rc == 0 && *at < end) {
		rc = blob_reader_pread(r, buf, PIECE, *at, &got, err);
		if (rc == 0) {
			assert_int_equal(got, MIN(PIECE, BLOB_SIZE - *at));
			assert_memory_equal(buf, t->content + *at, got);
			*at += got;
		}
	}
	return rc;
}

static void read_well(struct peer_test *t, struct blob_reader *r, size_t from, size_t end)
{
	struct error err = {0};

	assert_int_equal(read_to(t, r, &from, end, &err), 0);
}

static void test_whole(void **state)
{
	struct peer_test t = begin(state);
	struct blob_reader *r = open_reader(&t);

	read_well(&t, r, 0, BLOB_SIZE);
	read_well(&t, r, 0, BLOB_SIZE);
	blob_reader_free(r);
	finish(&t);
}

/* Once it fetches ahead, the reader goes elsewhere, and comes back. */
static void test_jumps(void **state)
{
	struct peer_test t = begin(state);
	struct blob_reader *r = open_reader(&t);

	read_well(&t, r, 0, (size_t)12 << 20);
	read_well(&t, r, 1000, 2000);
	read_well(&t, r, BLOB_SIZE - 10, BLOB_SIZE);
	read_well(&t, r, (size_t)5 << 20, BLOB_SIZE);
	blob_reader_free(r);
	finish(&t);
}

/* More of them than may fetch ahead, side by side. */
static void test_many_readers(void **state)
{
	struct peer_test t = begin(state);
	struct blob_reader *readers[10];

	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i] = open_reader(&t);
		read_well(&t, readers[i], 0, (size_t)8 << 20);
	}
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		read_well(&t, readers[i], (size_t)8 << 20, (size_t)12 << 20);
		blob_reader_free(readers[i]);
	}
	finish(&t);
}

static void test_wrong_bytes(void **state)
{
	struct peer_test t = begin(state);
	const size_t wrong = ((size_t)13 << 20) + 5;
	struct blob_reader *r;
	struct error err = {0};
	size_t at = 0;

	odd_peer_set(&t.peer, &t.peer.blobs->wrong_at, wrong);
	r = open_reader(&t);
	assert_int_equal(read_to(&t, r, &at, BLOB_SIZE, &err), -ERROR_CORRUPT);
	assert_true(at <= wrong && at > (size_t)7 << 20);
	/* As before when asked again, and what is right there comes. */
	assert_int_equal(read_to(&t, r, &at, BLOB_SIZE, &err), -ERROR_CORRUPT);
	assert_true(at <= wrong);
	read_well(&t, r, (size_t)16 << 20, BLOB_SIZE);
	blob_reader_free(r);
	finish(&t);
}

/* The reader is closed while what it does not want any more does not come. */
static void test_closed_while_stalled(void **state)
{
	struct peer_test t = begin(state);
	struct blob_reader *r = open_reader(&t);
	uint64_t *stall = &t.peer.blobs->read_stalls_at;

	odd_peer_set(&t.peer, stall, (size_t)11 << 20);
	read_well(&t, r, 0, (size_t)8 << 20);
	odd_peer_await_stall(&t.peer);
	blob_reader_free(r);
	odd_peer_set(&t.peer, stall, 0);
	finish(&t);
}

static void test_peer_fails(void **state)
{
	struct peer_test t = begin(state);
	struct blob_reader *r = open_reader(&t);
	struct error err = {0};
	size_t at = 0;

	odd_peer_set(&t.peer, &t.peer.blobs->read_fails_at, (size_t)11 << 20);
	assert_int_equal(read_to(&t, r, &at, BLOB_SIZE, &err), -ERROR_IO);
	assert_true(at <= (size_t)11 << 20 && at > (size_t)7 << 20);
	odd_peer_set(&t.peer, &t.peer.blobs->read_fails_at, 0);
	assert_int_equal(read_to(&t, r, &at, BLOB_SIZE, &err), 0);
	blob_reader_free(r);
	finish(&t);
}

static int setup_group(void **state unused)
{
	remote_store_add_schemes();
	return 0;
}

#define PEER_TEST(f) cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_a_row),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_failure_in_its_place),
		cmocka_unit_test(test_end_while_fetching),
		PEER_TEST(test_whole),
		PEER_TEST(test_jumps),
		PEER_TEST(test_many_readers),
		PEER_TEST(test_wrong_bytes),
		PEER_TEST(test_closed_while_stalled),
		PEER_TEST(test_peer_fails),
	};

	return cmocka_run_group_tests(tests, setup_group, NULL);
}
