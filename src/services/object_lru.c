#include "services/object_lru.h"

#include <stdatomic.h>

struct object_lru {
	_Atomic unsigned refs;
	size_t bytes_max;
	pthread_mutex_t lock; /* guards the rest */
	struct lru_map map;
	uint64_t changes;
};

struct kept {
	struct lru_entry entry;
	struct object *object; /* a reference */
	uint8_t key[];
};

struct object_lru *object_lru_new(size_t bytes_max)
{
	struct object_lru *l = xcalloc(1, sizeof(*l));

	atomic_init(&l->refs, 1);
	l->bytes_max = bytes_max;
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

struct object_lru *object_lru_ref(struct object_lru *l)
{
	atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

static void drop_locked(struct object_lru *l, struct lru_entry *e)
{
	struct kept *k = container_of(e, struct kept, entry);

	lru_map_remove(&l->map, e);
	object_unref(k->object);
	free(k);
}

void object_lru_unref(struct object_lru *l)
{
	if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	while (l->map.oldest) {
		drop_locked(l, l->map.oldest);
	}
	lru_map_done(&l->map);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

struct object *object_lru_get(struct object_lru *l, struct bytes key, uint64_t *changes)
{
	struct object *o = NULL;

	pthread_mutex_lock(&l->lock);
	struct lru_entry *e = lru_map_get(&l->map, key);

	if (e) {
		o = object_ref(container_of(e, struct kept, entry)->object);
	}
	if (changes) {
		*changes = l->changes;
	}
	pthread_mutex_unlock(&l->lock);
	return o;
}

static void add_locked(struct object_lru *l, struct bytes key, struct object *o, size_t cost)
{
	struct kept *k = xmalloc(sizeof(*k) + key.len);

	memcpy(k->key, key.ptr, key.len);
	k->object = object_ref(o);
	k->entry = (struct lru_entry){.key = bytes_of(k->key, key.len), .cost = cost};
	lru_map_add(&l->map, &k->entry);
	while (l->map.cost > l->bytes_max) {
		drop_locked(l, l->map.oldest);
	}
}

void object_lru_put(struct object_lru *l, struct bytes key, struct object *o,
		    const uint64_t *changes)
{
	size_t cost = sizeof(struct kept) + sizeof(*o) + key.len + o->len;

	if (cost > l->bytes_max / 8) {
		return;
	}
	pthread_mutex_lock(&l->lock);
	if ((!changes || *changes == l->changes) && !lru_map_get(&l->map, key)) {
		add_locked(l, key, o, cost);
	}
	pthread_mutex_unlock(&l->lock);
}

void object_lru_change(struct object_lru *l, struct bytes key)
{
	pthread_mutex_lock(&l->lock);
	struct lru_entry *e = lru_map_get(&l->map, key);

	l->changes++;
	if (e) {
		drop_locked(l, e);
	}
	pthread_mutex_unlock(&l->lock);
}
