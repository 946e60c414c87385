#pragma once

/* The records of a pack, found one after the other without the index. */

#include "services/local/local_internal.h"

struct pack_scan {
	int fd;
	uint64_t next, end; /* of what is still to be looked at */
	uint64_t skipped;   /* bytes that are in no record */
	uint8_t *window;    /* what was read ahead */
	uint64_t window_at;
	size_t window_len;
};

/* The descriptor is borrowed. From `from`, a multiple of 8, to `end` or that of the file. */
void pack_scan_init(struct pack_scan *p, int fd, uint64_t from, uint64_t end);
void pack_scan_done(struct pack_scan *p);
/*
 * Asker: the next record with a header that checks and that ends in time. What is between
 * records is passed over: they begin at every eighth byte, so the next whole one is found.
 */
int pack_scan_next(struct pack_scan *p, struct record *rec, uint64_t *offset);
/* What was found last is no record after all: the next one may begin in it. */
void pack_scan_reject(struct pack_scan *p, uint64_t offset);
/* Replaces what payload holds by that of a record, as it is stored. False: it cannot be read.
 */
bool pack_scan_payload(const struct pack_scan *p, const struct record *rec, uint64_t offset,
		       struct buffer *payload);

/*
 * Calls visit for each pack file there is, in no order, until it fails. name is below the
 * store's folder.
 */
typedef int (*pack_visit)(void *context, const char *name, uint32_t number, struct error *err);
int local_packs_visit(struct local_store *s, pack_visit visit, void *context,
		      struct error *err);
