#pragma once

/*
 * Small objects on their way to a peer: putting one takes no round trip. They are sent by a few
 * threads, many in one call, and what the peer has is not sent. Until they have arrived they
 * are found here. Shared and thread-safe.
 *
 * Order: a Directory is sent when the blobs that were put before it have arrived, and after the
 * Directories that were put before it. So with a peer that answers when things are durable, who
 * sees a Directory finds what it refers to, if it was put children first.
 *
 * A failure is that of everything that was waiting, which is given up. It is told by each put
 * after it, until a sync has told it.
 */

#include "rpc/peer.h"
#include "services/object_table.h"

/* Larger ones are sent by themselves. */
#define OUTBOX_OBJECT_MAX ((size_t)1 << 20)

enum outbox_kind { OUTBOX_BLOBS, OUTBOX_DIRECTORIES, OUTBOX_KIND_COUNT };

struct outbox;

/* bytes_max: of objects that wait; who puts more waits too. The peer outlives it. */
struct outbox *outbox_new(struct peer *peer, size_t bytes_max);
/* Gives up what has not been sent. */
void outbox_free(struct outbox *o);

/* Copies. The digest is that of the content. */
int outbox_put(struct outbox *o, enum outbox_kind kind, const struct digest *digest,
	       struct bytes content, struct error *err);
/* A reference, or NULL. */
struct object *outbox_find(struct outbox *o, enum outbox_kind kind,
			   const struct digest *digest);
/* All that was put before is with the peer, durable, when this returns 0. */
int outbox_sync(struct outbox *o, struct error *err);
