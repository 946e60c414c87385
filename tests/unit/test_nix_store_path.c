/* nix/store_path.h and nix/content_address.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "craft.h"
#include "nix/store_path.h"
#include "nix_vectors.h"

#define HASH "9p0nl625gm5mli8h2xfsgma0zz31g9yc"

/* ---- Names ---- */

static void assert_name(struct bytes name, bool valid)
{
	struct error err = {0};

	assert_int_equal(store_path_check_name(name, &err), valid ? 0 : -ERROR_INVALID);
	assert_int_equal(err.text[0] == '\0', valid);
}

static void test_names(void **state unused)
{
	static const char *const good[] = {
		"a",  "-",   "=",   "?",  "+",       "_",   "...", "....", "...-",
		".a", "..a", "a..", "-.", ".config", ".=-", "..=", "0-0",  "aZ09+-._?="};
	static const char *const bad[] = {"",    ".",   "..", ".-",   "..-", ".-a",  "..-a",
					  "a/b", "a b", "ä",  "a\n",  "a:b", "a@b",  "a,b",
					  "a;b", "a~",  "$a", "a\\b", "*",   "\x7f", "(a)"};
	char longest[STORE_PATH_NAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_name(bytes_of_string(good[i]), true);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_name(bytes_of_string(bad[i]), false);
	}
	assert_name(bytes_of(NULL, 0), false);
	assert_name(bytes_of("a\0b", 3), false);
	assert_name(bytes_of("\0", 1), false);
	memset(longest, 'n', sizeof(longest));
	assert_name(bytes_of(longest, STORE_PATH_NAME_MAX), true);
	assert_name(bytes_of(longest, STORE_PATH_NAME_MAX + 1), false);
}

static void test_name_characters(void **state unused)
{
	static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ+-._?=";

	for (unsigned c = 0; c < 256; c++) {
		uint8_t name[] = {'n', (uint8_t)c, 'n'};

		assert_name(bytes_of(name, sizeof(name)), c && strchr(allowed, (int)c));
	}
}

/* ---- Text ---- */

static void assert_round_trip(const char *path)
{
	struct store_path p = {0}, q = {0};
	struct error err = {0};
	char text[STORE_PATH_MAX + 1], basename[STORE_PATH_BASENAME_MAX + 1];

	assert_int_equal(store_path_parse(bytes_of_string(path), &p, &err), 0);
	assert_int_equal(store_path_absolute(&p, text), strlen(path));
	assert_string_equal(text, path);
	assert_string_equal(store_path_text(&p), path);
	assert_int_equal(store_path_basename(&p, basename), strlen(path) - 11);
	assert_string_equal(basename, path + 11);
	assert_string_equal(p.name, path + 11 + 33);
	assert_int_equal(p.name_len, strlen(p.name));
	assert_int_equal(store_path_parse_basename(bytes_of_string(basename), &q, &err), 0);
	assert_int_equal(store_path_compare(&p, &q), 0);
}

static void test_round_trip(void **state unused)
{
	char longest[STORE_PATH_MAX + 1] = STORE_DIR "/" HASH "-";

	assert_round_trip(STORE_DIR "/" HASH "-a");
	assert_round_trip(STORE_DIR "/" HASH "--");
	assert_round_trip(STORE_DIR "/" HASH "-hello-2.12.1.drv");
	assert_round_trip(STORE_DIR "/00000000000000000000000000000000-a");
	assert_round_trip(STORE_DIR "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-a");
	memset(longest + strlen(longest), 'n', STORE_PATH_NAME_MAX);
	assert_int_equal(strlen(longest), STORE_PATH_MAX);
	assert_round_trip(longest);
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		assert_round_trip(nar_vectors[i].path);
	}
}

