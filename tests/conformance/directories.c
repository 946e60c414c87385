#include "suite.h"

#include <stdio.h>

/* Without waiting, there is either the same answer or none. */
static void check_nowait(struct directory_service *s, const struct digest *digest, bool there)
{
	struct directory *found = NULL;
	struct error why = {0};
	int rc = directory_service_get_nowait(s, digest, &found, &why);

	assert_true(rc == -ERROR_WOULD_BLOCK || rc == there);
	if (rc > 0) {
		assert_true(digest_equal(directory_digest(found), digest));
	}
	directory_unref(found);
}

static void check_missing(struct directory_service *s, const struct digest *digest,
			  bool missing)
{
	const struct digest both[] = {unknown_digest(3), *digest};
	bool answers[] = {false, !missing};

	expect(0, directory_service_find_missing(s, both, 2, answers, &err));
	assert_true(answers[0]);
	assert_int_equal(answers[1], missing);
}

static void check_directory(struct directory_service *s, struct directory *d)
{
	struct directory *found = NULL;
	struct bytes wanted = directory_encoding(d);

	expect(1, directory_service_has(s, directory_digest(d), &err));
	expect(1, directory_service_get(s, directory_digest(d), &found, &err));
	assert_true(digest_equal(directory_digest(found), directory_digest(d)));
	assert_true(bytes_equal(directory_encoding(found), wanted));
	assert_int_equal(directory_size(found), directory_size(d));
	directory_unref(found);
	check_nowait(s, directory_digest(d), true);
	check_missing(s, directory_digest(d), false);
}

static void check_directory_absent(struct directory_service *s, const struct digest *digest)
{
	struct directory *d = NULL;
	struct closure_walk *walk = NULL;

	expect(0, directory_service_has(s, digest, &err));
	expect(0, directory_service_get(s, digest, &d, &err));
	assert_null(d);
	expect(0, directory_service_get_recursive(s, digest, &walk, &err));
	assert_null(walk);
	check_nowait(s, digest, false);
	check_missing(s, digest, true);
}

/*
 * leaf "a" and leaf "b"; middle {a, b}; root {middle, a, middle}: what is shared comes once.
 * In the order of an upload.
 */
struct tree {
	struct directory *all[4];
};

static struct tree tree_make(void)
{
	struct tree t;

	t.all[0] = make_leaf("a");
	t.all[1] = make_leaf("b");
	t.all[2] = make_parent(t.all, 2);
	struct directory *children[] = {t.all[2], t.all[0], t.all[2]};

	t.all[3] = make_parent(children, 3);
	return t;
}

static void tree_done(struct tree *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(t->all); i++) {
		directory_unref(t->all[i]);
	}
}

static void check_tree_absent(struct directory_service *s, const struct tree *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(t->all); i++) {
		check_directory_absent(s, directory_digest(t->all[i]));
	}
}

static void test_absent(void **state)
{
	struct fixture *f = *state;
	struct digest unknown = unknown_digest(7);

	check_directory_absent(f->store.directories, &unknown);
}

/* Only the empty blob is there without having been put. */
static void test_empty(void **state)
{
	struct fixture *f = *state;
	struct directory *d = make_parent(NULL, 0);

	assert_true(digest_equal(directory_digest(d), &digest_empty));
	check_directory_absent(f->store.directories, &digest_empty);
	expect(0, directory_service_put(f->store.directories, d, &err));
	check_directory(f->store.directories, d);
	directory_unref(d);
}

static struct directory *make_every_kind(void)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *leaf cleanup(cleanup_directory) = make_leaf("leaf");
	struct directory *d = NULL;
	const struct node nodes[] = {
		directory_node(leaf),
		make_file(bytes_of_string("content"), false),
		make_file(bytes_of_string("program"), true),
		make_file(bytes_of(NULL, 0), false),
		make_symlink("../somewhere/else"),
	};
	static const char *const names[] = {"\xff\x01", "file", " ", "...", "a symlink"};

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		expect(0, directory_builder_add(b, bytes_of_string(names[i]), &nodes[i], &err));
	}
	expect(0, directory_builder_finish(b, &d, &err));
	return d;
}

static void test_put(void **state)
{
	struct fixture *f = *state;
	struct directory *d = make_every_kind();
	struct directory *leaf cleanup(cleanup_directory) = make_leaf("leaf");

	check_directory_absent(f->store.directories, directory_digest(d));
	/* Where it must, what a directory refers to comes first. */
	if (suite_plain()) {
		expect(0, directory_service_put(f->store.directories, leaf, &err));
	}
	expect(0, directory_service_put(f->store.directories, d, &err));
	check_directory(f->store.directories, d);
	expect(0, directory_service_put(f->store.directories, d, &err));
	expect(0, directory_service_sync(f->store.directories, &err));
	check_directory(f->store.directories, d);
	expect(0, directory_service_put(f->store.directories, d, &err));
	check_directory(f->store.directories, d);
	expect(0, blob_service_has(f->store.blobs, directory_digest(d), &err));
	directory_unref(d);
}

