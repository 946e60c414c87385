#pragma once

/*
 * What the 64 bits of a node id say.
 *
 *   1                          the root
 *   1 . content 30 . generation 9 . entry 24      a file or symlink: entry of a content
 *   0 1 . zero 30 . number 32                     a file or symlink in the root
 *   0 0 1 . generation 29 . slot 32               a directory: slot of the node table
 *
 * All but the kind and the entry is then mixed with a salt: an id that a kernel has from
 * another table (of a server before a restart, say) stands for nothing here, not for something
 * else.
 */

#include <stdbool.h>
#include <stdint.h>

#define NODE_ID_ROOT 1

#define NODE_ID_ENTRY_MAX 0xffffffu
#define NODE_ID_CONTENTS_MAX ((uint32_t)1 << 30)
#define NODE_ID_LEAF_GENERATION_MASK 0x1ffu
#define NODE_ID_DIRECTORY_GENERATION_MASK 0x1fffffffu

#define NODE_ID_LEAF_BIT ((uint64_t)1 << 63)
#define NODE_ID_ROOT_LEAF_BIT ((uint64_t)1 << 62)
#define NODE_ID_DIRECTORY_BIT ((uint64_t)1 << 61)

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
	return (uint32_t)id & NODE_ID_ENTRY_MAX;
}

/* The same for all entries of a directory, salted or not. */
static inline uint64_t node_id_leaf_directory(uint64_t id)
{
	return id & ~(uint64_t)NODE_ID_ENTRY_MAX;
}

static inline uint64_t node_id_root_leaf(uint32_t number)
{
	return NODE_ID_ROOT_LEAF_BIT | number;
}

static inline uint64_t node_id_directory(uint32_t slot, uint32_t generation)
{
	return NODE_ID_DIRECTORY_BIT |
	       (uint64_t)(generation & NODE_ID_DIRECTORY_GENERATION_MASK) << 32 | slot;
}

static inline uint32_t node_id_directory_slot(uint64_t id)
{
	return (uint32_t)id;
}

/* The id with its salt when it is without, and the other way round. Any salt will do. */
static inline uint64_t node_id_salted(uint64_t id, uint64_t salt)
{
	switch (node_id_kind(id)) {
	case NODE_ID_IS_ROOT:
		return id;
	case NODE_ID_IS_LEAF:
		return id ^ (salt & (NODE_ID_LEAF_BIT - 1) & ~(uint64_t)NODE_ID_ENTRY_MAX);
	case NODE_ID_IS_ROOT_LEAF:
		return id ^ (salt & (NODE_ID_ROOT_LEAF_BIT - 1) & ~(uint64_t)UINT32_MAX);
	case NODE_ID_IS_DIRECTORY:
		break;
	}
	return id ^ (salt & (NODE_ID_DIRECTORY_BIT - 1));
}
