/* base/thread.h: what a thread that is started so has of its own. */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/thread.h"
#include "base/util.h"

struct seen {
	sigset_t blocked;
	size_t stack_size;
};

static void *look(void *context)
{
	struct seen *seen = context;
	pthread_attr_t attr;

	pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
	if (pthread_getattr_np(pthread_self(), &attr) == 0) {
		pthread_attr_getstacksize(&attr, &seen->stack_size);
		pthread_attr_destroy(&attr);
	}
	return seen;
}

static struct seen seen_in_thread(size_t stack_size)
{
	struct seen seen = {0};
	void *result;
	pthread_t thread;

	assert_int_equal(thread_start(&thread, stack_size, look, &seen), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, &seen);
	return seen;
}

static void test_signals(void **state unused)
{
	static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL};
	static const int others[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE};
	struct seen seen = seen_in_thread(0);
	sigset_t before, after;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		assert_int_equal(sigismember(&seen.blocked, faults[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(sigismember(&seen.blocked, others[i]), 1);
	}
	/* The caller keeps its own. */
	seen_in_thread(0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(sigismember(&after, others[i]),
				 sigismember(&before, others[i]));
	}
}

static void test_stack(void **state unused)
{
	/* More than systems give; its guard is counted in by some. */
	const size_t size = (size_t)64 << 20, guard = (size_t)1 << 20;

	assert_true(seen_in_thread(size).stack_size >= size - guard);
}

static void test_failures(void **state unused)
{
	pthread_t thread;

	assert_int_equal(thread_start(&thread, 1, look, NULL), EINVAL);
	assert_int_equal(thread_start(&thread, (size_t)1 << 60, look, NULL), EAGAIN);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
