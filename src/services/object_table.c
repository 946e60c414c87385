#include "services/object_table.h"

#include <stdatomic.h>

void object_unref(struct object *o)
{
	if (o && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1) {
		blob_proof_unref(o->proof);
		free(o->content);
		free(o);
	}
}

struct object *object_ref(struct object *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

struct object *object_new(uint8_t *content, size_t len)
{
	struct object *o = xcalloc(1, sizeof(*o));

	atomic_init(&o->refs, 1);
	o->content = content;
	o->len = len;
	return o;
}

struct object *object_copy(struct bytes content)
{
	uint8_t *copy = malloc(content.len ? content.len : 1);

	if (!copy) {
		return NULL;
	}
	if (content.len) {
		memcpy(copy, content.ptr, content.len);
	}
	return object_new(copy, content.len);
}

int object_give(const struct object *o, uint8_t **content, size_t *len, struct error *err)
{
	uint8_t *copy = malloc(MAX(o->len, (size_t)1));

	if (!copy) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", o->len);
	}
	if (o->len) {
		memcpy(copy, o->content, o->len);
	}
	*content = copy;
	*len = o->len;
	return 1;
}

void object_read(const struct object *o, uint64_t offset, void *buf, size_t len, size_t *got)
{
	*got = (size_t)MIN(len, o->len - MIN(offset, o->len));
	if (*got) {
		memcpy(buf, o->content + offset, *got);
	}
}

static struct object *slot_object(const uint64_t *slot)
{
	return slot ? (struct object *)(uintptr_t)*slot : NULL;
}

void object_table_init(struct object_table *t)
{
	pthread_rwlock_init(&t->lock, NULL);
	t->objects = (struct digest_map){0};
}

/* The objects, for the caller; the table is empty then. */
static struct digest_map take_all(struct object_table *t)
{
	pthread_rwlock_wrlock(&t->lock);
	struct digest_map all = t->objects;

	t->objects = (struct digest_map){0};
	pthread_rwlock_unlock(&t->lock);
	return all;
}

void object_table_clear(struct object_table *t)
{
	struct digest_map all = take_all(t);

	for (size_t i = 0; i < all.capacity; i++) {
		if (all.slots[i].used) {
			object_unref(slot_object(&all.slots[i].value));
		}
	}
	digest_map_done(&all);
}

void object_table_done(struct object_table *t)
{
	object_table_clear(t);
	pthread_rwlock_destroy(&t->lock);
}

struct object *object_table_get(struct object_table *t, const struct digest *digest)
{
	pthread_rwlock_rdlock(&t->lock);
	struct object *o = slot_object(digest_map_get(&t->objects, digest));

	if (o) {
		object_ref(o);
	}
	pthread_rwlock_unlock(&t->lock);
	return o;
}

static void put_locked(struct object_table *t, const struct digest *digest, struct object *o)
{
	if (digest_map_put(&t->objects, digest, (uint64_t)(uintptr_t)o)) {
		return;
	}
	uint64_t *slot = digest_map_get(&t->objects, digest);

	if (*slot) {
		object_unref(o);
	} else {
		*slot = (uint64_t)(uintptr_t)o;
	}
}

void object_table_put(struct object_table *t, const struct digest *digest, struct object *o)
{
	pthread_rwlock_wrlock(&t->lock);
	put_locked(t, digest, o);
	pthread_rwlock_unlock(&t->lock);
}

bool object_table_replace(struct object_table *t, const struct digest *digest, struct object *o)
{
	struct object *old;

	pthread_rwlock_wrlock(&t->lock);
	uint64_t *slot = digest_map_get(&t->objects, digest);

	old = slot_object(slot);
	if (old) {
		*slot = (uint64_t)(uintptr_t)o;
	}
	pthread_rwlock_unlock(&t->lock);
	object_unref(old ? old : o);
	return old != NULL;
}

void object_table_move(struct object_table *t, struct object_table *from)
{
	struct digest_map moved = take_all(from);

	pthread_rwlock_wrlock(&t->lock);
	for (size_t i = 0; i < moved.capacity; i++) {
		struct object *o =
			moved.slots[i].used ? slot_object(&moved.slots[i].value) : NULL;

		if (o) {
			put_locked(t, &moved.slots[i].key, o);
		}
	}
	pthread_rwlock_unlock(&t->lock);
	digest_map_done(&moved);
}
