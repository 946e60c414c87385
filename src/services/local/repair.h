#pragma once

/* The repair of a local store (services/store_check.h), in parts. */

#include "services/local/check.h"

struct repair {
	const char *path;
	const struct store_repair_options *options;
	int dirfd;
	char quarantine[64]; /* below the store's folder; "": not made yet */
};

/* Says what was done. */
void repair_tell(const struct repair *r, const char *fmt, ...) printf_like(2, 3);
/* Makes the folder for what is taken out of use, when it is the first time. */
int repair_make_quarantine(struct repair *r, struct error *err);
/* Puts a copy of something there. */
int repair_keep(struct repair *r, const char *name, struct bytes content, struct error *err);

/*
 * Takes damaged objects out of use, and puts these and missing ones again, from what is left of
 * them or from the other store. What cannot be had stays away: that is no failure.
 */
int repair_objects(struct repair *r, struct local_store *s,
		   const struct store_check_report *faults, struct error *err);
