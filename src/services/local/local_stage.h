#pragma once

/*
 * Staging above a local store (store_stage() has the contract).
 *
 * A stage has a view of its own above the store's: a committer with a pack claimed for it
 * alone, and a scratch folder. Whatever is put goes to disk as it would without a stage, only
 * that closed batches do not enter the index of the store. They enter one of the stage's own, a
 * file without a name, so that memory stays bounded; a stage that closed no batch has none.
 * Large files wait in the scratch folder under their digests.
 *
 * To commit: large files get their names, all is synced, and then the entries move into the
 * index of the store, in key order, in writes of at most COMMIT_OBJECTS. The first of them
 * moves the committed lengths of the packs. To give up: the packs are cut off where they were,
 * and the folder is removed. A process that dies leaves its packs and folder unlocked, and the
 * next writers do the same.
 *
 * Full packs stay claimed until the end, each with a descriptor: one for each GiB of small
 * objects.
 */

#include "services/local/local_internal.h"

struct batch;

/* The stager of an open store. flags: enum store_open_flags. */
struct stager *local_stager_new(struct local_store *s, unsigned flags);

/* References to the stage whose view this is. */
void local_stage_ref(struct local_view *v);
void local_stage_unref(struct local_view *v);

/* What the committer of a stage does with a closed batch: its entries go to the stage's index.
 */
int local_stage_keep(struct local_stage *g, struct batch *b, struct error *err);
/* Where a stage's view has a large file, if it has it; false: it has none at all. */
bool local_staged_name(struct local_view *v, const struct digest *digest,
		       char out[LOCAL_NAME_SIZE]);
