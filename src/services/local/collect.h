#pragma once

/*
 * Collecting garbage (store_collect() has the contract), in these steps:
 *
 * 1. The committed lengths of all packs are noted: what is committed later is not touched.
 * 2. All that names, path infos and leases stand for is marked (services/mark.h).
 * 3. Objects without a mark leave the index, in small transactions (sweep.c). Each first looks
 *    for names and leases that are new since the marking, and marks those as well.
 * 4. Large files that the index has no more are unlinked.
 * 5. Packs with much that nothing refers to are copied without it and removed (compact.c).
 *
 * At any point the store is right, and what one collection leaves, another one takes.
 */

#include "services/local/local_internal.h"
#include "services/mark.h"

/* A pack as it was when the marking began. */
struct collected_pack {
	uint64_t number;
	uint64_t end;        /* committed length */
	uint64_t changed;    /* time of the last change of the file, in seconds */
	uint64_t live_bytes; /* of records that the index refers to; counted by the sweep */
	uint64_t live_count;
};

struct collection {
	struct store *store; /* opened for this, with the local store behind it */
	struct local_store *local;
	const struct store_collect_options *options;
	struct store_collected *result;
	uint64_t now; /* lease_clock() at the start */

	struct mark mark;
	struct lease_reader leases;
	uint8_t sequences[2][8]; /* of the tables of names, as they were marked */
	struct buffer newcomers; /* kinds and digests: held since the marking */
	struct buffer missing;   /* digests: Directories of what is held that may come yet */

	struct collected_pack *packs; /* by number */
	size_t pack_count;
	bool swept; /* all of the index: the live counts of the packs are right */
};

/* What changed since it was marked is marked, too. Asker: 1 when there was something. */
int collect_catch_up(struct collection *c, struct index_write *w, struct error *err);
/* Marks what collect_catch_up() found. */
int collect_mark_news(struct collection *c, struct error *err);
/* NULL: a pack that was not there when the marking began. */
struct collected_pack *collect_find_pack(struct collection *c, uint64_t number);
/* Must an object at this place stay, whether something refers to it or not? */
bool collect_is_protected(struct collection *c, const struct location *l);
/* Is something that was last changed at this time too young to be taken? */
bool collect_is_young(const struct collection *c, uint64_t changed);
void collect_freed(struct collection *c, uint64_t bytes);
/* True when as much is freed as was asked for. */
bool collect_has_enough(const struct collection *c);
/* ERROR_CANCELED when that was asked for. */
int collect_check_cancel(const struct collection *c, struct error *err);

/* Takes objects without a mark out of the index, and large files from the disk. */
int sweep_objects(struct collection *c, struct error *err);
/* Forgets what importers saw of blobs that are gone. */
int sweep_seen(struct collection *c, struct error *err);
/* Unlinks large files that are of no blob of the index. */
int sweep_files(struct collection *c, struct error *err);
/* After a whole sweep: gives the room in packs back. */
int compact_packs(struct collection *c, struct error *err);