static void test_text_refused(void **state unused)
{
	static const struct {
		const char *path, *why;
	} bad[] = {
		{"", "not in /nix/store"},
		{"/nix/store", "not in /nix/store"},
		{"/nix/store/", "does not begin with 32"},
		{HASH "-a", "not in /nix/store"},
		{"/nix/storf/" HASH "-a", "not in /nix/store"},
		{"//nix/store/" HASH "-a", "not in /nix/store"},
		{"/nix/store//" HASH "-a", "does not begin with 32"},
		{"/nix/store/" HASH, "does not begin with 32"},
		{"/nix/store/" HASH "-", "is empty"},
		{"/nix/store/" HASH "_a", "does not begin with 32"},
		{"/nix/store/x" HASH "-a", "does not begin with 32"},
		{"/nix/store/9P0nl625gm5mli8h2xfsgma0zz31g9yc-a", "does not begin with 32"},
		{"/nix/store/ep0nl625gm5mli8h2xfsgma0zz31g9yc-a", "does not begin with 32"},
		{"/nix/store/" HASH "-a/", "the character '/'"},
		{"/nix/store/" HASH "-a/bin/sh", "the character '/'"},
		{"/nix/store/" HASH "-a\n", "the character '\\x0a'"},
		{"/nix/store/" HASH "-..", "\".\" and \"..\" are not"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct store_path p = {.name_len = 7};
		struct error err = {0};

		assert_int_equal(store_path_parse(bytes_of_string(bad[i].path), &p, &err),
				 -ERROR_INVALID);
		assert_non_null(strstr(err.text, bad[i].why));
		assert_int_equal(p.name_len, 7);
	}
	struct store_path p = {.name_len = 7};

	assert_int_equal(store_path_parse(bytes_of(NULL, 0), &p, NULL), -ERROR_INVALID);
	assert_int_equal(store_path_parse_basename(bytes_of(NULL, 0), &p, NULL),
			 -ERROR_INVALID);
	/* Cut off anywhere, and with a NUL at the end. */
	for (size_t len = 0; len < strlen(HASH) + 2; len++) {
		assert_int_equal(store_path_parse_basename(bytes_of(HASH "-ab", len), &p, NULL),
				 -ERROR_INVALID);
	}
	assert_int_equal(store_path_parse_basename(bytes_of(HASH "-ab", 36), &p, NULL),
			 -ERROR_INVALID);
	assert_int_equal(p.name_len, 7);
}

static void test_order(void **state unused)
{
	/* As strings sort. */
	static const char *const sorted[] = {
		"00000000000000000000000000000000-b",
		"00000000000000000000000000000001-a",
		"000000000000000000000000000000zz-a",
		"0zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-a",
		"10000000000000000000000000000000-a",
		HASH "-+",
		HASH "-A",
		HASH "-a",
		HASH "-a-b",
		HASH "-aa",
		"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-a",
	};
	struct store_path paths[ARRAY_SIZE(sorted)];

	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		assert_int_equal(
			store_path_parse_basename(bytes_of_string(sorted[i]), &paths[i], NULL),
			0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(sorted); k++) {
			int order = store_path_compare(&paths[i], &paths[k]);

			assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
		}
	}
}

/* ---- Content addresses ---- */

static struct store_path path_of(const char *text)
{
	struct store_path p;

	assert_int_equal(store_path_parse(bytes_of_string(text), &p, NULL), 0);
	return p;
}

static struct content_address address_of(const char *text)
{
	struct content_address ca;

	assert_int_equal(content_address_parse(bytes_of_string(text), &ca, NULL), 0);
	return ca;
}

