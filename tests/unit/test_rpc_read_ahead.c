/* rpc/read_ahead.h, and the readers that it is for, over a peer that misbehaves. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rpc/read_ahead.h"
#include "rpc/remote_store.h"
#include "rpc_fixture.h"

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

/* Blobs of the server's store, of which some bytes are wrong, or do not come. */
struct odd_blobs {
	struct blob_service base;
	struct blob_service *inner;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	uint64_t wrong_at; /* 0: nowhere */
	uint64_t fail_at;  /* who reads this byte fails; 0: nobody */
	uint64_t stall_at; /* who reads this byte waits; 0: nobody */
	unsigned waiting;
};

struct odd_reader {
	struct blob_reader base;
	struct blob_reader *inner;
	struct odd_blobs *blobs;
};

static int odd_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
		     size_t *got, struct error *err)
{
	struct odd_reader *r = container_of(base, struct odd_reader, base);
	struct odd_blobs *b = r->blobs;

	pthread_mutex_lock(&b->lock);
	while (b->stall_at && b->stall_at >= offset && b->stall_at < offset + len) {
		b->waiting++;
		pthread_cond_broadcast(&b->changed);
		pthread_cond_wait(&b->changed, &b->lock);
	}
	uint64_t wrong = b->wrong_at;
	bool fails = b->fail_at && b->fail_at >= offset && b->fail_at < offset + len;

	pthread_mutex_unlock(&b->lock);
	if (fails) {
		return error_set(err, ERROR_IO, "a byte from %ju on", (uintmax_t)offset);
	}
	int rc = blob_reader_pread(r->inner, buf, len, offset, got, err);

	if (rc == 0 && wrong && wrong >= offset && wrong < offset + *got) {
		((uint8_t *)buf)[wrong - offset] ^= 1;
	}
	return rc;
}

static int odd_outboard(struct blob_reader *base, uint64_t first, size_t count, uint8_t *values,
			struct error *err)
{
	return blob_reader_outboard(container_of(base, struct odd_reader, base)->inner, first,
				    count, values, err);
}

static int odd_fd(const struct blob_reader *base unused)
{
	return -1;
}

static void odd_free(struct blob_reader *base)
{
	struct odd_reader *r = container_of(base, struct odd_reader, base);

	blob_reader_free(r->inner);
	free(r);
}

static const struct blob_reader_ops odd_reader_ops = {odd_pread, odd_fd, odd_outboard,
						      odd_free};

static int odd_open(struct blob_service *s, const struct digest *digest,
		    struct blob_reader **out, struct error *err)
{
	struct odd_blobs *b = container_of(s, struct odd_blobs, base);
	struct odd_reader *r = xcalloc(1, sizeof(*r));
	int rc = blob_service_open(b->inner, digest, &r->inner, err);

	if (rc <= 0) {
		free(r);
		return rc;
	}
	r->base.ops = &odd_reader_ops;
	r->base.size = blob_reader_size(r->inner);
	r->blobs = b;
	*out = &r->base;
	return rc;
}

static void odd_destroy(struct blob_service *s)
{
	struct odd_blobs *b = container_of(s, struct odd_blobs, base);

	blob_service_unref(b->inner);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static const struct blob_service_ops odd_ops = {
	.name = "odd",
	.verifies_ranges = true,
	.destroy = odd_destroy,
	.open = odd_open,
};

static void set(struct odd_blobs *b, uint64_t *place, uint64_t value)
{
	pthread_mutex_lock(&b->lock);
	*place = value;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

struct peer_test {
	struct rpc_fixture *server;
	struct odd_blobs *blobs;
	struct store client;
	uint8_t *content;
	struct digest digest;
};

static struct odd_blobs *make_odd(struct rpc_fixture *f)
{
	struct odd_blobs *b = xcalloc(1, sizeof(*b));

	blob_service_init(&b->base, &odd_ops);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	b->inner = f->store.blobs;
	f->store.blobs = &b->base;
	return b;
}

static struct peer_test begin(void **state)
{
	struct rpc_fixture *f = *state;
	struct peer_test t = {.server = f, .content = xmalloc(BLOB_SIZE)};
	char *address cleanup(cleanup_free) = xasprintf("grpc+unix://%s/socket", f->folder);
	struct error err = {0};

	for (size_t i = 0; i < BLOB_SIZE; i++) {
		t.content[i] = (uint8_t)(i * 2654435761u >> 20);
	}
	assert_int_equal(blob_service_put(f->store.blobs, bytes_of(t.content, BLOB_SIZE),
					  &t.digest, &err),
			 0);
	t.blobs = make_odd(f);
	rpc_fixture_start(state);
	assert_int_equal(store_open(&t.client, address, 0, &err), 0);
	return t;
}

static void finish(struct peer_test *t)
{
	store_close(&t->client);
	free(t->content);
}

static struct blob_reader *open_reader(struct peer_test *t)
{
	struct blob_reader *r;
	struct error err = {0};

	assert_int_equal(blob_service_open(t->client.blobs, &t->digest, &r, &err), 1);
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

	set(t.blobs, &t.blobs->wrong_at, wrong);
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
	struct odd_blobs *b = t.blobs;
	struct blob_reader *r;

	set(b, &b->stall_at, (size_t)11 << 20);
	r = open_reader(&t);
	read_well(&t, r, 0, (size_t)8 << 20);
	pthread_mutex_lock(&b->lock);
	while (b->waiting == 0) {
		pthread_cond_wait(&b->changed, &b->lock);
	}
	pthread_mutex_unlock(&b->lock);
	blob_reader_free(r);
	set(b, &b->stall_at, 0);
	finish(&t);
}

static void test_peer_fails(void **state)
{
	struct peer_test t = begin(state);
	struct blob_reader *r = open_reader(&t);
	struct error err = {0};
	size_t at = 0;

	set(t.blobs, &t.blobs->fail_at, (size_t)11 << 20);
	assert_int_equal(read_to(&t, r, &at, BLOB_SIZE, &err), -ERROR_IO);
	assert_true(at <= (size_t)11 << 20 && at > (size_t)7 << 20);
	set(t.blobs, &t.blobs->fail_at, 0);
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
