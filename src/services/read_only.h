#pragma once

/* A store before another one that refuses to write: ERROR_DENIED. */

#include "services/store.h"

/* Takes references to the services of inner. */
void read_only_store(struct store *out, const struct store *inner);
