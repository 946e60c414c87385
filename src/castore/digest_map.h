#pragma once

/*
 * A hash table from digests to 64-bit values. Digests are uniform, so their first bytes are the
 * hash; open addressing, about 60 bytes an entry at worst. Belongs to one thread at a time.
 */

#include "castore/digest.h"

struct digest_map {
	struct digest_map_slot *slots;
	size_t capacity; /* 0 or a power of two */
	size_t count;
};

struct digest_map_slot {
	struct digest key;
	uint64_t value;
	bool used;
};

void digest_map_done(struct digest_map *m);
/* The value's place, or NULL. Valid until the next put. */
uint64_t *digest_map_get(const struct digest_map *m, const struct digest *key);
/* True when the key is new; otherwise its value is left as it was. */
bool digest_map_put(struct digest_map *m, const struct digest *key, uint64_t value);
