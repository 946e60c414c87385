/* What a local store makes of an index and packs that are damaged. */

#include "test_local_driver.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "services/local/index.h"
#include "services/local/record.h"
#include "services/store_check.h"

static void sync_and_close(struct store *s)
{
	struct error err = {0};

	assert_int_equal(store_sync(s, &err), 0);
	store_close(s);
}

static void path_in_store(char out[512], const char *name)
{
	snprintf(out, 512, "%s/%s", store_path, name);
}

/* As older programs wrote locations, whose check nobody has. */
static void clear_check(enum index_table table, uint8_t *value)
{
	if (table == INDEX_BLOBS) {
		memset(value + 2, 0, 2);
	}
}

/* Changes the one value, of this size, that the index has for a key. */
static void change_value(enum index_table table, struct bytes key, void *value, size_t size,
			 void (*change)(uint8_t *value))
{
	struct index_write *w;
	struct error err = {0};
	struct index *ix;
	char path[512];

	path_in_store(path, "index");
	assert_int_equal(index_open(&ix, path, 0, &err), 0);
	assert_int_equal(index_get(ix, table, key, value, size, &err), 1);
	change(value);
	clear_check(table, value);
	assert_int_equal(index_write_begin(ix, &w, &err), 0);
	assert_int_equal(index_write_put(w, table, key, bytes_of(value, size), true, &err), 0);
	assert_int_equal(index_write_commit(w, &err), 0);
	index_close(ix);
}

static void change_location(const struct digest *d, void (*change)(uint8_t *value))
{
	uint8_t value[LOCATION_SIZE];

	change_value(INDEX_BLOBS, digest_bytes(d), value, sizeof(value), change);
}

static void check_read(const struct digest *d, uint64_t offset, int expected)
{
	struct error err = {0};
	struct store s;
	uint8_t buf[10];
	size_t n = 0;

	open_store(&s, STORE_READ_ONLY);
	int rc = blob_service_read(s.blobs, d, offset, buf, sizeof(buf), 0, &n, &err);

	if (rc != expected || (rc < 0 && !err.text[0])) {
		fail_msg("at %ju: %d, %zu bytes, %s", (uintmax_t)offset, rc, n, err.text);
	}
	store_close(&s);
}

/* ---- ends ---- */

static void make_empty(uint8_t *location)
{
	put_le32(location + 12, 0);
	put_le64(location + 16, 0);
}

static void make_shorter(uint8_t *location)
{
	put_le64(location + 16, get_le64(location + 16) - 1);
}

static void make_raw_and_shorter(uint8_t *location)
{
	put_le32(location + 12, 99);
	put_le64(location + 16, 99);
}

/* Where a blob ends is no more believed than what its bytes are. */
static void test_end_of_packed_blob(void **state unused)
{
	struct store s;

	open_store(&s, STORE_CREATE);
	struct digest d = put_blob(&s, 5000, 1);

	sync_and_close(&s);
	check_read(&d, 5000, 1);
	check_read(&d, UINT64_MAX, 1);
	change_location(&d, make_raw_and_shorter);
	check_read(&d, 0, -ERROR_CORRUPT);
	check_read(&d, 99, -ERROR_CORRUPT);
	check_read(&d, 1000, -ERROR_CORRUPT);
	change_location(&d, make_empty);
	check_read(&d, 0, -ERROR_CORRUPT);
	check_read(&d, 1000, -ERROR_CORRUPT);
}

static void test_end_of_large_blob(void **state unused)
{
	char name[128], path[512], hex[DIGEST_HEX_SIZE];
	struct store s;

	open_store(&s, STORE_CREATE);
	struct digest d = put_blob(&s, LARGE, 1);

	sync_and_close(&s);
	check_read(&d, LARGE, 1);
	/* The index and the file agree with each other, but not with the digest. */
	digest_to_hex(hex, &d);
	snprintf(name, sizeof(name), "files/%.2s/%s", hex, hex);
	path_in_store(path, name);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(truncate(path, LARGE - 1), 0);
	change_location(&d, make_shorter);
	check_read(&d, 0, 1);
	check_read(&d, LARGE - 1, -ERROR_CORRUPT);
	/* A size that no plain file has. */
	change_location(&d, make_empty);
	check_read(&d, 0, -ERROR_CORRUPT);
}

