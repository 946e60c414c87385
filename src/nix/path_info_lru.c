/* The path infos used last, in memory, before another service. */

#include <pthread.h>

#include "nix/path_info_service.h"

/* An info with more references is asked for each time: `count` says what is held, about. */
#define REFERENCES_KEPT ((size_t)1024)
#define BUCKETS_MAX ((size_t)1 << 20)

struct entry {
	struct path_info info;
	struct entry *next_in_bucket;
	struct entry *newer, *older;
};

struct path_info_lru {
	struct path_info_service base;
	struct path_info_service *inner; /* a reference */
	pthread_mutex_t lock;            /* guards all below; not held while inner works */
	struct entry **buckets;
	size_t bucket_count; /* a power of two */
	size_t count, capacity;
	struct entry *newest, *oldest;
	uint64_t changes; /* a get that began before one must not be remembered */
};

static struct path_info_lru *lru_of(struct path_info_service *s)
{
	return container_of(s, struct path_info_lru, base);
}

/* The place of an entry in its bucket's list, or the NULL at its end. Hashes are uniform. */
static struct entry **place_of(struct path_info_lru *l,
			       const uint8_t hash[STORE_PATH_HASH_SIZE])
{
	size_t n = (size_t)hash[0] | (size_t)hash[1] << 8 | (size_t)hash[2] << 16;
	struct entry **at = &l->buckets[n & (l->bucket_count - 1)];

	while (*at && memcmp((*at)->info.path.hash, hash, STORE_PATH_HASH_SIZE) != 0) {
		at = &(*at)->next_in_bucket;
	}
	return at;
}

static void unlink_locked(struct path_info_lru *l, struct entry *e)
{
	*(e->newer ? &e->newer->older : &l->newest) = e->older;
	*(e->older ? &e->older->newer : &l->oldest) = e->newer;
}

static void link_newest_locked(struct path_info_lru *l, struct entry *e)
{
	e->newer = NULL;
	e->older = l->newest;
	*(l->newest ? &l->newest->newer : &l->oldest) = e;
	l->newest = e;
}

static void forget_locked(struct path_info_lru *l, const uint8_t hash[STORE_PATH_HASH_SIZE])
{
	struct entry **at = place_of(l, hash), *e = *at;

	if (e) {
		*at = e->next_in_bucket;
		unlink_locked(l, e);
		l->count--;
		path_info_done(&e->info);
		free(e);
	}
}

static void remember_locked(struct path_info_lru *l, const struct path_info *info)
{
	struct entry **at = place_of(l, info->path.hash);

	if (*at) {
		return;
	}
	struct entry *e = xcalloc(1, sizeof(*e));

	path_info_copy(&e->info, info);
	*at = e;
	link_newest_locked(l, e);
	if (++l->count > l->capacity) {
		forget_locked(l, l->oldest->info.path.hash);
	}
}

static void lru_destroy(struct path_info_service *s)
{
	struct path_info_lru *l = lru_of(s);

	while (l->oldest) {
		forget_locked(l, l->oldest->info.path.hash);
	}
	path_info_service_unref(l->inner);
	pthread_mutex_destroy(&l->lock);
	free(l->buckets);
	free(l);
}

/* True when it was there; else *changes says up to when. */
static bool recall(struct path_info_lru *l, const uint8_t hash[STORE_PATH_HASH_SIZE],
		   struct path_info *out, uint64_t *changes)
{
	pthread_mutex_lock(&l->lock);
	struct entry *e = *place_of(l, hash);

	if (e) {
		unlink_locked(l, e);
		link_newest_locked(l, e);
		path_info_copy(out, &e->info);
	}
	*changes = l->changes;
	pthread_mutex_unlock(&l->lock);
	return e;
}

static int lru_get(struct path_info_service *s, const uint8_t hash[STORE_PATH_HASH_SIZE],
		   struct path_info *out, struct error *err)
{
	struct path_info_lru *l = lru_of(s);
	uint64_t changes;

	if (recall(l, hash, out, &changes)) {
		return 1;
	}
	int rc = path_info_service_get(l->inner, hash, out, err);

	if (rc > 0 && out->reference_count <= REFERENCES_KEPT) {
		pthread_mutex_lock(&l->lock);
		if (l->changes == changes) {
			remember_locked(l, out);
		}
		pthread_mutex_unlock(&l->lock);
	}
	return rc;
}

/* After a change below: a failed one may have come through as well. */
static void forget(struct path_info_lru *l, const uint8_t hash[STORE_PATH_HASH_SIZE])
{
	pthread_mutex_lock(&l->lock);
	l->changes++;
	forget_locked(l, hash);
	pthread_mutex_unlock(&l->lock);
}

static int lru_put(struct path_info_service *s, const struct path_info *infos, size_t count,
		   struct path_info *out, struct error *err)
{
	struct path_info_lru *l = lru_of(s);
	int rc = out ? path_info_service_put(l->inner, infos, out, err)
		     : path_info_service_put_many(l->inner, infos, count, err);

	for (size_t i = 0; i < count; i++) {
		forget(l, infos[i].path.hash);
	}
	return rc;
}

static int lru_list(struct path_info_service *s, const uint8_t *after, path_info_visit visit,
		    void *context, struct error *err)
{
	return path_info_service_list(lru_of(s)->inner, after, visit, context, err);
}

static int lru_remove(struct path_info_service *s, const struct store_path *paths, size_t count,
		      size_t *removed, struct error *err)
{
	struct path_info_lru *l = lru_of(s);
	int rc = path_info_service_remove_many(l->inner, paths, count, removed, err);

	for (size_t i = 0; i < count; i++) {
		forget(l, paths[i].hash);
	}
	return rc;
}

static const struct path_info_service_ops lru_ops = {
	.name = "lru",
	.destroy = lru_destroy,
	.get = lru_get,
	.put = lru_put,
	.list = lru_list,
	.remove = lru_remove,
};

struct path_info_service *path_info_lru_new(struct path_info_service *inner, size_t count)
{
	struct path_info_lru *l = xcalloc(1, sizeof(*l));

	path_info_service_init(&l->base, &lru_ops);
	l->inner = path_info_service_ref(inner);
	l->base.is_local = path_info_service_is_local(inner);
	pthread_mutex_init(&l->lock, NULL);
	l->capacity = MAX(count, (size_t)1);
	l->bucket_count = 1;
	while (l->bucket_count < l->capacity && l->bucket_count < BUCKETS_MAX) {
		l->bucket_count *= 2;
	}
	l->buckets = xcalloc(l->bucket_count, sizeof(*l->buckets));
	return &l->base;
}
