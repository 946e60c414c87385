/*
 * The pool. Threads wait for calls on one queue; who gets a call runs it, since waking another
 * thread would cost more than most calls do, and there is always one more that waits: it drives
 * the connections, and queues or refuses what comes when as many calls run as may.
 */

#include "base/log.h"
#include "base/thread.h"
#include "rpc/rpc_server_internal.h"

/* Armed for each door; more calls than that are taken one after the other. */
#define ARMED 8
/* Calls that may wait for a thread; more are refused. */
#define QUEUED_MAX 4096
/* Of the library and the store; sanitizers make it more. */
#define STACK_SIZE ((size_t)1 << 20)

/* With the lock held: a thread that gets the call finds it as it was left here. */
static void arm(struct rpc_server *s, struct server_door *door)
{
	struct server_call *c = s->spare;

	if (c) {
		s->spare = c->next;
		c->door = door;
	} else {
		c = server_call_new(door, s->options.timeout, s->budget);
	}
	server_call_arm(c, door->grpc, s->arrivals);
}

static void *work(void *context);

/* With the lock held. Without a new thread, those that there are go on. */
static int add_thread(struct rpc_server *s)
{
	int rc = thread_start(&s->threads[s->thread_count], STACK_SIZE, work, s);

	if (rc == 0) {
		s->thread_count++;
		s->waiting++;
	}
	return rc;
}

/* A call that was taken begins to run. With the lock held. */
static void begin_running(struct rpc_server *s)
{
	s->running++;
	/* Somebody must go on waiting. */
	if (s->waiting == 0 && add_thread(s) != 0) {
		log_warning("cannot start a thread for calls");
	}
}

/* With the lock held. */
static bool may_run(const struct rpc_server *s)
{
	/* The last thread that waits stays, unless there will be another. */
	return s->running < s->options.threads &&
	       (s->waiting > 0 || s->thread_count <= s->options.threads);
}

static void enqueue(struct rpc_server *s, struct server_call *c)
{
	c->next = NULL;
	*s->last = c;
	s->last = &c->next;
	s->queued++;
}

static struct server_call *dequeue(struct rpc_server *s)
{
	struct server_call *c = s->first;

	s->first = c->next;
	if (!s->first) {
		s->last = &s->first;
	}
	s->queued--;
	return c;
}

static void retire(struct rpc_server *s, struct server_call *c)
{
	pthread_mutex_lock(&s->lock);
	c->next = s->spare;
	s->spare = c;
	pthread_mutex_unlock(&s->lock);
}

static void refuse(struct rpc_server *s, struct server_call *c)
{
	struct error err;

	error_set(&err, ERROR_LIMIT, "too many calls: %u run and %d wait", s->options.threads,
		  QUEUED_MAX);
	server_call_begin(c);
	server_call_fail(c, &err);
	server_call_end(c);
	atomic_fetch_add(&s->calls, 1);
	atomic_fetch_add(&s->failed_calls, 1);
	retire(s, c);
}

/* True when the calling thread, which counts as waiting, is to run the call now. */
static bool take(struct rpc_server *s, struct server_call *c)
{
	pthread_mutex_lock(&s->lock);
	arm(s, c->door);
	s->waiting--;
	bool run = may_run(s), full = !run && s->queued >= QUEUED_MAX;

	if (run) {
		begin_running(s);
	} else {
		s->waiting++;
		if (!full) {
			enqueue(s, c);
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (full) {
		refuse(s, c);
	}
	return run;
}

/* The next one, or NULL: then the thread waits. */
static struct server_call *next_queued(struct rpc_server *s, struct server_call *done)
{
	struct server_call *c = NULL;

	pthread_mutex_lock(&s->lock);
	done->next = s->spare;
	s->spare = done;
	if (s->first) {
		c = dequeue(s);
	} else {
		s->running--;
		s->waiting++;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return c;
}

static void run_calls(struct rpc_server *s, struct server_call *c)
{
	while (c) {
		server_call_begin(c);
		rpc_dispatch(s, c);
		server_call_end(c);
		c = next_queued(s, c);
	}
}

static void door_closed(struct rpc_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->closed_doors++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void server_retired(struct rpc_server *s, struct retired_server *r)
{
	struct retired_server **p = &s->retired;

	pthread_mutex_lock(&s->lock);
	while (*p != r) {
		p = &(*p)->next;
	}
	*p = r->next;
	pthread_mutex_unlock(&s->lock);
	grpc_library.grpc_server_destroy(r->grpc);
	free(r);
	pthread_mutex_lock(&s->lock);
	s->retired_count--;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void *work(void *context)
{
	struct rpc_server *s = context;

	for (;;) {
		grpc_event e = grpc_library.grpc_completion_queue_next(
			s->arrivals, grpc_library_deadline(0), NULL);

		if (e.type != GRPC_OP_COMPLETE) {
			return NULL;
		}
		struct server_tag *tag = e.tag;

		if (!tag->call && tag->event == SERVER_RETIRED) {
			server_retired(s, container_of(tag, struct retired_server, closed));
		} else if (!tag->call) {
			door_closed(s);
		} else if (!e.success) {
			retire(s, tag->call);
		} else if (take(s, tag->call)) {
			run_calls(s, tag->call);
		}
	}
}

void rpc_workers_replace(struct rpc_server *s, struct server_door *door, grpc_server *grpc)
{
	struct retired_server *r = xcalloc(1, sizeof(*r));

	r->closed = (struct server_tag){.event = SERVER_RETIRED};
	pthread_mutex_lock(&s->lock);
	r->grpc = door->grpc;
	door->grpc = grpc;
	r->next = s->retired;
	s->retired = r;
	s->retired_count++;
	for (size_t n = 0; n < ARMED; n++) {
		arm(s, door);
	}
	grpc_library.grpc_server_shutdown_and_notify(r->grpc, s->arrivals, &r->closed);
	pthread_mutex_unlock(&s->lock);
}

int rpc_workers_start(struct rpc_server *s, struct error *err)
{
	/* One more than run: it waits. */
	s->threads = xcalloc(s->options.threads + (size_t)1, sizeof(*s->threads));
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->door_count; i++) {
		for (size_t n = 0; n < ARMED; n++) {
			arm(s, &s->doors[i]);
		}
	}
	int rc = add_thread(s);

	pthread_mutex_unlock(&s->lock);
	return rc ? error_set_errno(err, rc, "cannot start a thread") : 0;
}

void rpc_workers_end(struct rpc_server *s)
{
	for (size_t i = 0; i < s->thread_count; i++) {
		pthread_join(s->threads[i], NULL);
	}
	free(s->threads);
	while (s->spare) {
		struct server_call *c = s->spare;

		s->spare = c->next;
		server_call_free(c);
	}
}
