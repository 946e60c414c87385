/* When processors are kept awake, and when not: what is written to the kernel. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/util.h"
#include "transports/cpu_latency.h"

#define MS UINT64_C(1000000)
#define NOTHING INT32_C(77)

struct kernel {
	struct cpu_latency latency;
	int pipe;
};

static int setup(void **state)
{
	struct kernel *k = xcalloc(1, sizeof(*k));
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	k->pipe = ends[0];
	k->latency.fd = ends[1];
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct kernel *k = *state;

	cpu_latency_done(&k->latency);
	close(k->pipe);
	free(k);
	return 0;
}

static int32_t demanded(struct kernel *k)
{
	int32_t value = NOTHING;
	ssize_t n = read(k->pipe, &value, sizeof(value));

	assert_true(n == sizeof(value) || n < 0);
	return value;
}

static void test_fast_requests_keep_awake(void **state)
{
	struct kernel *k = *state;

	cpu_latency_decide(&k->latency, 1000 * MS);
	assert_int_equal(demanded(k), NOTHING);
	cpu_latency_decide(&k->latency, 1001 * MS);
	assert_int_equal(demanded(k), 0);
	assert_true(k->latency.low);
}

static void test_a_change_is_told_once(void **state)
{
	struct kernel *k = *state;

	for (uint64_t now = 1000 * MS; now < 1010 * MS; now += MS) {
		cpu_latency_decide(&k->latency, now);
	}
	assert_int_equal(demanded(k), 0);
	assert_int_equal(demanded(k), NOTHING);
	cpu_latency_rest(&k->latency);
	cpu_latency_rest(&k->latency);
	assert_int_equal(demanded(k), -1);
	assert_int_equal(demanded(k), NOTHING);
}

static void test_slow_requests_let_sleep(void **state)
{
	struct kernel *k = *state;

	cpu_latency_decide(&k->latency, 1000 * MS);
	cpu_latency_decide(&k->latency, 1001 * MS);
	assert_int_equal(demanded(k), 0);
	cpu_latency_decide(&k->latency, 1021 * MS);
	assert_int_equal(demanded(k), -1);
	assert_false(k->latency.low);
}

static void test_requests_are_counted(void **state)
{
	struct kernel *k = *state;

	for (unsigned i = 0; i < CPU_LATENCY_WINDOW - 1; i++) {
		cpu_latency_count(&k->latency);
	}
	assert_int_equal(k->latency.began_ns, 0);
	cpu_latency_count(&k->latency);
	assert_int_not_equal(k->latency.began_ns, 0);
	assert_int_equal(k->latency.requests, 0);
}

static void test_nothing_is_asked_for(void **state unused)
{
	struct cpu_latency l;

	cpu_latency_init(&l, CPU_LATENCY_ANY);
	assert_int_equal(l.fd, -1);
	for (unsigned i = 0; i < 2 * CPU_LATENCY_WINDOW; i++) {
		cpu_latency_count(&l);
	}
	cpu_latency_rest(&l);
	assert_false(l.low);
	cpu_latency_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fast_requests_keep_awake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_change_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_requests_let_sleep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests_are_counted, setup, teardown),
		cmocka_unit_test(test_nothing_is_asked_for),
	};

	return cmocka_run_group_tests_name("cpu_latency", tests, NULL, NULL);
}
