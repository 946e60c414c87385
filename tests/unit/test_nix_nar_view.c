/* nix/nar_view.h: ranges of NARs. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "nar_tree.h"
#include "nix/nar_view.h"
#include "nix_vectors.h"
#include "services/memory.h"

static struct nar_view *view_of(const struct node *node)
{
	struct nar_view *v = NULL;

	assert_int_equal(nar_view_new(&nar_store, node, &v, NULL), 0);
	return v;
}

/* One range, in a buffer of exactly its size. */
static void assert_range(struct nar_view *v, struct bytes nar, uint64_t offset, size_t len)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(len);
	size_t expected = (size_t)MIN(len, nar.len - MIN(offset, nar.len));
	size_t got = SIZE_MAX;

	assert_int_equal(nar_view_pread(v, buf, len, offset, &got, NULL), 0);
	assert_int_equal(got, expected);
	if (got) {
		assert_memory_equal(buf, nar.ptr + offset, got);
	}
}

static void assert_sequential(struct nar_view *v, struct bytes nar, size_t piece)
{
	for (uint64_t at = 0; at < nar.len; at += piece) {
		assert_range(v, nar, at, piece);
	}
}

static void assert_random(struct nar_view *v, struct bytes nar, struct dice *dice,
			  unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t offset = dice_below(dice, nar.len + 10);

		assert_range(v, nar, offset,
			     dice_below(dice, dice_below(dice, 50) ? 300 : nar.len));
	}
}

static void test_small(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node empty = nar_put_directory(b);

	nar_add(b, "content", nar_put_blob(bytes_of_string("content"), true));
	nar_add(b, "directory", empty);
	nar_add(b, "nothing", nar_put_blob(bytes_of(NULL, 0), false));
	nar_add(b, "target", craft_symlink_node("target"));
	struct node nodes[] = {nar_put_directory(b), empty, craft_symlink_node("x"),
			       nar_put_blob(bytes_of_string("a file alone"), false)};

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		struct nar_view *v cleanup(cleanup_nar_view) = view_of(&nodes[i]);
		struct buffer nar cleanup(cleanup_buffer) = {0};

		nar_expected(&nar, &nodes[i]);
		assert_int_equal(nar_view_size(v), nar.len);
		for (size_t piece = 1; piece < 60; piece++) {
			assert_sequential(v, buffer_bytes(&nar), piece);
		}
		for (uint64_t at = nar.len + 1; at > 0; at--) {
			assert_range(v, buffer_bytes(&nar), at - 1, 17);
		}
		assert_range(v, buffer_bytes(&nar), UINT64_MAX, 1);
		assert_range(v, buffer_bytes(&nar), 0, 0);
	}
}

static void test_random_trees(void **state unused)
{
	for (uint64_t seed = 300; seed < 306; seed++) {
		struct dice dice = {.state = seed};
		struct node tree = nar_put_random_tree(&dice, 4);
		struct nar_view *v cleanup(cleanup_nar_view) = view_of(&tree);
		struct buffer nar cleanup(cleanup_buffer) = {0};

		nar_expected(&nar, &tree);
		assert_int_equal(nar_view_size(v), nar.len);
		assert_sequential(v, buffer_bytes(&nar), 65536);
		assert_sequential(v, buffer_bytes(&nar), 4001);
		assert_random(v, buffer_bytes(&nar), &dice, 80);
		assert_range(v, buffer_bytes(&nar), 0, nar.len + 1);
	}
}

static void test_wide(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct dice dice = {.state = 30};
	struct buffer nar cleanup(cleanup_buffer) = {0};
	char name[32];

	for (unsigned i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		nar_add(b, name, nar_put_random_blob(&dice, dice_below(&dice, 100)));
	}
	struct node tree = nar_put_directory(b);
	struct nar_view *v cleanup(cleanup_nar_view) = view_of(&tree);

	nar_expected(&nar, &tree);
	assert_random(v, buffer_bytes(&nar), &dice, 2000);
}

static void test_depth(void **state unused)
{
	struct node deepest = nar_put_deep(NAR_DEPTH_MAX);
	struct node deeper = nar_put_deep(NAR_DEPTH_MAX + 1);
	struct nar_view *v cleanup(cleanup_nar_view) = view_of(&deepest);
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct nar_view *none = NULL;
	struct dice dice = {.state = 31};

	nar_expected(&nar, &deepest);
	assert_random(v, buffer_bytes(&nar), &dice, 50);
	assert_int_equal(nar_view_new(&nar_store, &deeper, &none, NULL), -ERROR_LIMIT);
	assert_null(none);
}

