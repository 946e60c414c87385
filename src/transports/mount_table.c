#include "transports/mount_table.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>

/* A path and as much again for the source and options, with room for escapes. */
#define LINE_MAX_SIZE 32768

int mount_table_type(const char *path, char type[MOUNT_TYPE_MAX], struct error *err)
{
	FILE *table = setmntent("/proc/self/mounts", "re");

	if (!table) {
		return error_set_errno(err, errno, "cannot read /proc/self/mounts");
	}
	char *line cleanup(cleanup_free) = xmalloc(LINE_MAX_SIZE);
	struct mntent entry;
	int found = 0;

	while (getmntent_r(table, &entry, line, LINE_MAX_SIZE)) {
		if (strcmp(entry.mnt_dir, path) == 0) {
			snprintf(type, MOUNT_TYPE_MAX, "%s", entry.mnt_type);
			found = 1;
		}
	}
	endmntent(table);
	return found;
}
