#include "castore/digest_map.h"

void digest_map_done(struct digest_map *m)
{
	free(m->slots);
	*m = (struct digest_map){0};
}

/* The slot that has the key, or the free one where it belongs. */
static struct digest_map_slot *find_slot(struct digest_map_slot *slots, size_t capacity,
					 const struct digest *key)
{
	size_t i = digest_hash(key) & (capacity - 1);

	while (slots[i].used && !digest_equal(&slots[i].key, key)) {
		i = (i + 1) & (capacity - 1);
	}
	return &slots[i];
}

uint64_t *digest_map_get(const struct digest_map *m, const struct digest *key)
{
	if (m->capacity == 0) {
		return NULL;
	}
	struct digest_map_slot *slot = find_slot(m->slots, m->capacity, key);

	return slot->used ? &slot->value : NULL;
}

static void grow(struct digest_map *m)
{
	size_t capacity = m->capacity ? m->capacity * 2 : 64;
	struct digest_map_slot *slots = xcalloc(capacity, sizeof(*slots));

	for (size_t i = 0; i < m->capacity; i++) {
		if (m->slots[i].used) {
			*find_slot(slots, capacity, &m->slots[i].key) = m->slots[i];
		}
	}
	free(m->slots);
	m->slots = slots;
	m->capacity = capacity;
}

bool digest_map_put(struct digest_map *m, const struct digest *key, uint64_t value)
{
	if (m->count * 4 >= m->capacity * 3) {
		grow(m);
	}
	struct digest_map_slot *slot = find_slot(m->slots, m->capacity, key);

	if (slot->used) {
		return false;
	}
	*slot = (struct digest_map_slot){.key = *key, .value = value, .used = true};
	m->count++;
	return true;
}
