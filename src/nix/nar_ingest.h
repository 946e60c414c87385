#pragma once

/*
 * NARs into a store: the tree that a NAR holds, as if the tree itself had been imported. Its
 * size and SHA-256 are found on the way. Several threads hash and store while the calling one
 * reads; the memory is a few MiB, and what the Directories that are open have so far.
 */

#include "nix/hash.h"
#include "nix/nar.h"
#include "services/store.h"

/* Entries of Directories that are open, in bytes: ERROR_LIMIT above. */
#define NAR_OPEN_ENTRIES_MAX ((size_t)1 << 30)

struct nar_read {
	struct root_node node;
	uint64_t size;
	uint8_t sha256[SHA256_SIZE];
};

/*
 * Puts what a NAR holds into the store: strict as nar_reader.h, exactly one NAR up to the end
 * of the source. Nothing gets a name: the caller compares the hash first, then puts the root or
 * calls store_sync(). After an error there may be objects that nothing refers to; a caller that
 * wants none gives a staged store. out is zeroed or holds an earlier result; options may be
 * NULL.
 */
int nar_ingest(struct store *store, struct nar_source *source,
	       const struct nar_options *options, struct nar_read *out, struct error *err);
