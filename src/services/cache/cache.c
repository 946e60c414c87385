#include "services/cache/cache.h"

#include <stdatomic.h>

#include "base/log.h"
#include "services/cache/cache_internal.h"
#include "services/fallback.h"

/* In memory; an eighth of it is the largest object that is kept there. */
#define RECENT_BYTES ((size_t)32 << 20)
/* Near is synced after so many bytes, which recent still has by then. */
#define SYNC_BYTES ((uint64_t)8 << 20)

struct cache *cache_ref(struct cache *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

static void cache_free(struct cache *c)
{
	struct error err;

	background_cancel(c->fetcher);
	background_finish(c->keeper);
	if (c->unsynced && store_sync(&c->near, &err) < 0) {
		cache_near_failed(c, &err);
	}
	range_store_free(c->ranges);
	object_lru_unref(c->recent);
	single_flight_done(&c->flights);
	digest_map_done(&c->roots);
	pthread_mutex_destroy(&c->roots_lock);
	pthread_mutex_destroy(&c->names_lock);
	store_close(&c->near);
	store_close(&c->far);
	free(c);
}

void cache_unref(struct cache *c)
{
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
		cache_free(c);
	}
}

struct cache_key cache_key_of(enum cache_key_kind kind, struct bytes name)
{
	struct cache_key key = {.bytes = {(uint8_t)kind}, .len = 1 + name.len};

	memcpy(key.bytes + 1, name.ptr, name.len);
	return key;
}

void cache_near_failed(struct cache *c, const struct error *err)
{
	if (!atomic_exchange(&c->near_failed, true)) {
		log_warning("the near store of a cache fails, going on without: %s", err->text);
	}
}

void cache_near_unread(struct cache *c unused, const struct error *err)
{
	if (err->code != ERROR_WOULD_BLOCK) {
		log_warning("the near store of a cache cannot read, asking the far one: %s",
			    err->text);
	}
}

struct sync_job {
	struct background_job job;
	struct cache *cache; /* borrowed: it outlives its threads */
};

static void free_sync(struct background_job *j)
{
	free(container_of(j, struct sync_job, job));
}

static void run_sync(struct background_job *j, struct background *b unused)
{
	struct cache *c = container_of(j, struct sync_job, job)->cache;
	struct error err;

	if (store_sync(&c->near, &err) < 0) {
		cache_near_failed(c, &err);
	}
	free_sync(j);
}

void cache_near_has(struct cache *c, uint64_t bytes)
{
	/* Directories and records of a few bytes count as what they cost. */
	uint64_t counted = bytes + 256;
	uint64_t before = atomic_fetch_add(&c->unsynced, counted);

	atomic_store(&c->near_failed, false);
	if (before + counted < SYNC_BYTES) {
		return;
	}
	/* One of those who are beyond the bound begins anew, and has it synced. */
	if (atomic_exchange(&c->unsynced, 0) >= SYNC_BYTES) {
		struct sync_job *s = xcalloc(1, sizeof(*s));

		s->job.run = run_sync;
		s->job.free = free_sync;
		s->cache = c;
		background_add(c->keeper, &s->job);
	}
}

int cache_find_missing(struct cache *c, const struct cache_questions *q,
		       const struct digest *digests, size_t count, bool *missing,
		       struct error *err)
{
	struct digest *left cleanup(cleanup_free) = xcalloc(count, sizeof(*left));
	bool *answers cleanup(cleanup_free) = xcalloc(count, sizeof(*answers));
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		missing[i] = !q->near_has(c, &digests[i]);
		if (missing[i]) {
			left[n++] = digests[i];
		}
	}
	int rc = n ? q->far_missing(c, left, n, answers, err) : 0;

	for (size_t i = 0, k = 0; rc == 0 && i < count; i++) {
		missing[i] = missing[i] && answers[k++];
	}
	return rc;
}

int cache_store(struct store *out, const struct store *near, const struct store *far,
		const struct cache_options *options, struct error *err)
{
	struct range_store *ranges;
	int rc = range_store_new(options->folder, options->ranges_max, &ranges, err);

	if (rc < 0) {
		return rc;
	}
	struct cache *c = xcalloc(1, sizeof(*c));

	atomic_init(&c->refs, 1);
	store_ref(&c->near, near);
	store_ref(&c->far, far);
	c->whole_max = options->whole_max;
	c->ranges = ranges;
	c->recent = object_lru_new(RECENT_BYTES);
	c->keeper = background_new();
	c->fetcher = background_new();
	single_flight_init(&c->flights);
	pthread_mutex_init(&c->names_lock, NULL);
	pthread_mutex_init(&c->roots_lock, NULL);
	*out = (struct store){
		.blobs = cache_blobs_new(c),
		.directories = cache_directories_new(c),
		.roots = cache_roots_new(c),
		.path_infos = cache_records_new(c),
		.seen = far->seen,
	};
	out->stager = fallback_stager_new(far, 1, out);
	cache_unref(c);
	return 0;
}
