#pragma once

/*
 * What this process sees mounted. None of this touches the file systems themselves, whose
 * servers may be dead.
 */

#include <sys/types.h>

#include "base/error.h"

struct mount_table_entry {
	const char *path; /* absolute; for the visit only */
	char type[64];
	char device[32]; /* MAJOR:MINOR */
	uid_t owner;     /* of a FUSE mount: who made it; else (uid_t)-1 */
};

/* Shows all mounts, in the order they were made at a place. */
int mount_table_read(void (*visit)(void *context, const struct mount_table_entry *entry),
		     void *context, struct error *err);
/*
 * Asker: what is mounted on an absolute path without symlinks; of several, the one on top. path
 * is not set.
 */
int mount_table_find(const char *path, struct mount_table_entry *out, struct error *err);
