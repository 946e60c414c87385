#include "castore/prefix_map.h"

#include "base/endian.h"

#define PREFIX_SIZE 16
#define CAPACITY_FIRST 32u

struct prefix_map_slot {
	uint8_t key[PREFIX_SIZE];
	uint64_t value; /* 0: free */
};

void prefix_map_done(struct prefix_map *m)
{
	for (size_t i = 0; i < PREFIX_MAP_SEGMENTS; i++) {
		free(m->segments[i].slots);
	}
	*m = (struct prefix_map){0};
}

/* The last byte of the prefix chooses the segment, the first ones the place in it. */
static size_t segment_of(const struct digest *key)
{
	return key->bytes[PREFIX_SIZE - 1] % PREFIX_MAP_SEGMENTS;
}

/* The slot that has the key, or the free one where it belongs. */
static struct prefix_map_slot *find_slot(const struct prefix_map_segment *s, const uint8_t *key)
{
	/* Capacities are no powers of two. */
	size_t i = (size_t)((uint64_t)get_le32(key) * s->capacity >> 32);

	while (s->slots[i].value && memcmp(s->slots[i].key, key, PREFIX_SIZE) != 0) {
		i = i + 1 == s->capacity ? 0 : i + 1;
	}
	return &s->slots[i];
}

uint64_t *prefix_map_get(const struct prefix_map *m, const struct digest *key)
{
	const struct prefix_map_segment *s = &m->segments[segment_of(key)];

	if (s->capacity == 0) {
		return NULL;
	}
	struct prefix_map_slot *slot = find_slot(s, key->bytes);

	return slot->value ? &slot->value : NULL;
}

/* Half as many more each time: less is unused than when it is doubled. */
static bool grow(struct prefix_map_segment *s)
{
	struct prefix_map_segment larger = *s;

	larger.capacity = s->capacity ? s->capacity / 2 * 3 : CAPACITY_FIRST;
	larger.slots = larger.capacity > s->capacity
			       ? calloc(larger.capacity, sizeof(*larger.slots))
			       : NULL;
	if (!larger.slots) {
		return false;
	}
	for (size_t i = 0; i < s->capacity; i++) {
		if (s->slots[i].value) {
			*find_slot(&larger, s->slots[i].key) = s->slots[i];
		}
	}
	free(s->slots);
	*s = larger;
	return true;
}

uint64_t *prefix_map_put(struct prefix_map *m, const struct digest *key)
{
	struct prefix_map_segment *s = &m->segments[segment_of(key)];

	if ((uint64_t)s->count * 5 >= (uint64_t)s->capacity * 4 && !grow(s)) {
		return NULL;
	}
	struct prefix_map_slot *slot = find_slot(s, key->bytes);

	if (!slot->value) {
		memcpy(slot->key, key->bytes, PREFIX_SIZE);
		s->count++;
	}
	return &slot->value;
}
