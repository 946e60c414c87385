#include "ingest/work.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "base/bytes.h"
#include "base/thread.h"

#define PATH_TEXT_MAX 240
/* As many as a disk gains from; each costs some MiB. */
#define THREADS_FOR_DISK 12

struct work {
	const struct work_options *options;
	atomic_bool failed;

	pthread_mutex_t lock;     /* guards all below and the second half of every work_dir */
	unsigned threads_max;     /* grows while threads wait for a disk */
	pthread_cond_t more;      /* there are pieces, or nothing will come any more */
	struct work_dir *ready;   /* with pieces to take, the newest first */
	struct work_dir *waiting; /* without, but something of them is unfinished */
	unsigned idle;
	bool done;
	struct error error; /* of the first failure */
	pthread_t threads[WORK_THREADS_MAX];
	unsigned thread_count; /* without the calling one */
};

static void *worker_main(void *arg);

static void list_remove(struct work_dir *d)
{
	*d->link = d->next;
	if (d->next) {
		d->next->link = d->link;
	}
}

static void list_insert(struct work_dir **head, struct work_dir *d)
{
	d->next = *head;
	d->link = head;
	if (d->next) {
		d->next->link = &d->next;
	}
	*head = d;
}

/* A directory without items has one piece of none, so that somebody finishes it. */
static bool has_pieces(const struct work_dir *d)
{
	return d->taken < MAX(d->count, 1) || d->deferred_count;
}

/* Pieces to take, roughly: how many threads the directory could employ. */
static size_t count_pieces(const struct work_dir *d)
{
	size_t small = d->taken < d->small ? d->small - d->taken : 0;
	size_t single = d->count ? d->count - MAX(d->taken, d->small) : 1;

	return (small + WORK_PIECE - 1) / WORK_PIECE + single + d->deferred_count;
}

static bool canceled(const struct work *w)
{
	return w->options->cancel &&
	       atomic_load_explicit(w->options->cancel, memory_order_relaxed);
}

bool work_stopping(const struct work *w)
{
	return atomic_load_explicit(&w->failed, memory_order_relaxed) || canceled(w);
}

int work_stop(struct error *err)
{
	return error_set(err, ERROR_CANCELED, "interrupted");
}

/* Gets up to n more threads going. Lock held. */
static void wake(struct work *w, size_t n)
{
	if (w->done || atomic_load(&w->failed)) {
		return;
	}
	for (size_t i = 0; i < MIN(n, w->idle); i++) {
		pthread_cond_signal(&w->more);
	}
	/* One new thread at a time: it wakes the next when it finds more to do. */
	if (n > w->idle && w->thread_count + 1 < w->threads_max &&
	    thread_start(&w->threads[w->thread_count], 0, worker_main, w) == 0) {
		w->thread_count++;
	}
}

void work_push(struct work *w, struct work_dir *child)
{
	pthread_mutex_lock(&w->lock);
	if (child->parent) {
		child->parent->children++;
	}
	list_insert(&w->ready, child);
	size_t pieces = count_pieces(child);

	if (pieces > 1) {
		wake(w, pieces - 1);
	}
	pthread_mutex_unlock(&w->lock);
}

void work_defer(struct work *w, struct work_dir *d, size_t item)
{
	pthread_mutex_lock(&w->lock);
	if (d->deferred_count == d->deferred_capacity) {
		d->deferred_capacity = MAX(16, d->deferred_capacity * 2);
		d->deferred =
			xrealloc(d->deferred, d->deferred_capacity * sizeof(d->deferred[0]));
	}
	if (!has_pieces(d)) {
		list_remove(d);
		list_insert(&w->ready, d);
	}
	d->deferred[d->deferred_count++] = item;
	wake(w, 1);
	pthread_mutex_unlock(&w->lock);
}

/* Lock held. */
static void fail(struct work *w, const struct error *err)
{
	if (!atomic_load(&w->failed)) {
		w->error = *err;
		atomic_store(&w->failed, true);
	}
	pthread_cond_broadcast(&w->more);
}

/* The next piece of a directory that has some. Lock held. */
static struct work_span next_span(struct work *w, struct work_dir *d)
{
	struct work_span span = {.count = 1, .alone = true};

	if (!d->count) {
		span.count = 0;
		d->taken = 1;
	} else if (d->taken < d->small) {
		span.first = d->taken;
		span.count = MIN(d->small - d->taken, WORK_PIECE);
		span.alone = false;
		d->taken += span.count;
	} else if (d->deferred_count) {
		span.first = d->deferred[--d->deferred_count];
	} else {
		span.first = d->taken++;
	}
	d->running++;
	if (!has_pieces(d)) {
		list_remove(d);
		list_insert(&w->waiting, d);
	}
	return span;
}

/* Lock held, but not meanwhile. */
static void flush(struct work *w, void *worker)
{
	struct error err;

	pthread_mutex_unlock(&w->lock);
	int r = w->options->ops->flush(w, worker, &err);

	pthread_mutex_lock(&w->lock);
	if (r < 0) {
		fail(w, &err);
	}
}

/* Waits for a piece; NULL when there will be none. Lock held. */
static struct work_dir *take(struct work *w, void *worker, struct work_span *span)
{
	bool flushed = !w->options->ops->flush;

	for (;;) {
		if (canceled(w)) {
			struct error err;

			work_stop(&err);
			fail(w, &err);
		}
		if (w->done || atomic_load(&w->failed)) {
			return NULL;
		}
		struct work_dir *d = w->ready;

		if (d) {
			*span = next_span(w, d);
			return d;
		}
		if (!flushed) {
			flush(w, worker);
			flushed = true;
			continue;
		}
		w->idle++;
		pthread_cond_wait(&w->more, &w->lock);
		w->idle--;
	}
}

