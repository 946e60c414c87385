#include "transports/request_pool.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/proc.h"
#include "base/thread.h"
#include "fs/ahead.h"

#define DEFAULT_THREADS_MAX 15
/* Jobs that wait for a thread; beyond that whoever has one does the work itself. */
#define QUEUE_MAX 1024u
/* Jobs that wait for their turn at a peer. */
#define PEER_QUEUE_MAX 65536u
/* A read of more than this makes others wait noticeably. */
#define LARGE_READ 65536u

struct worker {
	pthread_t thread;
	struct request_pool *pool;
	struct fs_reply reply;
};

struct job_list {
	struct request_job *first, *last;
	unsigned count;
};

struct request_pool {
	const struct request_pool_ops *ops;
	void *context;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	unsigned limit; /* threads that do not wait for peers */
	unsigned started;
	struct worker *workers[REQUEST_POOL_THREADS_MAX + REQUEST_POOL_PEERS_MAX];
	struct job_list queue; /* to be tried without a peer */
	struct job_list peer_queue;
	struct job_list running;
	unsigned idle;        /* threads that wait for a job */
	unsigned at_peers;    /* threads that wait for a peer */
	unsigned interrupted; /* jobs */
	bool closing;         /* threads end when there is nothing to do */
};

/* ---- Lists ---- */

static void list_append(struct job_list *l, struct request_job *job)
{
	job->next = NULL;
	job->previous = l->last;
	*(l->last ? &l->last->next : &l->first) = job;
	l->last = job;
	l->count++;
}

static void list_remove(struct job_list *l, struct request_job *job)
{
	*(job->previous ? &job->previous->next : &l->first) = job->next;
	*(job->next ? &job->next->previous : &l->last) = job->previous;
	l->count--;
}

static struct request_job *list_find(const struct job_list *l, uint64_t unique)
{
	struct request_job *job = l->first;

	while (job && job->unique != unique) {
		job = job->next;
	}
	return job;
}

unsigned request_pool_default_threads(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus > 2 ? (unsigned)MIN(cpus, (long)DEFAULT_THREADS_MAX) : 2;
}

