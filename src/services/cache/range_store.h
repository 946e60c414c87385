#pragma once

/*
 * Parts of large blobs, on the way to being all of them: units of RANGE_UNIT bytes in one file
 * without a name, up to a bound; those not asked for longest go first. They end with the
 * process. Shared and thread-safe.
 *
 * What is put has been checked against its blob. The digest of each unit is kept in memory and
 * checked when it is read: what a disk has made of it meanwhile reaches nobody.
 */

#include "castore/digest.h"

#define RANGE_UNIT ((size_t)65536)

struct range_store;

/* folder: where the file is; NULL: in memory. With bytes_max 0 nothing is kept. */
int range_store_new(const char *folder, uint64_t bytes_max, struct range_store **out,
		    struct error *err);
void range_store_free(struct range_store *r);

/* Asker: the size of a blob of which anything is kept. */
int range_store_size(struct range_store *r, const struct digest *digest, uint64_t *size);
/* Asker: this range, if all of it is kept. It lies in the blob, which has this size. */
int range_store_read(struct range_store *r, const struct digest *digest, uint64_t size,
		     uint64_t offset, void *buf, size_t len);
/*
 * Keeps whole units: offset is a multiple of RANGE_UNIT, and so is the end, unless it is the
 * end of the blob. True when this completed the blob.
 */
bool range_store_put(struct range_store *r, const struct digest *digest, uint64_t size,
		     uint64_t offset, struct bytes content);
/* Whether the unit that holds this offset is kept. */
bool range_store_has(struct range_store *r, const struct digest *digest, uint64_t offset);
/* Drops all units of a blob. */
void range_store_drop(struct range_store *r, const struct digest *digest);
