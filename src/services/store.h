#pragma once

/*
 * A store: the services that one address stands for. Addresses:
 *   memory://        lives as long as the process
 *   file:///path     the local store (services/local)
 * A plain absolute or relative path (one with a '/' or starting with '.') is short for file://.
 */

#include "services/blob_service.h"
#include "services/directory_service.h"
#include "services/root_nodes.h"
#include "services/seen_cache.h"

struct store {
	struct blob_service *blobs;
	struct directory_service *directories;
	struct root_nodes *roots;
	struct seen_cache *seen; /* NULL when the store keeps none */
};

enum store_open_flags {
	STORE_CREATE = 1,    /* make the store when there is none */
	STORE_READ_ONLY = 2, /* writing is ERROR_DENIED; works on a read-only disk */
};

/*
 * Opens what an address stands for. Unknown schemes and parameters are ERROR_INVALID, listing
 * the valid ones. store_close() ends it.
 */
int store_open(struct store *out, const char *address, unsigned flags, struct error *err);
/* Drops the references; the services live on where others hold them. Zeroed stores are allowed.
 */
void store_close(struct store *s);

/* Everything put before is durable and visible to all when this returns. */
int store_sync(struct store *s, struct error *err);

struct store_rebuilt {
	uint64_t blobs;
	uint64_t directories;
	uint64_t roots;
	uint64_t damaged_bytes; /* passed over: what a crash left, and what no longer checks */
};

/*
 * Makes the index of a local store again, from its packs and files alone; the old one, if there
 * is one, is replaced when the new one is complete. ERROR_UNAVAILABLE while anybody uses the
 * store.
 */
int store_rebuild(const char *address, struct store_rebuilt *out, struct error *err);
