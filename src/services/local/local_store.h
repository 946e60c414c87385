#pragma once

/*
 * file://: the local store. One directory, readable and writable by many processes at once.
 * docs/store-format.md has the exact bytes.
 */

#include "services/store.h"

int local_store_open(struct store *out, const char *path, unsigned flags, struct error *err);

/*
 * Rebuilds the index of a store from its packs and files alone. No other process may use the
 * store meanwhile (ERROR_UNAVAILABLE when one does).
 */
struct local_store_rebuilt {
	uint64_t blobs;
	uint64_t directories;
	uint64_t roots;
	uint64_t damaged_bytes; /* of packs, passed over */
};
int local_store_rebuild(const char *path, struct local_store_rebuilt *out, struct error *err);
