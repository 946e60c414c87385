#include "services/lru_map.h"

#include <assert.h>

#define BUCKETS_MIN ((size_t)64)

/* FNV-1a: keys are short, and most are digests or hashes themselves. */
static uint64_t hash_of(struct bytes key)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < key.len; i++) {
		h = (h ^ key.ptr[i]) * 0x100000001b3u;
	}
	return h;
}

void lru_map_done(struct lru_map *m)
{
	assert(m->count == 0);
	free(m->buckets);
	*m = (struct lru_map){0};
}

static struct lru_entry **bucket_of(struct lru_map *m, uint64_t hash)
{
	return &m->buckets[hash & (m->bucket_count - 1)];
}

static void link_newest(struct lru_map *m, struct lru_entry *e)
{
	e->newer = NULL;
	e->older = m->newest;
	*(m->newest ? &m->newest->newer : &m->oldest) = e;
	m->newest = e;
}

static void unlink_age(struct lru_map *m, struct lru_entry *e)
{
	*(e->newer ? &e->newer->older : &m->newest) = e->older;
	*(e->older ? &e->older->newer : &m->oldest) = e->newer;
}

struct lru_entry *lru_map_get(struct lru_map *m, struct bytes key)
{
	uint64_t hash = hash_of(key);
	struct lru_entry *e = m->bucket_count ? *bucket_of(m, hash) : NULL;

	while (e && (e->hash != hash || !bytes_equal(e->key, key))) {
		e = e->next_in_bucket;
	}
	if (e) {
		unlink_age(m, e);
		link_newest(m, e);
	}
	return e;
}

static void grow(struct lru_map *m)
{
	free(m->buckets);
	m->bucket_count = MAX(m->bucket_count * 2, BUCKETS_MIN);
	m->buckets = xcalloc(m->bucket_count, sizeof(*m->buckets));
	for (struct lru_entry *e = m->oldest; e; e = e->newer) {
		struct lru_entry **bucket = bucket_of(m, e->hash);

		e->next_in_bucket = *bucket;
		*bucket = e;
	}
}

void lru_map_add(struct lru_map *m, struct lru_entry *e)
{
	if (m->count == m->bucket_count) {
		grow(m);
	}
	e->hash = hash_of(e->key);
	struct lru_entry **bucket = bucket_of(m, e->hash);

	e->next_in_bucket = *bucket;
	*bucket = e;
	link_newest(m, e);
	m->count++;
	m->cost += e->cost;
}

void lru_map_remove(struct lru_map *m, struct lru_entry *e)
{
	struct lru_entry **at = bucket_of(m, e->hash);

	while (*at != e) {
		at = &(*at)->next_in_bucket;
	}
	*at = e->next_in_bucket;
	unlink_age(m, e);
	m->count--;
	m->cost -= e->cost;
}
