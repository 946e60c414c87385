#pragma once

/*
 * Numbered slots of one size in chunks, with a hash index over those in use.
 *
 * A slot's number stays its own while it is in use; its generation changes every time that it
 * is freed, so that number and generation together name one use of it. Chunks without used
 * slots are given back to the system, and remember the generations they have seen. Growing
 * never moves an item. Not locked: the owner's lock guards it.
 */

#include <stddef.h>

#include "fs/keep.h"

#define SLOT_NONE UINT32_MAX

struct slot_chunk {
	uint8_t *memory; /* NULL when no slot is in use */
	uint32_t used;
	uint32_t fresh; /* slots from here on were never used since memory was mapped */
	uint32_t first_free;
	uint32_t generation; /* that fresh slots start with */
	bool listed;         /* on the stack of chunks with free slots */
};

struct slot_table {
	size_t item_size;
	size_t slot_size;
	uint32_t limit;
	uint32_t count;
	uint64_t (*hash)(const void *item, const void *context);
	const void *context;
	uint32_t generation; /* that new chunks start with */
	struct slot_chunk *chunks;
	uint32_t chunk_count;
	uint32_t *open_chunks; /* stack of chunks that have (or had) free slots */
	uint32_t open_count;
	uint32_t *buckets;
	uint32_t bucket_count; /* 0 or a power of two */
	/* Where chunks lie that outlive the process; else these are NULL and 0. */
	const struct keep *keep;
	uint64_t keep_offset;
	struct keep_mark *mark;
};

/* hash is called with items whose fields are set, whenever the index grows or shrinks. */
void slot_table_init(struct slot_table *t, size_t item_size, uint32_t limit,
		     uint64_t (*hash)(const void *item, const void *context),
		     const void *context);
/* Kept items stay, for whoever takes them over. */
void slot_table_done(struct slot_table *t);

/* From now on the slots lie in memory that outlives the process. For a table without chunks. */
void slot_table_keep(struct slot_table *t, const struct keep *k, enum keep_table table);
/*
 * After slot_table_keep(): takes over what is there. Each item that is in use is shown to fits
 * first, which may set what only means something within a process; one that does not fit is
 * dropped. False without memory; the table is to be done with then.
 */
bool slot_table_adopt(struct slot_table *t, bool (*fits)(void *item));

/*
 * Takes a slot, copies the item into it and puts it into the index. SLOT_NONE when the limit is
 * reached or memory is short.
 */
uint32_t slot_table_add(struct slot_table *t, const void *item);
/* Takes it out of the index and frees the slot. The item is hashed: its key must be intact. */
void slot_table_remove(struct slot_table *t, uint32_t slot);

/* NULL unless the slot is in use: any number may be asked for. */
void *slot_table_get(const struct slot_table *t, uint32_t slot);
/* Of a slot in use; never 0 in its low 30 bits. */
uint32_t slot_table_generation(const struct slot_table *t, uint32_t slot);

/* Slots that may have this hash: the first, and the one after a slot; SLOT_NONE at the end. */
uint32_t slot_table_first(const struct slot_table *t, uint64_t hash);
uint32_t slot_table_next(const struct slot_table *t, uint32_t slot);

/* The first slot in use from this number on, or SLOT_NONE. */
uint32_t slot_table_scan(const struct slot_table *t, uint32_t from);

/*
 * For a table that is to be as another one was: first the generation that no slot of that one
 * had reached, then its slots in ascending order. Restoring is false when it cannot be: a slot
 * out of order or over the limit, a generation that is none, or no memory.
 */
uint32_t slot_table_next_generation(const struct slot_table *t);
void slot_table_begin_at(struct slot_table *t, uint32_t generation);
bool slot_table_restore(struct slot_table *t, uint32_t slot, uint32_t generation,
			const void *item);

/* Bytes of memory held. */
size_t slot_table_memory(const struct slot_table *t);
