#pragma once

/*
 * A store before another one that keeps in memory what was read last: small blobs, Directories
 * and records, together up to a bound of bytes. Names are always asked for.
 *
 * A record is seen as it was when it was read until this store changes it, also when others
 * have changed it since.
 */

#include "services/store.h"

/* Takes references to the services of inner. */
void lru_store(struct store *out, const struct store *inner, size_t bytes_max);
