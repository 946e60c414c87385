/* Memory that calls share. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rpc/rpc_budget.h"

static void test_limit(void **state)
{
	struct rpc_budget *b = rpc_budget_new(100);
	struct error err;

	(void)state;
	assert_int_equal(rpc_budget_take(b, 60, 0, 0, &err), 0);
	assert_int_equal(rpc_budget_take(b, 40, 60, 0, &err), 0);
	/* Who holds something does not wait. */
	assert_int_equal(rpc_budget_take(b, 1, 100, 0, &err), -ERROR_LIMIT);
	assert_int_equal(rpc_budget_take(b, 1, 0, 1, &err), -ERROR_LIMIT);
	rpc_budget_give(b, 100);
	/* Nor does who asks for more than there will ever be. */
	assert_int_equal(rpc_budget_take(b, 101, 0, 0, &err), -ERROR_LIMIT);
	assert_int_equal(rpc_budget_take(b, UINT64_MAX, 0, 0, &err), -ERROR_LIMIT);
	assert_int_equal(rpc_budget_take(b, 100, 0, 0, &err), 0);
	rpc_budget_free(b);
}

struct waiting {
	struct rpc_budget *budget;
	int rc;
};

static void *take_all(void *context)
{
	struct waiting *w = context;

	w->rc = rpc_budget_take(w->budget, 100, 0, 0, NULL);
	return NULL;
}

static void test_waiting(void **state)
{
	struct waiting w = {.budget = rpc_budget_new(100), .rc = 1};
	pthread_t thread;

	(void)state;
	assert_int_equal(rpc_budget_take(w.budget, 30, 0, 0, NULL), 0);
	assert_int_equal(rpc_budget_take(w.budget, 30, 0, 0, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, take_all, &w), 0);
	rpc_budget_give(w.budget, 30);
	rpc_budget_give(w.budget, 30);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w.rc, 0);
	rpc_budget_free(w.budget);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
