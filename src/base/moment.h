#pragma once

/* Time, as waiting needs it. */

#include <stdint.h>
#include <time.h>

/* A clock that only goes forward, in milliseconds and in nanoseconds. */
uint64_t moment_now(void);
uint64_t moment_now_ns(void);
/* So many milliseconds from now, by the clock of pthread_cond_timedwait(). */
struct timespec moment_after(uint64_t milliseconds);
