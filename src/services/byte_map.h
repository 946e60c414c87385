#pragma once

/*
 * A map from byte strings to byte strings, in the order of its keys. Owns both. Not
 * thread-safe. A sorted array: made for thousands of entries. Zeroed is empty.
 */

#include "base/bytes.h"

struct byte_map_entry {
	struct bytes key;
	struct bytes value;
};

struct byte_map {
	struct byte_map_entry *entries; /* by key, in the order of bytes_compare */
	size_t count;
	size_t capacity;
};

void byte_map_done(struct byte_map *m);
/* True and the index of a key, or where it would be. */
bool byte_map_find(const struct byte_map *m, struct bytes key, size_t *at);
/* The first entry greater than a key, NULL when there is none; valid until the next change. */
const struct byte_map_entry *byte_map_after(const struct byte_map *m, struct bytes key);
/* Copies both; replaces the value of a key that is there. False when there is no memory. */
bool byte_map_put(struct byte_map *m, struct bytes key, struct bytes value);
/* Moves all entries of from, which is empty then; they replace those with their keys. */
void byte_map_merge(struct byte_map *m, struct byte_map *from);
/* False when there is no such key. */
bool byte_map_remove(struct byte_map *m, struct bytes key);
