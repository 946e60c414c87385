#pragma once

/*
 * Carries requests from an open /dev/fuse to a file system, and the replies back.
 *
 * One reader answers at once whatever needs no waiting: waking another thread costs more than
 * most answers. What would wait for a disk or a peer goes to a pool, and so does a large read
 * while other requests are waiting.
 */

#include "base/error.h"
#include "fs/fs.h"
#include "transports/cpu_latency.h"

#define FUSE_DEV_THREADS_MAX 64u

struct fuse_dev;

/*
 * Takes over fd. fs is borrowed. threads, the reader among them: 1 answers everything in the
 * reader; 0: enough to keep a slow store busy.
 */
int fuse_dev_new(int fd, struct fs *fs, unsigned threads, struct fuse_dev **out,
		 struct error *err);
/* Closes the descriptor, which ends the connection if it still lives. Not while run. */
void fuse_dev_free(struct fuse_dev *d);

/* It stays d's. */
int fuse_dev_descriptor(const struct fuse_dev *d);

/* Before run. Without it processors sleep whenever they are idle. */
void fuse_dev_set_cpu_latency(struct fuse_dev *d, enum cpu_latency_policy policy);

/* Before the handshake, or fs_resume(): lets the file system pass files through
 * (fuse_backing.h). */
void fuse_dev_offer_passthrough(struct fuse_dev *d);

/* Answers until a session has begun. The kernel sends INIT as soon as there is a mount. */
int fuse_dev_handshake(struct fuse_dev *d, struct error *err);

/*
 * Asks for what a server before this one had taken and not answered. 1, or 0: the mount has
 * ended. Before run; the session has been resumed (fs_resume).
 */
int fuse_dev_ask_again(struct fuse_dev *d, struct error *err);

/*
 * Answers until the file system is unmounted or fuse_dev_stop() was called, and until what the
 * pool has is answered too. Makes this thread the reader.
 */
int fuse_dev_run(struct fuse_dev *d, struct error *err);

/*
 * Makes run return although the connection lives on, and returns when it no longer reads. Any
 * thread but the reader, once run was called or will be called soon. Uses SIGURG.
 */
void fuse_dev_stop(struct fuse_dev *d);
