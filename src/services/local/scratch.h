#pragma once

/*
 * Room for unfinished files: each writing process, and each stage, has a folder of its own
 * below tmp/ and holds its flock, so that what a dead process left can be told from what a
 * living one, in whatever PID namespace, is working on.
 */

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"

#define SCRATCH_NAME_SIZE 96

struct scratch {
	pthread_mutex_t lock; /* guards the rest */
	int fd;               /* of the folder, locked; -1: none yet */
	char folder[32];
	unsigned long serial;
};

void scratch_init(struct scratch *s);
/* Removes the folder and what is left in it. The next name is in a new one. */
void scratch_clear(struct scratch *s, int store_dirfd);
/* The same, and frees. */
void scratch_done(struct scratch *s, int store_dirfd);
/*
 * A name for a new file, relative to the store's folder. The first call also removes what dead
 * processes left.
 */
int scratch_name(struct scratch *s, int store_dirfd, char out[SCRATCH_NAME_SIZE],
		 struct error *err);
/* Removes what dead processes left; returns how many bytes of the disk that gave back. */
uint64_t scratch_remove_dead(int store_dirfd);
/* Where a file of this name (at most 64 bytes) is in the folder; false: there is no folder. */
bool scratch_find(struct scratch *s, const char *name, char out[SCRATCH_NAME_SIZE]);
