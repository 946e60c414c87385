#include "suite.h"

#include <stdio.h>

static struct bytes named(const char *name)
{
	return bytes_of_string(name);
}

static void check_root(struct root_nodes *r, struct bytes name, const struct node *wanted)
{
	struct root_node found = {0};

	expect(1, root_nodes_lookup(r, name, &found, &err));
	assert_true(node_equal(&found.node, wanted));
	root_node_done(&found);
}

static void check_root_absent(struct root_nodes *r, struct bytes name)
{
	struct root_node found = {0};

	expect(0, root_nodes_lookup(r, name, &found, &err));
	root_node_done(&found);
}

static struct node some_directory(uint8_t seed)
{
	return (struct node){
		.kind = NODE_DIRECTORY, .digest = unknown_digest(seed), .size = seed};
}

static void test_absent(void **state)
{
	struct fixture *f = *state;

	check_root_absent(f->store.roots, named("nothing"));
	expect(0, root_nodes_remove(f->store.roots, named("nothing"), &err));
}

static void test_kinds(void **state)
{
	struct fixture *f = *state;
	struct root_nodes *r = f->store.roots;
	char target[NODE_TARGET_MAX + 1];

	memset(target, 't', NODE_TARGET_MAX);
	target[NODE_TARGET_MAX] = '\0';
	const struct node nodes[] = {
		some_directory(1),
		{.kind = NODE_DIRECTORY, .digest = unknown_digest(1), .size = UINT64_MAX},
		make_file(named("plain"), false),
		make_file(named("plain"), true),
		{.kind = NODE_FILE, .digest = digest_empty, .size = 0},
		make_symlink("/an/absolute/target"),
		make_symlink("\xff\xfe"),
		make_symlink(target),
	};
	struct root_node found = {0};

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		expect(0, root_nodes_put(r, named("name"), &nodes[i], true, &err));
		expect(1, root_nodes_lookup(r, named("name"), &found, &err));
		assert_true(node_equal(&found.node, &nodes[i]));
	}
	/* Each lookup replaced what the last one had found. */
	root_node_done(&found);
}

static void test_replace(void **state)
{
	struct fixture *f = *state;
	struct root_nodes *r = f->store.roots;
	struct node first = some_directory(1);
	struct node second = some_directory(2);

	expect(0, root_nodes_put(r, named("root"), &first, false, &err));
	expect(0, root_nodes_put(r, named("root"), &first, false, &err));
	expect_error(ERROR_EXISTS, root_nodes_put(r, named("root"), &second, false, &err));
	check_root(r, named("root"), &first);
	expect(0, root_nodes_put(r, named("root"), &second, true, &err));
	check_root(r, named("root"), &second);
	expect(0, root_nodes_put(r, named("root"), &second, true, &err));
	check_root(r, named("root"), &second);
}

static void test_remove(void **state)
{
	struct fixture *f = *state;
	struct root_nodes *r = f->store.roots;
	struct node node = some_directory(1);
	struct node other = some_directory(2);

	expect(0, root_nodes_put(r, named("a"), &node, false, &err));
	expect(0, root_nodes_put(r, named("ab"), &node, false, &err));
	expect(1, root_nodes_remove(r, named("a"), &err));
	check_root_absent(r, named("a"));
	check_root(r, named("ab"), &node);
	expect(0, root_nodes_remove(r, named("a"), &err));
	expect(0, root_nodes_put(r, named("a"), &other, false, &err));
	check_root(r, named("a"), &other);
}

struct listing {
	struct buffer names[64];
	size_t count;
	size_t stop_at; /* visit returns false after this many */
};

static bool take(void *context, struct bytes name, const struct node *node)
{
	struct listing *l = context;

	assert_true(l->count < ARRAY_SIZE(l->names) && l->count < l->stop_at);
	assert_int_equal(node->kind, NODE_SYMLINK);
	/* Each root here is a symlink to its own name. */
	assert_true(bytes_equal(node->target, name));
	buffer_append(&l->names[l->count++], name.ptr, name.len);
	return l->count < l->stop_at;
}

static void listing_done(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++) {
		buffer_done(&l->names[i]);
	}
	l->count = 0;
}

static const char long_name[] =
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

/* In the order of bytes, which is no locale's. */
static const char *const sorted[] = {
	"\x01", "\n", " ",  "-rf", "...", "..a", long_name, "A",        "Z",
	"a",    "a ", "aa", "ab",  "b",   "z",   "\x7f",    "\xc3\xa4", "\xff\xff",
};

static void put_sorted(struct root_nodes *r)
{
	/* Neither in order nor in reverse. */
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		size_t k = i * 7 % ARRAY_SIZE(sorted);
		struct node node = make_symlink(sorted[k]);

		expect(0, root_nodes_put(r, named(sorted[k]), &node, false, &err));
	}
}

