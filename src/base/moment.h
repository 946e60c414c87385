#pragma once

/* Time, as waiting needs it. */

#include <stdint.h>
#include <time.h>

/* Milliseconds of a clock that only goes forward. */
uint64_t moment_now(void);
/* So many milliseconds from now, by the clock of pthread_cond_timedwait(). */
struct timespec moment_after(uint64_t milliseconds);
