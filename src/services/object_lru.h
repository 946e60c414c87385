#pragma once

/*
 * Byte strings in memory by key, those used last, up to a bound of bytes. Shared and
 * thread-safe. For what can be asked for again elsewhere.
 */

#include "services/lru_map.h"
#include "services/object_table.h"

struct object_lru;

struct object_lru *object_lru_new(size_t bytes_max);
struct object_lru *object_lru_ref(struct object_lru *l);
void object_lru_unref(struct object_lru *l);

/* A reference, or NULL; *changes (may be NULL) is for object_lru_put(). */
struct object *object_lru_get(struct object_lru *l, struct bytes key, uint64_t *changes);
/*
 * Keeps a reference of its own. Something larger than an eighth of the bound is not kept, and
 * neither is what was asked for elsewhere before a change: *changes as object_lru_get() gave it
 * (NULL: what is kept here cannot change).
 */
void object_lru_put(struct object_lru *l, struct bytes key, struct object *o,
		    const uint64_t *changes);
/* Drops what changed elsewhere. */
void object_lru_change(struct object_lru *l, struct bytes key);
