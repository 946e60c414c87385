/* castore/closure.h: what may follow what, and walks in both orders. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "castore/closure.h"
#include "castore/digest_map.h"
#include "craft.h"

#define UP CLOSURE_LEAVES_TO_ROOT
#define DOWN CLOSURE_ROOT_TO_LEAVES

/* ---- Directories to play with ---- */

/* A directory of these children, named by their places, and a symlink that tells it apart. */
static struct directory *make(const char *mark, struct directory *const *children, size_t count)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node link = craft_symlink_node(mark);
	struct directory *d = NULL;

	assert_int_equal(directory_builder_add(b, bytes_of_string("mark"), &link, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		struct node node = directory_node(children[i]);
		char name[32];
		int n = snprintf(name, sizeof(name), "child%zu", i);

		/* Sizes in references are not compared. */
		node.size = i;
		assert_int_equal(
			directory_builder_add(b, bytes_of(name, (size_t)n), &node, NULL), 0);
	}
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	return d;
}

/*
 * root -> left, right, leaf; left -> leaf; right -> leaf, other. Not below root: lone, and
 * stray
 * -> leaf, root.
 */
struct family {
	struct directory *leaf, *other, *left, *right, *root, *lone, *stray;
};

static int setup(void **state)
{
	struct family *f = xcalloc(1, sizeof(*f));

	f->leaf = make("leaf", NULL, 0);
	f->other = make("other", NULL, 0);
	f->lone = make("lone", NULL, 0);
	f->left = make("left", &f->leaf, 1);
	f->right = make("right", (struct directory *[]){f->leaf, f->other}, 2);
	f->root = make("root", (struct directory *[]){f->left, f->right, f->leaf}, 3);
	f->stray = make("stray", (struct directory *[]){f->leaf, f->root}, 2);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct family *f = *state;

	directory_unref(f->leaf);
	directory_unref(f->other);
	directory_unref(f->lone);
	directory_unref(f->left);
	directory_unref(f->right);
	directory_unref(f->root);
	directory_unref(f->stray);
	free(f);
	return 0;
}

/* ---- Validators ---- */

/*
 * Gives these directories to a validator. Returns 0 and checks the root, or the failure; *added
 * is how many were accepted.
 */
static int validate(enum closure_order order, const struct digest *expected,
		    struct directory *const *list, size_t count, size_t *added,
		    struct digest *root)
{
	struct closure_validator *v cleanup(cleanup_closure_validator) =
		closure_validator_new(order, expected);
	struct error err = {0};
	int rc = 0;

	for (*added = 0; *added < count; ++*added) {
		rc = closure_validator_add(v, list[*added], &err);
		if (rc) {
			break;
		}
	}
	if (rc == 0) {
		rc = closure_validator_finish(v, root, &err);
	}
	assert_int_equal(rc, -(int)err.code);
	return rc;
}

#define LIST(...)                            \
	(struct directory *[]){__VA_ARGS__}, \
		sizeof((struct directory *[]){__VA_ARGS__}) / sizeof(struct directory *)

static void assert_closure(enum closure_order order, const struct directory *want,
			   struct directory *const *list, size_t count)
{
	struct digest root;
	size_t added;

	assert_int_equal(validate(order, NULL, list, count, &added, &root), 0);
	assert_true(digest_equal(&root, directory_digest(want)));
	root = digest_empty;
	assert_int_equal(validate(order, directory_digest(want), list, count, &added, &root),
			 0);
	assert_true(digest_equal(&root, directory_digest(want)));
	/* Another root was wanted. */
	assert_int_equal(validate(order, &digest_empty, list, count, &added, &root),
			 -ERROR_INVALID);
}

/* Refused when directory number `at` comes; at the end when that is the count. */
static void assert_no_closure(enum closure_order order, size_t at,
			      struct directory *const *list, size_t count)
{
	struct digest root = digest_empty;
	size_t added;

	assert_int_equal(validate(order, NULL, list, count, &added, &root), -ERROR_INVALID);
	assert_int_equal(added, at);
	assert_true(digest_equal(&root, &digest_empty));
}

static void test_leaves_to_root(void **state)
{
	struct family *f = *state;

	assert_closure(UP, f->leaf, LIST(f->leaf));
	assert_closure(UP, f->left, LIST(f->leaf, f->left));
	assert_closure(UP, f->root, LIST(f->leaf, f->left, f->other, f->right, f->root));
	assert_closure(UP, f->root, LIST(f->other, f->leaf, f->right, f->left, f->root));
	/* Duplicates, of leaves, of what lies between, and of the root. */
	assert_closure(UP, f->left, LIST(f->leaf, f->leaf, f->left));
	assert_closure(UP, f->root,
		       LIST(f->leaf, f->left, f->leaf, f->other, f->right, f->left, f->right,
			    f->root));
	assert_closure(UP, f->left, LIST(f->leaf, f->left, f->left));
	assert_closure(UP, f->leaf, LIST(f->leaf, f->leaf));
}

