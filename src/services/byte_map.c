#include "services/byte_map.h"

#include "base/util.h"

void byte_map_done(struct byte_map *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free((void *)(uintptr_t)m->entries[i].key.ptr);
	}
	free(m->entries);
	*m = (struct byte_map){0};
}

bool byte_map_find(const struct byte_map *m, struct bytes key, size_t *at)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (bytes_compare(m->entries[middle].key, key) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	*at = low;
	return low < m->count && bytes_equal(m->entries[low].key, key);
}

const struct byte_map_entry *byte_map_after(const struct byte_map *m, struct bytes key)
{
	size_t at;

	if (byte_map_find(m, key, &at)) {
		at++;
	}
	return at < m->count ? &m->entries[at] : NULL;
}

/* Key and value in one allocation, which the key begins; NULL key when there is no memory. */
static struct byte_map_entry copy_entry(struct bytes key, struct bytes value)
{
	uint8_t *storage = malloc(key.len + value.len + 1);

	if (!storage) {
		return (struct byte_map_entry){0};
	}
	memcpy(storage, key.ptr, key.len);
	if (value.len) {
		memcpy(storage + key.len, value.ptr, value.len);
	}
	return (struct byte_map_entry){.key = bytes_of(storage, key.len),
				       .value = bytes_of(storage + key.len, value.len)};
}

/* Takes over the entry. */
static void insert(struct byte_map *m, struct byte_map_entry e)
{
	size_t at;

	if (byte_map_find(m, e.key, &at)) {
		free((void *)(uintptr_t)m->entries[at].key.ptr);
		m->entries[at] = e;
		return;
	}
	if (m->count == m->capacity) {
		m->capacity = MAX(m->capacity * 2, (size_t)16);
		m->entries = xrealloc(m->entries, m->capacity * sizeof(*m->entries));
	}
	memmove(&m->entries[at + 1], &m->entries[at], (m->count - at) * sizeof(*m->entries));
	m->entries[at] = e;
	m->count++;
}

bool byte_map_put(struct byte_map *m, struct bytes key, struct bytes value)
{
	struct byte_map_entry e = copy_entry(key, value);

	if (!e.key.ptr) {
		return false;
	}
	insert(m, e);
	return true;
}

void byte_map_merge(struct byte_map *m, struct byte_map *from)
{
	for (size_t i = 0; i < from->count; i++) {
		insert(m, from->entries[i]);
	}
	free(from->entries);
	*from = (struct byte_map){0};
}

bool byte_map_remove(struct byte_map *m, struct bytes key)
{
	size_t at;

	if (!byte_map_find(m, key, &at)) {
		return false;
	}
	free((void *)(uintptr_t)m->entries[at].key.ptr);
	m->count--;
	memmove(&m->entries[at], &m->entries[at + 1], (m->count - at) * sizeof(*m->entries));
	return true;
}
