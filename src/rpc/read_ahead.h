#pragma once

/*
 * Parts of a blob, fetched ahead of who reads it in a row by threads of their own, so that the
 * peer, the way from there and the reader are at work at the same time. No more is fetched than
 * READ_AHEAD_PARTS before the reader comes along, and that is the memory it takes. Belongs to
 * one thread.
 */

#include "base/bytes.h"
#include "base/error.h"

#define READ_AHEAD_PART ((size_t)2 << 20)
#define READ_AHEAD_PARTS 4
#define READ_AHEAD_THREADS 2

struct read_ahead_source {
	/* Fills buf with the bytes from there on, checked; in any thread, several at once. */
	int (*fetch)(void *context, uint64_t offset, uint8_t *buf, size_t len,
		     struct error *err);
	/* All that runs, or is begun later, fails soon. Any thread. */
	void (*stop)(void *context);
	void *context;
};

struct read_ahead;

/* Of the bytes from start to end. NULL when there is no memory, or no thread, for it. */
struct read_ahead *read_ahead_new(const struct read_ahead_source *source, uint64_t start,
				  uint64_t end);
/*
 * Asker: the next bytes in a row, borrowed until the next call here; 0 at the end. What was
 * fetched before a failure comes before it; after it, nothing does.
 */
int read_ahead_next(struct read_ahead *a, struct bytes *out, struct error *err);
/* At any time: stops what is on its way. NULL is allowed. */
void read_ahead_free(struct read_ahead *a);
