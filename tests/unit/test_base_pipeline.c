/* base/pipeline.h: order, exclusion, what runs after what, failures. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/pipeline.h"
#include "craft.h"

#define SLOTS 5

enum { FIRST, SIDE, BOTH, LAST };

struct line {
	struct {
		uint64_t number;
		uint64_t square, triple;
	} slots[SLOTS];
	atomic_uint inside[LAST + 1]; /* threads in a stage now */
	_Atomic uint64_t first;       /* numbers seen by the ordered stages */
	uint64_t both;
	uint64_t sum;
	unsigned fail_stage;
	uint64_t fail_at; /* 0: never */
	atomic_bool cancel;
};

static void spin(uint64_t seed)
{
	struct dice d = {.state = seed};
	volatile uint64_t sink = 0;

	for (uint64_t i = dice_below(&d, 3000); i > 0; i--) {
		sink += i;
	}
	(void)sink;
}

static int outcome(const struct line *l, unsigned stage, uint64_t number, struct error *err)
{
	if (l->fail_at && l->fail_stage == stage && number == l->fail_at) {
		return error_set(err, ERROR_CORRUPT, "stage %u of %ju", stage,
				 (uintmax_t)number);
	}
	return 0;
}

/* Ordered: alone, and in the order of numbers. */
static int run_first(void *context, size_t slot, struct error *err)
{
	struct line *l = context;
	uint64_t number = l->slots[slot].number;

	assert_int_equal(atomic_fetch_add(&l->inside[FIRST], 1), 0);
	assert_int_equal(number, atomic_fetch_add(&l->first, 1) + 1);
	spin(number);
	atomic_fetch_sub(&l->inside[FIRST], 1);
	return outcome(l, FIRST, number, err);
}

static int run_side(void *context, size_t slot, struct error *err)
{
	struct line *l = context;
	uint64_t number = l->slots[slot].number;

	assert_true(atomic_fetch_add(&l->inside[SIDE], 1) < SLOTS);
	spin(number * 3);
	l->slots[slot].square = number * number;
	atomic_fetch_sub(&l->inside[SIDE], 1);
	return outcome(l, SIDE, number, err);
}

static int run_both(void *context, size_t slot, struct error *err)
{
	struct line *l = context;
	uint64_t number = l->slots[slot].number;

	assert_int_equal(atomic_fetch_add(&l->inside[BOTH], 1), 0);
	assert_int_equal(number, ++l->both);
	assert_true(l->first >= number);
	assert_int_equal(l->slots[slot].square, number * number);
	l->slots[slot].triple = number * 3;
	atomic_fetch_sub(&l->inside[BOTH], 1);
	return outcome(l, BOTH, number, err);
}

static int run_last(void *context, size_t slot, struct error *err)
{
	struct line *l = context;
	uint64_t number = l->slots[slot].number;

	assert_int_equal(l->slots[slot].triple, number * 3);
	l->sum += l->slots[slot].square;
	return outcome(l, LAST, number, err);
}

static struct pipeline_plan plan_of(struct line *l, unsigned threads)
{
	return (struct pipeline_plan){
		.stages = {[FIRST] = {.run = run_first, .ordered = true},
			   [SIDE] = {.run = run_side},
			   [BOTH] = {.run = run_both,
				     .ordered = true,
				     .after = 1u << FIRST | 1u << SIDE},
			   [LAST] = {.run = run_last, .ordered = true, .after = 1u << BOTH}},
		.stage_count = LAST + 1,
		.slot_count = SLOTS,
		.threads = threads,
		.context = l,
		.cancel = &l->cancel,
	};
}

/* Puts so many numbers through; nothing of a slot is left over from the one before. */
static int run_line(struct line *l, unsigned threads, uint64_t count, struct error *err)
{
	struct pipeline_plan plan = plan_of(l, threads);
	struct pipeline *p cleanup(cleanup_pipeline) = pipeline_new(&plan);
	int rc = 0;

	for (uint64_t number = 1; rc == 0 && number <= count; number++) {
		size_t slot;

		rc = pipeline_claim(p, &slot, err);
		if (rc == 0) {
			l->slots[slot].number = number;
			l->slots[slot].square = l->slots[slot].triple = 0;
			pipeline_publish(p);
		}
	}
	return rc ? rc : pipeline_finish(p, err);
}

static uint64_t sum_of_squares(uint64_t n)
{
	return n * (n + 1) * (2 * n + 1) / 6;
}

static void test_all_pass(void **state unused)
{
	static const uint64_t counts[] = {0, 1, 2, SLOTS - 1, SLOTS, SLOTS + 1, 2000};

	for (unsigned threads = 0; threads <= 4; threads++) {
		for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
			struct line l = {0};

			assert_int_equal(run_line(&l, threads, counts[i], NULL), 0);
			assert_int_equal(l.sum, sum_of_squares(counts[i]));
			assert_int_equal(l.both, counts[i]);
		}
	}
}

/* The failure is told, and what comes after it in order never happens. */
static void test_failure(void **state unused)
{
	for (unsigned stage = FIRST; stage <= LAST; stage++) {
		for (unsigned threads = 1; threads <= 3; threads++) {
			struct line l = {.fail_stage = stage, .fail_at = 7};
			struct error err = {0};
			char text[40];

			assert_int_equal(run_line(&l, threads, 500, &err), -ERROR_CORRUPT);
			snprintf(text, sizeof(text), "stage %u of 7", stage);
			assert_string_equal(err.text, text);
			assert_true(l.first <= 7 + SLOTS);
			assert_true(stage != FIRST || l.first == 7);
			assert_true(stage != BOTH || l.both == 7);
		}
	}
}

static void test_failure_at_the_end(void **state unused)
{
	struct line l = {.fail_stage = LAST, .fail_at = 3};

	assert_int_equal(run_line(&l, 2, 3, NULL), -ERROR_CORRUPT);
}

static void test_cancel(void **state unused)
{
	struct line l = {.cancel = true};
	struct error err = {0};

	assert_int_equal(run_line(&l, 2, 10, &err), -ERROR_CANCELED);
	assert_int_equal(err.code, ERROR_CANCELED);
	assert_int_equal(l.first, 0);
}

/* Slots may be under way when all is given up. */
static void test_free_early(void **state unused)
{
	for (unsigned published = 0; published <= SLOTS; published++) {
		struct line l = {0};
		struct pipeline_plan plan = plan_of(&l, 3);
		struct pipeline *p = pipeline_new(&plan);

		for (unsigned i = 0; i < published; i++) {
			size_t slot;

			assert_int_equal(pipeline_claim(p, &slot, NULL), 0);
			l.slots[slot].number = i + 1;
			pipeline_publish(p);
		}
		pipeline_free(p);
		assert_true(l.first <= published);
	}
	pipeline_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_pass),           cmocka_unit_test(test_failure),
		cmocka_unit_test(test_failure_at_the_end), cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_free_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
