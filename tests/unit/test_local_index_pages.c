/* Pages of an index that lie: found before LMDB believes them. */

#include "test_local_driver.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/index.h"
#include "services/local/index_pages.h"

#define PAGE 4096u
#define HEADER 16u

/* An index with a value that has pages of its own; its file, read whole. */
static void make_index(struct buffer *file)
{
	static const uint8_t value[9000];
	struct index_write *w;
	struct error err = {0};
	struct index *ix;

	assert_int_equal(index_open(&ix, folder, INDEX_CREATE, &err), 0);
	assert_int_equal(index_write_begin(ix, &w, &err), 0);
	assert_int_equal(index_write_put(w, INDEX_PATH_INFOS, bytes_of_string("long"),
					 bytes_of(value, sizeof(value)), true, &err),
			 0);
	assert_int_equal(index_write_commit(w, &err), 0);
	index_close(ix);
	char *path cleanup(cleanup_free) = xasprintf("%s/data.mdb", folder);

	assert_int_equal(read_small_file(AT_FDCWD, path, 1 << 20, file, &err), 1);
}

static void count_fault(void *context, uint64_t page unused, const char *text)
{
	assert_true(text[0]);
	++*(size_t *)context;
}

static size_t faults(const struct buffer *file)
{
	struct index_pages_counts counts;
	size_t found = 0;
	const struct index_pages_watch watch = {.fault = count_fault, .context = &found};
	struct error err = {0};
	int fd cleanup(cleanup_close) = memfd_create("index", MFD_CLOEXEC);

	assert_int_equal(write_full(fd, file->ptr, file->len), 0);
	assert_int_equal(index_pages_check(fd, 0, &watch, &counts, &err), 0);
	return found;
}

/* Where the number of the first page of the long value stands. */
static uint8_t *find_long_value(struct buffer *file)
{
	for (uint8_t *page = file->ptr; page < file->ptr + file->len; page += PAGE) {
		unsigned count =
			get_le16(page + 10) == 2 ? (get_le16(page + 12) - HEADER) / 2 : 0;

		for (unsigned i = 0; i < count; i++) {
			uint8_t *entry = page + get_le16(page + HEADER + (size_t)2 * i);

			if (get_le16(entry + 4) == 1) {
				return entry + 8 + get_le16(entry + 6);
			}
		}
	}
	fail();
	return NULL;
}

static void test_place_of_long_value(void **state unused)
{
	struct buffer file cleanup(buffer_done) = {0};

	make_index(&file);
	uint8_t *place = find_long_value(&file);
	uint64_t right = get_le64(place);
	/* The heads of the file, and places behind its end. */
	const uint64_t wrong[] = {0, 1, right + 1, UINT32_MAX, UINT64_MAX};

	assert_int_equal(faults(&file), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		put_le64(place, wrong[i]);
		assert_true(faults(&file) > 0);
	}
	put_le64(place, right);
	assert_int_equal(faults(&file), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_place_of_long_value, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
