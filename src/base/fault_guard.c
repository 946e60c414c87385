#include "base/fault_guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

struct fault_guard {
	sigjmp_buf jump;
	struct fault_guard *outer;
};

static const int signals[] = {SIGBUS, SIGSEGV};

static _Thread_local struct fault_guard *volatile current;
static _Thread_local bool unblocked; /* in this thread, the signals */

static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous[ARRAY_SIZE(signals)];

void fault_guard_leave(void)
{
	if (current) {
		siglongjmp(current->jump, 1);
	}
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	const struct sigaction *before = &previous[number == signals[0] ? 0 : 1];

	/* Not what somebody sent. */
	if (info->si_code > 0) {
		fault_guard_leave();
	}
	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(number, info, context);
		return;
	}
	/* A fault comes again at once; what was sent does not. */
	sigaction(number, before, NULL);
	if (info->si_code <= 0) {
		raise(number);
	}
}

/* Once, and once more whenever somebody else has put a handler in place. */
static int install(size_t i)
{
	/* NODEFER: a handler that is left by a jump would leave the signal blocked. */
	struct sigaction action = {.sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction before;

	sigemptyset(&action.sa_mask);
	if (sigaction(signals[i], NULL, &before) != 0) {
		return errno;
	}
	if (before.sa_sigaction == on_fault) {
		return 0;
	}
	previous[i] = before;
	return sigaction(signals[i], &action, NULL) == 0 ? 0 : errno;
}

int fault_guard_install(struct error *err)
{
	int failed = 0;

	pthread_mutex_lock(&install_lock);
	for (size_t i = 0; failed == 0 && i < ARRAY_SIZE(signals); i++) {
		failed = install(i);
	}
	pthread_mutex_unlock(&install_lock);
	return failed ? error_set_errno(err, failed, "cannot handle faults of memory") : 0;
}

/* Threads are often started with all signals blocked: then a fault would end the process. */
static void unblock(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		sigaddset(&set, signals[i]);
	}
	unblocked = pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0;
}

bool fault_guard_run(void (*run)(void *context), void *context)
{
	struct fault_guard g = {.outer = current};

	if (!unblocked) {
		unblock();
	}
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
