#pragma once

/* What the clients take the time with. */

#include <err.h>
#include <time.h>

static inline double seconds_of(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) != 0) {
		err(1, "clock_gettime");
	}
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline double seconds_now(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

static inline double cpu_seconds_now(void)
{
	return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}
