#pragma once

/* Getting a pack to append to: each pack has at most one writing process, which holds its
 * flock. */

#include "services/local/local_internal.h"

struct claimed_pack {
	int fd;
	uint64_t number;
	uint64_t end; /* committed length: what lay behind it has been cut off */
};

/* The newest pack with room that no other process writes to, or a new one. */
int pack_claim(struct local_store *s, struct claimed_pack *out, struct error *err);
/* A new one. */
int pack_claim_new(struct local_store *s, struct claimed_pack *out, struct error *err);
/* Numbers of the packs there are, newest first; malloc'd. */
int pack_list(struct local_store *s, uint64_t **out, size_t *count, struct error *err);
/*
 * For who removes packs: asker; 0 when somebody writes to it, it is damaged, or gone. end: the
 * committed length, which does not change as long as fd is open.
 */
int pack_claim_to_remove(struct local_store *s, uint64_t number, struct claimed_pack *out,
			 struct error *err);
/*
 * Ends the writing of a pack. What was written but not committed is of use to nobody: the disk
 * gets it back.
 */
void pack_release(struct local_store *s, int fd, uint64_t number);
/*
 * Does the same for those whose writers died, as part of a write of the index: so no change of
 * a table that never happened is there beside one that takes its place.
 */
int pack_cut_abandoned(struct local_store *s, struct error *err);
