/* nix/path_closure.h: order, sizes, what is missing, and chains that no stack would hold. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "nix/path_closure.h"

static struct store store;
static struct path_info_service *infos;

static int setup(void **state unused)
{
	struct error err;

	if (store_open(&store, "memory://", STORE_CREATE, &err) < 0) {
		return -1;
	}
	infos = path_info_store_new(&store);
	return 0;
}

static int teardown(void **state unused)
{
	path_info_service_unref(infos);
	store_close(&store);
	return 0;
}

static struct store_path path_of(unsigned number)
{
	struct store_path p;
	struct digest d;

	digest_of(&d, bytes_of(&number, sizeof(number)));
	assert_int_equal(store_path_set(&p, d.bytes, bytes_of_string("x"), NULL), 0);
	return p;
}

/* The NAR of a path has 1000 bytes and its number; nothing looks at the tree. */
static void put(unsigned number, const unsigned *references, size_t count)
{
	struct path_info info = {.path = path_of(number), .nar_size = 1000 + number};
	struct node node = {.kind = NODE_FILE, .digest = digest_empty};
	struct store_path paths[8];
	struct error err = {0};

	for (size_t i = 0; i < count; i++) {
		paths[i] = path_of(references[i]);
	}
	root_node_set(&info.node, &node);
	assert_int_equal(path_info_set_references(&info, paths, count, &err), 0);
	if (path_info_service_put(infos, &info, NULL, &err) != 0) {
		fail_msg("%s", err.text);
	}
	path_info_done(&info);
}

static void add(struct path_closure *c, unsigned number)
{
	struct store_path path = path_of(number);
	struct error err = {0};

	if (path_closure_add(c, &path, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static uint64_t size_of(struct path_closure *c, unsigned number)
{
	struct store_path path = path_of(number);

	return path_closure_size(c, &path);
}

/* Each number once, and after all that it refers to but itself. */
static void check_order(const struct path_closure *c)
{
	for (size_t i = 0; i < path_closure_count(c); i++) {
		const struct path_info *info = path_closure_get(c, i);

		for (size_t k = 0; k < info->reference_count; k++) {
			size_t at = 0;

			while (store_path_compare(&path_closure_get(c, at)->path,
						  &info->references[k]) != 0) {
				at++;
				assert_true(at < path_closure_count(c));
			}
			assert_true(at <= i);
		}
	}
}

/* 3 refers to 1 and 2, both to 0; 4 to 3 and 0; all to themselves. */
static void put_diamond(void)
{
	put(0, (unsigned[]){0}, 1);
	put(1, (unsigned[]){0, 1}, 2);
	put(2, (unsigned[]){0, 2}, 2);
	put(3, (unsigned[]){1, 2, 3}, 3);
	put(4, (unsigned[]){3, 0, 4}, 3);
}

static void test_order_and_sizes(void **state unused)
{
	struct path_closure *c = path_closure_new(infos);

	put_diamond();
	assert_int_equal(path_closure_count(c), 0);
	add(c, 3);
	assert_int_equal(path_closure_count(c), 4);
	check_order(c);
	assert_int_equal(size_of(c, 3), 4006);
	assert_int_equal(size_of(c, 0), 1000);
	add(c, 1);
	assert_int_equal(path_closure_count(c), 4);
	add(c, 4);
	assert_int_equal(path_closure_count(c), 5);
	check_order(c);
	assert_int_equal(size_of(c, 4), 5010);
	assert_int_equal(size_of(c, 2), 2002);
	assert_int_equal(size_of(c, 4), 5010);
	path_closure_free(c);
}

static void test_missing(void **state unused)
{
	struct path_closure *c = path_closure_new(infos);
	struct store_path path = path_of(5), other = path_of(6);
	struct error err = {0};

	assert_int_equal(path_closure_add(c, &path, &err), -ERROR_NOT_FOUND);
	assert_non_null(strstr(err.text, store_path_text(&path)));
	path_closure_free(c);

	c = path_closure_new(infos);
	put(5, (unsigned[]){6}, 1);
	assert_int_equal(path_closure_add(c, &path, &err), -ERROR_NOT_FOUND);
	assert_non_null(strstr(err.text, store_path_text(&path)));
	assert_non_null(strstr(err.text, store_path_text(&other)));
	path_closure_free(c);

	/* The hash is there, under another name. */
	c = path_closure_new(infos);
	put(6, NULL, 0);
	assert_int_equal(store_path_set(&other, other.hash, bytes_of_string("y"), NULL), 0);
	assert_int_equal(path_closure_add(c, &other, &err), -ERROR_NOT_FOUND);
	path_closure_free(c);
}

static void test_circle(void **state unused)
{
	struct path_closure *c = path_closure_new(infos);

	put(0, (unsigned[]){2}, 1);
	put(1, (unsigned[]){0}, 1);
	put(2, (unsigned[]){1}, 1);
	add(c, 0);
	assert_int_equal(path_closure_count(c), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(size_of(c, i), 3003);
	}
	path_closure_free(c);
}

static void test_sum_has_a_limit(void **state unused)
{
	struct path_closure *c = path_closure_new(infos);
	struct path_info info = {0};
	struct error err = {0};

	put(0, NULL, 0);
	put(1, (unsigned[]){0}, 1);
	for (unsigned i = 0; i < 2; i++) {
		struct store_path path = path_of(i);

		assert_int_equal(path_info_service_get(infos, path.hash, &info, &err), 1);
		info.nar_size = UINT64_MAX - 5;
		assert_int_equal(path_info_service_put(infos, &info, NULL, &err), 0);
	}
	path_info_done(&info);
	add(c, 1);
	assert_true(size_of(c, 0) == UINT64_MAX - 5);
	assert_true(size_of(c, 1) == UINT64_MAX);
	path_closure_free(c);
}

#define CHAIN 20000

static void test_long_chain(void **state unused)
{
	struct path_closure *c = path_closure_new(infos);
	uint64_t sum = 0;

	for (unsigned i = 0; i < CHAIN; i++) {
		unsigned before = i - 1;

		put(i, &before, i > 0);
		sum += 1000 + i;
	}
	add(c, CHAIN - 1);
	assert_int_equal(path_closure_count(c), CHAIN);
	for (unsigned i = 0; i < CHAIN; i++) {
		assert_int_equal(path_closure_get(c, i)->nar_size, 1000 + i);
	}
	assert_int_equal(size_of(c, CHAIN - 1), sum);
	path_closure_free(c);
	path_closure_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order_and_sizes), TEST(test_missing),    TEST(test_circle),
		TEST(test_sum_has_a_limit), TEST(test_long_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
