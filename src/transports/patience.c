#include "transports/patience.h"

#include <sched.h>

#include "base/moment.h"

/* About what a wake-up costs on a virtual machine. */
#define LINGER_NS 50000u

void patience_init(struct patience *p)
{
	cpu_set_t set;
	bool others = sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;

	/* With only one processor allowed there is no other one that work could come from. */
	*p = (struct patience){.limit_ns = others ? LINGER_NS : 0};
}

bool patience_lasts(struct patience *p)
{
	uint64_t now = moment_now_ns();

	p->since = p->since ? p->since : now;
	if (now - p->since >= p->limit_ns) {
		return false;
	}
	sched_yield();
	return true;
}
