#pragma once

/*
 * How much is synced (docs/durability.md). Whatever the level, things are written in the same
 * order; the levels differ in what they wait for.
 *
 * The levels of processes that use one store may differ. Who writes without syncing notes that
 * in the index, and the next writer that does sync first syncs all of that: so its own names
 * never stand for what a crash can take back.
 */

#include "services/local/index.h"

struct local_store;

enum durability {
	DURABILITY_FULL,  /* what was synced or named is durable */
	DURABILITY_BATCH, /* what was named is; the rest when the store is closed */
	DURABILITY_NONE,  /* nothing is */
};

/* From enum store_open_flags. */
enum durability durability_of(unsigned flags);
/*
 * A write of the index as the store's level wants it; names: of what has to be durable when it
 * is committed. Asker: 1 when it must be committed, although nothing else may come to be in it.
 */
int durable_write_begin(struct local_store *s, bool names, struct index_write **out,
			struct error *err);
/* Makes what others wrote without syncing durable. */
int durability_settle(struct local_store *s, struct error *err);