/* Lock held, but not meanwhile. */
static void drain(struct work *w, struct work_dir *d)
{
	d->drained = true;
	/* So that nobody else finishes it. */
	d->running++;
	pthread_mutex_unlock(&w->lock);
	w->options->ops->drained(d);
	pthread_mutex_lock(&w->lock);
	d->running--;
}

/* Finishes d and every directory above that waited for nothing else. Lock held. */
static void settle(struct work *w, void *worker, struct work_dir *d)
{
	const struct work_ops *ops = w->options->ops;

	while (!has_pieces(d) && !d->running) {
		if (d->children && !d->drained) {
			drain(w, d);
			continue;
		}
		if (d->children || atomic_load(&w->failed)) {
			return;
		}
		list_remove(d);
		pthread_mutex_unlock(&w->lock);

		struct work_dir *parent = d->parent;
		struct error err;
		int r = ops->finish(worker, d, &err);

		free(d->deferred);
		ops->free(d);
		pthread_mutex_lock(&w->lock);
		if (r < 0) {
			fail(w, &err);
			return;
		}
		if (!parent) {
			w->done = true;
			pthread_cond_broadcast(&w->more);
			return;
		}
		parent->children--;
		d = parent;
	}
}

void work_hold(struct work *w, struct work_dir *d)
{
	pthread_mutex_lock(&w->lock);
	d->running++;
	pthread_mutex_unlock(&w->lock);
}

void work_release(struct work *w, void *worker, struct work_dir *d)
{
	pthread_mutex_lock(&w->lock);
	d->running--;
	settle(w, worker, d);
	pthread_mutex_unlock(&w->lock);
}

/* Blocks that the calling thread had a disk, or a server, read. */
static long blocks_read(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_inblock : 0;
}

static void *worker_main(void *arg)
{
	struct work *w = arg;
	const struct work_ops *ops = w->options->ops;
	void *worker = ops->worker_new(w->options->context);
	long blocks = blocks_read();
	struct work_span span;
	struct work_dir *d;

	pthread_mutex_lock(&w->lock);
	while ((d = take(w, worker, &span))) {
		if (w->ready) {
			wake(w, count_pieces(w->ready));
		}
		pthread_mutex_unlock(&w->lock);

		struct error err;
		int r = ops->run(w, worker, d, span, &err);
		long before = blocks;

		blocks = blocks_read();
		pthread_mutex_lock(&w->lock);
		if (blocks > before && !w->options->threads &&
		    w->threads_max < THREADS_FOR_DISK) {
			w->threads_max++;
		}
		d->running--;
		if (r < 0) {
			fail(w, &err);
		} else {
			settle(w, worker, d);
		}
	}
	pthread_mutex_unlock(&w->lock);
	ops->worker_free(worker);
	return NULL;
}

static unsigned choose_threads(unsigned wanted)
{
	cpu_set_t set;

	if (!wanted) {
		wanted = sched_getaffinity(0, sizeof(set), &set) == 0
				 ? (unsigned)CPU_COUNT(&set)
				 : 1;
	}
	return MAX(1, MIN(wanted, WORK_THREADS_MAX));
}

static void free_all(struct work *w, struct work_dir *list)
{
	while (list) {
		struct work_dir *d = list;

		list = d->next;
		free(d->deferred);
		w->options->ops->free(d);
	}
}

int work_run(const struct work_options *options, struct work_dir *root, struct error *err)
{
	struct work w = {
		.options = options,
		.threads_max = choose_threads(options->threads),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.more = PTHREAD_COND_INITIALIZER,
	};

	work_push(&w, root);
	worker_main(&w);
	/* No thread is started any more: what the caller saw, done or failed, stops that. */
	for (unsigned i = 0; i < w.thread_count; i++) {
		pthread_join(w.threads[i], NULL);
	}
	free_all(&w, w.ready);
	free_all(&w, w.waiting);
	if (!atomic_load(&w.failed)) {
		return 0;
	}
	if (err) {
		*err = w.error;
	}
	return -(int)w.error.code;
}

/* Copies s to just before at; with a slash between the two unless at ends the text. */
static char *prepend(char *at, const char *end, const char *s, size_t len)
{
	if (at < end && !(len && s[len - 1] == '/')) {
		*--at = '/';
	}
	return memcpy(at - len, s, len);
}

const char *work_path_text(const char *root_path, const struct work_dir *d, const char *name)
{
	size_t root_len = strlen(root_path), len = name ? strlen(name) + 1 : 0;

	while (root_len > 1 && root_path[root_len - 1] == '/') {
		root_len--;
	}
	for (const struct work_dir *up = d; up && up->parent; up = up->parent) {
		len += strlen(up->name) + 1;
	}
	len += root_len;
	char *text cleanup(cleanup_free) = xmalloc(len + 1);
	char *end = text + len, *at = end;

	if (name) {
		at = prepend(at, end, name, strlen(name));
	}
	for (; d && d->parent; d = d->parent) {
		at = prepend(at, end, d->name, strlen(d->name));
	}
	at = prepend(at, end, root_path, root_len);
	if (end - at > PATH_TEXT_MAX) {
		at = memcpy(end - PATH_TEXT_MAX, "...", 3);
	}
	return bytes_printable(bytes_of(at, (size_t)(end - at)));
}