/* What real Nix says of real paths. */
static const struct {
	const char *path, *ca;
	bool self;
	const char *references[2];
} known[] = {
	/* nix-store --print-fixed-path */
	{STORE_DIR "/wmf7xy1hfw51k5rx9945y0ry69d4vx32-test-1.0",
	 "fixed:md5:4jqlbi14cxf6wpcajbphm40hax",
	 false,
	 {0}},
	{STORE_DIR "/1kw4hzy42fldz0l6m34gw4fq2k58c0n3-test-1.0",
	 "fixed:r:md5:4jqlbi14cxf6wpcajbphm40hax",
	 false,
	 {0}},
	{STORE_DIR "/h3dlynd2zm1sflhdbiqbl9c5nqgdfz52-test-1.0",
	 "fixed:sha1:9m1skbnr5i43n3yypvda5s65vhfwdx5a",
	 false,
	 {0}},
	{STORE_DIR "/5814zbac64v7ml8hr9qn63f869k71g8n-test-1.0",
	 "fixed:r:sha1:9m1skbnr5i43n3yypvda5s65vhfwdx5a",
	 false,
	 {0}},
	{STORE_DIR "/k7pcvll5v6nqif5z85xr3542whs731j3-test-1.0",
	 "fixed:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
	 false,
	 {0}},
	{STORE_DIR "/12fhj7bjpb8gijdlaywb369qs419h5wg-test-1.0",
	 "fixed:r:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
	 false,
	 {0}},
	{STORE_DIR "/plqf7vmczq0njanhyzlkvvi8y5zg4dwd-test-1.0",
	 "fixed:sha512:11w1pmwfdpz9pisbhp5qiv38q6dmidq2ipcqykw3p0sb6yrqcij79rwcwcjbxyzwbdal349q"
	 "bxrncbk7pmd6snljrfpiwv2pljd4wcv",
	 false,
	 {0}},
	{STORE_DIR "/75yfvajmb49ap4ib6awd8g0f9y825b7q-test-1.0",
	 "fixed:r:sha512:11w1pmwfdpz9pisbhp5qiv38q6dmidq2ipcqykw3p0sb6yrqcij79rwcwcjbxyzwbdal34"
	 "9qbxrncbk7pmd6snljrfpiwv2pljd4wcv",
	 false,
	 {0}},
	/* builtins.toFile, alone and with references */
	{STORE_DIR "/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt",
	 "text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
	 false,
	 {0}},
	{STORE_DIR "/xgf8gipfln347094x5lihfgdcvybn09q-refs",
	 "text:sha256:0mjqs1cqm91n3f17xb4mzj7n25hq2jsymfc9n26s2ygc5nzjwgy4",
	 false,
	 {STORE_DIR "/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt",
	  STORE_DIR "/w320iz5b4848q2l7a7x8mw2vymm22ddg-b"}},
	/* nix store make-content-addressed, with references, and to itself as well */
	{STORE_DIR "/qcb41k9r7n0k5844l0xr5jxhwf81yknb-refs",
	 "fixed:r:sha256:1jyfbhpzyrjvlf9q1p70v20x12h7cn6jq9rdw80l3hgmsa2s42ga",
	 false,
	 {STORE_DIR "/86hsqb4np3ppz5gsivmgy3d5cz7k68n2-t.txt",
	  STORE_DIR "/zydyrz2ddv6vqfn3i24yd8dkmn740f6d-b"}},
	{STORE_DIR "/alrq5yblrmn2gkqpy8gbnjw1vm9h656c-selfref",
	 "fixed:r:sha256:1c00y6p9vgpz88lgdk5a2ampmgkkmy248bcj1maah276c7rkm590",
	 true,
	 {STORE_DIR "/86hsqb4np3ppz5gsivmgy3d5cz7k68n2-t.txt"}},
};

static void test_known_paths(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct content_address ca = address_of(known[i].ca);
		struct store_path want = path_of(known[i].path), references[2], got = {0};
		struct error err = {0};
		size_t count = 0;

		for (; count < 2 && known[i].references[count]; count++) {
			references[count] = path_of(known[i].references[count]);
		}
		assert_int_equal(store_path_make(&ca, bytes_of(want.name, want.name_len),
						 references, count, known[i].self, &got, &err),
				 0);
		assert_string_equal(store_path_text(&got), known[i].path);
	}
}

static void test_golden_paths(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		char text[256];
		struct store_path got;

		snprintf(text, sizeof(text), "fixed:r:sha256:%s", nar_vectors[i].sha256);
		struct content_address ca = address_of(text);

		assert_int_equal(store_path_make(&ca, bytes_of_string("test"), NULL, 0, false,
						 &got, NULL),
				 0);
		assert_string_equal(store_path_text(&got), nar_vectors[i].path);
	}
}

static void assert_not_made(const char *ca_text, const char *name, size_t references, bool self,
			    const char *why)
{
	struct content_address ca = address_of(ca_text);
	struct store_path paths[3], got = {.name_len = 7};
	struct error err = {0};

	paths[0] = path_of(STORE_DIR "/9p0nl625gm5mli8h2xfsgma0zz31g9yc-b");
	paths[1] = paths[2] = path_of(STORE_DIR "/9p0nl625gm5mli8h2xfsgma0zz31g9yc-a");
	assert_int_equal(store_path_make(&ca, bytes_of_string(name),
					 references == 3 ? paths + 1 : paths,
					 references == 3 ? 2 : references, self, &got, &err),
			 -ERROR_INVALID);
	assert_non_null(strstr(err.text, why));
	assert_int_equal(got.name_len, 7);
}

