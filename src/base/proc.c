#include "base/proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

int proc_open_memory(void)
{
	return open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

size_t proc_resident_file_bytes(int fd)
{
	char text[128];
	ssize_t n = fd < 0 ? 0 : pread_full(fd, text, sizeof(text) - 1, 0);
	const char *at = text;

	text[MAX(n, 0)] = '\0';
	/* size, resident, shared: in pages. */
	for (int field = 0; at && field < 2; field++) {
		at = strchr(at + 1, ' ');
	}
	return at ? strtoul(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* A line of maps: "start-end perms offset major:minor inode path". Is it of this file? */
static bool is_mapping_of(const char *line, const struct stat *st, unsigned long *start)
{
	const char *at = strchr(line, ' ');
	char *end;

	/* Behind the permissions, then behind the offset. */
	at = at ? strchr(at + 1, ' ') : NULL;
	at = at ? strchr(at + 1, ' ') : NULL;
	if (!at) {
		return false;
	}
	unsigned device_major = (unsigned)strtoul(at, &end, 16);

	if (*end != ':') {
		return false;
	}
	unsigned device_minor = (unsigned)strtoul(end + 1, &end, 16);

	*start = strtoul(line, NULL, 16);
	return strtoul(end, NULL, 10) == st->st_ino &&
	       makedev(device_major, device_minor) == st->st_dev;
}

void *proc_mapping_of(int fd)
{
	unsigned long start;
	void *found = NULL;
	char line[512];
	struct stat st;
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps) {
		return NULL;
	}
	if (fstat(fd, &st) == 0) {
		while (!found && fgets(line, sizeof(line), maps)) {
			if (is_mapping_of(line, &st, &start)) {
				found = (void *)start;
			}
		}
	}
	fclose(maps);
	return found;
}

bool proc_is_dying(uint32_t tid)
{
	static const char label[] = "\nSigPnd:";
	char path[32];
	char text[4096];

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/status", tid);
	int fd cleanup(cleanup_close) = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : pread_full(fd, text, sizeof(text) - 1, 0);

	text[MAX(n, 0)] = '\0';
	const char *pending = strstr(text, label);

	return !pending ||
	       (strtoull(pending + strlen(label), NULL, 16) & (1ull << (SIGKILL - 1))) != 0;
}
