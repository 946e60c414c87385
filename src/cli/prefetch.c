#include "cli/prefetch.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "base/thread.h"
#include "castore/digest_map.h"
#include "ingest/transfer.h"

struct prefetch {
	struct store *store;
	enum prefetch_mode mode;
	const struct digest *whole;
	atomic_bool cancel;
	pthread_t thread;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	bool started;
	struct digest_map touched;
	struct digest *queue;
	size_t first, count, capacity;
};

struct prefetch *prefetch_new(struct store *store, enum prefetch_mode mode,
			      const struct digest *whole)
{
	if (mode == PREFETCH_NONE || !directory_service_fetches(store->directories)) {
		return NULL;
	}
	struct prefetch *p = xcalloc(1, sizeof(*p));

	p->store = store;
	p->mode = mode;
	p->whole = whole;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	return p;
}

void prefetch_free(struct prefetch *p)
{
	if (!p) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->cancel, true);
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	if (p->started) {
		pthread_join(p->thread, NULL);
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	digest_map_done(&p->touched);
	free(p->queue);
	free(p);
}

/* Nothing is copied: reading is what makes a store keep it. */
static int read_tree(struct prefetch *p, const struct digest *root, struct error *err)
{
	const struct transfer_options options = {.cancel = &p->cancel};
	struct transfer *t cleanup(cleanup_transfer) = transfer_new(p->store, NULL, &options);
	const struct node node = {.kind = NODE_DIRECTORY, .digest = *root};
	int rc = transfer_add(t, &node, err);

	return rc < 0 ? rc : transfer_settle(t, err);
}

/* Whoever asks for a whole closure has it fetched together. */
static int gather(struct prefetch *p, const struct digest *root, struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;

	return directory_service_get_recursive(p->store->directories, root, &walk, err);
}

static void fetch(struct prefetch *p, const struct digest *root)
{
	struct error err;

	directory_service_prefetch(p->store->directories, root);
	int rc = p->mode == PREFETCH_ALL ? read_tree(p, root, &err) : gather(p, root, &err);

	if (rc < 0 && !atomic_load(&p->cancel)) {
		log_info("cannot fetch the tree %s ahead: %s", digest_text(root), err.text);
	}
}

/* Asker: the next tree; 0 at the end. */
static int take(struct prefetch *p, struct digest *root)
{
	pthread_mutex_lock(&p->lock);
	while (p->first == p->count && !atomic_load(&p->cancel)) {
		pthread_cond_wait(&p->wake, &p->lock);
	}
	int found = !atomic_load(&p->cancel);

	if (found) {
		*root = p->queue[p->first++];
	}
	pthread_mutex_unlock(&p->lock);
	return found;
}

static void *prefetch_main(void *context)
{
	struct prefetch *p = context;
	struct digest root;

	while (take(p, &root)) {
		fetch(p, &root);
	}
	return NULL;
}

void prefetch_touch(void *context, const struct digest *directory)
{
	struct prefetch *p = context;
	const struct digest *root = p->whole ? p->whole : directory;

	pthread_mutex_lock(&p->lock);
	if (digest_map_put(&p->touched, root, 0)) {
		if (p->count == p->capacity) {
			p->capacity = MAX(p->capacity * 2, (size_t)16);
			p->queue = xrealloc(p->queue, p->capacity * sizeof(*p->queue));
		}
		p->queue[p->count++] = *root;
		p->started = p->started || thread_start(&p->thread, 0, prefetch_main, p) == 0;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
}
