#pragma once

/* What the system says of the disk that a file system is on. */

#include <sys/types.h>

/* How far the kernel reads ahead there, in KiB; 0 when it does not say. */
unsigned disk_read_ahead(dev_t device);