static void test_leaves_to_root_refused(void **state)
{
	struct family *f = *state;

	/* Nothing at all. */
	assert_no_closure(UP, 0, NULL, 0);
	/* A parent before its child, or without it. */
	assert_no_closure(UP, 0, LIST(f->left, f->leaf));
	assert_no_closure(UP, 0, LIST(f->left));
	assert_no_closure(UP, 1, LIST(f->leaf, f->right));
	assert_no_closure(UP, 3, LIST(f->leaf, f->left, f->other, f->root, f->right));
	/* Not connected. */
	assert_no_closure(UP, 2, LIST(f->leaf, f->other));
	assert_no_closure(UP, 3, LIST(f->lone, f->leaf, f->left));
	assert_no_closure(UP, 3, LIST(f->leaf, f->lone, f->left));
	assert_no_closure(UP, 3, LIST(f->leaf, f->left, f->other));
	assert_no_closure(UP, 6, LIST(f->leaf, f->left, f->other, f->right, f->root, f->lone));
	/* The root is not the last. */
	assert_no_closure(UP, 3, LIST(f->leaf, f->left, f->leaf));
	assert_no_closure(UP, 6, LIST(f->leaf, f->left, f->other, f->right, f->root, f->right));
	/* Two roots. */
	assert_no_closure(UP, 4, LIST(f->leaf, f->other, f->right, f->left));
}

static void test_root_to_leaves(void **state)
{
	struct family *f = *state;

	assert_closure(DOWN, f->leaf, LIST(f->leaf));
	assert_closure(DOWN, f->left, LIST(f->left, f->leaf));
	assert_closure(DOWN, f->root, LIST(f->root, f->left, f->right, f->leaf, f->other));
	assert_closure(DOWN, f->root, LIST(f->root, f->leaf, f->right, f->other, f->left));
	/* Duplicates. */
	assert_closure(DOWN, f->left, LIST(f->left, f->left, f->leaf));
	assert_closure(DOWN, f->left, LIST(f->left, f->leaf, f->leaf, f->left));
	assert_closure(DOWN, f->root,
		       LIST(f->root, f->left, f->leaf, f->right, f->leaf, f->other, f->right));
}

static void test_root_to_leaves_refused(void **state)
{
	struct family *f = *state;

	assert_no_closure(DOWN, 0, NULL, 0);
	/* Some are missing. */
	assert_no_closure(DOWN, 1, LIST(f->left));
	assert_no_closure(DOWN, 4, LIST(f->root, f->left, f->right, f->leaf));
	assert_no_closure(DOWN, 3, LIST(f->root, f->left, f->leaf));
	assert_no_closure(DOWN, 2, LIST(f->root, f->root));
	/* Nothing has referred to it. */
	assert_no_closure(DOWN, 1, LIST(f->leaf, f->left));
	assert_no_closure(DOWN, 2, LIST(f->left, f->leaf, f->lone));
	assert_no_closure(DOWN, 1, LIST(f->left, f->other));
	assert_no_closure(DOWN, 1, LIST(f->root, f->other, f->right, f->left, f->leaf));
	assert_no_closure(DOWN, 5,
			  LIST(f->root, f->left, f->right, f->leaf, f->other, f->stray));
}

/* Root first, a wrong root is known at once; leaves first, at the end. */
static void test_expected_root(void **state)
{
	struct family *f = *state;
	struct digest root;
	size_t added;

	assert_int_equal(validate(DOWN, directory_digest(f->root), LIST(f->left, f->leaf),
				  &added, &root),
			 -ERROR_INVALID);
	assert_int_equal(added, 0);
	assert_int_equal(
		validate(UP, directory_digest(f->root), LIST(f->leaf, f->left), &added, &root),
		-ERROR_INVALID);
	assert_int_equal(added, 2);
	/* What was wanted is in it, but is not its root. */
	assert_int_equal(
		validate(UP, directory_digest(f->leaf), LIST(f->leaf, f->left), &added, &root),
		-ERROR_INVALID);
	closure_validator_free(NULL);
}

static void test_the_empty_directory(void **state unused)
{
	struct directory *empty cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_decode(bytes_of(NULL, 0), &empty, NULL), 0);
	struct directory *above cleanup(cleanup_directory) = make("above", &empty, 1);
	struct digest root;
	size_t added;

	assert_int_equal(validate(UP, &digest_empty, LIST(empty), &added, &root), 0);
	assert_int_equal(validate(UP, NULL, LIST(empty, above), &added, NULL), 0);
	assert_int_equal(validate(DOWN, NULL, LIST(above, empty), &added, NULL), 0);
	/* It is no exception: it is sent, too. */
	assert_int_equal(validate(UP, NULL, LIST(above), &added, NULL), -ERROR_INVALID);
	assert_int_equal(validate(DOWN, NULL, LIST(above), &added, NULL), -ERROR_INVALID);
}

