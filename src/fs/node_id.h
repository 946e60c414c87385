#pragma once

/*
 * What the 64 bits of a node id say.
 *
 *   1                          the root
 *   1 . content 30 . generation 9 . entry 24      a file or symlink: entry of a content
 *   0 1 . zero 30 . number 32                     a file or symlink in the root
 *   0 0 . generation 30 . slot 32                 a directory: slot of the node table
 *
 * Generations are never 0 in a directory's id, so those ids never collide with the root's.
 */

#include <stdbool.h>
#include <stdint.h>

#define NODE_ID_ROOT 1

#define NODE_ID_CONTENTS_MAX ((uint32_t)1 << 30)
#define NODE_ID_LEAF_GENERATION_MASK 0x1ffu
#define NODE_ID_DIRECTORY_GENERATION_MASK 0x3fffffffu

#define NODE_ID_LEAF_BIT ((uint64_t)1 << 63)
#define NODE_ID_ROOT_LEAF_BIT ((uint64_t)1 << 62)

enum node_id_kind {
	NODE_ID_IS_ROOT,
	NODE_ID_IS_LEAF,
	NODE_ID_IS_ROOT_LEAF,
	NODE_ID_IS_DIRECTORY
};

static inline enum node_id_kind node_id_kind(uint64_t id)
{
	if (id & NODE_ID_LEAF_BIT) {
		return NODE_ID_IS_LEAF;
	}
	if (id & NODE_ID_ROOT_LEAF_BIT) {
		return NODE_ID_IS_ROOT_LEAF;
	}
	return id == NODE_ID_ROOT ? NODE_ID_IS_ROOT : NODE_ID_IS_DIRECTORY;
}

static inline uint64_t node_id_leaf(uint32_t content, uint32_t generation, uint32_t entry)
{
	return NODE_ID_LEAF_BIT | (uint64_t)content << 33 |
	       (uint64_t)(generation & NODE_ID_LEAF_GENERATION_MASK) << 24 | entry;
}

static inline uint32_t node_id_leaf_content(uint64_t id)
{
	return (uint32_t)(id >> 33) & (NODE_ID_CONTENTS_MAX - 1);
}

static inline uint32_t node_id_leaf_generation(uint64_t id)
{
	return (uint32_t)(id >> 24) & NODE_ID_LEAF_GENERATION_MASK;
}

static inline uint32_t node_id_leaf_entry(uint64_t id)
{
	return (uint32_t)id & 0xffffffu;
}

static inline uint64_t node_id_root_leaf(uint32_t number)
{
	return NODE_ID_ROOT_LEAF_BIT | number;
}

static inline uint64_t node_id_directory(uint32_t slot, uint32_t generation)
{
	return (uint64_t)(generation & NODE_ID_DIRECTORY_GENERATION_MASK) << 32 | slot;
}

static inline uint32_t node_id_directory_slot(uint64_t id)
{
	return (uint32_t)id;
}

static inline uint32_t node_id_directory_generation(uint64_t id)
{
	return (uint32_t)(id >> 32);
}
