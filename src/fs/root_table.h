#pragma once

/*
 * The names of the root that were ever looked up or listed, numbered.
 *
 * Append-only: a number stands for the same name and node as long as the table lives, so it
 * serves in node ids and as the position of a listing. A name that gets another node gets
 * another number. Bounded by what the provider of the root holds. Any thread.
 */

#include "castore/node.h"
#include "fs/keep.h"

#define ROOT_ENTRIES_MAX ((uint32_t)1 << 28)

/* Lives, and does not change, as long as the table. */
struct root_entry {
	struct bytes name;
	struct node node;
};

struct root_table;

struct root_table *root_table_new(void);
void root_table_free(struct root_table *t);
/*
 * Before the first name: from now on they lie in memory that outlives the process as well.
 * Names that are there come back with their numbers.
 */
int root_table_keep(struct root_table *t, const struct keep *k, struct error *err);

/* The number of this name with this node, new when needed. ERROR_LIMIT. */
int root_table_intern(struct root_table *t, struct bytes name, const struct node *node,
		      uint32_t *number, struct error *err);

/* NULL for a number that was never given out. */
const struct root_entry *root_table_get(struct root_table *t, uint32_t number);
