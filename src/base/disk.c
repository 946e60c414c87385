#include "base/disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

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
