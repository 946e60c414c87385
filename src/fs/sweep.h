#pragma once

/*
 * Recognizes readers that go through directories file by file, so that what they will ask for
 * next can be sent to the kernel before they do.
 *
 * All that is seen are READs. What was sent along is not asked for any more: a reader that goes
 * on shows itself by reading the next file behind that, or, where the directory had no more,
 * the first file of another one. Whoever reads here and there gets nothing.
 *
 * Any thread.
 */

#include "castore/directory.h"

struct sweep_table;

struct sweep_table *sweep_table_new(void);
void sweep_table_free(struct sweep_table *t);

/* Entries of a directory from first on, before end. */
struct sweep_stretch {
	uint32_t first;
	uint32_t end; /* first == end: nothing is worth sending */
};

/*
 * This entry of a directory is being read. The id names the directory, in whatever way. What
 * it returns counts as sent, until sweep_table_stop() says otherwise.
 */
struct sweep_stretch sweep_table_note(struct sweep_table *t, uint64_t id,
				      const struct directory *d, uint32_t entry);
/* Of what sweep_table_note() returned, the entries from here on were not sent. */
void sweep_table_stop(struct sweep_table *t, uint64_t id, uint32_t entry);

/* The kernel does not take what is sent for this directory: nobody has listed it. */
void sweep_table_refuse(struct sweep_table *t, uint64_t id);

/* Files that are sent along. */
bool sweep_sends(const struct node *node);
