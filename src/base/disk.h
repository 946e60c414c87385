#pragma once

/* What the system says of the disk that a file system is on, and of what it has cached. */

#include <stdint.h>
#include <sys/types.h>

/* How far the kernel reads ahead there, in KiB; 0 when it does not say. */
unsigned disk_read_ahead(dev_t device);

/*
 * cachestat(2) of Linux 6.5, which libraries do not name yet: the number is that of all
 * machines.
 */
#define DISK_CACHESTAT 451
/* How many bytes of the range of an open file the page cache has; -1 where that is not told. */
int64_t disk_cached(int fd, uint64_t offset, uint64_t len);
