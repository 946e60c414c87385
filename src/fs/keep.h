#pragma once

/*
 * Memory that outlives this process: a memfd that another process holds as well, in which the
 * tables of a session lie while they are used. So what a server knows is there for the next
 * one, however it ended, and nothing has to be written down for that.
 *
 * A process that dies has done all its stores up to one instruction and none behind it. So it
 * is enough that the compiler keeps those in order that belong together (keep_order), and that
 * whoever takes over passes over what was half done: an item of which the slot is not yet in
 * use, a node that no lookup was counted for, a record beyond the length of the log.
 *
 * Counts are raised before the reply that tells the kernel, and lowered after the request that
 * does. What is cut off in between leaves a count too high, which keeps a node for longer, and
 * never one too low.
 *
 * The file is sparse: a page with struct keep_header, then, each a tebibyte behind the one
 * before, directory nodes, contents, backings (chunks as slot_table.h says) and the log of the
 * root (root_table.h). Everything is as this program lays it out in memory: what begins with
 * another version or other sizes is not taken over.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define KEEP_VERSION 1

enum keep_table { KEEP_NODES, KEEP_CONTENTS, KEEP_BACKINGS, KEEP_TABLES };

/* How far a slot table has come; the rest is in its chunks. */
struct keep_mark {
	uint32_t chunks;     /* that were ever used */
	uint32_t generation; /* that none of a chunk which was given back has exceeded */
};

struct keep_header {
	uint64_t magic;
	uint32_t version;
	uint32_t sizes; /* of the items of tables: another program may have others */
	uint32_t flags; /* of the session: state.h; 0: there is none */
	uint32_t kernel_minor;
	uint64_t offered;
	uint64_t agreed;
	uint64_t salt; /* of node ids */
	/* Of the RELEASE that was dealt with last: it may come again, and counts once. */
	uint64_t released;
	uint64_t log_length;
	struct keep_mark marks[KEEP_TABLES];
};

struct keep {
	int fd; /* borrowed */
	struct keep_header *header;
};

/* Stores before it come before those behind it. */
static inline void keep_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/*
 * Makes an empty memfd such memory, or takes one that is. ERROR_UNSUPPORTED: it is another
 * program's, or there can be none. ERROR_INVALID: it is damaged.
 */
int keep_open(struct keep *k, int fd, uint32_t sizes, struct error *err);
void keep_close(struct keep *k);
/* Empties it: nothing lies in it, and nobody has it mapped. */
void keep_clear(struct keep *k);

/* Where a table begins, and the log. */
uint64_t keep_table_offset(enum keep_table table);
uint64_t keep_log_offset(void);

/* Pages of it, mapped; they have memory, so that no access fails. NULL without. */
void *keep_map(int fd, uint64_t offset, size_t size);
/* Gives their memory back to the system too. */
void keep_discard(int fd, uint64_t offset, void *memory, size_t size);
/* False when nothing was ever written there: all is zero. */
bool keep_has_data(int fd, uint64_t offset, size_t size);
