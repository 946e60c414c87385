/* The file system over services that are far away: what waits, what fails, what is tried again.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>

#include "services/directory_roots.h"
#include "test_fs_driver.h"

/* Services that have to ask a peer for everything, and a peer that can be down. */
struct far {
	struct directory_service directories;
	struct root_nodes roots;
	struct blob_service blobs;
	const struct store *store;
	struct directory *near; /* a directory that is at hand, or NULL */
	bool down;
};

static struct far *far_of_directories(struct directory_service *s)
{
	return container_of(s, struct far, directories);
}

static int check_up(const struct far *f, struct error *err)
{
	return f->down ? error_set(err, ERROR_UNAVAILABLE, "the peer is down") : 0;
}

static int far_get(struct directory_service *s, const struct digest *digest, uint8_t **encoding,
		   size_t *len, struct error *err)
{
	const struct far *f = far_of_directories(s);
	struct directory_service *inner = f->store->directories;
	int rc = check_up(f, err);

	return rc < 0 ? rc : inner->ops->get(inner, digest, encoding, len, err);
}

static int far_get_nowait(struct directory_service *s, const struct digest *digest,
			  uint8_t **encoding, size_t *len, struct error *err)
{
	const struct far *f = far_of_directories(s);
	struct directory_service *inner = f->store->directories;

	if (f->near && digest_equal(digest, directory_digest(f->near))) {
		return inner->ops->get(inner, digest, encoding, len, err);
	}
	return error_set(err, ERROR_WOULD_BLOCK, "far away");
}

static int far_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
		      struct error *err)
{
	const struct far *f = container_of(r, struct far, roots);
	int rc = check_up(f, err);

	return rc < 0 ? rc : root_nodes_lookup(f->store->roots, name, out, err);
}

static int far_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		    void *context, struct error *err)
{
	const struct far *f = container_of(r, struct far, roots);
	int rc = check_up(f, err);

	return rc < 0 ? rc : root_nodes_list(f->store->roots, after, visit, context, err);
}

static int far_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		    void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	const struct far *f = container_of(s, struct far, blobs);
	int rc = flags ? error_set(err, ERROR_WOULD_BLOCK, "far away") : check_up(f, err);

	return rc < 0 ? rc
		      : blob_service_read(f->store->blobs, digest, offset, buf, len, flags, got,
					  err);
}

static void destroy_directories(struct directory_service *s unused)
{
}

static void destroy_roots(struct root_nodes *r unused)
{
}

static void destroy_blobs(struct blob_service *s unused)
{
}

/* Over the driver's own store. The directories of `asking` know nothing at hand. */
static void far_mount(struct far *f, struct driver *d, bool asking)
{
	static const struct directory_service_ops always_far = {
		.name = "far", .destroy = destroy_directories, .get = far_get};
	static const struct directory_service_ops often_far = {.name = "far",
							       .destroy = destroy_directories,
							       .get = far_get,
							       .get_nowait = far_get_nowait};
	static const struct root_nodes_ops roots = {.name = "far",
						    .may_grow = true,
						    .destroy = destroy_roots,
						    .lookup = far_lookup,
						    .list = far_list};
	static const struct blob_service_ops blobs = {.name = "far",
						      .verifies_ranges = true,
						      .destroy = destroy_blobs,
						      .read = far_read};

	f->store = &d->store;
	directory_service_init(&f->directories, asking ? &always_far : &often_far);
	root_nodes_init(&f->roots, &roots);
	blob_service_init(&f->blobs, &blobs);
	d->options.directories = &f->directories;
	d->options.roots = &f->roots;
	d->options.blobs = &f->blobs;
	driver_remount(d);
}

/* Of the test that runs: the file system holds on to it until the end. */
static struct far far;

static int setup(void **state)
{
	far = (struct far){.down = false};
	*state = driver_new();
	return 0;
}

static int teardown(void **state)
{
	driver_free(*state);
	return 0;
}

