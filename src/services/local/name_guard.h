#pragma once

/*
 * What keeps names and collections of garbage apart.
 *
 * A name is given last, and until then nothing says that its tree is wanted: what an importer
 * found in the store, and did not write again, may be collected under its hands. So each
 * transaction that deletes objects raises the epoch of the store, and who gives a name when the
 * epoch is not the one that his store was opened under looks whether all of the tree is there.
 * There is one writer of the index at a time: either the sweep sees the new name, or whoever
 * gives the name sees the new epoch.
 */

#include "services/local/logged_table.h"

/* 0 in a store that was never collected. */
int epoch_read(struct index *ix, uint64_t *out, struct error *err);
int epoch_raise(struct index_write *w, struct error *err);

/*
 * logged_write_begin(), for names of these trees (NULL: of none, or of one that need not be
 * there in full). ERROR_COLLECTED: parts of a tree are not there any more; whoever puts the
 * tree once more, as it was put before, and then gives the name, succeeds.
 */
int logged_write_begin_for(struct logged_write *w, const struct logged_table *table,
			   struct local_store *s, bool read_only,
			   const struct node *const *trees, size_t count, struct error *err);