static void test_paths_refused(void **state unused)
{
	const char *flat = known[4].ca, *nar = known[5].ca, *text = known[8].ca;

	assert_not_made(nar, "", 0, false, "is empty");
	assert_not_made(nar, "a/b", 0, false, "the character '/'");
	assert_not_made(flat, "a", 1, false, "flat hash (sha256) cannot have references");
	assert_not_made(flat, "a", 0, true, "cannot have references");
	assert_not_made(known[3].ca, "a", 1, false, "recursive hash (sha1) cannot have");
	assert_not_made(known[7].ca, "a", 0, true, "recursive hash (sha512) cannot have");
	assert_not_made(text, "a", 0, true, "text cannot refer to itself");
	assert_not_made(text, "a", 2, false, "out of order");
	assert_not_made(nar, "a", 2, false, "out of order");
	/* Twice the same. */
	assert_not_made(nar, "a", 3, true, "out of order");

	struct content_address ca = address_of(text);
	struct store_path got;
	struct error err = {0};

	ca.hash.algorithm = HASH_SHA512;
	assert_int_equal(store_path_make(&ca, bytes_of_string("a"), NULL, 0, false, &got, &err),
			 -ERROR_INVALID);
	assert_non_null(strstr(err.text, "text is addressed by its sha256"));
}

static void test_address_text(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct buffer b cleanup(cleanup_buffer) = {0};
		struct content_address ca = address_of(known[i].ca);

		content_address_format(&ca, &b);
		assert_true(bytes_equal(buffer_bytes(&b), bytes_of_string(known[i].ca)));
	}
	struct content_address ca = address_of("fixed:r:md5:5d41402abc4b2a76b9719d911017c592");

	assert_int_equal(ca.method, CA_NAR);
	assert_int_equal(ca.hash.algorithm, HASH_MD5);
	ca = address_of("fixed:md5:XUFAKrxLKna5cZ2REBfFkg==");
	assert_int_equal(ca.method, CA_FLAT);
	assert_int_equal(ca.hash.bytes[0], 0x5d);
}

static void test_address_refused(void **state unused)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "neither"},
		{"text", "neither"},
		{"Text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic", "neither"},
		{"sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic", "neither"},
		{"text:", "no ALGORITHM:DIGEST"},
		{"fixed:", "no ALGORITHM:DIGEST"},
		{"fixed:r:", "no ALGORITHM:DIGEST"},
		{"fixed:r", "no ALGORITHM:DIGEST"},
		{"fixed:md5", "no ALGORITHM:DIGEST"},
		{"fixed:md5-XUFAKrxLKna5cZ2REBfFkg==", "no ALGORITHM:DIGEST"},
		{"fixed:r:md5-XUFAKrxLKna5cZ2REBfFkg==", "no ALGORITHM:DIGEST"},
		{"fixed:r:r:md5:XUFAKrxLKna5cZ2REBfFkg==", "the algorithms are"},
		{"fixed:git:sha1:9m1skbnr5i43n3yypvda5s65vhfwdx5a", "the algorithms are"},
		{"fixed:sha256:", "expects 32 bytes"},
		{"text:md5:4jqlbi14cxf6wpcajbphm40hax", "by its sha256 only"},
		{"text:r:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
		 "the algorithms are"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct content_address ca = {.method = CA_NAR, .hash.bytes = {42}};
		struct error err = {0};

		assert_int_equal(content_address_parse(bytes_of_string(bad[i].text), &ca, &err),
				 -ERROR_INVALID);
		assert_non_null(strstr(err.text, bad[i].why));
		assert_non_null(strstr(err.text, "is no content address"));
		assert_int_equal(ca.hash.bytes[0], 42);
	}
	assert_int_equal(content_address_parse(bytes_of(NULL, 0), NULL, NULL), -ERROR_INVALID);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),        cmocka_unit_test(test_name_characters),
		cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_text_refused),
		cmocka_unit_test(test_order),        cmocka_unit_test(test_known_paths),
		cmocka_unit_test(test_golden_paths), cmocka_unit_test(test_paths_refused),
		cmocka_unit_test(test_address_text), cmocka_unit_test(test_address_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
