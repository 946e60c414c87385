#include "base/arena.h"

#include <stdalign.h>

#include "base/util.h"

#define BLOCK_MIN ((size_t)4 << 10)
#define BLOCK_MAX ((size_t)1 << 20)

struct arena_block {
	struct arena_block *next;
	size_t size, used;
	alignas(max_align_t) unsigned char data[];
};

void arena_done(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *next = a->blocks->next;

		free(a->blocks);
		a->blocks = next;
	}
	a->taken = 0;
}

/* Blocks double, so that little costs little and much is few calls. */
static struct arena_block *add_block(struct arena *a, size_t at_least)
{
	size_t size = a->blocks ? MIN(a->blocks->size * 2, BLOCK_MAX) : BLOCK_MIN;
	size_t left = a->limit - a->taken;

	if (left < at_least) {
		return NULL;
	}
	size = MAX(MIN(size, left), at_least);
	struct arena_block *block = malloc(sizeof(*block) + size);

	if (block) {
		*block = (struct arena_block){.next = a->blocks, .size = size};
		a->blocks = block;
		a->taken += size;
	}
	return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_block *block = a->blocks;

	if (size > a->limit) {
		return NULL;
	}
	size = (size_t)round_up(size ? size : 1, alignof(max_align_t));
	if (!block || size > block->size - block->used) {
		block = add_block(a, size);
	}
	if (!block) {
		return NULL;
	}
	void *p = block->data + block->used;

	block->used += size;
	return p;
}
