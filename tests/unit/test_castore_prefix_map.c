/* castore/prefix_map.h */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "castore/prefix_map.h"
#include "craft.h"

#define KEYS 200000u

static struct digest key_of(uint64_t i)
{
	struct dice dice = {i / 2};
	struct digest d;

	dice_fill(&dice, d.bytes, sizeof(d.bytes));
	/* Neighbours differ in one byte only, of those that count. */
	d.bytes[9] ^= (uint8_t)(i % 2);
	return d;
}

static void test_many(void **state unused)
{
	struct prefix_map m = {0};

	for (uint64_t i = 0; i < KEYS; i++) {
		struct digest key = key_of(i);

		assert_null(prefix_map_get(&m, &key));
		uint64_t *value = prefix_map_put(&m, &key);

		assert_non_null(value);
		assert_int_equal(*value, 0);
		*value = i + 1;
	}
	for (uint64_t i = 0; i < KEYS; i++) {
		struct digest key = key_of(i);

		assert_int_equal(*prefix_map_get(&m, &key), i + 1);
		*prefix_map_put(&m, &key) += 1;
		assert_int_equal(*prefix_map_get(&m, &key), i + 2);
	}
	prefix_map_done(&m);
	assert_null(prefix_map_get(&m, &(struct digest){0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
