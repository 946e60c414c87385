#pragma once

/*
 * A hash table of entries by key that knows which was asked for last: the part that is common
 * to everything here that keeps a bounded amount. Entries are embedded in what their owner
 * keeps, and owned by it, with their keys. Not thread-safe. Zeroed is empty.
 */

#include "base/bytes.h"
#include "base/util.h"

struct lru_entry {
	struct bytes key; /* set by the owner, there as long as the entry is in a map */
	size_t cost;      /* set by the owner: what this entry counts */
	uint64_t hash;
	struct lru_entry *next_in_bucket;
	struct lru_entry *newer, *older;
};

struct lru_map {
	struct lru_entry **buckets;
	size_t bucket_count; /* 0 or a power of two */
	size_t count;
	size_t cost; /* of all entries */
	struct lru_entry *newest, *oldest;
};

/* The map must be empty. */
void lru_map_done(struct lru_map *m);
/* NULL when there is none; else it is the newest from now on. */
struct lru_entry *lru_map_get(struct lru_map *m, struct bytes key);
/* The key must not be there. The entry is the newest. */
void lru_map_add(struct lru_map *m, struct lru_entry *e);
void lru_map_remove(struct lru_map *m, struct lru_entry *e);
