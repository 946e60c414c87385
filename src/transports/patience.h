#pragma once

/*
 * To wake a sleeping thread on another processor takes longer than most requests do, and the
 * next request mostly comes at once: so a thread without work looks again for a moment before
 * it sleeps, while whoever else wants the processor gets it.
 */

#include <stdbool.h>
#include <stdint.h>

struct patience {
	uint64_t limit_ns;
	uint64_t since; /* 0: there was work just now */
};

void patience_init(struct patience *p);

/* There was work. */
static inline void patience_renew(struct patience *p)
{
	p->since = 0;
}

/* There was none. True: look again, others have had the processor meanwhile; false: sleep. */
bool patience_lasts(struct patience *p);
