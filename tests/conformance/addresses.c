/* What store_open() makes of addresses. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/store.h"

static void check_refused(const char *address, enum error_code code, const char *hint)
{
	struct store s = {0};
	struct error err = {0};
	int rc = store_open(&s, address, STORE_CREATE, &err);

	if (rc != -(int)code || err.code != code || !strstr(err.text, hint)) {
		fail_msg("%s: gave %d: %s", address, rc, err.text);
	}
	assert_null(s.blobs);
}

static void test_refused(void **state unused)
{
	static const struct {
		const char *address;
		const char *hint;
	} cases[] = {
		{"", "path"},
		{"memory", "path"},
		{"memory:", "//"},
		{"memory:/", "//"},
		{"memory://x", "memory://"},
		{"memory:///x", "memory://"},
		{"memory:///", "memory://"},
		{"memory://?", "parameter"},
		{"memory://?x=y", "'x'"},
		{"file:", "//"},
		{"file:/path", "//"},
		{"file://", "file:///path"},
		{"file://host/path", "file:///path"},
		{"file://host", "file:///path"},
		{"file://./path", "file:///path"},
		{"file:///path?x=y", "'x'"},
		{"file:///path?x", "'x'"},
		{"file:///path?a=b&x=y", "'a'"},
		{"file:///path?", "parameter"},
		{"file:///path?compression", "zstd or none"},
		{"file:///path?compression=lz4", "'lz4'"},
		{"file:///path?compression=none&compression=zstd", "'compression'"},
		{"file:///path?durability", "full, batch or none"},
		{"file:///path?durability=most", "'most'"},
		{"file:///path#part", "%23"},
		{"file:///bad%", "%"},
		{"file:///bad%2", "%"},
		{"file:///bad%zz", "%"},
		{"file:///bad%2g/x", "%"},
		{"file:///bad%00", "%"},
		{"file:///bad%-1", "%"},
		{"s3://bucket", "memory://, file:///path"},
		{"MEMORY://", "memory://, file:///path"},
		{"grpc+http://host:1", "memory://, file:///path"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		check_refused(cases[i].address, ERROR_INVALID, cases[i].hint);
	}
}

/* Text from outside gets into messages in a form that a terminal can show. */
static void test_messages(void **state unused)
{
	struct store s = {0};
	struct error err = {0};
	char address[4000];

	assert_true(store_open(&s, "memory://?\x1b[31m", 0, &err) < 0);
	assert_null(strchr(err.text, '\x1b'));
	memset(address, 'x', sizeof(address) - 1);
	address[sizeof(address) - 1] = '\0';
	memcpy(address + 3000, "://", 3);
	check_refused(address, ERROR_INVALID, "memory://");
}

static void test_long_path(void **state unused)
{
	char address[PATH_MAX + 20] = "file:///";

	memset(address + 8, 'p', sizeof(address) - 9);
	address[sizeof(address) - 1] = '\0';
	check_refused(address, ERROR_LIMIT, "long");
}

static void check_needs_folder(const char *address, const char *folder)
{
	struct store_needs needs cleanup(store_needs_done) = {0};

	assert_int_equal(store_needs(address, &needs, NULL), 0);
	assert_int_equal(needs.folder_count, folder != NULL);
	if (folder) {
		assert_string_equal(needs.folders[0], folder);
	}
	assert_false(needs.peers);
	assert_false(needs.writes);
}

static void test_needs(void **state unused)
{
	struct store_needs needs = {0};

	check_needs_folder("file:///with%20space", "/with space");
	check_needs_folder("./relative", "./relative");
	check_needs_folder("memory://", NULL);
	assert_int_equal(store_needs("unknown://x", &needs, NULL), -ERROR_INVALID);
}

static void test_memory(void **state unused)
{
	struct store s = {0};
	struct error err = {0};
	struct digest digest;

	assert_int_equal(store_open(&s, "memory://", 0, &err), 0);
	assert_int_equal(blob_service_put(s.blobs, bytes_of("x", 1), &digest, &err), 0);
	struct blob_service *kept = blob_service_ref(s.blobs);

	store_close(&s);
	assert_null(s.blobs);
	assert_null(s.directories);
	assert_null(s.roots);
	assert_int_equal(blob_service_has(kept, &digest, &err), 1);
	blob_service_unref(kept);
	store_close(&s);
	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(store_open(&s, "memory://", STORE_READ_ONLY, &err),
			 -ERROR_UNSUPPORTED);
}

/* ---- Paths ---- */

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

static void check_makes(const char *address, const char *path)
{
	struct store s = {0};
	struct error err = {0};
	struct stat st;

	assert_int_equal(stat(path, &st), -1);
	if (store_open(&s, address, STORE_CREATE, &err) < 0) {
		fail_msg("%s", err.text);
	}
	store_close(&s);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
}

static void test_paths(void **state unused)
{
	char dir[] = "/tmp/addresses-XXXXXX";
	char address[200];

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	snprintf(address, sizeof(address), "file://%s/plain", dir);
	check_makes(address, "plain");
	snprintf(address, sizeof(address), "file://%s/a%%20%%3fb%%2Fnot%%25%%c3%%a4", dir);
	assert_int_equal(mkdir("a ?b", 0777), 0);
	check_makes(address, "a ?b/not%\xc3\xa4");
	snprintf(address, sizeof(address), "file://%s/raw?compression=none", dir);
	check_makes(address, "raw");
	snprintf(address, sizeof(address), "file://%s/later?durability=batch", dir);
	check_makes(address, "later");
	snprintf(address, sizeof(address), "file://%s/never?durability=none&compression=none",
		 dir);
	check_makes(address, "never");
	snprintf(address, sizeof(address), "%s/no%%20escape?x=y#z", dir);
	check_makes(address, "no%20escape?x=y#z");
	check_makes("./relative", "relative");
	check_makes("relative/below", "relative/below");
	check_makes(".hidden", ".hidden");
	check_makes("./with:colon", "with:colon");
	assert_int_equal(chdir("/"), 0);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc unused, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),   cmocka_unit_test(test_messages),
		cmocka_unit_test(test_long_path), cmocka_unit_test(test_memory),
		cmocka_unit_test(test_paths),     cmocka_unit_test(test_needs),
	};

	(void)argv;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
