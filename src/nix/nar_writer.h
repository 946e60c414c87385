#pragma once

/*
 * Writes the NAR of a node whose Directories and blobs are in a store. Contents are read ahead
 * and checked by other threads while the NAR is taken by its sink, in a few MiB of memory
 * whatever is written. Something that the store lacks is ERROR_UNAVAILABLE, a blob of another
 * size than its Directory says ERROR_CORRUPT; what the sink has by then is of no use.
 */

#include "nix/hash.h"
#include "nix/nar.h"
#include "services/store.h"

/* The NAR of a node. options may be NULL. */
int nar_write(struct store *store, const struct node *node, struct nar_sink *sink,
	      const struct nar_options *options, struct error *err);
/* The same to a descriptor; a pipe is made larger. */
int nar_write_fd(struct store *store, const struct node *node, int fd,
		 const struct nar_options *options, struct error *err);

/*
 * Size and SHA-256 of a node's NAR. With also (may be NULL), that sink sees the NAR too, beside
 * the hashing: what a reference scan wants.
 */
int nar_hash(struct store *store, const struct node *node, struct nar_sink *also,
	     const struct nar_options *options, uint64_t *size, uint8_t sha256[SHA256_SIZE],
	     struct error *err);
