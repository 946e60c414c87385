#pragma once

/*
 * Memory that is given back all at once, of no more than a stated size: for what a decoder of
 * outside input makes in many pieces. One thread at a time.
 */

#include <stddef.h>

struct arena_block;

/* A value; {.limit = N} is an empty one. */
struct arena {
	size_t limit; /* bytes that it may take from the machine */
	size_t taken;
	struct arena_block *blocks;
};

void arena_done(struct arena *a);
/* Aligned for everything. NULL when the limit is reached or the machine has no memory. */
void *arena_alloc(struct arena *a, size_t size);
