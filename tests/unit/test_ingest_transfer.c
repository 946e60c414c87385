/* Transfer between two stores in memory. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "ingest/transfer.h"
#include "services/memory.h"

#define LARGE ((size_t)3 << 20)

struct fixture {
	struct store from, to;
	struct node small, large, sub, tree, other;
	struct transfer_stats stats;
};

static struct node put_file(struct fixture *f, const void *content, size_t len)
{
	struct node n = {.kind = NODE_FILE, .size = len};

	assert_int_equal(
		blob_service_put(f->from.blobs, bytes_of(content, len), &n.digest, NULL), 0);
	return n;
}

static struct node put_large(struct fixture *f)
{
	uint8_t *content = xmalloc(LARGE);

	for (size_t i = 0; i < LARGE; i++) {
		content[i] = (uint8_t)(i * 7 + (i >> 9));
	}
	struct node n = put_file(f, content, LARGE);

	free(content);
	return n;
}

static void add(struct directory_builder *b, const char *name, const struct node *node)
{
	assert_int_equal(directory_builder_add(b, bytes_of_string(name), node, NULL), 0);
}

static struct node put_directory(struct fixture *f, struct directory_builder *b)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	assert_int_equal(directory_service_put(f->from.directories, d, NULL), 0);
	return directory_node(d);
}

/*
 * tree: small, large, empty, link, sub (2000 files), deep/sub (the same one), deep/deep/…
 * other: sub, and one file of its own.
 */
static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	const struct node empty = {.kind = NODE_FILE, .digest = digest_empty};
	const struct node link = {.kind = NODE_SYMLINK, .target = bytes_of_string("small")};
	char name[32];

	memory_store_open(&f->from);
	memory_store_open(&f->to);
	f->small = put_file(f, "small", 5);
	f->large = put_large(f);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		struct node n = put_file(f, name, strlen(name));

		add(b, name, &n);
	}
	f->sub = put_directory(f, b);
	struct node deep = f->sub;

	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%u", i);
		add(b, name, &deep);
		add(b, "sub", &f->sub);
		deep = put_directory(f, b);
	}
	add(b, "deep", &deep);
	add(b, "empty", &empty);
	add(b, "large", &f->large);
	add(b, "link", &link);
	add(b, "small", &f->small);
	add(b, "sub", &f->sub);
	f->tree = put_directory(f, b);
	struct node own = put_file(f, "own", 3);

	add(b, "own", &own);
	add(b, "sub", &f->sub);
	f->other = put_directory(f, b);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(&f->from);
	store_close(&f->to);
	free(f);
	return 0;
}

static int copy(struct fixture *f, const struct node *node, struct error *err)
{
	const struct transfer_options o = {.stats = &f->stats};
	struct transfer *t cleanup(cleanup_transfer) = transfer_new(&f->from, &f->to, &o);

	f->stats = (struct transfer_stats){.objects = 0};
	int rc = transfer_add(t, node, err);

	return rc < 0 ? rc : transfer_settle(t, err);
}

