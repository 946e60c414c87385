#pragma once

/*
 * A tree worked on by several threads: what import and export have in common.
 *
 * A directory has items. The first `small` of them are taken in order and in pieces of up to
 * WORK_PIECE (files: neighbours stay neighbours), the others one by one (subdirectories). The
 * next piece always comes from the newest directory that has any left, so what is pending stays
 * near the length of the way down, however large the tree is. Threads are started only when
 * there are pieces for them.
 *
 * The first failure stops all threads as soon as they have looked at work_stopping().
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"

#define WORK_PIECE 64
#define WORK_THREADS_MAX 16

struct work;

/* Embedded at the start of the owner's directory. */
struct work_dir {
	/* Set by the owner before the directory is pushed, constant from then on. */
	struct work_dir *parent; /* NULL for the root */
	const char *name;        /* in the parent */
	size_t count;
	size_t small;

	/* For work.c, guarded by its lock. */
	struct work_dir *next;
	struct work_dir **link;
	size_t taken;
	size_t running;
	size_t children;
	bool drained;
	size_t *deferred;
	size_t deferred_count;
	size_t deferred_capacity;
};

struct work_span {
	size_t first;
	size_t count;
	bool alone; /* not one of a piece: an item that takes long is done now, not deferred */
};

struct work_ops {
	/* What a thread needs for itself. */
	void *(*worker_new)(void *context);
	void (*worker_free)(void *worker);
	/* Works on items; may push children and defer items. Called by many threads at once. */
	int (*run)(struct work *w, void *worker, struct work_dir *d, struct work_span span,
		   struct error *err);
	/*
	 * There is nothing to take now: what the thread has held back is to be done. May be
	 * NULL.
	 */
	int (*flush)(struct work *w, void *worker, struct error *err);
	/* All items are done, but not all children, which need nothing of it but its name. */
	void (*drained)(struct work_dir *d);
	/* All items and all children are done. */
	int (*finish)(void *worker, struct work_dir *d, struct error *err);
	/* After finish, or in any state after a failure. */
	void (*free)(struct work_dir *d);
};

struct work_options {
	const struct work_ops *ops;
	void *context;
	/*
	 * At most WORK_THREADS_MAX. 0: one for each CPU; and while there are fewer than a disk
	 * gains from, one more for each piece that had one read something.
	 */
	unsigned threads;
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
};

/* Takes over root. The calling thread is one of the workers. */
int work_run(const struct work_options *options, struct work_dir *root, struct error *err);

/* From run: takes over a child of a directory that is being run. */
void work_push(struct work *w, struct work_dir *child);
/* From run: the item shall come again later, alone, so that its neighbours do not wait. */
void work_defer(struct work *w, struct work_dir *d, size_t item);
/*
 * From run: something of the directory is held back by this thread, and is done when the thread
 * releases it, which may finish the directory. After a failure nothing has to be released.
 */
void work_hold(struct work *w, struct work_dir *d);
void work_release(struct work *w, void *worker, struct work_dir *d);
/* True when the work is to be given up; run then returns work_stop(). */
bool work_stopping(const struct work *w);
int work_stop(struct error *err);

/*
 * The path of a directory (or, with a name, of something in it) below the path of the root, for
 * messages: as bytes_printable(). A long one loses its beginning, for the end tells more.
 */
const char *work_path_text(const char *root_path, const struct work_dir *d, const char *name);