/* ---- A store of random directories ---- */

struct store {
	struct directory **list; /* children before parents; the last is above all */
	size_t count;
	struct digest_map index;
	size_t *asked;  /* how often each was got */
	size_t missing; /* number of the one that is not there */
};

static void store_put(struct store *s, struct directory *d)
{
	assert_true(digest_map_put(&s->index, directory_digest(d), s->count));
	s->list[s->count++] = d;
}

static void store_init(struct store *s, size_t max)
{
	*s = (struct store){.missing = SIZE_MAX};
	s->list = xcalloc(max, sizeof(struct directory *));
	s->asked = xcalloc(max, sizeof(size_t));
}

static void store_done(struct store *s)
{
	for (size_t i = 0; i < s->count; i++) {
		directory_unref(s->list[i]);
	}
	free(s->list);
	free(s->asked);
	digest_map_done(&s->index);
}

/* Each has children among those before it, the nearer the likelier; the last has them all. */
static void store_roll(struct store *s, struct dice *dice, size_t count)
{
	store_init(s, count);
	bool *has_parent cleanup(cleanup_free) = xcalloc(count, sizeof(bool));
	struct directory **children cleanup(cleanup_free) =
		xcalloc(count, sizeof(struct directory *));

	for (size_t i = 0; i < count; i++) {
		size_t n = 0, back;
		char mark[32];

		if (i + 1 == count) {
			for (size_t k = 0; k < i; k++) {
				if (!has_parent[k]) {
					children[n++] = s->list[k];
				}
			}
		} else {
			for (size_t k = dice_below(dice, 4); k > 0 && i > 0; k--) {
				back = 1 + (size_t)dice_below(dice, MIN(i, (size_t)12));
				children[n++] = s->list[i - back];
				has_parent[i - back] = true;
			}
		}
		snprintf(mark, sizeof(mark), "%zu", i);
		store_put(s, make(mark, children, n));
	}
}

static int store_get(void *context, const struct digest *digest, struct directory **out,
		     struct error *err)
{
	struct store *s = context;
	const uint64_t *at = digest_map_get(&s->index, digest);

	if (!at) {
		return error_set(err, ERROR_CORRUPT, "never heard of %s", digest_text(digest));
	}
	s->asked[*at]++;
	if (*at == s->missing) {
		return 0;
	}
	*out = directory_ref(s->list[*at]);
	return 1;
}

static const struct digest *store_root(const struct store *s)
{
	return directory_digest(s->list[s->count - 1]);
}

/* ---- Walks ---- */

/* Everything that a walk gives; references for the caller. */
static size_t walk(struct store *s, enum closure_order order, struct directory **out)
{
	struct closure_walk *w cleanup(cleanup_closure_walk) =
		closure_walk_new(order, store_root(s), store_get, s);
	struct error err = {0};
	size_t n = 0;
	int rc;

	while ((rc = closure_walk_next(w, &out[n], &err)) > 0) {
		assert_true(n < s->count);
		n++;
	}
	if (rc < 0) {
		fail_msg("%s", err.text);
	}
	/* The end is the end. */
	assert_int_equal(closure_walk_next(w, &out[n], &err), 0);
	return n;
}

/* All of them, each once, in an order that the validator accepts. */
static void assert_walks(struct store *s, enum closure_order order)
{
	struct directory **given cleanup(cleanup_free) =
		xcalloc(s->count + 1, sizeof(struct directory *));
	struct digest root;
	size_t added;

	memset(s->asked, 0, s->count * sizeof(s->asked[0]));
	size_t n = walk(s, order, given);

	assert_int_equal(n, s->count);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(s->asked[i], 1);
	}
	assert_int_equal(validate(order, store_root(s), given, n, &added, &root), 0);
	assert_ptr_equal(given[order == UP ? n - 1 : 0], s->list[s->count - 1]);
	for (size_t i = 0; i < n; i++) {
		directory_unref(given[i]);
	}
}

/* Without any one of the list it is not complete; with two exchanged it may be either. */
static void assert_needs_all(struct store *s, struct dice *dice)
{
	size_t last = s->count - 1, out = (size_t)dice_below(dice, s->count), added;
	struct directory **list cleanup(cleanup_free) =
		xcalloc(s->count, sizeof(struct directory *));

	for (size_t i = 0, n = 0; i < s->count; i++) {
		if (i != out) {
			list[n++] = s->list[i];
		}
	}
	assert_int_equal(validate(UP, store_root(s), list, last, &added, NULL), -ERROR_INVALID);
	for (size_t i = 0; i < last / 2; i++) {
		struct directory *d = list[i];

		list[i] = list[last - 1 - i];
		list[last - 1 - i] = d;
	}
	assert_int_equal(validate(DOWN, store_root(s), list, last, &added, NULL),
			 -ERROR_INVALID);
}

