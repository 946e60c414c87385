#pragma once

/* Shared by the node table and what saves and restores it. */

#include <pthread.h>

#include "fs/content_table.h"
#include "fs/node_table.h"

/* The parent of what stands in the root: no slot has this number. */
#define PARENT_ROOT SLOT_NONE

/* Alive while the kernel knows it or a child of it is alive. */
struct directory_node {
	uint64_t lookups;
	uint64_t ino;
	uint32_t parent;  /* slot, or PARENT_ROOT */
	uint32_t entry;   /* in the parent's content, or number in the root table */
	uint32_t content; /* slot, or SLOT_NONE: not looked into yet */
	uint32_t children;
};

struct node_table {
	pthread_mutex_t lock; /* guards nodes, contents, unreturned */
	struct slot_table nodes;
	struct content_table contents;
	size_t unreturned; /* bytes freed, perhaps still held by the allocator */
	uint64_t seed;
	uint64_t salt; /* of node ids */
	struct root_table *roots;
};

/* All of these with the lock held. */

/* SLOT_NONE when no node is at this place. */
uint32_t node_find(const struct node_table *t, uint32_t parent, uint32_t entry);
/* False when no directory can be at the node's place: then this is no node. */
bool node_place_is_directory(const struct node_table *t, const struct directory_node *n);
/* That the node's content is what stands at its place. */
bool node_content_is_own(const struct node_table *t, const struct directory_node *n);
/* What stands at a node's place. The parent is alive, and its content was loaded. */
struct node node_at_place(const struct node_table *t, const struct directory_node *n);
/* Frees a node that nothing needs, and then perhaps those above it. */
void node_settle(struct node_table *t, uint32_t slot);
void node_attach_content(struct node_table *t, struct directory_node *n, uint32_t slot);
