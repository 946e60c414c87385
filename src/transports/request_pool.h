#pragma once

/*
 * Threads for requests that have to wait for a disk or a peer, while the thread that takes
 * requests in goes on. Threads are started when they are needed first, and each has its own
 * room for a reply.
 *
 * A peer may be slow, or gone, and a thread that waits for it is lost to all others until a
 * timeout. So every job is tried without a peer first, and threads that wait for one do not
 * count among those for the rest: however many jobs wait for a peer, what is on this machine is
 * answered. Only so many wait at the same time; the others stand in a queue of their own.
 */

#include "fs/fs.h"

#define REQUEST_POOL_THREADS_MAX 64u
/* That wait for a peer at the same time, beside the threads for the rest. */
#define REQUEST_POOL_PEERS_MAX 64u

struct request_pool;

/* The head of what is to be done; the rest is its owner's. */
struct request_job {
	/* Set by the owner. */
	uint64_t unique; /* of the request */
	uint32_t pid;    /* who waits for it */

	/* The pool's. */
	struct request_job *next, *previous;
	bool interrupted;
	bool abandoned; /* somebody else has answered */
};

/* Called by threads of the pool. */
struct request_pool_ops {
	/* fs_handle() with these flags: FS_LOCAL or 0. */
	enum fs_outcome (*handle)(void *context, struct request_job *job, unsigned flags,
				  struct fs_reply *reply);
	/*
	 * Ends the job. FS_NO_REPLY: nothing is to be sent. job->abandoned: its request has
	 * been answered by release, and what the reply says must be taken back.
	 */
	void (*finish)(void *context, struct request_job *job, enum fs_outcome outcome,
		       struct fs_reply *reply);
	/* Answers a request with EINTR. By the thread that calls request_pool_release_dying().
	 */
	void (*release)(void *context, uint64_t unique);
};

/* Enough threads to keep a slow store busy. */
unsigned request_pool_default_threads(void);

/*
 * At most so many threads beside those that wait for a peer; with 0, put always declines. ops
 * and context are borrowed.
 */
struct request_pool *request_pool_new(unsigned threads, const struct request_pool_ops *ops,
				      void *context);
/*
 * Waits until all jobs are done; those that stand in the queue for peers are ended with
 * FS_NO_REPLY. NULL is allowed.
 */
void request_pool_free(struct request_pool *p);

/*
 * Hands a job over. False when the pool has enough to do, or no threads: the job is still the
 * caller's. at_peer: it is known to need a peer, of which many more jobs may wait. By one
 * thread only.
 */
bool request_pool_put(struct request_pool *p, struct request_job *job, bool at_peer);

/*
 * The process that waits for this request got a signal, which may or may not end it. Nothing
 * happens when the pool has no such job.
 */
void request_pool_interrupt(struct request_pool *p, uint64_t unique);
/* True when there are jobs that request_pool_release_dying() is about. */
bool request_pool_has_interrupted(struct request_pool *p);
/*
 * A process that is being killed cannot die before its request is answered. Looks whether that
 * is so for the interrupted jobs, and lets go of those: ops->release. The kernel says once that
 * there was a signal, which may have been a harmless one: so this is to be called now and then
 * while there are such jobs.
 */
void request_pool_release_dying(struct request_pool *p);

/* Room for the data of any reply. False without memory. */
bool request_reply_init(struct fs_reply *reply);
/* The same for a thread that reads ahead when it is idle. */
bool request_reply_init_ahead(struct fs_reply *reply, struct fs *fs);
void request_reply_done(struct fs_reply *reply);

/* A request that makes others wait noticeably, even if it has not to wait itself. */
bool request_is_large_read(struct bytes request);
