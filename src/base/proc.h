#pragma once

/* What /proc says of this process. */

#include <stddef.h>

/* Bytes of mapped files that are in its memory; 0 when /proc cannot say. */
size_t proc_resident_file_bytes(void);

/* Where a file is mapped, its first mapping; NULL when it is not or /proc cannot say. */
void *proc_mapping_of(int fd);
