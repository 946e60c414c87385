#pragma once

/*
 * Threads for requests that have to wait for a disk or a peer, while the thread that takes
 * requests in goes on. Threads are started when they are needed first, and each has its own
 * room for a reply.
 */

#include "fs/fs.h"

#define REQUEST_POOL_THREADS_MAX 64u

struct request_pool;

/* The head of what is to be done; the rest is its owner's. */
struct request_job {
	struct request_job *next;
};

/* Called by a thread of the pool; ends the job. */
typedef void (*request_pool_answer)(void *context, struct request_job *job,
				    struct fs_reply *reply);

/* Enough threads to keep a slow store busy. */
unsigned request_pool_default_threads(void);

/* At most so many threads; with 0, put always declines. context is borrowed. */
struct request_pool *request_pool_new(unsigned threads, request_pool_answer answer,
				      void *context);
/* Waits until all jobs are done. NULL is allowed. */
void request_pool_free(struct request_pool *p);

/*
 * Hands a job over. False when the pool has enough to do, or no threads: the job is still the
 * caller's. By one thread only.
 */
bool request_pool_put(struct request_pool *p, struct request_job *job);

/* Room for the data of any reply. False without memory. */
bool request_reply_init(struct fs_reply *reply);
void request_reply_done(struct fs_reply *reply);

/* A request that makes others wait noticeably, even if it has not to wait itself. */
bool request_is_large_read(struct bytes request);
