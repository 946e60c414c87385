#pragma once

/*
 * What may be on the disk after a crash: everything that is durable, and of the changes since a
 * choice that a file system may make.
 */

#include "model.h"

enum crash_kind {
	CRASH_KEEPS_ALL,   /* the process died, not the machine */
	CRASH_LOSES_ALL,   /* only what was synced */
	CRASH_KEEPS_NAMES, /* and sizes; contents are zeros */
	CRASH_KEEPS_DATA,  /* and no name */
	CRASH_LOSES_ONE,   /* change (of a folder: and those of it that follow) */
	CRASH_KEEPS_ONE,   /* change (of a folder: and those of it that precede) */
	CRASH_IN_ORDER,    /* names as in a journal, up to some point; contents by chance */
	CRASH_AT_RANDOM,   /* for each folder up to some point; contents by chance */
	CRASH_KIND_COUNT,
};

struct crash {
	enum crash_kind kind;
	uint64_t seed;
	/* Set by crash_init(): */
	const struct model *model;
	const struct node_file *one; /* whose change is kept or lost, */
	size_t one_at;               /* and which; NULL: there is none */
	uint64_t cut;                /* names up to this entry are there */
};

extern const char *const crash_names[CRASH_KIND_COUNT];

void crash_init(struct crash *c, const struct model *m, enum crash_kind kind, uint64_t seed);
/* Two crashes at one point with the same fingerprint leave the same on the disk. */
void crash_fingerprint(const struct crash *c, struct buffer *out);
/* Makes the files below an empty folder. Ends the process when that fails. */
void crash_make(const struct crash *c, int folder);
