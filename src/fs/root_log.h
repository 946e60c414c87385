#pragma once

/*
 * The names of the root in memory that outlives the process (keep.h), one record behind the
 * other in the order of their numbers: u32 length, protobuf Node (castore/node.h), zeros up to
 * a multiple of 4. A record lies within a window of 64 KiB; where the next one does not fit, a
 * length of 0 says so. Numbers are this machine's. Not locked: the root table's.
 */

#include "castore/node.h"
#include "fs/keep.h"

struct root_log {
	const struct keep *keep; /* NULL: nothing is logged */
	uint8_t *window;         /* the one that was used last, or NULL */
	uint64_t window_at;
};

void root_log_init(struct root_log *l, const struct keep *k);
void root_log_done(struct root_log *l);

/* Doer: in the log once it returns. */
int root_log_append(struct root_log *l, struct bytes name, const struct node *node,
		    struct error *err);
/*
 * Shows all records in their order, until a visit fails. Name and node are borrowed for the
 * visit.
 */
int root_log_read(struct root_log *l,
		  int (*visit)(void *context, struct bytes name, const struct node *node,
			       struct error *err),
		  void *context, struct error *err);
