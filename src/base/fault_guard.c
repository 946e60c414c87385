#include "base/fault_guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

struct fault_guard {
	sigjmp_buf jump;
	const char *start;
	size_t len;
	struct fault_guard *outer;
};

static _Thread_local struct fault_guard *volatile current;

static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;
static struct sigaction previous;

void fault_guard_leave(void)
{
	if (current) {
		siglongjmp(current->jump, 1);
	}
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	const struct fault_guard *g = current;
	const char *at = info->si_addr;

	if (g && (!g->start || (at >= g->start && (size_t)(at - g->start) < g->len))) {
		fault_guard_leave();
	}
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(number, info, context);
	} else {
		/* It comes again at once. */
		sigaction(SIGBUS, &previous, NULL);
	}
}

int fault_guard_install(struct error *err)
{
	/* NODEFER: a handler that is left by a jump would leave the signal blocked. */
	struct sigaction action = {.sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_NODEFER};
	int rc = 0;

	sigemptyset(&action.sa_mask);
	pthread_mutex_lock(&install_lock);
	if (!installed) {
		rc = sigaction(SIGBUS, &action, &previous);
		installed = rc == 0;
	}
	pthread_mutex_unlock(&install_lock);
	return rc == 0 ? 0 : error_set_errno(err, errno, "cannot handle SIGBUS");
}

bool fault_guard_run(void (*run)(void *context), void *context, const void *start, size_t len)
{
	struct fault_guard g = {.start = start, .len = len, .outer = current};

	/* Without the mask of signals, which nothing here changes: that would be a system call.
	 */
	if (sigsetjmp(g.jump, 0) != 0) {
		current = g.outer;
		return false;
	}
	current = &g;
	run(context);
	current = g.outer;
	return true;
}
