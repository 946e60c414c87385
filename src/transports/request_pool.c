#include "transports/request_pool.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

#define DEFAULT_THREADS_MAX 15
/* Jobs that wait; beyond that whoever has one does the work itself. */
#define QUEUE_MAX 1024u
/* A read of more than this makes others wait noticeably. */
#define LARGE_READ 65536u

struct worker {
	pthread_t thread;
	struct request_pool *pool;
	struct fs_reply reply;
};

struct request_pool {
	request_pool_answer answer;
	void *context;
	unsigned limit;
	/* These two belong to the thread that puts. */
	unsigned started;
	struct worker *workers[REQUEST_POOL_THREADS_MAX];

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct request_job *first;
	struct request_job **last;
	unsigned queued;
	unsigned idle; /* threads that wait for a job */
	bool closing;  /* threads end when the queue is empty */
};

unsigned request_pool_default_threads(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus > 2 ? (unsigned)MIN(cpus, (long)DEFAULT_THREADS_MAX) : 2;
}

/* Pages that are never touched cost nothing, so every thread may have room for any reply. */
bool request_reply_init(struct fs_reply *reply)
{
	void *p = mmap(NULL, FS_DATA_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED) {
		return false;
	}
	reply->data = p;
	reply->data_capacity = FS_DATA_MAX;
	return true;
}

void request_reply_done(struct fs_reply *reply)
{
	if (reply->data) {
		munmap(reply->data, FS_DATA_MAX);
		reply->data = NULL;
	}
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

struct request_pool *request_pool_new(unsigned threads, request_pool_answer answer,
				      void *context)
{
	struct request_pool *p = xcalloc(1, sizeof(*p));

	p->answer = answer;
	p->context = context;
	p->limit = MIN(threads, REQUEST_POOL_THREADS_MAX);
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	return p;
}

static void worker_free(struct worker *w)
{
	request_reply_done(&w->reply);
	free(w);
}

void request_pool_free(struct request_pool *p)
{
	if (!p) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->started; i++) {
		pthread_join(p->workers[i]->thread, NULL);
		worker_free(p->workers[i]);
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Waits for a job; NULL at the end. */
static struct request_job *take(struct request_pool *p)
{
	pthread_mutex_lock(&p->lock);
	while (!p->first && !p->closing) {
		p->idle++;
		pthread_cond_wait(&p->wake, &p->lock);
		p->idle--;
	}
	struct request_job *job = p->first;

	if (job) {
		p->first = job->next;
		p->queued--;
		if (!p->first) {
			p->last = &p->first;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return job;
}

static void *worker_main(void *context)
{
	struct worker *w = context;
	struct request_job *job;

	while ((job = take(w->pool))) {
		w->pool->answer(w->pool->context, job, &w->reply);
	}
	return NULL;
}

/*
 * Signals are for the program's own threads; but a fault of this thread blocked would end the
 * process, whoever could deal with it.
 */
static int start_thread(struct worker *w)
{
	sigset_t set;
	sigset_t old;

	sigfillset(&set);
	sigdelset(&set, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	int rc = pthread_create(&w->thread, NULL, worker_main, w);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static void add_worker(struct request_pool *p)
{
	struct worker *w = xcalloc(1, sizeof(*w));

	w->pool = p;
	if (!request_reply_init(&w->reply) || start_thread(w) != 0) {
		log_warning("only %u of %u threads could be started", p->started, p->limit);
		p->limit = p->started;
		worker_free(w);
		return;
	}
	p->workers[p->started++] = w;
}

bool request_pool_put(struct request_pool *p, struct request_job *job)
{
	pthread_mutex_lock(&p->lock);
	bool more = p->queued >= p->idle;

	pthread_mutex_unlock(&p->lock);
	if (more && p->started < p->limit) {
		add_worker(p);
	}
	if (p->started == 0) {
		return false;
	}
	pthread_mutex_lock(&p->lock);
	bool room = p->queued < QUEUE_MAX;

	if (room) {
		job->next = NULL;
		*p->last = job;
		p->last = &job->next;
		p->queued++;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	return room;
}