static struct directory *make_wide(size_t count)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d = NULL;

	for (size_t i = 0; i < count; i++) {
		struct node node = make_file(bytes_of(&i, sizeof(i)), i % 2);
		char name[64];

		snprintf(name, sizeof(name), "a name of some length, number %zu", i);
		expect(0, directory_builder_add(b, bytes_of_string(name), &node, &err));
	}
	expect(0, directory_builder_finish(b, &d, &err));
	return d;
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;
	static const size_t counts[] = {1, 10, 40, 100, 1000, 20000};

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct directory *d = make_wide(counts[i]);

		expect(0, directory_service_put(f->store.directories, d, &err));
		check_directory(f->store.directories, d);
		expect(0, directory_service_sync(f->store.directories, &err));
		check_directory(f->store.directories, d);
		directory_unref(d);
	}
}

/* The walk from a root is a download that a validator accepts. */
static void check_closure(struct directory_service *s, const struct digest *root,
			  size_t directories)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;
	struct closure_validator *v cleanup(cleanup_closure_validator) =
		closure_validator_new(CLOSURE_ROOT_TO_LEAVES, root);
	size_t count = 0;

	expect(1, directory_service_get_recursive(s, root, &walk, &err));
	for (;;) {
		struct directory *d = NULL;
		struct error why = {0};
		int rc = closure_walk_next(walk, &d, &why);

		if (rc == 0) {
			break;
		}
		expect_at(1, rc, &why, "closure_walk_next", __FILE__, __LINE__);
		expect(0, closure_validator_add(v, d, &err));
		directory_unref(d);
		count++;
	}
	expect(0, closure_validator_finish(v, NULL, &err));
	assert_int_equal(count, directories);
}

static void test_get_recursive(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();

	for (size_t i = 0; i < ARRAY_SIZE(t.all); i++) {
		expect(0, directory_service_put(f->store.directories, t.all[i], &err));
	}
	check_closure(f->store.directories, directory_digest(t.all[3]), 4);
	check_closure(f->store.directories, directory_digest(t.all[2]), 3);
	check_closure(f->store.directories, directory_digest(t.all[0]), 1);
	tree_done(&t);
}

/* An error of the stream, in the end; what comes before it is right. */
static void test_missing_child(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();
	struct closure_walk *walk = NULL;
	int rc;
	struct error why = {0};

	expect(0, directory_service_put(f->store.directories, t.all[0], &err));
	expect(0, directory_service_put(f->store.directories, t.all[2], &err));
	expect(0, directory_service_put(f->store.directories, t.all[3], &err));
	expect(1, directory_service_get_recursive(f->store.directories,
						  directory_digest(t.all[3]), &walk, &err));
	do {
		struct directory *d = NULL;

		rc = closure_walk_next(walk, &d, &why);
		if (rc > 0) {
			check_directory(f->store.directories, d);
			directory_unref(d);
		}
	} while (rc > 0);
	assert_int_equal(rc, -ERROR_UNAVAILABLE);
	assert_non_null(strstr(why.text, digest_text(directory_digest(t.all[1]))));
	closure_walk_free(walk);
	tree_done(&t);
}

static struct directory_batch *batch_of(struct directory_service *s, const struct tree *t,
					size_t count)
{
	struct directory_batch *b = NULL;

	expect(0, directory_service_put_batch(s, &b, &err));
	for (size_t i = 0; i < count; i++) {
		expect(0, directory_batch_add(b, t->all[i], &err));
	}
	return b;
}

static void test_batch(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();
	struct directory_batch *b = batch_of(f->store.directories, &t, 4);
	struct digest root;

	check_tree_absent(f->store.directories, &t);
	expect(0, directory_batch_commit(b, &root, &err));
	assert_true(digest_equal(&root, directory_digest(t.all[3])));
	check_closure(f->store.directories, &root, 4);
	expect(0, directory_service_sync(f->store.directories, &err));
	check_closure(f->store.directories, &root, 4);
	tree_done(&t);
}

static void test_batch_again(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();
	struct digest root;

	for (size_t i = 0; i < 3; i++) {
		struct directory_batch *b = batch_of(f->store.directories, &t, 4);

		expect(0, directory_batch_commit(b, &root, &err));
		expect(0, directory_service_sync(f->store.directories, &err));
	}
	check_closure(f->store.directories, &root, 4);
	tree_done(&t);
}

