/* Large files opened for the kernel to read by itself: a real store, and a kernel made here. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "fs/backing_table.h"
#include "test_fs_driver.h"

#define LARGE ((size_t)700 << 10)

/* What the kernel would know of registered files. */
struct kernel {
	uint32_t opened, closed;
	uint64_t size; /* of the file registered last */
	bool refuses;
};

struct fixture {
	char dir[64];
	struct driver *d;
	struct store memory; /* the driver's own */
	struct store store;
	struct kernel kernel;
	struct node large, small;
};

static int kernel_open(void *context, int fd, uint32_t *id, struct error *err)
{
	struct kernel *k = context;
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	k->size = (uint64_t)st.st_size;
	if (k->refuses) {
		return error_set(err, ERROR_UNSUPPORTED, "no");
	}
	*id = ++k->opened;
	return 0;
}

static void kernel_close(void *context, uint32_t id)
{
	struct kernel *k = context;

	assert_true(id > 0 && id <= k->opened);
	k->closed++;
}

static uint8_t *content_of(size_t len)
{
	uint8_t *content = xmalloc(len);

	for (size_t i = 0; i < len; i++) {
		content[i] = (uint8_t)(i * 7 ^ i >> 9);
	}
	return content;
}

static void fill(struct fixture *f)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	uint8_t *content = content_of(LARGE);
	struct node longer;

	f->large = put_blob(f->d, content, LARGE, false);
	f->small = put_blob(f->d, content, 1000, false);
	longer = f->large;
	longer.size += 1;
	add_entry(b, "again", f->large);
	add_entry(b, "large", f->large);
	add_entry(b, "longer", longer);
	add_entry(b, "small", f->small);
	put_root(f->d, "t", put_directory(f->d, b));
	free(content);
	assert_int_equal(store_sync(&f->store, NULL), 0);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct fs_backing backing = {
		.context = &f->kernel, .open = kernel_open, .close = kernel_close};

	snprintf(f->dir, sizeof(f->dir), "/tmp/cairn-passthrough-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(store_open(&f->store, f->dir, STORE_CREATE, NULL), 0);
	f->d = driver_new();
	f->memory = f->d->store;
	f->d->store = f->store;
	fill(f);
	f->d->options.blobs = f->store.blobs;
	f->d->options.directories = f->store.directories;
	f->d->options.roots = f->store.roots;
	driver_remount(f->d);
	fs_set_backing(f->d->fs, &backing);
	assert_int_equal(
		driver_init(f->d, FUSE_INIT_EXT | FUSE_NO_OPEN_SUPPORT | FUSE_PASSTHROUGH), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	fs_set_backing(f->d->fs, NULL);
	/* Whatever a test did: each id that was given is given back, once. */
	assert_int_equal(f->kernel.closed, f->kernel.opened);
	f->d->store = f->memory;
	driver_free(f->d);
	store_close(&f->store);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a constant command
	free(f);
	return 0;
}

struct opened {
	uint64_t handle;
	bool passed;
	uint32_t id;
};

/* 0 or a negative errno. */
static int open_file(struct fixture *f, const char *path, struct opened *out)
{
	const struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_entry_out e = walk(f->d, path);
	struct fuse_open_out reply;
	int rc = request(f->d, FUSE_OPEN, e.nodeid, &in, sizeof(in));

	*out = (struct opened){0};
	if (rc == 0) {
		assert_int_equal(f->d->reply.fixed_len, sizeof(reply));
		memcpy(&reply, f->d->reply.fixed, sizeof(reply));
		out->handle = reply.fh;
		out->passed = reply.open_flags & FOPEN_PASSTHROUGH;
		memcpy(&out->id, f->d->reply.fixed + sizeof(reply) - sizeof(out->id),
		       sizeof(out->id));
	}
	return rc;
}

static void close_file(struct fixture *f, const struct opened *o)
{
	const struct fuse_release_in in = {.fh = o->handle};

	assert_int_equal(request(f->d, FUSE_RELEASE, 1, &in, sizeof(in)), 0);
}

static void test_init_chooses(void **state)
{
	struct fixture *f = *state;
	struct fuse_init_out out;
	uint32_t depth;

	memcpy(&out, f->d->reply.fixed, sizeof(out));
	uint64_t flags = (uint64_t)out.flags2 << 32 | out.flags;

	memcpy(&depth, (uint8_t *)&out + offsetof(struct fuse_init_out, flags2) + 4, 4);
	assert_true(flags & FUSE_PASSTHROUGH);
	assert_false(flags & FUSE_NO_OPEN_SUPPORT);
	assert_int_equal(depth, 1);
	assert_true(fs_passes_through(f->d->fs));

	/* A kernel that does not know it gets what it would get otherwise. */
	assert_int_equal(driver_init(f->d, FUSE_INIT_EXT | FUSE_NO_OPEN_SUPPORT), 0);
	memcpy(&out, f->d->reply.fixed, sizeof(out));
	assert_true(out.flags & FUSE_NO_OPEN_SUPPORT);
	assert_int_equal(out.flags2, 0);
	assert_false(fs_passes_through(f->d->fs));
}

static void test_one_id_per_blob(void **state)
{
	struct fixture *f = *state;
	struct opened a, b, c;

	assert_int_equal(open_file(f, "t/large", &a), 0);
	assert_true(a.passed);
	assert_int_equal(a.id, 1);
	assert_int_equal(f->kernel.size, LARGE);
	/* The same content elsewhere, and again after all were closed. */
	assert_int_equal(open_file(f, "t/again", &b), 0);
	assert_true(b.passed);
	assert_int_equal(b.id, 1);
	close_file(f, &a);
	close_file(f, &b);
	assert_int_equal(open_file(f, "t/large", &c), 0);
	assert_int_equal(c.id, 1);
	assert_int_equal(f->kernel.opened, 1);
	assert_int_equal(f->kernel.closed, 0);
}

static void test_small_files_are_cached(void **state)
{
	struct fixture *f = *state;
	struct opened o;

	assert_int_equal(open_file(f, "t/small", &o), 0);
	assert_false(o.passed);
	assert_int_equal(f->kernel.opened, 0);
	close_file(f, &o);
	assert_int_equal(read_at(f->d, FUSE_READ, walk(f->d, "t/small").nodeid, 0, 4096), 0);
	assert_int_equal(f->d->reply.data_len, 1000);
}

/* The plain file would show another size than the directory says. */
static void test_wrong_size_is_not_passed(void **state)
{
	struct fixture *f = *state;
	struct opened o;

	assert_int_equal(open_file(f, "t/longer", &o), 0);
	assert_false(o.passed);
	assert_int_equal(f->kernel.opened, 0);
}

/* A file open in one way must not be opened in the other. */
static void test_refusal_lasts(void **state)
{
	struct fixture *f = *state;
	struct opened a, b;

	f->kernel.refuses = true;
	assert_int_equal(open_file(f, "t/large", &a), 0);
	assert_false(a.passed);
	assert_int_not_equal(a.handle, 0);
	f->kernel.refuses = false;
	assert_int_equal(open_file(f, "t/again", &b), 0);
	assert_false(b.passed);
	assert_int_equal(read_at(f->d, FUSE_READ, walk(f->d, "t/large").nodeid, 4096, 4096), 0);
	assert_int_equal(f->d->reply.data_len, 4096);
}

static void damage(struct fixture *f)
{
	char hex[2 * DIGEST_SIZE + 1], path[256];

	hex_encode(hex, bytes_of(f->large.digest.bytes, DIGEST_SIZE));
	snprintf(path, sizeof(path), "%s/files/%.2s/%s", f->dir, hex, hex);
	assert_int_equal(chmod(path, 0600), 0);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "?", 1, LARGE - 5), 1);
	close(fd);
}

