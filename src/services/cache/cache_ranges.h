#pragma once

/* Large blobs of a cache, by parts. */

#include "services/cache/cache_internal.h"

/* Asker: the size that far says; remembered. */
int cache_far_size(struct cache *c, const struct digest *digest, uint64_t *size,
		   struct error *err);
/* True when it is known, without asking far, that a blob is large. */
bool cache_ranges_known(struct cache *c, const struct digest *digest);
/* Asker: a part that came before. */
int cache_ranges_recall(struct cache *c, const struct digest *digest, uint64_t offset,
			void *buf, size_t len, size_t *got);
/* Asker, of far. What comes is kept, and goes to near when it is all of the blob. */
int cache_ranges_read(struct cache *c, const struct digest *digest, uint64_t offset, void *buf,
		      size_t len, size_t *got, struct error *err);
/* Asker: keeps what the first question for a large blob brought, its beginning. */
int cache_ranges_keep_start(struct cache *c, const struct digest *digest, struct bytes start,
			    struct error *err);
