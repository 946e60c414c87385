#pragma once

/*
 * One thread for what nobody waits for. It starts with the first job; the jobs run one after
 * the other.
 */

#include <stdbool.h>

struct background;

struct background_job {
	/* Runs and frees the job. */
	void (*run)(struct background_job *j, struct background *b);
	/* Frees it when it will not run. */
	void (*free)(struct background_job *j);
	struct background_job *next;
};

struct background *background_new(void);
/* Waits for all jobs; or for the one that runs, and those that wait are freed. */
void background_finish(struct background *b);
void background_cancel(struct background *b);
/* Takes over the job, and frees it when too many wait or no thread can be had. */
void background_add(struct background *b, struct background_job *j);
/* For long jobs: they should end now. */
bool background_stopping(struct background *b);
