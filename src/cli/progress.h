#pragma once

/*
 * A line on standard error that counts files and bytes while something runs. Drawn by a thread
 * of its own, and only on a terminal; gone when it ends.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct progress {
	const char *verb; /* "imported" */
	const char *noun; /* "objects"; NULL: "files" */
	const _Atomic uint64_t *files;
	const _Atomic uint64_t *bytes;
	/* The rest belongs to progress.c. */
	bool running;
	struct timespec began;
	pthread_t thread;
	pthread_mutex_t lock; /* guards stop */
	pthread_cond_t changed;
	bool stop;
};

/* Starts drawing, if wanted and if there is a terminal. The members above are set. */
void progress_start(struct progress *p, bool wanted);
/* Erases the line. */
void progress_stop(struct progress *p);

/* "1.2 GiB" in one of four buffers of the calling thread. */
const char *progress_size(uint64_t bytes);
