#include "fs/slot_table.h"

#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

#define CHUNK_SHIFT 12
#define CHUNK_SLOTS (1u << CHUNK_SHIFT)
#define BUCKETS_MIN 64u
#define GENERATION_MASK 0x3fffffffu

/* In front of every item. link: the next free slot, or the next in the bucket when in use. */
struct slot_head {
	uint32_t generation : 31;
	uint32_t in_use : 1;
	uint32_t link;
};

void slot_table_init(struct slot_table *t, size_t item_size, uint32_t limit,
		     uint64_t (*hash)(const void *item, const void *context),
		     const void *context)
{
	*t = (struct slot_table){
		.item_size = item_size,
		.slot_size = sizeof(struct slot_head) + round_up(item_size, 8),
		.limit = limit,
		.hash = hash,
		.context = context,
		.generation = 1,
	};
}

static size_t chunk_bytes(const struct slot_table *t)
{
	return t->slot_size * CHUNK_SLOTS;
}

void slot_table_keep(struct slot_table *t, const struct keep *k, enum keep_table table)
{
	t->keep = k;
	t->keep_offset = keep_table_offset(table);
	t->mark = &k->header->marks[table];
}

static uint64_t chunk_offset(const struct slot_table *t, uint32_t chunk)
{
	return t->keep_offset + (uint64_t)chunk * chunk_bytes(t);
}

void slot_table_done(struct slot_table *t)
{
	for (uint32_t i = 0; i < t->chunk_count; i++) {
		if (t->chunks[i].memory) {
			munmap(t->chunks[i].memory, chunk_bytes(t));
		}
	}
	free(t->chunks);
	free(t->open_chunks);
	free(t->buckets);
}

static struct slot_head *head_at(const struct slot_table *t, uint32_t slot)
{
	const struct slot_chunk *c = &t->chunks[slot >> CHUNK_SHIFT];

	return (void *)(c->memory + (slot & (CHUNK_SLOTS - 1)) * t->slot_size);
}

static void *item_at(const struct slot_table *t, uint32_t slot)
{
	return head_at(t, slot) + 1;
}

static struct slot_head *used_head(const struct slot_table *t, uint32_t slot)
{
	if (slot >> CHUNK_SHIFT >= t->chunk_count) {
		return NULL;
	}
	const struct slot_chunk *c = &t->chunks[slot >> CHUNK_SHIFT];

	if (!c->memory || (slot & (CHUNK_SLOTS - 1)) >= c->fresh) {
		return NULL;
	}
	struct slot_head *h = head_at(t, slot);

	return h->in_use ? h : NULL;
}

void *slot_table_get(const struct slot_table *t, uint32_t slot)
{
	struct slot_head *h = used_head(t, slot);

	return h ? h + 1 : NULL;
}

uint32_t slot_table_generation(const struct slot_table *t, uint32_t slot)
{
	return head_at(t, slot)->generation;
}

static uint32_t *bucket_of(const struct slot_table *t, uint64_t hash)
{
	return &t->buckets[hash & (t->bucket_count - 1)];
}

uint32_t slot_table_first(const struct slot_table *t, uint64_t hash)
{
	return t->bucket_count == 0 ? SLOT_NONE : *bucket_of(t, hash);
}

uint32_t slot_table_next(const struct slot_table *t, uint32_t slot)
{
	return head_at(t, slot)->link;
}

