/* Large files put to a peer: rpc/file_upload.h, through the service that it is behind. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/unix_listener.h"
#include "odd_peer.h"
#include "rpc/remote_store.h"

/* More than waits to be sent, and what is on its way between two processes. */
#define LARGE (((size_t)40 << 20) + 4321)
/* What fits in memory. */
#define MIDDLE (((size_t)3 << 20) + 4321)

struct upload_test {
	struct odd_peer peer;
	struct blob_watch watch;
	uint64_t watched;
	uint64_t give_up_at; /* when so much was watched; 0: never */
	bool changes;        /* the last byte does, when all was watched */
	int fd;
	uint8_t *content;
	size_t size;
	struct digest digest;
};

static bool advance(struct blob_watch *w, uint64_t bytes)
{
	struct upload_test *t = container_of(w, struct upload_test, watch);

	t->watched += bytes;
	if (t->changes && t->watched == t->size) {
		t->changes = false;
		t->content[t->size - 1] ^= 1;
		assert_int_equal(
			pwrite_full(t->fd, &t->content[t->size - 1], 1, (off_t)t->size - 1), 0);
	}
	return t->give_up_at == 0 || t->watched < t->give_up_at;
}

static void begin(struct upload_test *t, void **state, size_t size)
{
	*t = (struct upload_test){.watch.advance = advance, .size = size};
	t->content = odd_peer_content(size);
	t->fd = memfd_create("upload", MFD_CLOEXEC);
	assert_true(t->fd >= 0);
	assert_int_equal(write_full(t->fd, t->content, size), 0);
	digest_of(&t->digest, bytes_of(t->content, size));
	odd_peer_start(&t->peer, state);
}

static void finish(struct upload_test *t)
{
	odd_peer_stop(&t->peer);
	close(t->fd);
	free(t->content);
}

static int put(struct upload_test *t, struct error *err)
{
	struct digest digest = {0};
	int rc = blob_service_put_file(t->peer.client.blobs, t->fd, t->size, &t->watch, &digest,
				       err);

	if (rc == 0) {
		assert_true(digest_equal(&digest, &t->digest));
		assert_int_equal(t->watched, t->size);
	}
	return rc;
}

/* The server's store has it, by another way. */
static void put_there(struct upload_test *t)
{
	assert_int_equal(blob_service_put(t->peer.blobs->inner, bytes_of(t->content, t->size),
					  NULL, NULL),
			 0);
}

static void check_there(struct upload_test *t)
{
	uint8_t *got cleanup(cleanup_free) = xmalloc(t->size);
	size_t len;

	assert_int_equal(blob_service_read(t->peer.blobs->inner, &t->digest, 0, got, t->size, 0,
					   &len, NULL),
			 1);
	assert_int_equal(len, t->size);
	assert_memory_equal(got, t->content, len);
}

static void check_put(void **state, size_t size)
{
	struct upload_test t;

	begin(&t, state, size);
	assert_int_equal(put(&t, NULL), 0);
	check_there(&t);
	assert_int_equal(odd_peer_committed(&t.peer), 1);
	finish(&t);
}

static void test_large(void **state)
{
	check_put(state, LARGE);
}

static void test_middle(void **state)
{
	check_put(state, MIDDLE);
}

static void test_of_whole_pieces(void **state)
{
	check_put(state, (size_t)8 << 20);
}

/* It fits in memory: nothing is sent. */
static void test_middle_there(void **state)
{
	struct upload_test t;

	begin(&t, state, MIDDLE);
	put_there(&t);
	odd_peer_set(&t.peer, &t.peer.blobs->write_fails_at, 1);
	assert_int_equal(put(&t, NULL), 0);
	finish(&t);
}

/* The peer takes nothing in: asking goes ahead of sending, which is given up. */
static void test_large_there(void **state)
{
	struct upload_test t;

	begin(&t, state, LARGE);
	put_there(&t);
	odd_peer_set(&t.peer, &t.peer.blobs->write_stalls_at, 1000);
	assert_int_equal(put(&t, NULL), 0);
	odd_peer_set(&t.peer, &t.peer.blobs->write_stalls_at, 0);
	finish(&t);
}

/* All was hashed, and nobody has it, before the peer takes it in: the sender reads the rest. */
static void test_slow_peer(void **state)
{
	struct upload_test t;

	begin(&t, state, LARGE);
	t.peer.blobs->releases = &t.digest;
	odd_peer_set(&t.peer, &t.peer.blobs->write_stalls_at, 1000);
	assert_int_equal(put(&t, NULL), 0);
	check_there(&t);
	finish(&t);
}

/* The end of the file changes when all was hashed: the digest is that of what was sent. */
static void test_changed_meanwhile(void **state)
{
	struct upload_test t;
	struct digest digest, first;

	begin(&t, state, LARGE);
	first = t.digest;
	t.changes = true;
	t.peer.blobs->releases = &first;
	odd_peer_set(&t.peer, &t.peer.blobs->write_stalls_at, 1000);
	assert_int_equal(blob_service_put_file(t.peer.client.blobs, t.fd, t.size, &t.watch,
					       &digest, NULL),
			 0);
	assert_false(digest_equal(&digest, &first));
	digest_of(&t.digest, bytes_of(t.content, t.size));
	assert_true(digest_equal(&digest, &t.digest));
	check_there(&t);
	finish(&t);
}

static void test_full_peer(void **state)
{
	struct upload_test t;
	struct error err = {0};

	begin(&t, state, LARGE);
	odd_peer_set(&t.peer, &t.peer.blobs->write_fails_at, 1000);
	assert_int_equal(put(&t, &err), -ERROR_NO_SPACE);
	assert_non_null(strstr(err.text, "odd from 0 on"));
	/* Unless it has it. */
	put_there(&t);
	t.watched = 0;
	assert_int_equal(put(&t, NULL), 0);
	finish(&t);
}

static void test_shorter(void **state)
{
	struct upload_test t;
	struct error err = {0};

	begin(&t, state, LARGE);
	assert_int_equal(ftruncate(t.fd, (off_t)t.size - 1), 0);
	assert_int_equal(put(&t, &err), -ERROR_CHANGED);
	assert_int_equal(odd_peer_committed(&t.peer), 0);
	finish(&t);
}

/* The peer hangs, and whoever waits is told to give up. */
static void test_given_up(void **state)
{
	struct upload_test t;
	struct error err = {0};

	begin(&t, state, LARGE);
	odd_peer_set(&t.peer, &t.peer.blobs->write_stalls_at, 1000);
	t.give_up_at = t.size;
	assert_int_equal(put(&t, &err), -ERROR_CANCELED);
	odd_peer_set(&t.peer, &t.peer.blobs->write_stalls_at, 0);
	finish(&t);
}

static void test_peer_gone(void **state)
{
	struct upload_test t;
	struct error err = {0};

	begin(&t, state, LARGE);
	rpc_fixture_stop(t.peer.server);
	unix_listener_free(t.peer.server->listener);
	t.peer.server->listener = NULL;
	assert_int_equal(put(&t, &err), -ERROR_UNAVAILABLE);
	finish(&t);
}

static int setup_group(void **state unused)
{
	remote_store_add_schemes();
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_large),
		TEST(test_middle),
		TEST(test_of_whole_pieces),
		TEST(test_middle_there),
		TEST(test_large_there),
		TEST(test_slow_peer),
		TEST(test_changed_meanwhile),
		TEST(test_full_peer),
		TEST(test_shorter),
		TEST(test_given_up),
		TEST(test_peer_gone),
	};

	return cmocka_run_group_tests(tests, setup_group, NULL);
}
