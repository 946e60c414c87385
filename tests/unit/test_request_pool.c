/* Threads for requests that wait: peers that do not answer must not stop the rest. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transports/request_pool.h"

#define THREADS 3u

struct desk {
	struct request_pool *pool;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t change;
	bool peer_answers;
	unsigned waiting; /* jobs at the peer */
	unsigned waiting_most;
	unsigned replied;
	unsigned silent;
	unsigned taken_back;
	uint64_t released; /* the last one */
};

struct job {
	struct request_job base;
	bool needs_peer;
};

static enum fs_outcome handle(void *context, struct request_job *base, unsigned flags,
			      struct fs_reply *reply unused)
{
	struct desk *d = context;
	const struct job *job = container_of(base, struct job, base);

	if (!job->needs_peer) {
		return FS_REPLY;
	}
	if (flags & FS_LOCAL) {
		return FS_BLOCKED;
	}
	pthread_mutex_lock(&d->lock);
	d->waiting++;
	d->waiting_most = MAX(d->waiting_most, d->waiting);
	pthread_cond_broadcast(&d->change);
	while (!d->peer_answers) {
		pthread_cond_wait(&d->change, &d->lock);
	}
	d->waiting--;
	pthread_mutex_unlock(&d->lock);
	return FS_REPLY;
}

static void finish(void *context, struct request_job *base, enum fs_outcome outcome,
		   struct fs_reply *reply unused)
{
	struct desk *d = context;

	pthread_mutex_lock(&d->lock);
	if (outcome != FS_REPLY) {
		d->silent++;
	} else if (base->abandoned) {
		d->taken_back++;
	} else {
		d->replied++;
	}
	pthread_cond_broadcast(&d->change);
	pthread_mutex_unlock(&d->lock);
	free(container_of(base, struct job, base));
}

static void release(void *context, uint64_t unique)
{
	struct desk *d = context;

	pthread_mutex_lock(&d->lock);
	d->released = unique;
	pthread_mutex_unlock(&d->lock);
}

static const struct request_pool_ops ops = {
	.handle = handle, .finish = finish, .release = release};

static int setup(void **state)
{
	struct desk *d = xcalloc(1, sizeof(*d));

	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->change, NULL);
	d->pool = request_pool_new(THREADS, &ops, d);
	*state = d;
	return 0;
}

static void let_peer_answer(struct desk *d)
{
	pthread_mutex_lock(&d->lock);
	d->peer_answers = true;
	pthread_cond_broadcast(&d->change);
	pthread_mutex_unlock(&d->lock);
}

static int teardown(void **state)
{
	struct desk *d = *state;

	let_peer_answer(d);
	request_pool_free(d->pool);
	pthread_cond_destroy(&d->change);
	pthread_mutex_destroy(&d->lock);
	free(d);
	return 0;
}

static bool put(struct desk *d, uint64_t unique, bool needs_peer, uint32_t pid)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->base.unique = unique;
	job->base.pid = pid;
	job->needs_peer = needs_peer;
	bool taken = request_pool_put(d->pool, &job->base, false);

	if (!taken) {
		free(job);
	}
	return taken;
}

/* Waits until a count of the desk is as high. */
static void await(struct desk *d, const unsigned *count, unsigned wanted)
{
	pthread_mutex_lock(&d->lock);
	while (*count < wanted) {
		pthread_cond_wait(&d->change, &d->lock);
	}
	pthread_mutex_unlock(&d->lock);
}

static void test_peer_is_gone(void **state)
{
	struct desk *d = *state;

	for (unsigned i = 0; i < 1000; i++) {
		assert_true(put(d, i, true, 1));
	}
	await(d, &d->waiting, REQUEST_POOL_PEERS_MAX);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(put(d, 5000 + i, false, 1));
		await(d, &d->replied, i + 1);
	}
	assert_int_equal(d->replied, 200);
	let_peer_answer(d);
	await(d, &d->replied, 1200);
	assert_int_equal(d->waiting_most, REQUEST_POOL_PEERS_MAX);
}