static void copy_well(struct fixture *f, const struct node *node)
{
	struct error err = {0};

	if (copy(f, node, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

static void copy_badly(struct fixture *f, const struct node *node, enum error_code code,
		       const struct digest *blamed)
{
	struct error err = {0};

	assert_int_equal(copy(f, node, &err), -(int)code);
	if (!strstr(err.text, digest_text(blamed))) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(directory_service_has(f->to.directories, &node->digest, NULL), 0);
}

/* Everything below is there, and right: the wrappers check. */
static void check_whole(struct fixture *f, const struct digest *root)
{
	struct closure_walk *walk = NULL;
	struct directory *d;
	struct directory_entry e;

	assert_int_equal(directory_service_get_recursive(f->to.directories, root, &walk, NULL),
			 1);
	while (closure_walk_next(walk, &d, NULL) > 0) {
		for (size_t i = 0; i < directory_count(d); i++) {
			directory_entry(d, i, &e);
			if (e.node.kind == NODE_FILE) {
				uint64_t size;

				assert_int_equal(blob_service_size(f->to.blobs, &e.node.digest,
								   &size, NULL),
						 1);
				assert_int_equal(size, e.node.size);
			}
		}
		directory_unref(d);
	}
	assert_int_equal(closure_walk_next(walk, &d, NULL), 0);
	closure_walk_free(walk);
}

static void test_tree(void **state)
{
	struct fixture *f = *state;

	copy_well(f, &f->tree);
	check_whole(f, &f->tree.digest);
	assert_int_equal(f->stats.objects, 2002 + 302);
	assert_int_equal(f->stats.present, 0);
	assert_true(f->stats.bytes > LARGE);
	copy_well(f, &f->tree);
	assert_int_equal(f->stats.objects, 0);
	assert_int_equal(f->stats.present, 2002 + 302);
	assert_int_equal(f->stats.bytes, 0);
	/* What both have is there. */
	copy_well(f, &f->other);
	check_whole(f, &f->other.digest);
	assert_int_equal(f->stats.objects, 2);
}

static void test_nodes(void **state)
{
	struct fixture *f = *state;
	const struct node link = {.kind = NODE_SYMLINK, .target = bytes_of_string("x")};
	const struct node empty = {.kind = NODE_FILE, .digest = digest_empty};

	copy_well(f, &link);
	copy_well(f, &empty);
	assert_int_equal(f->stats.objects, 0);
	copy_well(f, &f->small);
	copy_well(f, &f->large);
	assert_int_equal(blob_service_has(f->to.blobs, &f->small.digest, NULL), 1);
	assert_int_equal(blob_service_has(f->to.blobs, &f->large.digest, NULL), 1);
}

/* One transfer, several trees, settled in between. */
static void test_several(void **state)
{
	struct fixture *f = *state;
	const struct transfer_options o = {.jobs = 2};
	struct transfer *t = transfer_new(&f->from, &f->to, &o);

	assert_int_equal(transfer_settle(t, NULL), 0);
	assert_int_equal(transfer_add(t, &f->other, NULL), 0);
	assert_int_equal(transfer_add(t, &f->other, NULL), 0);
	assert_int_equal(transfer_settle(t, NULL), 0);
	check_whole(f, &f->other.digest);
	assert_int_equal(transfer_add(t, &f->tree, NULL), 0);
	assert_int_equal(transfer_add(t, &f->sub, NULL), 0);
	assert_int_equal(transfer_settle(t, NULL), 0);
	check_whole(f, &f->tree.digest);
	/* Begun, and given up. */
	assert_int_equal(transfer_add(t, &f->small, NULL), 0);
	transfer_free(t);
}

/* That a directory is there says nothing of what is below it. */
static void test_holes_are_filled(void **state)
{
	struct fixture *f = *state;

	copy_well(f, &f->tree);
	assert_true(memory_blob_remove(f->to.blobs, &f->large.digest));
	assert_true(memory_directory_remove(f->to.directories, &f->sub.digest));
	copy_well(f, &f->tree);
	assert_int_equal(f->stats.objects, 2);
	check_whole(f, &f->tree.digest);
}

static void test_faults_of_the_source(void **state)
{
	struct fixture *f = *state;
	struct node unknown = {.kind = NODE_FILE, .size = 3};
	struct node longer = f->small;

	copy_badly(f, &unknown, ERROR_NOT_FOUND, &unknown.digest);
	unknown.kind = NODE_DIRECTORY;
	copy_badly(f, &unknown, ERROR_NOT_FOUND, &unknown.digest);
	longer.size++;
	copy_badly(f, &longer, ERROR_CORRUPT, &longer.digest);
	longer = f->large;
	longer.size++;
	copy_badly(f, &longer, ERROR_CORRUPT, &longer.digest);
	assert_true(
		memory_blob_corrupt(f->from.blobs, &f->small.digest, bytes_of_string("Small")));
	copy_badly(f, &f->tree, ERROR_CORRUPT, &f->small.digest);
	assert_true(memory_blob_remove(f->from.blobs, &f->small.digest));
	copy_badly(f, &f->tree, ERROR_NOT_FOUND, &f->small.digest);
	assert_true(memory_directory_remove(f->from.directories, &f->sub.digest));
	copy_badly(f, &f->tree, ERROR_UNAVAILABLE, &f->sub.digest);
}

static void test_cancelled(void **state)
{
	struct fixture *f = *state;
	atomic_bool cancel = true;
	const struct transfer_options o = {.cancel = &cancel};
	struct transfer *t = transfer_new(&f->from, &f->to, &o);
	struct error err = {0};
	int rc = transfer_add(t, &f->tree, &err);

	assert_int_equal(rc < 0 ? rc : transfer_settle(t, &err), -ERROR_CANCELED);
	transfer_free(t);
	assert_int_equal(directory_service_has(f->to.directories, &f->tree.digest, NULL), 0);
	copy_well(f, &f->tree);
	check_whole(f, &f->tree.digest);
}

/* Only read: all that is at hand is passed over, the rest is looked at. */
static void test_without_destination(void **state)
{
	struct fixture *f = *state;
	const struct transfer_options o = {.stats = &f->stats};
	struct transfer *t = transfer_new(&f->from, NULL, &o);

	assert_int_equal(transfer_add(t, &f->tree, NULL), 0);
	assert_int_equal(transfer_settle(t, NULL), 0);
	transfer_free(t);
	assert_int_equal(f->stats.objects, 0);
	assert_int_equal(f->stats.present, 2002);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_several, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holes_are_filled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_faults_of_the_source, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_destination, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
