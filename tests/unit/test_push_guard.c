/* The one who stands in for a reader that waits for itself. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <semaphore.h>

#include "transports/push_guard.h"

#define TIMES 20

/* A request that somebody waits for, and that only the one who stands in answers. */
struct request {
	sem_t asked;
	sem_t answered;
};

static void answer(void *context)
{
	struct request *r = context;

	if (sem_trywait(&r->asked) == 0) {
		sem_post(&r->answered);
	}
}

static int setup(void **state)
{
	static struct request r;

	assert_int_equal(sem_init(&r.asked, 0, 0), 0);
	assert_int_equal(sem_init(&r.answered, 0, 0), 0);
	*state = &r;
	return 0;
}

/* Without it this never ends. */
static void test_stands_in(void **state)
{
	struct request *r = *state;
	struct push_guard *g = push_guard_new(answer, r);

	for (unsigned i = 0; i < TIMES; i++) {
		assert_true(push_guard_enter(g));
		sem_post(&r->asked);
		sem_wait(&r->answered);
		push_guard_leave(g);
	}
	push_guard_free(g);
}

static void test_ends_at_once(void **state)
{
	struct push_guard *g = push_guard_new(answer, *state);

	push_guard_free(g);
	g = push_guard_new(answer, *state);
	assert_true(push_guard_enter(g));
	push_guard_leave(g);
	push_guard_free(g);
	push_guard_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_stands_in, setup),
		cmocka_unit_test_setup(test_ends_at_once, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
