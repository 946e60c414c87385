#pragma once

/*
 * Objects in memory by digest: what memory:// keeps. Shared and thread-safe. An object never
 * changes; a table may get another one under the same digest (only the hooks for tests do
 * that).
 */

#include <pthread.h>

#include "castore/digest_map.h"
#include "services/blob_proof.h"

struct object {
	_Atomic unsigned refs;
	uint8_t *content;
	size_t len;
	_Atomic(struct blob_proof *) proof; /* of a blob that was opened before; set once */
};

struct object *object_ref(struct object *o);
void object_unref(struct object *o);
DEFINE_CLEANUP(cleanup_object, struct object *, object_unref)
/* Takes over a malloc'd buffer. */
struct object *object_new(uint8_t *content, size_t len);
/* NULL when there is no memory for it. */
struct object *object_copy(struct bytes content);

/* Asker, always 1 but without memory: a malloc'd copy of the bytes. */
int object_give(const struct object *o, uint8_t **content, size_t *len, struct error *err);
/* Copies what there is of a range. */
void object_read(const struct object *o, uint64_t offset, void *buf, size_t len, size_t *got);

struct object_table {
	pthread_rwlock_t lock; /* guards objects */
	struct digest_map objects;
};

void object_table_init(struct object_table *t);
void object_table_done(struct object_table *t);
/* Drops every object. */
void object_table_clear(struct object_table *t);
/* A reference, or NULL. */
struct object *object_table_get(struct object_table *t, const struct digest *digest);
/* Takes over the reference. What is there already stays. */
void object_table_put(struct object_table *t, const struct digest *digest, struct object *o);
/* Takes over the reference (NULL removes). False when there was nothing to replace. */
bool object_table_replace(struct object_table *t, const struct digest *digest,
			  struct object *o);
/* Moves every object of `from` into t, in one step for those who look into t. */
void object_table_move(struct object_table *t, struct object_table *from);
