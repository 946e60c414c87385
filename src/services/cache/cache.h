#pragma once

/*
 * A store of two: a far one, which has everything, and a near one, which gets what was asked
 * for and gives it from then on.
 *
 * Reading asks near, then far. What many threads want at once is fetched once, and a failure of
 * that fetch is theirs too. Blobs of at most whole_max bytes are fetched whole and go to near;
 * of larger ones, the parts that are read, which wait in a file of ranges until the blob is
 * complete and goes to near (range_store.h). Records go near as they were found; names are
 * asked of far each time, and near answers for a far that cannot be reached.
 *
 * Far counts: what it fails to say is an error, never absent, and a put is done when far has
 * it. Near is a convenience: what it fails to do is logged, and done without. What is damaged
 * there is replaced.
 */

#include "services/store.h"

#define CACHE_WHOLE_DEFAULT ((uint64_t)1 << 20)
#define CACHE_WHOLE_MIN ((uint64_t)64 << 10)
#define CACHE_WHOLE_MAX ((uint64_t)4 << 20)
#define CACHE_RANGES_DEFAULT ((uint64_t)1 << 30)
/* Without a folder for them, ranges are in memory. */
#define CACHE_RANGES_MEMORY_DEFAULT ((uint64_t)64 << 20)
#define CACHE_RANGES_MAX ((uint64_t)1 << 44)

struct cache_options {
	uint64_t whole_max;  /* a blob of so many bytes is fetched whole */
	uint64_t ranges_max; /* bytes of ranges that wait; 0: none do */
	const char *folder;  /* where the file of ranges is, which has no name; NULL: memory */
};

/* Takes references to the services of both. */
int cache_store(struct store *out, const struct store *near, const struct store *far,
		const struct cache_options *options, struct error *err);