uint32_t slot_table_scan(const struct slot_table *t, uint32_t from)
{
	uint64_t slot = from;
	uint64_t end = (uint64_t)t->chunk_count << CHUNK_SHIFT;

	while (slot < end) {
		const struct slot_chunk *c = &t->chunks[slot >> CHUNK_SHIFT];

		if (!c->memory) {
			slot = ((slot >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT;
		} else if (used_head(t, (uint32_t)slot)) {
			return (uint32_t)slot;
		} else {
			slot++;
		}
	}
	return SLOT_NONE;
}

static void index_link(struct slot_table *t, uint32_t slot)
{
	uint32_t *bucket = bucket_of(t, t->hash(item_at(t, slot), t->context));

	head_at(t, slot)->link = *bucket;
	*bucket = slot;
}

/* A failed allocation leaves the index as it is: slower, not wrong. */
static void index_resize(struct slot_table *t, uint32_t bucket_count)
{
	uint32_t *buckets = malloc(bucket_count * sizeof(*buckets));

	if (!buckets) {
		return;
	}
	memset(buckets, 0xff, bucket_count * sizeof(*buckets));
	free(t->buckets);
	t->buckets = buckets;
	t->bucket_count = bucket_count;
	for (uint32_t s = slot_table_scan(t, 0); s != SLOT_NONE;
	     s = slot_table_scan(t, s + 1)) {
		index_link(t, s);
	}
}

static void index_unlink(struct slot_table *t, uint32_t slot)
{
	uint32_t *at = bucket_of(t, t->hash(item_at(t, slot), t->context));

	while (*at != slot) {
		at = &head_at(t, *at)->link;
	}
	*at = head_at(t, slot)->link;
}

static void chunk_list(struct slot_table *t, uint32_t chunk)
{
	if (!t->chunks[chunk].listed) {
		t->chunks[chunk].listed = true;
		t->open_chunks[t->open_count++] = chunk;
	}
}

static void *anonymous_memory(size_t size)
{
	void *memory =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory != MAP_FAILED ? memory : NULL;
}

static bool chunk_map(struct slot_table *t, uint32_t chunk)
{
	struct slot_chunk *c = &t->chunks[chunk];

	if (t->keep) {
		t->mark->chunks = MAX(t->mark->chunks, chunk + 1);
		c->memory = keep_map(t->keep->fd, chunk_offset(t, chunk), chunk_bytes(t));
	} else {
		c->memory = anonymous_memory(chunk_bytes(t));
	}
	if (!c->memory) {
		return false;
	}
	c->fresh = 0;
	c->first_free = SLOT_NONE;
	return true;
}

/* Adds room for one more chunk, whose memory comes with its first slot. */
static bool chunk_append(struct slot_table *t)
{
	if ((uint64_t)t->chunk_count << CHUNK_SHIFT >= t->limit) {
		return false;
	}
	uint32_t n = t->chunk_count;

	if ((n & (n - 1)) == 0) {
		uint32_t room = n == 0 ? 1 : n * 2;

		t->chunks = xrealloc(t->chunks, room * sizeof(*t->chunks));
		t->open_chunks = xrealloc(t->open_chunks, room * sizeof(*t->open_chunks));
	}
	t->chunks[n] =
		(struct slot_chunk){.first_free = SLOT_NONE, .generation = t->generation};
	t->chunk_count++;
	chunk_list(t, n);
	return true;
}

/* A chunk with a free slot, its memory mapped; SLOT_NONE when there can be none. */
static uint32_t chunk_pick(struct slot_table *t)
{
	for (;;) {
		if (t->open_count == 0 && !chunk_append(t)) {
			return SLOT_NONE;
		}
		uint32_t chunk = t->open_chunks[t->open_count - 1];
		struct slot_chunk *c = &t->chunks[chunk];

		if (c->used < CHUNK_SLOTS) {
			return c->memory || chunk_map(t, chunk) ? chunk : SLOT_NONE;
		}
		c->listed = false;
		t->open_count--;
	}
}

/* Not in use yet: first the item has to be there. */
static uint32_t slot_take(struct slot_table *t)
{
	uint32_t chunk = chunk_pick(t);

	if (chunk == SLOT_NONE) {
		return SLOT_NONE;
	}
	struct slot_chunk *c = &t->chunks[chunk];
	uint32_t slot = c->first_free;

	if (slot != SLOT_NONE) {
		c->first_free = head_at(t, slot)->link;
	} else {
		slot = (chunk << CHUNK_SHIFT) + c->fresh++;
		head_at(t, slot)->generation = c->generation & 0x7fffffffu;
	}
	c->used++;
	t->count++;
	return slot;
}

/* Room in the index for one more. False when there is no index at all. */
static bool index_grow(struct slot_table *t)
{
	if (t->count >= t->bucket_count) {
		index_resize(t, t->bucket_count == 0 ? BUCKETS_MIN : t->bucket_count * 2);
	}
	return t->bucket_count > 0;
}

uint32_t slot_table_add(struct slot_table *t, const void *item)
{
	if (t->count >= t->limit || !index_grow(t)) {
		return SLOT_NONE;
	}
	uint32_t slot = slot_take(t);

	if (slot != SLOT_NONE) {
		memcpy(item_at(t, slot), item, t->item_size);
		keep_order();
		head_at(t, slot)->in_use = 1;
		keep_order();
		index_link(t, slot);
	}
	return slot;
}

static uint32_t generation_after(uint32_t generation)
{
	generation++;
	if ((generation & GENERATION_MASK) == 0) {
		generation++;
	}
	return generation & 0x7fffffffu;
}

/* Nobody may meet an old generation again when the chunk comes back. */
static void chunk_unmap(struct slot_table *t, uint32_t chunk)
{
	struct slot_chunk *c = &t->chunks[chunk];

	for (uint32_t i = 0; i < c->fresh; i++) {
		uint32_t generation = head_at(t, (chunk << CHUNK_SHIFT) + i)->generation;

		c->generation = MAX(c->generation, generation);
	}
	if (t->keep) {
		t->mark->generation = MAX(t->mark->generation, c->generation);
		keep_order();
		keep_discard(t->keep->fd, chunk_offset(t, chunk), c->memory, chunk_bytes(t));
	} else {
		munmap(c->memory, chunk_bytes(t));
	}
	c->memory = NULL;
	c->first_free = SLOT_NONE;
	c->fresh = 0;
}

/* Frees the slot, which is in no index, but not its chunk. */
static void slot_release(struct slot_table *t, struct slot_chunk *c, uint32_t slot)
{
	struct slot_head *h = head_at(t, slot);

	keep_order();
	h->in_use = 0;
	keep_order();
	h->generation = generation_after(h->generation) & 0x7fffffffu;
	h->link = c->first_free;
	c->first_free = slot;
}

void slot_table_remove(struct slot_table *t, uint32_t slot)
{
	uint32_t chunk = slot >> CHUNK_SHIFT;
	struct slot_chunk *c = &t->chunks[chunk];

	index_unlink(t, slot);
	slot_release(t, c, slot);
	c->used--;
	t->count--;
	chunk_list(t, chunk);
	/* The first chunk stays: a mount at rest goes up and down around a few nodes. */
	if (c->used == 0 && chunk != 0) {
		chunk_unmap(t, chunk);
	}
	if (t->bucket_count > BUCKETS_MIN && t->count < t->bucket_count / 8) {
		index_resize(t, t->bucket_count / 4);
	}
}

uint32_t slot_table_next_generation(const struct slot_table *t)
{
	uint32_t highest = t->generation;

	for (uint32_t i = 0; i < t->chunk_count; i++) {
		const struct slot_chunk *c = &t->chunks[i];

		highest = MAX(highest, c->generation);
		for (uint32_t j = 0; c->memory && j < c->fresh; j++) {
			uint32_t generation = head_at(t, (i << CHUNK_SHIFT) + j)->generation;

			highest = MAX(highest, generation);
		}
	}
	return generation_after(highest);
}

void slot_table_begin_at(struct slot_table *t, uint32_t generation)
{
	t->generation = generation_after(generation - 1);
	for (uint32_t i = 0; i < t->chunk_count; i++) {
		t->chunks[i].generation = MAX(t->chunks[i].generation, t->generation);
	}
}

/* The chunk of this slot, mapped, all slots before this one having been used. NULL: no room. */
static struct slot_chunk *chunk_prepare(struct slot_table *t, uint32_t slot)
{
	while (slot >> CHUNK_SHIFT >= t->chunk_count) {
		if (!chunk_append(t)) {
			return NULL;
		}
	}
	struct slot_chunk *c = &t->chunks[slot >> CHUNK_SHIFT];

	if (!c->memory && !chunk_map(t, slot >> CHUNK_SHIFT)) {
		return NULL;
	}
	while (c->fresh < (slot & (CHUNK_SLOTS - 1))) {
		uint32_t skipped = (slot & ~(CHUNK_SLOTS - 1)) + c->fresh++;
		struct slot_head *h = head_at(t, skipped);

		h->generation = c->generation & 0x7fffffffu;
		h->link = c->first_free;
		c->first_free = skipped;
	}
	return c;
}

bool slot_table_restore(struct slot_table *t, uint32_t slot, uint32_t generation,
			const void *item)
{
	if (slot >= t->limit || generation > 0x7fffffffu ||
	    (generation & GENERATION_MASK) == 0 || !index_grow(t)) {
		return false;
	}
	struct slot_chunk *c = chunk_prepare(t, slot);

	if (!c || c->fresh != (slot & (CHUNK_SLOTS - 1))) {
		return false;
	}
	struct slot_head *h = head_at(t, slot);

	c->fresh++;
	c->used++;
	t->count++;
	h->generation = generation & 0x7fffffffu;
	h->in_use = 1;
	memcpy(item_at(t, slot), item, t->item_size);
	index_link(t, slot);
	return true;
}

/* ---- Taking over ---- */

static bool was_used(const struct slot_head *h)
{
	return (h->generation & GENERATION_MASK) != 0;
}

/* Slots from the last one that was ever used on are fresh. */
static uint32_t count_used(const struct slot_table *t, uint32_t chunk)
{
	uint32_t n = CHUNK_SLOTS;

	while (n > 0 && !was_used(head_at(t, (chunk << CHUNK_SHIFT) + n - 1))) {
		n--;
	}
	return n;
}

/* Finds what is in use in a chunk, and makes a list of the rest. */
static void chunk_adopt(struct slot_table *t, uint32_t chunk, bool (*fits)(void *item))
{
	struct slot_chunk *c = &t->chunks[chunk];

	c->fresh = count_used(t, chunk);
	for (uint32_t i = 0; i < c->fresh; i++) {
		uint32_t slot = (chunk << CHUNK_SHIFT) + i;
		struct slot_head *h = head_at(t, slot);

		if (h->in_use && was_used(h) && fits(item_at(t, slot))) {
			c->used++;
			t->count++;
		} else {
			/* Also what is free: that may have been the last thing that was done.
			 */
			slot_release(t, c, slot);
		}
		c->generation = MAX(c->generation, (uint32_t)h->generation);
	}
}

/* Also slots that no server has used begin with a generation that none has reached. */
static void renew_generations(struct slot_table *t)
{
	t->generation = slot_table_next_generation(t);
	for (uint32_t i = 0; i < t->chunk_count; i++) {
		t->chunks[i].generation = t->generation;
	}
}

static bool index_make(struct slot_table *t)
{
	uint32_t buckets = BUCKETS_MIN;

	while (buckets < t->count) {
		buckets *= 2;
	}
	index_resize(t, buckets);
	return t->bucket_count > 0;
}

bool slot_table_adopt(struct slot_table *t, bool (*fits)(void *item))
{
	uint32_t chunks = MIN(t->mark->chunks, (t->limit >> CHUNK_SHIFT) + 1);

	t->generation = generation_after(t->mark->generation & 0x7fffffffu);
	for (uint32_t i = 0; i < chunks && chunk_append(t); i++) {
		if (!keep_has_data(t->keep->fd, chunk_offset(t, i), chunk_bytes(t))) {
			continue;
		}
		if (!chunk_map(t, i)) {
			return false;
		}
		chunk_adopt(t, i, fits);
	}
	renew_generations(t);
	return index_make(t);
}

size_t slot_table_memory(const struct slot_table *t)
{
	size_t total = t->bucket_count * sizeof(*t->buckets);

	for (uint32_t i = 0; i < t->chunk_count; i++) {
		total += sizeof(*t->chunks) + sizeof(*t->open_chunks) +
			 t->chunks[i].fresh * t->slot_size;
	}
	return total;
}
