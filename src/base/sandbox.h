#pragma once

/*
 * Takes from this process what it will never need again, so that somebody who takes it over
 * gains little: its capabilities, the paths outside what it serves, and the system calls that a
 * server of files has no use for. There is no way back.
 */

#include <stdbool.h>

#include "base/error.h"

struct sandbox_options {
	/* Folders below which files may be opened for reading; none: nothing can be opened. */
	char *const *readable;
	size_t readable_count;
	/* A folder whose files may be unlinked; NULL: nothing can be. */
	const char *removable;
};

/*
 * For a process that listens, reads files and talks over what it has open; descriptors that are
 * open stay as they are. Call it in the only thread there is: those that start later are
 * inside. *paths_confined: whether the kernel can (Landlock, Linux 5.13). Where it cannot,
 * files can be opened for reading wherever the process may, and nothing can be unlinked.
 * Everything else holds when this returns 0.
 */
int sandbox_enter(const struct sandbox_options *o, bool *paths_confined, struct error *err);
