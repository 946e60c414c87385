#pragma once

/* Which of many objects a peer does not have. */

#include "rpc/messages.h"
#include "rpc/peer.h"

/* Of a cairn (ERROR_UNSUPPORTED from others): a round trip for 16384 digests. */
int find_missing(struct peer *p, enum find_missing_kind kind, const struct digest *digests,
		 size_t count, bool *missing, struct error *err);
/* Blobs, of any peer but a cairn: a question for each, many at the same time. */
int find_missing_blobs(struct peer *p, const struct digest *digests, size_t count,
		       bool *missing, struct error *err);
