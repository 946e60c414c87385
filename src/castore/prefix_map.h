#pragma once

/*
 * A hash table from digests to 64-bit values that are not 0, for tables of many millions of
 * digests: only their first 16 bytes are kept, so it is for accounting, not for deciding what
 * may be deleted. (Two digests that begin alike are not found by chance, and hardly on
 * purpose.) About 36 bytes an entry, 45 at worst. Belongs to one thread at a time.
 */

#include "castore/digest.h"

#define PREFIX_MAP_SEGMENTS 256

struct prefix_map_slot;

/* Each grows on its own, so that the map is never there twice. */
struct prefix_map_segment {
	struct prefix_map_slot *slots;
	uint32_t capacity;
	uint32_t count;
};

/* Zeroed is empty. */
struct prefix_map {
	struct prefix_map_segment segments[PREFIX_MAP_SEGMENTS];
};

void prefix_map_done(struct prefix_map *m);
/* The value's place, or NULL. Valid until the next put. */
uint64_t *prefix_map_get(const struct prefix_map *m, const struct digest *key);
/*
 * The value's place; of a key that is new it is 0, and has to be given another value. NULL: the
 * machine has no memory for more.
 */
uint64_t *prefix_map_put(struct prefix_map *m, const struct digest *key);
