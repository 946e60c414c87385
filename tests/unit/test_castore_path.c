/* castore/path.h: names of a path, and what stands at its end. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "castore/path.h"
#include "craft.h"

/* ---- Names ---- */

/* Takes a path apart; the names come joined by '|'. 0, or what path_next failed with. */
static int split(struct bytes path, char *out)
{
	struct bytes name;
	int rc;

	*out = '\0';
	while ((rc = path_next(&path, &name, NULL)) > 0) {
		memcpy(out, name.ptr, name.len);
		out += name.len;
		*out++ = '|';
		*out = '\0';
	}
	return rc;
}

static void test_names(void **state unused)
{
	static const struct {
		const char *path, *names;
	} cases[] = {
		{"", ""},
		{"a", "a|"},
		{"a/b", "a|b|"},
		{"abc/.d/...", "abc|.d|...|"},
		{" / /\xff", " | |\xff|"},
	};
	char names[64];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(split(bytes_of_string(cases[i].path), names), 0);
		assert_string_equal(names, cases[i].names);
	}
	assert_int_equal(split(bytes_of(NULL, 0), names), 0);
}

static void test_names_refused(void **state unused)
{
	static const char *const bad[] = {"/",   "//",   "/a",  "a/",   "a//b",
					  ".",   "..",   "a/.", "a/..", "a/../b",
					  "./a", "a/b/", "a//", "a/./b"};
	static char longest[257];
	char names[600];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(split(bytes_of_string(bad[i]), names), -ERROR_INVALID);
	}
	assert_int_equal(split(bytes_of("a\0b", 3), names), -ERROR_INVALID);
	memset(longest, 'n', 256);
	assert_int_equal(split(bytes_of(longest, 256), names), -ERROR_INVALID);
	longest[255] = '/';
	longest[256] = 'm';
	assert_int_equal(split(bytes_of(longest, 257), names), 0);
}

static void test_too_long(void **state unused)
{
	struct bytes rest = bytes_of("a", PATH_BYTES_MAX + 1), name;
	struct error err = {0};

	/* Nothing is read. */
	assert_int_equal(path_next(&rest, &name, &err), -ERROR_LIMIT);
	assert_int_equal(err.code, ERROR_LIMIT);
}

/* ---- Look-ups ---- */

#define DIRECTORIES 3

/* root: d/, gone/, f, s -> target. d: below/. below: x, up -> "..". */
struct tree {
	struct directory *directories[DIRECTORIES];
	struct node root, file, gone;
	size_t calls;
	int failure; /* returned by get in place of an answer */
};

static int tree_get(void *context, const struct digest *digest, struct directory **out,
		    struct error *err)
{
	struct tree *t = context;

	t->calls++;
	if (t->failure) {
		return error_set(err, (enum error_code)t->failure, "as asked for");
	}
	for (size_t i = 0; i < DIRECTORIES; i++) {
		if (digest_equal(directory_digest(t->directories[i]), digest)) {
			*out = directory_ref(t->directories[i]);
			return 1;
		}
	}
	return 0;
}

static void add(struct directory_builder *b, const char *name, struct node node)
{
	assert_int_equal(directory_builder_add(b, bytes_of_string(name), &node, NULL), 0);
}

static void tree_init(struct tree *t)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();

	*t = (struct tree){.file = craft_file_node(7, 70, true),
			   .gone = craft_directory_node(8, 80)};
	add(b, "x", t->file);
	add(b, "up", craft_symlink_node(".."));
	assert_int_equal(directory_builder_finish(b, &t->directories[0], NULL), 0);
	add(b, "below", directory_node(t->directories[0]));
	assert_int_equal(directory_builder_finish(b, &t->directories[1], NULL), 0);
	add(b, "d", directory_node(t->directories[1]));
	add(b, "gone", t->gone);
	add(b, "f", t->file);
	add(b, "s", craft_symlink_node("target"));
	assert_int_equal(directory_builder_finish(b, &t->directories[2], NULL), 0);
	t->root = directory_node(t->directories[2]);
}

