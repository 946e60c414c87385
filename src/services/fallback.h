#pragma once

/*
 * Several stores in an order: what one does not have, the next is asked for. What one cannot
 * say, the next may; but as long as one could not be asked, what nobody has is an error, not
 * absent. Of names and records, those of earlier stores hide those of later ones.
 *
 * Puts go to the first store that can be written to, and so do removals of records; a name is
 * removed wherever it can be.
 */

#include "services/store.h"

#define FALLBACK_STORES_MAX ((size_t)16)

/* Takes references to the services of 1 to FALLBACK_STORES_MAX stores. */
void fallback_store(struct store *out, const struct store *stores, size_t count);
/*
 * Staged stores of one (below) that is composed of others: what is put goes to a staged store
 * of the first of those that can have one, and what that does not have is read from below.
 * Takes references. NULL when nothing can ever be staged.
 */
struct stager *fallback_stager_new(const struct store *stores, size_t count,
				   const struct store *below);