/* ---- packs that nobody should write to ---- */

static void double_length(uint8_t *value)
{
	put_le64(value, 2 * get_le64(value));
}

static void cut_record(uint8_t *value)
{
	put_le64(value, PACK_HEADER_SIZE + RECORD_ALIGN);
}

static void cut_unevenly(uint8_t *value)
{
	put_le64(value, get_le64(value) - 1);
}

static void forget_length(uint8_t *value)
{
	put_le64(value, 0);
}

static void spoil_header(const char *path)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "?", 1, 3), 1);
	close(fd);
}

static void cut_off(const char *path)
{
	assert_int_equal(truncate(path, PACK_HEADER_SIZE + 10), 0);
}

static void change_length(void (*change)(uint8_t *value))
{
	uint8_t key[8], value[8];

	put_be64(key, 1);
	change_value(INDEX_PACKS, bytes_of(key, 8), value, 8, change);
}

static void say_longer(const char *path unused)
{
	change_length(double_length);
}

static void say_less(const char *path unused)
{
	change_length(cut_record);
}

static void say_odd_length(const char *path unused)
{
	change_length(cut_unevenly);
}

static void say_nothing(const char *path unused)
{
	change_length(forget_length);
}

/* A name is put only when nothing is left behind of those that others were putting. */
static void put_name(struct store *s)
{
	const struct node link = {.kind = NODE_SYMLINK, .target = bytes_of_string("x")};
	struct error err = {0};

	assert_int_equal(root_nodes_put(s->roots, bytes_of_string("name"), &link, false, &err),
			 0);
}

/* What is put next is well, and the damaged pack stays as it is, for whoever can use it. */
static void check_left_alone(void (*damage)(const char *path), bool readable)
{
	struct stat before, after;
	char path[512];
	struct store s;

	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(setup(NULL), 0);
	open_store(&s, STORE_CREATE);
	put_blob(&s, 5000, 3);
	put_blob(&s, 5000, 1);
	sync_and_close(&s);
	path_in_store(path, "packs/00000001.pack");
	damage(path);
	assert_int_equal(stat(path, &before), 0);

	open_store(&s, 0);
	put_blob(&s, 5000, 2);
	put_name(&s);
	sync_and_close(&s);
	open_store(&s, STORE_READ_ONLY);
	check_blob(&s, 5000, 2);
	if (readable) {
		check_blob(&s, 5000, 1);
	}
	store_close(&s);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

static void test_damaged_pack_is_left_alone(void **state unused)
{
	check_left_alone(spoil_header, false);
	check_left_alone(cut_off, false);
	check_left_alone(say_longer, true);
	check_left_alone(say_nothing, true);
	check_left_alone(say_less, true);
	check_left_alone(say_odd_length, true);
}

static void say_terabytes(uint8_t *value)
{
	put_le64(value, (uint64_t)1 << 44);
}

/* A length that no file has is a fault like others, and soon found. */
static void test_check_of_huge_length(void **state unused)
{
	const struct store_check_options options = {.read_data = true};
	struct store_check_report report;
	struct error err = {0};
	struct store s;

	open_store(&s, STORE_CREATE);
	put_blob(&s, 5000, 1);
	put_name(&s);
	sync_and_close(&s);
	change_length(say_terabytes);
	char *address cleanup(cleanup_free) = xasprintf("file://%s", store_path);

	assert_int_equal(store_check(address, &options, &report, &err), 0);
	assert_true(report.fault_count > 0);
	store_check_report_done(&report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_end_of_packed_blob, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_of_large_blob, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_pack_is_left_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_check_of_huge_length, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
