#include "base/disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

static unsigned number_in(const char *path)
{
	int fd cleanup(cleanup_close) = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n = fd < 0 ? 0 : pread_full(fd, text, sizeof(text) - 1, 0);

	text[MAX(n, 0)] = '\0';
	return (unsigned)strtoul(text, NULL, 10);
}

unsigned disk_read_ahead(dev_t device)
{
	char path[64];

	/* Of a disk, or a file system without one; then of a partition. */
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device),
		 minor(device));
	unsigned kib = number_in(path);

	if (kib == 0) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../queue/read_ahead_kb",
			 major(device), minor(device));
		kib = number_in(path);
	}
	return kib;
}

int64_t disk_cached(int fd, uint64_t offset, uint64_t len)
{
	/* struct cachestat_range and struct cachestat of linux/mman.h */
	uint64_t range[2] = {offset, len};
	uint64_t counts[5] = {0}; /* the first: pages in the cache */

	return syscall(DISK_CACHESTAT, fd, range, counts, 0) == 0
		       ? (int64_t)counts[0] * sysconf(_SC_PAGESIZE)
		       : -1;
}