/* Each directory has the one below twice: 60 of them are a NAR that nobody can hold. */
static void test_too_large(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node node = nar_put_blob(bytes_of_string("x"), false);
	struct nar_view *v = NULL;
	struct error err = {0};

	for (unsigned i = 0; i < 60; i++) {
		nar_add(b, "a", node);
		nar_add(b, "b", node);
		node = nar_put_directory(b);
		if (i == 40) {
			uint8_t last[16];
			size_t got;

			v = view_of(&node);
			assert_true(nar_view_size(v) > (uint64_t)1 << 48);
			assert_int_equal(
				nar_view_pread(v, last, 16, nar_view_size(v) - 16, &got, NULL),
				0);
			assert_int_equal(got, 16);
			assert_memory_equal(last, "\1\0\0\0\0\0\0\0)\0\0\0\0\0\0\0", 16);
			nar_view_free(v);
			v = NULL;
		}
	}
	assert_int_equal(nar_view_new(&nar_store, &node, &v, &err), -ERROR_LIMIT);
	assert_non_null(strstr(err.text, "more than 9223372036854775807 bytes"));
	node = craft_file_node(1, UINT64_MAX, false);
	assert_int_equal(nar_view_new(&nar_store, &node, &v, NULL), -ERROR_LIMIT);
}

/* ---- What is not there, or not right ---- */

static void test_absent_directory(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node absent = craft_directory_node(8, 3);
	struct nar_view *v = NULL;
	struct error err = {0};

	nar_add(b, "a", absent);
	struct node tree = nar_put_directory(b);

	assert_int_equal(nar_view_new(&nar_store, &tree, &v, &err), -ERROR_UNAVAILABLE);
	assert_non_null(strstr(err.text, digest_text(&absent.digest)));
	/* One that goes away later. */
	struct node deep = nar_put_deep(3);
	uint8_t buf[100];
	size_t got;

	v = view_of(&deep);
	assert_true(memory_directory_remove(nar_store.directories, &deep.digest));
	assert_int_equal(nar_view_pread(v, buf, 24, 0, &got, NULL), 0);
	assert_int_equal(nar_view_pread(v, buf, 100, 0, &got, &err), -ERROR_UNAVAILABLE);
	assert_non_null(strstr(err.text, digest_text(&deep.digest)));
	nar_view_free(v);
}

/* Ranges without the blob are there; those with it say which one. */
static void assert_blob_fault(struct node file, enum error_code code)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct error err = {0};
	uint8_t buf[400];
	size_t got = 77;

	nar_add(b, "a", file);
	nar_add(b, "b", nar_put_blob(bytes_of_string("good"), false));
	struct node tree = nar_put_directory(b);
	struct nar_view *v cleanup(cleanup_nar_view) = view_of(&tree);
	uint64_t good = nar_view_size(v) - 100;

	assert_int_equal(nar_view_pread(v, buf, 300, 0, &got, &err), -(int)code);
	assert_non_null(strstr(err.text, digest_text(&file.digest)));
	assert_int_equal(got, 77);
	assert_int_equal(nar_view_pread(v, buf, 100, good, &got, NULL), 0);
	assert_int_equal(nar_view_pread(v, buf, 200, 0, &got, NULL), 0);
}

static void test_blob_faults(void **state unused)
{
	struct node file = nar_put_blob(bytes_of_string("some content"), false);

	file.size++;
	assert_blob_fault(file, ERROR_CORRUPT);
	file.size -= 2;
	assert_blob_fault(file, ERROR_CORRUPT);
	assert_blob_fault(craft_file_node(7, 100, false), ERROR_UNAVAILABLE);
}

static void test_bad_target(void **state unused)
{
	struct node node = craft_symlink_node("");
	struct nar_view *v = NULL;

	assert_int_equal(nar_view_new(&nar_store, &node, &v, NULL), -ERROR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_random_trees, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_wide, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_depth, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_too_large, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_absent_directory, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_blob_faults, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_bad_target, nar_setup, nar_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