/* The one that was to do it waits for a peer when something else comes into the queue. */
static void test_peers_and_others_mixed(void **state)
{
	struct desk *d = *state;
	unsigned local = 0;

	for (unsigned i = 0; i < 300; i++) {
		bool needs_peer = i % 3 != 0;

		local += !needs_peer;
		assert_true(put(d, i, needs_peer, 1));
	}
	await(d, &d->replied, local);
	assert_int_equal(d->replied, local);
}

static void test_dying_process(void **state)
{
	struct desk *d = *state;
	uint32_t nobody = UINT32_MAX;

	assert_true(put(d, 1, true, nobody));
	await(d, &d->waiting, 1);
	assert_false(request_pool_has_interrupted(d->pool));
	request_pool_interrupt(d->pool, 1);
	request_pool_interrupt(d->pool, 1);
	request_pool_interrupt(d->pool, 77);
	assert_true(request_pool_has_interrupted(d->pool));
	request_pool_release_dying(d->pool);
	assert_int_equal(d->released, 1);
	assert_false(request_pool_has_interrupted(d->pool));
	let_peer_answer(d);
	await(d, &d->taken_back, 1);
	assert_int_equal(d->replied, 0);
}

static void test_dying_in_the_queue(void **state)
{
	struct desk *d = *state;

	for (unsigned i = 0; i <= REQUEST_POOL_PEERS_MAX; i++) {
		assert_true(put(d, i, true, i < REQUEST_POOL_PEERS_MAX ? 1 : UINT32_MAX));
		await(d, &d->waiting, MIN(i + 1, REQUEST_POOL_PEERS_MAX));
	}
	request_pool_interrupt(d->pool, REQUEST_POOL_PEERS_MAX);
	request_pool_release_dying(d->pool);
	assert_int_equal(d->released, REQUEST_POOL_PEERS_MAX);
	let_peer_answer(d);
	await(d, &d->replied, REQUEST_POOL_PEERS_MAX);
	assert_int_equal(d->silent + d->taken_back, 1);
}

/* A signal that does not end the process: the program gets its answer. */
static void test_living_process(void **state)
{
	struct desk *d = *state;

	assert_true(put(d, 1, true, (uint32_t)syscall(SYS_gettid)));
	await(d, &d->waiting, 1);
	request_pool_interrupt(d->pool, 1);
	request_pool_release_dying(d->pool);
	assert_int_equal(d->released, 0);
	assert_true(request_pool_has_interrupted(d->pool));
	let_peer_answer(d);
	await(d, &d->replied, 1);
	assert_false(request_pool_has_interrupted(d->pool));
}

static void *free_pool(void *arg)
{
	struct desk *d = arg;

	request_pool_free(d->pool);
	return NULL;
}

/* What nobody has begun is not begun any more. */
static void test_end_with_a_queue(void **state)
{
	struct desk *d = *state;
	pthread_t thread;

	for (unsigned i = 0; i < 500; i++) {
		assert_true(put(d, i, true, 1));
	}
	await(d, &d->waiting, REQUEST_POOL_PEERS_MAX);
	assert_int_equal(pthread_create(&thread, NULL, free_pool, d), 0);
	/* The threads that wait for the peer are the only ones: the queue waits for them. */
	let_peer_answer(d);
	pthread_join(thread, NULL);
	d->pool = NULL;
	assert_int_equal(d->replied + d->silent, 500);
	assert_true(d->replied >= REQUEST_POOL_PEERS_MAX);
}

static void test_no_threads(void **state)
{
	struct desk *d = *state;

	request_pool_free(d->pool);
	d->pool = request_pool_new(0, &ops, d);
	assert_false(put(d, 1, false, 1));
	assert_false(put(d, 2, true, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_peer_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peers_and_others_mixed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dying_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dying_in_the_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_living_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_with_a_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
