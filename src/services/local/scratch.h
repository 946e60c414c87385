#pragma once

/*
 * Room for unfinished files: each writing process has a folder of its own below tmp/ and holds
 * its flock, so that what a dead process left can be told from what a living one, in whatever
 * PID namespace, is working on.
 */

#include <pthread.h>

#include "base/error.h"

#define SCRATCH_NAME_SIZE 64

struct scratch {
	pthread_mutex_t lock; /* guards the rest */
	int fd;               /* of the folder, locked; -1: none yet */
	char folder[32];
	unsigned long serial;
};

void scratch_init(struct scratch *s);
/* Removes the folder, which must be empty by then, and frees. */
void scratch_done(struct scratch *s, int store_dirfd);
/*
 * A name for a new file, relative to the store's folder. The first call also removes what dead
 * processes left.
 */
int scratch_name(struct scratch *s, int store_dirfd, char out[SCRATCH_NAME_SIZE],
		 struct error *err);