static const unsigned avoiding[] = {FS_NOWAIT, FS_LOCAL};

static void test_nothing_at_hand(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out e;

	far_mount(&far, d, true);
	uint64_t tree = walk(d, "tree").nodeid;

	for (size_t i = 0; i < ARRAY_SIZE(avoiding); i++) {
		d->flags = avoiding[i];
		assert_int_equal(lookup(d, FUSE_ROOT_ID, "tree", &e), 1);
		assert_int_equal(d->outcome, FS_BLOCKED);
		assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 0, 4096), 1);
		assert_int_equal(d->outcome, FS_BLOCKED);
		assert_int_equal(read_at(d, FUSE_READDIRPLUS, tree, 0, 4096), 1);
		assert_int_equal(d->outcome, FS_BLOCKED);
		assert_int_equal(lookup(d, tree, "a", &e), 1);
		assert_int_equal(d->outcome, FS_BLOCKED);
	}
	d->flags = 0;
	uint64_t a = walk(d, "tree/a").nodeid;

	/* Once loaded, a directory is at hand; its blobs are not. */
	for (size_t i = 0; i < ARRAY_SIZE(avoiding); i++) {
		d->flags = avoiding[i];
		assert_int_equal(lookup(d, tree, "b", &e), 0);
		assert_int_equal(read_at(d, FUSE_READDIRPLUS, tree, 0, 4096), 0);
		assert_int_equal(read_at(d, FUSE_READ, a, 0, 4096), 1);
		assert_int_equal(d->outcome, FS_BLOCKED);
	}
	d->flags = 0;
	assert_int_equal(read_at(d, FUSE_READ, a, 0, 4096), 0);
}

static void test_some_at_hand(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out e;

	assert_int_equal(directory_service_get(d->store.directories, &d->tree, &far.near, NULL),
			 1);
	far_mount(&far, d, false);
	uint64_t tree = walk(d, "tree").nodeid;

	far.down = true;
	d->flags = FS_NOWAIT;
	assert_int_equal(lookup(d, tree, "a", &e), 0);
	assert_int_equal(lookup(d, tree, "sub", &e), 0);
	assert_int_equal(lookup(d, e.nodeid, "in", &e), 1);
	assert_int_equal(d->outcome, FS_BLOCKED);
	directory_unref(far.near);
}

/* A peer that is down is an error each time, not an answer to keep. */
static void test_down_and_up_again(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out e;

	far.down = true;
	far_mount(&far, d, true);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "tree", &e), -EIO);
	assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 0, 4096), -EIO);
	far.down = false;
	uint64_t tree = walk(d, "tree").nodeid;

	far.down = true;
	assert_int_equal(lookup(d, tree, "a", &e), -EIO);
	assert_int_equal(lookup(d, tree, "nope", &e), -EIO);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, tree, 0, 4096), -EIO);
	far.down = false;
	uint64_t a = walk(d, "tree/a").nodeid;

	far.down = true;
	assert_int_equal(read_at(d, FUSE_READ, a, 0, 4096), -EIO);
	far.down = false;
	assert_int_equal(read_at(d, FUSE_READ, a, 0, 4096), 0);
	assert_int_equal(lookup(d, tree, "nope", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "nope", &e), -ENOENT);
}

/* ---- Replies that nobody takes ---- */

static struct bytes header_of(uint32_t opcode, struct fuse_in_header *h)
{
	*h = (struct fuse_in_header){.len = sizeof(*h), .opcode = opcode};
	return bytes_of(h, sizeof(*h));
}

static uint64_t count_directories(struct driver *d)
{
	struct fs_stats s;

	fs_get_stats(d->fs, &s);
	return s.directories + s.contents;
}

