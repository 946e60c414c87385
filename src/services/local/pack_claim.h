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
