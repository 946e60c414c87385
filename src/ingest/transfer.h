#pragma once

/*
 * Transfer: trees from one store to another, only what is missing there.
 *
 * Blobs go first, many at the same time, then Directories, leaves to root: whoever finds a
 * Directory at the destination finds what it refers to, also when a transfer ends half-way.
 * What has arrived by then is not sent again by the next one.
 *
 * Nothing is taken on trust: every object of a tree is asked for at the destination. That a
 * Directory is there does not prove that all below it is, for a store takes objects in any
 * order, and may have lost some. Names do vouch for what they stand for, if they are given by
 * those who keep this order; whether to rely on that is the caller's business.
 *
 * All bytes are checked on the way: what the source gives, against its digest; what the
 * destination has made of a large blob, by the digest that it found. Belongs to one thread.
 */

#include <stdatomic.h>

#include "services/store.h"

#define TRANSFER_JOBS_MAX 16

/* Counted while it runs; any thread may read them for a display. */
struct transfer_stats {
	_Atomic uint64_t objects; /* copied: blobs and Directories */
	_Atomic uint64_t bytes;   /* of those */
	_Atomic uint64_t present; /* objects that were there */
};

struct transfer_options {
	unsigned jobs;             /* that copy at the same time; 0: default */
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
	struct transfer_stats *stats;
};

struct transfer;

/*
 * The stores are borrowed. Without a destination (NULL), what is not at hand at the source is
 * only read: a store that keeps copies of what comes from a peer has them then.
 */
struct transfer *transfer_new(struct store *from, struct store *to,
			      const struct transfer_options *options);
/* What was added since the last settling may be at the destination, or parts of it. */
void transfer_free(struct transfer *t);
DEFINE_CLEANUP(cleanup_transfer, struct transfer *, transfer_free)

/*
 * Begins with a tree: walks it, while its blobs are copied. ERROR_NOT_FOUND for what the source
 * does not have. After an error, only transfer_free.
 */
int transfer_add(struct transfer *t, const struct node *node, struct error *err);
/*
 * All that was added is at the destination, durably, when this returns 0: names may be given.
 * More may be added then.
 */
int transfer_settle(struct transfer *t, struct error *err);
