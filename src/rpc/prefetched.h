#pragma once

/*
 * Directories that came together with others, for those who will ask for them soon: as many
 * bytes as there is room for, the oldest are dropped. Shared and thread-safe.
 */

#include "services/object_table.h"

struct prefetched;

struct prefetched *prefetched_new(size_t bytes_max);
void prefetched_free(struct prefetched *p);
void prefetched_add(struct prefetched *p, const struct digest *digest, struct bytes encoding);
/* A reference, or NULL. */
struct object *prefetched_get(struct prefetched *p, const struct digest *digest);
