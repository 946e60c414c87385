#pragma once

/*
 * Gets what will be asked for soon to where it is at hand, in the background, when a store
 * keeps copies of what comes from a peer: the directories of a tree when somebody looks into it
 * first, or also its files. How it goes is told to nobody; what could not be had is asked for
 * again by whoever needs it.
 */

#include "services/store.h"

enum prefetch_mode { PREFETCH_DIRECTORIES, PREFETCH_ALL, PREFETCH_NONE };

struct prefetch;

/*
 * The store is borrowed. whole: a tree of which all that is touched is a part; NULL: each is a
 * tree of its own. NULL when there is nothing to do: by the mode, or for this store.
 */
struct prefetch *prefetch_new(struct store *store, enum prefetch_mode mode,
			      const struct digest *whole);
/* Gives up what is under way, once it has come to its end or its timeout. NULL is allowed. */
void prefetch_free(struct prefetch *p);

/* Somebody looks into this tree. Returns at once; any thread. The context is a struct prefetch.
 */
void prefetch_touch(void *context, const struct digest *directory);
