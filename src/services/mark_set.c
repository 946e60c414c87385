#include "services/mark_set.h"

#include <errno.h>
#include <sys/mman.h>

#define CAPACITY_MIN ((size_t)1 << 10)

/* All zero: free. No object has such a key, see key_of(). */
struct mark_slot {
	uint64_t low, high;
};

/* With room for some that come meanwhile: to grow takes three times the memory. */
static size_t capacity_for(size_t expected)
{
	return MAX(CAPACITY_MIN, expected + expected / 4 + expected / 64 + CAPACITY_MIN);
}

static int map_slots(size_t capacity, struct mark_slot **out, struct error *err)
{
	size_t len;
	void *p = MAP_FAILED;

	if (__builtin_mul_overflow(capacity, sizeof(struct mark_slot), &len)) {
		errno = ENOMEM;
	} else {
		/*
		 * All at once: objects go anywhere, so that few of them need all pages. Each is
		 * looked for before it is added, which would be two faults for a page.
		 */
		p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	}
	if (p == MAP_FAILED) {
		return error_set_errno(err, errno, "cannot mark %zu objects", capacity);
	}
	*out = p;
	return 0;
}

int mark_set_init(struct mark_set *m, size_t expected, struct error *err)
{
	size_t capacity = capacity_for(expected);
	struct mark_slot *slots = NULL;
	int rc = map_slots(capacity, &slots, err);

	if (rc == 0) {
		*m = (struct mark_set){.slots = slots, .capacity = capacity};
	}
	return rc;
}

void mark_set_done(struct mark_set *m)
{
	if (m->slots) {
		munmap(m->slots, m->capacity * sizeof(*m->slots));
	}
	*m = (struct mark_set){0};
}

/* The lowest bit tells the kinds apart, and the next one keys from free slots. */
static struct mark_slot key_of(enum node_kind kind, const struct digest *digest)
{
	struct mark_slot key;

	memcpy(&key, digest->bytes, sizeof(key));
	key.low = (key.low & ~UINT64_C(3)) | 2 | (kind == NODE_DIRECTORY);
	return key;
}

/* Where the key is, or the free slot that is its. */
static struct mark_slot *find_slot(struct mark_slot *slots, size_t capacity,
				   struct mark_slot key)
{
	/* Scales the hash to the capacity, which need not be a power of two. */
	size_t i = (size_t)(((unsigned __int128)key.high * capacity) >> 64);

	while (slots[i].low && (slots[i].low != key.low || slots[i].high != key.high)) {
		i = i + 1 == capacity ? 0 : i + 1;
	}
	return &slots[i];
}

static int grow(struct mark_set *m, struct error *err)
{
	size_t capacity = m->capacity * 2;
	struct mark_slot *slots = NULL;
	int rc = map_slots(capacity, &slots, err);

	if (rc) {
		return rc;
	}
	for (size_t i = 0; i < m->capacity; i++) {
		if (m->slots[i].low) {
			*find_slot(slots, capacity, m->slots[i]) = m->slots[i];
		}
	}
	munmap(m->slots, m->capacity * sizeof(*m->slots));
	m->slots = slots;
	m->capacity = capacity;
	return 0;
}

int mark_set_add(struct mark_set *m, enum node_kind kind, const struct digest *digest,
		 struct error *err)
{
	struct mark_slot key = key_of(kind, digest);
	struct mark_slot *slot = find_slot(m->slots, m->capacity, key);

	if (slot->low) {
		return 0;
	}
	if (m->count + 1 > m->capacity / 5 * 4) {
		int rc = grow(m, err);

		if (rc) {
			return rc;
		}
		slot = find_slot(m->slots, m->capacity, key);
	}
	*slot = key;
	m->count++;
	return 1;
}

bool mark_set_has(const struct mark_set *m, enum node_kind kind, const struct digest *digest)
{
	return find_slot(m->slots, m->capacity, key_of(kind, digest))->low != 0;
}
