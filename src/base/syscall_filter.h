#pragma once

/* The system calls that a server of files needs, and no others. The adapter of libseccomp. */

#include <stdbool.h>

#include "base/error.h"

/*
 * For all threads, also those that start later. Calls that only an intruder would make end the
 * process at once; the rest of what is not needed fails with ENOSYS, because a C library that
 * is newer than this list tries new calls and then falls back to old ones. Files can be opened
 * for reading, threads started, but no processes; no memory becomes executable.
 */
int syscall_filter_install(bool may_unlink, struct error *err);
