#pragma once

/*
 * The holder of a mount: a process that opens no store and answers nothing, but holds the open
 * /dev/fuse and the memory of the session (fs/keep.h). It starts the server, and another one
 * when that dies, which goes on with the mount; and one of another program, when it is asked to
 * (cairn upgrade).
 */

#include <stdbool.h>

#define HOLDER_RESTARTS_MAX 10000u

struct holder_options {
	const char *mountpoint; /* absolute */
	bool foreground;
	bool demanded;     /* what cannot be is worth a warning */
	unsigned restarts; /* within a minute; one more, and the mount ends */
	int ready_fd;      /* where the exit code goes once it is known; -1: nowhere */
	void (*leave_terminal)(void);
};

/*
 * Starts this program's command again, as the server, and returns the exit code when the mount
 * has ended.
 */
int holder_run(const struct holder_options *o);