static void check_listing(struct root_nodes *r, struct bytes after, size_t first, size_t count)
{
	struct listing l = {.stop_at = count ? count : 1};

	expect(0, root_nodes_list(r, after, take, &l, &err));
	assert_int_equal(l.count, count);
	for (size_t i = 0; i < count; i++) {
		assert_true(bytes_equal(buffer_bytes(&l.names[i]), named(sorted[first + i])));
	}
	listing_done(&l);
}

static void test_names(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(strlen(long_name), NODE_NAME_MAX);
	put_sorted(f->store.roots);
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		struct node node = make_symlink(sorted[i]);

		check_root(f->store.roots, named(sorted[i]), &node);
	}
}

static void test_list(void **state)
{
	struct fixture *f = *state;
	struct root_nodes *r = f->store.roots;
	size_t n = ARRAY_SIZE(sorted);
	struct listing all = {.stop_at = SIZE_MAX};

	check_listing(r, named(""), 0, 0);
	put_sorted(r);
	expect(0, root_nodes_list(r, named(""), take, &all, &err));
	assert_int_equal(all.count, n);
	listing_done(&all);
	check_listing(r, named(""), 0, n);
	check_listing(r, named(""), 0, 1);
	check_listing(r, named(""), 0, 5);
	for (size_t i = 0; i < n; i++) {
		check_listing(r, named(sorted[i]), i + 1, n - i - 1);
	}
	/* Names to go on after that are not, or no longer, there. */
	check_listing(r, named("B"), 8, n - 8);
	check_listing(r, named("aaa"), 12, n - 12);
	check_listing(r, named("\xff\xff\xff"), 0, 0);
	expect(1, root_nodes_remove(r, named("a"), &err));
	check_listing(r, named("a"), 10, n - 10);
}

static void test_invalid(void **state)
{
	struct fixture *f = *state;
	struct root_nodes *r = f->store.roots;
	struct node node = some_directory(1);
	char too_long[NODE_NAME_MAX + 1];
	struct root_node found = {0};
	const struct bytes names[] = {
		named(""),        named("."),          named(".."),
		named("/"),       named("a/b"),        named("a/"),
		bytes_of("a", 2), bytes_of("a\0b", 3), bytes_of(too_long, sizeof(too_long)),
	};

	memset(too_long, 'n', sizeof(too_long));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		expect_error(ERROR_INVALID, root_nodes_put(r, names[i], &node, true, &err));
		expect_error(ERROR_INVALID, root_nodes_lookup(r, names[i], &found, &err));
		expect_error(ERROR_INVALID, root_nodes_remove(r, names[i], &err));
	}
	check_listing(r, named(""), 0, 0);
}

static void test_invalid_nodes(void **state)
{
	struct fixture *f = *state;
	char target[NODE_TARGET_MAX + 1];
	const struct node nodes[] = {
		{.kind = (enum node_kind)0},
		{.kind = (enum node_kind)4},
		{.kind = NODE_SYMLINK},
		{.kind = NODE_SYMLINK, .target = bytes_of("a\0b", 3)},
		{.kind = NODE_SYMLINK, .target = bytes_of(target, sizeof(target))},
	};

	memset(target, 't', sizeof(target));
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		expect_error(ERROR_INVALID, root_nodes_put(f->store.roots, named("name"),
							   &nodes[i], true, &err));
	}
	check_root_absent(f->store.roots, named("name"));
}

/* put makes a name visible only with all that was stored before it. */
static void test_after_blobs(void **state)
{
	struct fixture *f = *state;
	struct bytes content = bytes_of_string("below the root");
	struct node node = make_file(content, false);

	expect(0, blob_service_put(f->store.blobs, content, NULL, &err));
	expect(0, root_nodes_put(f->store.roots, named("file"), &node, false, &err));
	check_root(f->store.roots, named("file"), &node);
	check_blob(f->store.blobs, content);
}

static void test_root_node_set(void **state unused)
{
	struct root_node n = {0};
	struct node symlink = make_symlink("target");
	struct node file = make_file(named("x"), true);

	root_node_set(&n, &symlink);
	assert_true(node_equal(&n.node, &symlink));
	assert_ptr_not_equal(n.node.target.ptr, symlink.target.ptr);
	root_node_set(&n, &n.node);
	assert_true(node_equal(&n.node, &symlink));
	root_node_set(&n, &file);
	assert_true(node_equal(&n.node, &file));
	root_node_done(&n);
	root_node_done(&n);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_root_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_absent),      TEST(test_kinds),
		TEST(test_replace),     TEST(test_remove),
		TEST(test_names),       TEST(test_list),
		TEST(test_invalid),     TEST(test_invalid_nodes),
		TEST(test_after_blobs), cmocka_unit_test(test_root_node_set),
	};

	return cmocka_run_group_tests_name("roots", tests, NULL, NULL);
}