static void test_taken_back(void **state)
{
	struct driver *d = *state;
	struct fuse_in_header h;
	struct fuse_entry_out e;
	uint64_t tree = walk(d, "tree").nodeid;
	uint64_t before = count_directories(d);

	assert_int_equal(lookup(d, tree, "sub", &e), 0);
	assert_true(count_directories(d) > before);
	fs_take_back(d->fs, header_of(FUSE_LOOKUP, &h), &d->reply);
	before = count_directories(d);
	assert_int_equal(getattr(d, e.nodeid, &e.attr), -ESTALE);
	/* Also a name that is absent, which counts nothing. */
	assert_int_equal(lookup(d, tree, "nope", &e), 0);
	fs_take_back(d->fs, header_of(FUSE_LOOKUP, &h), &d->reply);

	assert_int_equal(read_at(d, FUSE_READDIRPLUS, tree, 0, 65536), 0);
	assert_true(count_directories(d) > before);
	fs_take_back(d->fs, header_of(FUSE_READDIRPLUS, &h), &d->reply);
	assert_int_equal(count_directories(d), before);

	/* Nothing that counts, and no reply at all. */
	assert_int_equal(getattr(d, tree, &e.attr), 0);
	fs_take_back(d->fs, header_of(FUSE_GETATTR, &h), &d->reply);
	fs_take_back(d->fs, bytes_of_string("?"), &d->reply);
	assert_int_equal(lookup(d, 0x7777, "a", &e), -ESTALE);
	fs_take_back(d->fs, header_of(FUSE_LOOKUP, &h), &d->reply);
	assert_int_equal(count_directories(d), before);
}

/* ---- Trees that somebody looks into ---- */

struct touches {
	unsigned count;
	struct digest last;
};

static void note_touch(void *context, const struct digest *directory)
{
	struct touches *t = context;

	t->count++;
	t->last = *directory;
}

static void test_touched(void **state)
{
	struct driver *d = *state;
	struct touches t = {.count = 0};
	struct fuse_entry_out e;

	d->options.touched = note_touch;
	d->options.touched_context = &t;
	driver_remount(d);
	uint64_t tree = walk(d, "tree").nodeid;

	assert_int_equal(read_at(d, FUSE_READDIRPLUS, FUSE_ROOT_ID, 0, 4096), 0);
	assert_int_equal(t.count, 0);
	assert_int_equal(lookup(d, tree, "sub", &e), 0);
	assert_int_equal(t.count, 1);
	assert_true(digest_equal(&t.last, &d->tree));
	/* Not for what is below, nor again. */
	assert_int_equal(lookup(d, e.nodeid, "in", &e), 0);
	assert_int_equal(lookup(d, tree, "a", &e), 0);
	assert_int_equal(t.count, 1);
	d->options.touched = NULL;
	driver_remount(d);
}

/* A tree in the place of the root. */
static void test_directory_as_root(void **state)
{
	struct driver *d = *state;
	struct directory *tree cleanup(cleanup_directory) = NULL;
	struct fuse_entry_out e;

	assert_int_equal(directory_service_get(d->store.directories, &d->tree, &tree, NULL), 1);
	struct root_nodes *roots = directory_roots_new(tree);

	d->options.roots = roots;
	driver_remount(d);
	d->flags = FS_NOWAIT;
	walk(d, "sub/in/deep");
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "nope", &e), 0);
	/* It never will be there: the kernel may remember that. */
	assert_int_equal(e.entry_valid, UINT64_MAX);
	assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 0, 4096), 0);
	size_t all = d->reply.data_len;

	/* In pieces: what comes after the second name and so on. */
	assert_int_equal(read_at(d, FUSE_READDIR, FUSE_ROOT_ID, 4, 4096), 0);
	assert_true(d->reply.data_len > 0 && d->reply.data_len < all);
	assert_int_equal(root_nodes_put(roots, bytes_of_string("x"), &d->big, true, NULL),
			 -ERROR_UNSUPPORTED);
	assert_int_equal(root_nodes_remove(roots, bytes_of_string("a"), NULL),
			 -ERROR_UNSUPPORTED);
	root_nodes_unref(roots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_at_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(test_some_at_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(test_down_and_up_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_as_root, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