static void test_batch_duplicates(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();
	struct directory_batch *b = batch_of(f->store.directories, &t, 2);
	struct digest root;

	expect(0, directory_batch_add(b, t.all[0], &err));
	expect(0, directory_batch_add(b, t.all[2], &err));
	expect(0, directory_batch_add(b, t.all[1], &err));
	expect(0, directory_batch_add(b, t.all[3], &err));
	expect(0, directory_batch_commit(b, &root, &err));
	assert_true(digest_equal(&root, directory_digest(t.all[3])));
	check_closure(f->store.directories, &root, 4);
	tree_done(&t);
}

static void test_batch_abandoned(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();

	directory_batch_free(NULL);
	directory_batch_free(batch_of(f->store.directories, &t, 0));
	directory_batch_free(batch_of(f->store.directories, &t, 4));
	expect(0, directory_service_sync(f->store.directories, &err));
	check_tree_absent(f->store.directories, &t);
	tree_done(&t);
}

static void test_batch_unconnected(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();
	struct directory_batch *b = batch_of(f->store.directories, &t, 2);
	struct digest root = unknown_digest(9);
	struct digest before = root;

	expect_error(ERROR_INVALID, directory_batch_commit(b, &root, &err));
	assert_true(digest_equal(&root, &before));
	expect(0, directory_service_sync(f->store.directories, &err));
	check_tree_absent(f->store.directories, &t);
	tree_done(&t);
}

/* Also when the store has the child: a batch is complete in itself. */
static void test_batch_incomplete(void **state)
{
	struct fixture *f = *state;
	struct tree t = tree_make();
	struct directory_batch *b = NULL;
	struct digest root;

	expect(0, directory_service_put_batch(f->store.directories, &b, &err));
	expect(0, directory_batch_add(b, t.all[0], &err));
	expect_error(ERROR_INVALID, directory_batch_add(b, t.all[2], &err));
	/* The batch is of no more use, whatever comes. */
	expect_error(ERROR_INVALID, directory_batch_add(b, t.all[1], &err));
	expect_error(ERROR_INVALID, directory_batch_commit(b, &root, &err));
	expect(0, directory_service_sync(f->store.directories, &err));
	check_tree_absent(f->store.directories, &t);
	tree_done(&t);
}

static void test_batch_empty(void **state)
{
	struct fixture *f = *state;
	struct directory_batch *b = NULL;
	struct digest root;

	expect(0, directory_service_put_batch(f->store.directories, &b, &err));
	expect_error(ERROR_INVALID, directory_batch_commit(b, &root, &err));
}

/* Thousands of levels: nothing in the way may recurse by depth of the data. */
static void test_deep(void **state)
{
	struct fixture *f = *state;
	struct directory *d = make_leaf("bottom");
	struct directory_batch *b = NULL;
	const size_t levels = 2000;
	struct digest root;

	expect(0, directory_service_put_batch(f->store.directories, &b, &err));
	expect(0, directory_batch_add(b, d, &err));
	for (size_t i = 0; i < levels; i++) {
		struct directory *parent = make_parent(&d, 1);

		expect(0, directory_batch_add(b, parent, &err));
		directory_unref(d);
		d = parent;
	}
	expect(0, directory_batch_commit(b, &root, &err));
	assert_true(digest_equal(&root, directory_digest(d)));
	check_closure(f->store.directories, &root, levels + 1);
	directory_unref(d);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	struct directory *leaf cleanup(cleanup_directory) = make_leaf("forgotten");
	struct directory *found cleanup(cleanup_directory) = NULL;

	expect(0, directory_service_put(f->store.directories, leaf, &err));
	expect(0, directory_service_sync(f->store.directories, &err));
	int rc = directory_service_discard(f->store.directories, directory_digest(leaf), NULL);

	if (rc == 0) {
		expect(0, directory_service_has(f->store.directories, directory_digest(leaf),
						&err));
		expect(0, directory_service_get(f->store.directories, directory_digest(leaf),
						&found, &err));
	} else {
		assert_int_equal(rc, -ERROR_UNSUPPORTED);
	}
	expect(0, directory_service_put(f->store.directories, leaf, &err));
	expect(1, directory_service_get(f->store.directories, directory_digest(leaf), &found,
					&err));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_directory_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_discard),
		TEST(test_absent),
		TEST(test_empty),
		TEST(test_put),
		TEST(test_sizes),
		TEST(test_get_recursive),
		TEST(test_missing_child),
		TEST(test_batch),
		TEST(test_batch_again),
		TEST(test_batch_duplicates),
		TEST(test_batch_abandoned),
		TEST(test_batch_unconnected),
		TEST(test_batch_incomplete),
		TEST(test_batch_empty),
		TEST(test_deep),
	};

	return cmocka_run_group_tests_name("directories", tests, NULL, NULL);
}
