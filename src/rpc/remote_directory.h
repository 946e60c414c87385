#pragma once

/* Directories as a peer gives them: checked, and made canonical where they are not. */

#include "castore/directory.h"
#include "rpc/peer.h"

/* Asker. A reference for the caller. */
int remote_directory_get(struct peer *p, const struct digest *digest, struct directory **out,
			 struct error *err);
/*
 * Asker: the closure below a root, as the peer streams it, root first. Each Directory is
 * referred to by one before it, else ERROR_CORRUPT. take (which borrows) returns 0, or 1 when
 * it has enough, or a failure. A closure that is not complete is ERROR_UNAVAILABLE, unless take
 * had enough.
 */
typedef int (*remote_directory_take)(void *context, struct directory *d, struct error *err);
int remote_directory_get_closure(struct peer *p, const struct digest *root,
				 remote_directory_take take, void *context, struct error *err);
