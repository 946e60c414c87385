#pragma once

/* Sending many objects to a peer, in as few calls as it offers. */

#include "rpc/peer.h"
#include "services/object_table.h"

struct upload {
	struct digest digest;
	struct object *object; /* borrowed */
};

/* Those that the peer does not have. All are durable there when these return 0. */
int upload_blobs(struct peer *p, const struct upload *list, size_t count, struct error *err);
/*
 * Children before those that refer to them. A peer that is no cairn wants each closure whole:
 * what of it is not in the list is fetched from the peer again.
 */
int upload_directories(struct peer *p, const struct upload *list, size_t count,
		       struct error *err);
