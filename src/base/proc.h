#pragma once

/* What /proc says of this process, and of others. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What proc_resident_file_bytes() reads, kept open: a process in a sandbox can open nothing
 * there any more. -1 when there is no /proc, which is no fault.
 */
int proc_open_memory(void);
/* Bytes of mapped files that are in its memory; 0 when /proc cannot say. */
size_t proc_resident_file_bytes(int fd);

/* Where a file is mapped, its first mapping; NULL when it is not or /proc cannot say. */
void *proc_mapping_of(int fd);

/*
 * True for a thread that has SIGKILL pending, as all threads of a process have that a signal
 * puts to death; also for one of which /proc says nothing.
 */
bool proc_is_dying(uint32_t tid);
