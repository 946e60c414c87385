#pragma once

/* Threads, started as all of ours are. */

#include <pthread.h>
#include <stddef.h>

/*
 * Starts a thread that runs fn(context); the caller joins it. All signals are blocked in it,
 * for they are left to the program's own threads; but not those of faults, which are the
 * thread's own: blocked, they would end the process, whoever could deal with them
 * (fault_guard.h). stack_size is in bytes, 0 the system's.
 *
 * Returns 0, or the errno of the failure: there are as many threads as may be, or no memory.
 */
int thread_start(pthread_t *thread, size_t stack_size, void *(*fn)(void *context),
		 void *context);
