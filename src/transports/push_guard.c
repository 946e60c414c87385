#include "transports/push_guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"

#define TICK_NS 1000000
#define SECOND_NS 1000000000
/* Ticks without a write after which the thread sleeps until the next one. */
#define IDLE_TICKS 64u

struct push_guard {
	void (*stand_in)(void *context);
	void *context;
	pthread_t thread;
	bool started; /* these two are the reader's */
	bool failed;
	_Atomic uint64_t writes; /* odd: one is under way */
	atomic_bool watching;    /* false: the thread sleeps, or is about to */

	pthread_mutex_t lock; /* guards closing, and going to sleep */
	pthread_cond_t wake;
	bool closing;
};

struct push_guard *push_guard_new(void (*stand_in)(void *context), void *context)
{
	struct push_guard *g = xcalloc(1, sizeof(*g));
	pthread_condattr_t attr;

	g->stand_in = stand_in;
	g->context = context;
	pthread_mutex_init(&g->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->wake, &attr);
	pthread_condattr_destroy(&attr);
	return g;
}

static bool wait_for_work(struct push_guard *g)
{
	pthread_mutex_lock(&g->lock);
	while (!g->closing && !atomic_load(&g->watching)) {
		pthread_cond_wait(&g->wake, &g->lock);
	}
	bool more = !g->closing;

	pthread_mutex_unlock(&g->lock);
	return more;
}

/* Either the writer sees that nobody watches, or we see that it writes: both are in one order.
 */
static void go_to_sleep(struct push_guard *g)
{
	atomic_store(&g->watching, false);
	if (atomic_load(&g->writes) % 2 == 1) {
		atomic_store(&g->watching, true);
	}
}

/* False when the guard is closing. */
static bool wait_a_tick(struct push_guard *g)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += TICK_NS;
	if (t.tv_nsec >= SECOND_NS) {
		t.tv_nsec -= SECOND_NS;
		t.tv_sec++;
	}
	pthread_mutex_lock(&g->lock);
	while (!g->closing && pthread_cond_timedwait(&g->wake, &g->lock, &t) == 0) {
		continue;
	}
	bool more = !g->closing;

	pthread_mutex_unlock(&g->lock);
	return more;
}

static void watch(struct push_guard *g)
{
	uint64_t seen = atomic_load(&g->writes);

	for (unsigned idle = 0; idle < IDLE_TICKS && wait_a_tick(g); idle++) {
		uint64_t now = atomic_load(&g->writes);

		if (now != seen) {
			idle = 0;
			seen = now;
			continue;
		}
		while (now % 2 == 1 && atomic_load(&g->writes) == now) {
			g->stand_in(g->context);
		}
	}
	go_to_sleep(g);
}

static void *guard_main(void *context)
{
	struct push_guard *g = context;

	while (wait_for_work(g)) {
		watch(g);
	}
	return NULL;
}

/* Signals are for the program's own threads, but for faults, which are whose they are. */
static bool start(struct push_guard *g)
{
	sigset_t set;
	sigset_t old;

	sigfillset(&set);
	sigdelset(&set, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	g->started = pthread_create(&g->thread, NULL, guard_main, g) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!g->started) {
		log_warning("no thread to be had: nothing is sent ahead");
	}
	return g->started;
}

void push_guard_free(struct push_guard *g)
{
	if (!g) {
		return;
	}
	if (g->started) {
		pthread_mutex_lock(&g->lock);
		g->closing = true;
		pthread_cond_signal(&g->wake);
		pthread_mutex_unlock(&g->lock);
		pthread_join(g->thread, NULL);
	}
	pthread_cond_destroy(&g->wake);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

bool push_guard_enter(struct push_guard *g)
{
	if (!g->started && (g->failed || !start(g))) {
		g->failed = true;
		return false;
	}
	atomic_fetch_add(&g->writes, 1);
	if (!atomic_load(&g->watching)) {
		pthread_mutex_lock(&g->lock);
		atomic_store(&g->watching, true);
		pthread_cond_signal(&g->wake);
		pthread_mutex_unlock(&g->lock);
	}
	return true;
}

void push_guard_leave(struct push_guard *g)
{
	atomic_fetch_add(&g->writes, 1);
}
