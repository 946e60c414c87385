/* The local store: in what order objects lie in a pack. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/pack_scan.h"
#include "test_local_driver.h"

#define SMALL 100u
#define COUNT 50u
/* As long as a symlink may be, so that a few make a Directory of nearly 64 KiB. */
#define TARGET 4000u
#define TARGETS 15u
/* More of these than are held at once. */
#define LONG_DIRECTORIES 80u

static struct digest put_made(struct store *s, struct directory *d)
{
	struct digest digest = *directory_digest(d);

	assert_int_equal(directory_service_put(s->directories, d, NULL), 0);
	directory_unref(d);
	return digest;
}

static struct digest put_small_directory(struct store *s, unsigned seed)
{
	const struct digest file = put_blob(s, SMALL, seed);

	return put_made(s, make_directory(&file, SMALL));
}

static struct digest put_long_directory(struct store *s, unsigned seed)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d;
	char target[TARGET + 1];
	char name[16];

	memset(target, 'x', TARGET);
	target[TARGET] = '\0';
	snprintf(target, 16, "%015u", seed);
	target[15] = 'x';
	for (unsigned i = 0; i < TARGETS; i++) {
		const struct node link = {.kind = NODE_SYMLINK,
					  .target = bytes_of(target, TARGET)};

		snprintf(name, sizeof(name), "%u", 10 + i);
		assert_int_equal(directory_builder_add(b, bytes_of_string(name), &link, NULL),
				 0);
	}
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	return put_made(s, d);
}

static void check_directory(struct store *s, const struct digest *digest)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_service_get(s->directories, digest, &d, NULL), 1);
	assert_true(digest_equal(directory_digest(d), digest));
}

struct order {
	unsigned blobs, directories;
	unsigned turns; /* from one kind to the other */
};

/* Of the store's only pack. */
static struct order look(void)
{
	struct order o = {0};
	struct pack_scan scan;
	struct record r;
	enum record_kind last = RECORD_BLOB;
	uint64_t offset;
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	int fd cleanup(cleanup_close) = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	pack_scan_init(&scan, fd, PACK_HEADER_SIZE, (uint64_t)st.st_size);
	while (pack_scan_next(&scan, &r, &offset) > 0) {
		o.blobs += r.kind == RECORD_BLOB;
		o.directories += r.kind == RECORD_DIRECTORY;
		o.turns += r.kind != last;
		last = r.kind;
	}
	assert_int_equal(scan.skipped, 0);
	pack_scan_done(&scan);
	return o;
}

static void test_directories_lie_together(void **state unused)
{
	struct digest put[2 * COUNT];
	struct store s;

	open_store(&s, STORE_CREATE);
	for (unsigned i = 0; i < COUNT; i++) {
		put[i] = put_small_directory(&s, i);
	}
	assert_int_equal(store_sync(&s, NULL), 0);
	for (unsigned i = COUNT; i < 2 * COUNT; i++) {
		put[i] = put_small_directory(&s, i);
	}
	/* One that is not committed yet. */
	check_directory(&s, &put[COUNT]);
	store_close(&s);
	open_store(&s, STORE_READ_ONLY);
	for (unsigned i = 0; i < 2 * COUNT; i++) {
		check_blob(&s, SMALL, i);
		check_directory(&s, &put[i]);
	}
	store_close(&s);
	const struct order o = look();

	assert_int_equal(o.blobs, 2 * COUNT);
	assert_int_equal(o.directories, 2 * COUNT);
	/* Blobs, directories; and once more for the second batch. */
	assert_int_equal(o.turns, 3);
}

static void test_many_long_ones(void **state unused)
{
	struct digest put[LONG_DIRECTORIES];
	struct store s;

	open_store(&s, STORE_CREATE);
	for (unsigned i = 0; i < LONG_DIRECTORIES; i++) {
		put_blob(&s, SMALL, i);
		put[i] = put_long_directory(&s, i);
	}
	assert_int_equal(store_sync(&s, NULL), 0);
	for (unsigned i = 0; i < LONG_DIRECTORIES; i++) {
		check_blob(&s, SMALL, i);
		check_directory(&s, &put[i]);
	}
	store_close(&s);
	const struct order o = look();

	assert_int_equal(o.blobs, LONG_DIRECTORIES);
	assert_int_equal(o.directories, LONG_DIRECTORIES);
	assert_in_range(o.turns, 3, 2 * (LONG_DIRECTORIES / 30) + 1);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_directories_lie_together),
		test(test_many_long_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