static void test_damage_is_found_first(void **state)
{
	struct fixture *f = *state;
	struct opened o;

	damage(f);
	assert_int_equal(open_file(f, "t/large", &o), -EIO);
	assert_int_equal(f->kernel.opened, 0);
}

static void test_waiting_is_for_others(void **state)
{
	struct fixture *f = *state;
	const struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_entry_out e = walk(f->d, "t/large");
	struct opened o;

	f->d->flags = FS_NOWAIT;
	request(f->d, FUSE_OPEN, e.nodeid, &in, sizeof(in));
	assert_int_equal(f->d->outcome, FS_BLOCKED);
	f->d->flags = 0;
	assert_int_equal(open_file(f, "t/large", &o), 0);
	f->d->flags = FS_NOWAIT;
	assert_int_equal(open_file(f, "t/large", &o), 0);
	assert_true(o.passed);
	f->d->flags = 0;
}

static void test_foreign_handles(void **state)
{
	struct fixture *f = *state;
	struct opened o, wrong = {0};

	assert_int_equal(open_file(f, "t/large", &o), 0);
	const uint64_t handles[] = {1, UINT64_MAX, o.handle + 1, o.handle ^ 1ULL << 32};

	for (size_t i = 0; i < ARRAY_SIZE(handles); i++) {
		wrong.handle = handles[i];
		close_file(f, &wrong);
	}
	close_file(f, &o);
	/* Closed once too often: still as good as new. */
	close_file(f, &o);
	assert_int_equal(open_file(f, "t/large", &o), 0);
	assert_int_equal(o.id, 1);
}

