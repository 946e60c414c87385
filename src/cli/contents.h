#pragma once

/* The contents of files of a store, from their beginning to their end. */

#include "services/store.h"

typedef int (*contents_take)(void *context, struct bytes piece, struct error *err);
/*
 * Gives what the file holds in pieces, each borrowed for the call; a failing take ends it. The
 * blob must be there and as long as the node says.
 */
int contents_read(struct store *store, const struct node *file, contents_take take,
		  void *context, struct error *err);