/* Pages that are never touched cost nothing, so every thread may have room for any reply. */
static void *room_new(void)
{
	void *p = mmap(NULL, FS_DATA_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void room_free(void *p)
{
	if (p) {
		munmap(p, FS_DATA_MAX);
	}
}

bool request_reply_init(struct fs_reply *reply)
{
	reply->data = room_new();
	reply->data_capacity = FS_DATA_MAX;
	return reply->data != NULL;
}

bool request_reply_init_ahead(struct fs_reply *reply, struct fs *fs)
{
	void *room = request_reply_init(reply) ? room_new() : NULL;

	reply->ahead = room ? fs_ahead_new(fs, room) : NULL;
	return room != NULL;
}

void request_reply_done(struct fs_reply *reply)
{
	room_free(fs_ahead_free(reply->ahead));
	room_free(reply->data);
	reply->ahead = NULL;
	reply->data = NULL;
}

bool request_is_large_read(struct bytes request)
{
	struct fuse_in_header header;
	struct fuse_read_in in;

	if (request.len < sizeof(header) + sizeof(in)) {
		return false;
	}
	memcpy(&header, request.ptr, sizeof(header));
	memcpy(&in, request.ptr + sizeof(header), sizeof(in));
	return header.opcode == FUSE_READ && in.size > LARGE_READ;
}

struct request_pool *request_pool_new(unsigned threads, const struct request_pool_ops *ops,
				      void *context)
{
	struct request_pool *p = xcalloc(1, sizeof(*p));

	p->ops = ops;
	p->context = context;
	p->limit = MIN(threads, REQUEST_POOL_THREADS_MAX);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	return p;
}

static void worker_free(struct worker *w)
{
	request_reply_done(&w->reply);
	free(w);
}

/* The next worker that has to be waited for, or NULL. */
static struct worker *worker_at(struct request_pool *p, unsigned i)
{
	pthread_mutex_lock(&p->lock);
	struct worker *w = i < p->started ? p->workers[i] : NULL;

	pthread_mutex_unlock(&p->lock);
	return w;
}

void request_pool_free(struct request_pool *p)
{
	struct worker *w;

	if (!p) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; (w = worker_at(p, i)); i++) {
		pthread_join(w->thread, NULL);
		worker_free(w);
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* ---- Threads ---- */

static void *worker_main(void *context);

/* With the lock, which is no trouble: it happens a few times in the life of a pool. */
static void add_worker(struct request_pool *p)
{
	struct worker *w = xcalloc(1, sizeof(*w));

	w->pool = p;
	if (!request_reply_init(&w->reply) ||
	    thread_start(&w->thread, 0, worker_main, w) != 0) {
		log_warning("only %u threads could be started", p->started);
		p->limit = MIN(p->limit, p->started);
		worker_free(w);
		return;
	}
	p->workers[p->started++] = w;
}

/* There is a job more: a thread more for it, if there are too few. */
static void add_worker_if_needed(struct request_pool *p)
{
	unsigned waiting = p->queue.count + p->peer_queue.count;
	unsigned peers = MIN(p->at_peers + p->peer_queue.count, REQUEST_POOL_PEERS_MAX);

	if (waiting > p->idle && p->started < p->limit + peers && !p->closing) {
		add_worker(p);
	}
}

/* Its next job, with the lock: first of the queue that it comes from. */
static struct request_job *take(struct request_pool *p, unsigned *flags)
{
	bool peers_first = *flags == 0;

	for (;;) {
		bool peer = p->peer_queue.first && p->at_peers < REQUEST_POOL_PEERS_MAX;
		struct job_list *l =
			peer && (peers_first || !p->queue.first) ? &p->peer_queue : &p->queue;
		struct request_job *job = l->first;

		if (job) {
			*flags = l == &p->queue ? FS_LOCAL : 0;
			list_remove(l, job);
			list_append(&p->running, job);
			return job;
		}
		if (p->closing) {
			return NULL;
		}
		p->idle++;
		pthread_cond_wait(&p->wake, &p->lock);
		p->idle--;
	}
}

/* With the lock, which is given away meanwhile. */
static void finish(struct request_pool *p, struct request_job *job, enum fs_outcome outcome,
		   struct fs_reply *reply)
{
	list_remove(&p->running, job);
	p->interrupted -= job->interrupted;
	pthread_mutex_unlock(&p->lock);
	p->ops->finish(p->context, job, outcome, reply);
	pthread_mutex_lock(&p->lock);
}

static enum fs_outcome handle(struct request_pool *p, struct request_job *job, unsigned flags,
			      struct fs_reply *reply)
{
	pthread_mutex_unlock(&p->lock);
	enum fs_outcome outcome = p->ops->handle(p->context, job, flags, reply);

	pthread_mutex_lock(&p->lock);
	return outcome;
}

/* Waits for a peer, unless enough do: then the job is put back, for one of those. */
static void run_at_peer(struct request_pool *p, struct request_job *job, struct fs_reply *reply)
{
	if (p->closing) {
		finish(p, job, FS_NO_REPLY, reply);
		return;
	}
	if (p->at_peers == REQUEST_POOL_PEERS_MAX) {
		list_remove(&p->running, job);
		list_append(&p->peer_queue, job);
		return;
	}
	p->at_peers++;
	/* What else is in the queue may have counted on this thread. */
	add_worker_if_needed(p);
	enum fs_outcome outcome = handle(p, job, 0, reply);

	p->at_peers--;
	finish(p, job, outcome, reply);
}

static void *worker_main(void *context)
{
	struct worker *w = context;
	struct request_pool *p = w->pool;
	unsigned flags = FS_LOCAL;
	struct request_job *job;

	pthread_mutex_lock(&p->lock);
	while ((job = take(p, &flags))) {
		enum fs_outcome outcome = flags ? handle(p, job, flags, &w->reply) : FS_BLOCKED;

		if (outcome == FS_BLOCKED) {
			run_at_peer(p, job, &w->reply);
			flags = 0;
		} else {
			finish(p, job, outcome, &w->reply);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

bool request_pool_put(struct request_pool *p, struct request_job *job, bool at_peer)
{
	struct job_list *l = at_peer ? &p->peer_queue : &p->queue;

	job->interrupted = false;
	job->abandoned = false;
	pthread_mutex_lock(&p->lock);
	bool room = p->limit > 0 && l->count < (at_peer ? PEER_QUEUE_MAX : QUEUE_MAX);

	if (room) {
		list_append(l, job);
		add_worker_if_needed(p);
		room = p->started > 0;
	}
	if (room) {
		pthread_cond_signal(&p->wake);
	} else if (l->last == job) {
		list_remove(l, job);
	}
	pthread_mutex_unlock(&p->lock);
	return room;
}

/* ---- Interrupts ---- */

struct waiting {
	uint64_t unique;
	uint32_t pid;
};

static struct request_job *find(struct request_pool *p, uint64_t unique, struct job_list **in)
{
	struct job_list *const lists[] = {&p->running, &p->queue, &p->peer_queue};
	struct request_job *job = NULL;

	for (size_t i = 0; !job && i < ARRAY_SIZE(lists); i++) {
		*in = lists[i];
		job = list_find(lists[i], unique);
	}
	return job;
}

void request_pool_interrupt(struct request_pool *p, uint64_t unique)
{
	struct job_list *l;

	pthread_mutex_lock(&p->lock);
	struct request_job *job = find(p, unique, &l);

	if (job && !job->interrupted) {
		job->interrupted = true;
		p->interrupted++;
	}
	pthread_mutex_unlock(&p->lock);
}

bool request_pool_has_interrupted(struct request_pool *p)
{
	pthread_mutex_lock(&p->lock);
	bool any = p->interrupted > 0;

	pthread_mutex_unlock(&p->lock);
	return any;
}

static void collect(const struct job_list *l, struct waiting *out, size_t *count)
{
	for (const struct request_job *job = l->first; job; job = job->next) {
		if (job->interrupted && !job->abandoned) {
			out[(*count)++] =
				(struct waiting){.unique = job->unique, .pid = job->pid};
		}
	}
}

/* A copy: /proc is not read with the lock. */
static struct waiting *collect_interrupted(struct request_pool *p, size_t *count)
{
	*count = 0;
	pthread_mutex_lock(&p->lock);
	struct waiting *all = xcalloc(p->interrupted + 1, sizeof(*all));

	collect(&p->running, all, count);
	collect(&p->queue, all, count);
	collect(&p->peer_queue, all, count);
	pthread_mutex_unlock(&p->lock);
	return all;
}

/* False when the request has been answered meanwhile. */
static bool abandon(struct request_pool *p, uint64_t unique, struct request_job **unstarted)
{
	struct job_list *l;

	*unstarted = NULL;
	pthread_mutex_lock(&p->lock);
	struct request_job *job = find(p, unique, &l);

	if (job) {
		job->abandoned = true;
		p->interrupted--;
		job->interrupted = false;
	}
	if (job && l != &p->running) {
		list_remove(l, job);
		*unstarted = job;
	}
	pthread_mutex_unlock(&p->lock);
	return job != NULL;
}

void request_pool_release_dying(struct request_pool *p)
{
	size_t count;
	struct waiting *all cleanup(cleanup_free) = collect_interrupted(p, &count);
	struct request_job *unstarted;

	for (size_t i = 0; i < count; i++) {
		if (!proc_is_dying(all[i].pid) || !abandon(p, all[i].unique, &unstarted)) {
			continue;
		}
		p->ops->release(p->context, all[i].unique);
		if (unstarted) {
			p->ops->finish(p->context, unstarted, FS_NO_REPLY, NULL);
		}
	}
}