static void tree_done(struct tree *t)
{
	for (size_t i = 0; i < DIRECTORIES; i++) {
		directory_unref(t->directories[i]);
	}
}

static int setup(void **state)
{
	struct tree *t = xcalloc(1, sizeof(*t));

	tree_init(t);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	tree_done(*state);
	free(*state);
	return 0;
}

static void assert_at(struct tree *t, const char *path, const struct node *want)
{
	struct buffer storage cleanup(cleanup_buffer) = {0};
	struct error err = {0};
	struct node got;

	if (path_lookup(&t->root, bytes_of_string(path), tree_get, t, &got, &storage, &err) !=
	    1) {
		fail_msg("\"%s\": %s", path, err.text);
	}
	assert_true(node_equal(&got, want));
	if (want->kind == NODE_SYMLINK) {
		assert_ptr_equal(got.target.ptr, storage.ptr);
	}
}

/* 0 or a failure, and nothing is written. */
static void assert_not_at(struct tree *t, const char *path, int rc)
{
	struct buffer storage cleanup(cleanup_buffer) = {0};
	struct node before = craft_file_node(99, 99, false), got = before;
	struct error err = {0};

	assert_int_equal(
		path_lookup(&t->root, bytes_of_string(path), tree_get, t, &got, &storage, &err),
		rc);
	assert_int_equal(err.code, -rc);
	assert_true(node_equal(&got, &before));
}

static void test_found(void **state)
{
	struct tree *t = *state;
	struct node below = directory_node(t->directories[0]);
	struct node d = directory_node(t->directories[1]);
	struct node s = craft_symlink_node("target"), up = craft_symlink_node("..");

	assert_at(t, "", &t->root);
	assert_int_equal(t->calls, 0);
	assert_at(t, "f", &t->file);
	assert_at(t, "s", &s);
	assert_at(t, "d", &d);
	/* The node of a directory is known without the directory. */
	assert_at(t, "gone", &t->gone);
	assert_int_equal(t->calls, 4);
	assert_at(t, "d/below", &below);
	assert_at(t, "d/below/x", &t->file);
	assert_at(t, "d/below/up", &up);
}

static void test_absent(void **state)
{
	struct tree *t = *state;

	assert_not_at(t, "no", 0);
	assert_not_at(t, "no/way", 0);
	assert_not_at(t, "d/no", 0);
	assert_not_at(t, "d/below/no/more", 0);
	/* Below what is no directory; symlinks are not followed. */
	assert_not_at(t, "f/x", 0);
	assert_not_at(t, "s/x", 0);
	assert_not_at(t, "d/below/up/x", 0);
}

static void test_unreachable(void **state)
{
	struct tree *t = *state;

	assert_not_at(t, "gone/x", -ERROR_UNAVAILABLE);
	t->failure = ERROR_CORRUPT;
	assert_not_at(t, "d/below", -ERROR_CORRUPT);
	t->failure = ERROR_TIMEOUT;
	assert_not_at(t, "no", -ERROR_TIMEOUT);
}

/* The whole path must be one, also where a name on its way is absent. */
static void test_invalid(void **state)
{
	static const char *const bad[] = {"/",     "d/",     "d//below",  "..",
					  "no/..", "f/../d", "d/below/.", "no//"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_not_at(*state, bad[i], -ERROR_INVALID);
	}
}

static void test_other_roots(void **state)
{
	struct tree *t = *state;
	struct node s = craft_symlink_node("elsewhere");

	t->root = t->file;
	assert_at(t, "", &t->file);
	assert_not_at(t, "x", 0);
	t->root = s;
	assert_at(t, "", &s);
	assert_not_at(t, "x", 0);
	t->root = t->gone;
	assert_at(t, "", &t->gone);
	assert_not_at(t, "x", -ERROR_UNAVAILABLE);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_names_refused),
		cmocka_unit_test(test_too_long),
		TEST(test_found),
		TEST(test_absent),
		TEST(test_unreachable),
		TEST(test_invalid),
		TEST(test_other_roots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
