#include "base/moment.h"

uint64_t moment_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t moment_now(void)
{
	return moment_now_ns() / 1000000;
}

struct timespec moment_after(uint64_t milliseconds)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += (time_t)(milliseconds / 1000);
	t.tv_nsec += (long)(milliseconds % 1000) * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}