static void test_random_closures(void **state unused)
{
	struct dice dice = {.state = 7};

	for (size_t round = 0; round < 150; round++) {
		struct store s;

		store_roll(&s, &dice, 1 + (size_t)dice_below(&dice, round % 30 ? 40 : 2000));
		assert_walks(&s, UP);
		assert_walks(&s, DOWN);
		assert_needs_all(&s, &dice);
		store_done(&s);
	}
}

/* No recursion: a chain of any depth. */
static void test_deep_chain(void **state unused)
{
	struct directory *below = NULL;
	struct store s;

	store_init(&s, 50000);
	for (size_t i = 0; i < 50000; i++) {
		below = make("link", &below, i ? 1 : 0);
		store_put(&s, below);
	}
	assert_walks(&s, UP);
	assert_walks(&s, DOWN);
	store_done(&s);
}

/* Root to leaves comes level by level. */
static void test_breadth_first(void **state)
{
	struct family *f = *state;
	struct directory *given[6];
	struct store s;

	store_init(&s, 5);
	struct directory *const all[] = {f->leaf, f->other, f->left, f->right, f->root};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		store_put(&s, directory_ref(all[i]));
	}
	assert_int_equal(walk(&s, DOWN, given), 5);
	const struct directory *want[] = {f->root, f->left, f->right, f->leaf, f->other};

	for (size_t i = 0; i < 5; i++) {
		assert_ptr_equal(given[i], want[i]);
		directory_unref(given[i]);
	}
	store_done(&s);
}

/* Walks until the failure, which comes when the missing one is needed. */
static void assert_walk_fails(struct store *s, enum closure_order order, int want)
{
	struct closure_walk *w cleanup(cleanup_closure_walk) =
		closure_walk_new(order, store_root(s), store_get, s);
	struct directory *const before = s->list[0];
	struct directory *d = before;
	struct error err = {0};
	size_t n = 0;
	int rc;

	while ((rc = closure_walk_next(w, &d, &err)) > 0) {
		directory_unref(d);
		d = before;
		n++;
	}
	assert_int_equal(rc, want);
	assert_int_equal(err.code, -want);
	assert_ptr_equal(d, before);
	assert_true(n <= s->count);
	if (want == -ERROR_UNAVAILABLE) {
		assert_true(n < s->count);
		const char *text = digest_text(directory_digest(s->list[s->missing]));

		assert_non_null(strstr(err.text, text));
	}
}

static void test_absent_directories(void **state unused)
{
	struct dice dice = {.state = 8};
	struct store s;

	store_roll(&s, &dice, 60);
	for (s.missing = 0; s.missing < s.count; s.missing++) {
		assert_walk_fails(&s, UP, -ERROR_UNAVAILABLE);
		assert_walk_fails(&s, DOWN, -ERROR_UNAVAILABLE);
	}
	store_done(&s);
}

static void test_failures_come_through(void **state)
{
	struct family *f = *state;
	struct store s;

	store_init(&s, 2);
	store_put(&s, directory_ref(f->leaf));
	/* Its other child is not known to the store, which says so with an error. */
	store_put(&s, directory_ref(f->right));
	assert_walk_fails(&s, UP, -ERROR_CORRUPT);
	assert_walk_fails(&s, DOWN, -ERROR_CORRUPT);
	store_done(&s);
}

/* A walk that is given up frees what it holds: a sanitizer would tell. */
static void test_given_up(void **state unused)
{
	struct dice dice = {.state = 9};
	struct store s;

	store_roll(&s, &dice, 40);
	for (size_t steps = 0; steps < 40; steps++) {
		for (int order = UP; order <= DOWN; order++) {
			struct closure_walk *w cleanup(cleanup_closure_walk) = closure_walk_new(
				(enum closure_order)order, store_root(&s), store_get, &s);

			for (size_t i = 0; i < steps; i++) {
				struct directory *d cleanup(cleanup_directory) = NULL;

				assert_int_equal(closure_walk_next(w, &d, NULL), 1);
			}
		}
	}
	closure_walk_free(NULL);
	store_done(&s);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_leaves_to_root),
		TEST(test_leaves_to_root_refused),
		TEST(test_root_to_leaves),
		TEST(test_root_to_leaves_refused),
		TEST(test_expected_root),
		cmocka_unit_test(test_the_empty_directory),
		cmocka_unit_test(test_random_closures),
		cmocka_unit_test(test_deep_chain),
		TEST(test_breadth_first),
		cmocka_unit_test(test_absent_directories),
		TEST(test_failures_come_through),
		cmocka_unit_test(test_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
