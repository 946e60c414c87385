#pragma once

/*
 * The pages of the index's file, looked at without LMDB: it has no checksums, believes what a
 * page says, and reads out of bounds, in circles or past the end of the file where one lies.
 * Here every page is read with pread() and checked before it is believed: that pages are what
 * they claim to be and inside the file, that trees have the depth, the numbers of pages and
 * entries that their heads say, that keys ascend and lie between those of the pages above, and
 * that no page is used twice, by trees or by the list of free ones.
 *
 * The format is LMDB's 1 (versions 0.9), for 64-bit little-endian machines.
 */

#include "base/error.h"

struct index_pages_watch {
	/* A fault. page: its number; text: what is wrong with it. */
	void (*fault)(void *context, uint64_t page, const char *text);
	void *context;
};

struct index_pages_counts {
	uint64_t pages;   /* in use by trees */
	uint64_t entries; /* of all tables */
};

/*
 * Checks the state that transaction number `txn` left, which a reader keeps from being
 * overwritten. 0: the newest, for a file that nobody writes to. Negative only when the file
 * cannot be read at all.
 */
int index_pages_check(int fd, uint64_t txn, const struct index_pages_watch *watch,
		      struct index_pages_counts *out, struct error *err);