static void test_session_ends(void **state)
{
	struct fixture *f = *state;
	struct opened o;
	struct fs_stats stats;

	assert_int_equal(open_file(f, "t/large", &o), 0);
	fs_get_stats(f->d->fs, &stats);
	assert_int_equal(stats.backings, 1);
	assert_int_equal(request(f->d, FUSE_DESTROY, 1, NULL, 0), 0);
	assert_int_equal(f->kernel.closed, 1);
	fs_get_stats(f->d->fs, &stats);
	assert_int_equal(stats.backings, 0);
}

/* Ids cost memory of the kernel: of blobs that nobody has open only the newest are kept. */
static void test_unused_ids_are_given_back(void **state)
{
	struct fixture *f = *state;
	const struct fs_backing ops = {
		.context = &f->kernel, .open = kernel_open, .close = kernel_close};
	struct backing_table *t = backing_table_new(&ops, NULL);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct backing in_use, b;
	struct digest first = {{0}}, digest = {{0}};

	assert_int_equal(backing_table_add(t, &first, fd, &in_use, NULL), 0);
	for (uint32_t i = 1; i <= BACKING_IDLE_MAX + 10; i++) {
		memcpy(digest.bytes, &i, sizeof(i));
		assert_int_equal(backing_table_find(t, &digest, &b), 0);
		assert_int_equal(backing_table_add(t, &digest, fd, &b, NULL), 0);
		assert_int_equal(b.id, i + 1);
		backing_table_release(t, b.handle);
	}
	assert_int_equal(f->kernel.closed, 10);
	assert_int_equal(backing_table_count(t), BACKING_IDLE_MAX + 1);
	/* The oldest have gone, but not the one that is open. */
	assert_int_equal(backing_table_find(t, &first, &b), 1);
	memcpy(digest.bytes, &(uint32_t){10}, sizeof(uint32_t));
	assert_int_equal(backing_table_find(t, &digest, &b), 0);
	memcpy(digest.bytes, &(uint32_t){11}, sizeof(uint32_t));
	assert_int_equal(backing_table_find(t, &digest, &b), 1);
	close(fd);
	backing_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_init_chooses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_id_per_blob, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_files_are_cached, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_size_is_not_passed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusal_lasts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage_is_found_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting_is_for_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_handles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_session_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unused_ids_are_given_back, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
