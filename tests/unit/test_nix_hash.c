/* nix/hash.h and nix/nixbase32.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/text.h"
#include "craft.h"
#include "nix/hash.h"
#include "nix/nixbase32.h"
#include "nix_vectors.h"

/* What nix-hash prints for "hello", in every form. */
static const struct {
	enum hash_algorithm algorithm;
	const char *name, *hex, *nixbase32, *base64;
} hello[] = {
	{HASH_MD5, "md5", "5d41402abc4b2a76b9719d911017c592", "4jqlbi14cxf6wpcajbphm40hax",
	 "XUFAKrxLKna5cZ2REBfFkg=="},
	{HASH_SHA1, "sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
	 "9m1skbnr5i43n3yypvda5s65vhfwdx5a", "qvTGHdzF6KLavt4PO0gs2a6pQ00="},
	{HASH_SHA256, "sha256",
	 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
	 "094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
	 "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="},
	{HASH_SHA512, "sha512",
	 "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7"
	 "2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043",
	 "11w1pmwfdpz9pisbhp5qiv38q6dmidq2ipcqykw3p0sb6yrqcij79rwcwcjbxyzwbdal349qbxrncbk7pmd6"
	 "snljrfpiwv2pljd4wcv",
	 "m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9z"
	 "vN7AQw=="},
};

/* ---- nixbase32 ---- */

static void assert_nixbase32(const char *hex, const char *text)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	uint8_t back[64];
	char out[128];

	craft_hex(&b, hex);
	assert_int_equal(nixbase32_size(b.len), strlen(text));
	nixbase32_encode(out, buffer_bytes(&b));
	assert_string_equal(out, text);
	assert_true(nixbase32_decode(back, b.len, bytes_of_string(text)));
	assert_true(bytes_equal(bytes_of(back, b.len), buffer_bytes(&b)));
}

static void test_nixbase32_golden(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nixbase32_vectors); i++) {
		assert_nixbase32(nixbase32_vectors[i].hex, nixbase32_vectors[i].text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		assert_nixbase32(nar_vectors[i].sha256, nar_vectors[i].nixbase32);
	}
	for (size_t i = 0; i < ARRAY_SIZE(hello); i++) {
		assert_nixbase32(hello[i].hex, hello[i].nixbase32);
	}
}

static void test_nixbase32_round_trip(void **state unused)
{
	struct dice d = {1};

	for (size_t len = 0; len <= 64; len++) {
		uint8_t in[64], out[64];
		char text[128];

		dice_fill(&d, in, len);
		nixbase32_encode(text, bytes_of(in, len));
		assert_int_equal(strlen(text), nixbase32_size(len));
		assert_true(nixbase32_decode(out, len, bytes_of_string(text)));
		assert_memory_equal(in, out, len);
		/* Of one length only. */
		assert_false(nixbase32_decode(out, len, bytes_of(text, strlen(text) + 1)));
		if (len) {
			assert_false(
				nixbase32_decode(out, len, bytes_of(text, strlen(text) - 1)));
		}
	}
}

static void test_nixbase32_refused(void **state unused)
{
	uint8_t out[20];
	char text[33];

	/* One byte has eight bits, two digits ten. */
	assert_true(nixbase32_decode(out, 1, bytes_of_string("7z")));
	assert_int_equal(out[0], 255);
	assert_false(nixbase32_decode(out, 1, bytes_of_string("8z")));
	assert_false(nixbase32_decode(out, 1, bytes_of_string("z0")));
	/* Every other character anywhere. */
	for (unsigned c = 0; c < 256; c++) {
		bool digit = c && strchr("0123456789abcdfghijklmnpqrsvwxyz", (int)c);

		for (size_t at = 0; at < 32; at++) {
			memset(text, '0', 32);
			text[at] = (char)c;
			assert_int_equal(nixbase32_decode(out, 20, bytes_of(text, 32)), digit);
		}
	}
}

/* ---- Hashing ---- */

static void assert_hash(const struct hash *h, enum hash_algorithm algorithm, const char *hex)
{
	struct buffer want cleanup(cleanup_buffer) = {0};

	craft_hex(&want, hex);
	assert_int_equal(h->algorithm, algorithm);
	assert_int_equal(hash_size(algorithm), want.len);
	assert_true(bytes_equal(hash_bytes(h), buffer_bytes(&want)));
}

static void test_known_answers(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(hello); i++) {
		struct hash h;

		hash_of(hello[i].algorithm, bytes_of_string("hello"), &h);
		assert_hash(&h, hello[i].algorithm, hello[i].hex);
	}
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		struct buffer nar cleanup(cleanup_buffer) = {0};
		struct hash h;

		craft_hex(&nar, nar_vectors[i].hex);
		assert_int_equal(nar.len, nar_vectors[i].size);
		hash_of(HASH_SHA256, buffer_bytes(&nar), &h);
		assert_hash(&h, HASH_SHA256, nar_vectors[i].sha256);
	}
	struct hash h;

	hash_of(HASH_SHA256, bytes_of(NULL, 0), &h);
	assert_hash(&h, HASH_SHA256,
		    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void test_stream(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(hello); i++) {
		struct hash_stream *s cleanup(cleanup_hash_stream) =
			hash_stream_new(hello[i].algorithm);
		struct hash h;

		/* Three times: it begins anew. */
		for (size_t cut = 0; cut < 3; cut++) {
			hash_stream_update(s, bytes_of("hello", cut));
			hash_stream_update(s, bytes_of(NULL, 0));
			hash_stream_update(s, bytes_of(&"hello"[cut], 5 - cut));
			hash_stream_finish(s, &h);
			assert_hash(&h, hello[i].algorithm, hello[i].hex);
		}
	}
	hash_stream_free(NULL);
}

static void test_equal(void **state unused)
{
	struct hash a, b;

	hash_of(HASH_SHA256, bytes_of_string("a"), &a);
	b = hash_of_sha256(a.bytes);
	assert_true(hash_equal(&a, &b));
	/* What is behind the hash does not count. */
	b.bytes[SHA256_SIZE] = 1;
	assert_true(hash_equal(&a, &b));
	b.bytes[SHA256_SIZE - 1] ^= 1;
	assert_false(hash_equal(&a, &b));
	b = a;
	b.algorithm = HASH_SHA1;
	assert_false(hash_equal(&a, &b));
}

static void *hash_hello(void *result)
{
	struct hash h;

	*(bool *)result = true;
	for (size_t i = 0; i < 100; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(hello); k++) {
			char hex[HASH_HEX_MAX];

			hash_of(hello[k].algorithm, bytes_of_string("hello"), &h);
			hash_format_hex(&h, hex);
			*(bool *)result = *(bool *)result && strstr(hex, hello[k].hex);
		}
	}
	return NULL;
}

/* The first ones in this process, so that they also meet while libcrypto is set up. */
static void test_threads(void **state unused)
{
	pthread_t threads[8];
	bool results[8];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, hash_hello, &results[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(results[i]);
	}
}

/* ---- Text ---- */

static void assert_parses(const char *name, char separator, const char *digest, size_t i)
{
	char text[256];
	struct error err = {0};
	struct hash h = {0};

	snprintf(text, sizeof(text), "%s%c%s", name, separator, digest);
	assert_int_equal(hash_parse(bytes_of_string(text), &h, &err), 0);
	assert_hash(&h, hello[i].algorithm, hello[i].hex);
}

static void test_text_forms(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(hello); i++) {
		struct buffer b cleanup(cleanup_buffer) = {0};
		char hex[HASH_HEX_MAX], want[256];
		enum hash_algorithm algorithm;
		struct hash h;

		assert_string_equal(hash_algorithm_name(hello[i].algorithm), hello[i].name);
		assert_true(hash_algorithm_parse(bytes_of_string(hello[i].name), &algorithm));
		assert_int_equal(algorithm, hello[i].algorithm);
		assert_parses(hello[i].name, ':', hello[i].hex, i);
		assert_parses(hello[i].name, ':', hello[i].nixbase32, i);
		assert_parses(hello[i].name, ':', hello[i].base64, i);
		assert_parses(hello[i].name, '-', hello[i].base64, i);

		hash_of(hello[i].algorithm, bytes_of_string("hello"), &h);
		buffer_append_string(&b, "before ");
		hash_format(&h, &b);
		snprintf(want, sizeof(want), "before %s:%s", hello[i].name, hello[i].nixbase32);
		assert_true(bytes_equal(buffer_bytes(&b), bytes_of_string(want)));
		snprintf(want, sizeof(want), "%s:%s", hello[i].name, hello[i].hex);
		assert_int_equal(hash_format_hex(&h, hex), strlen(want));
		assert_string_equal(hex, want);
		b.len = 0;
		hash_format_sri(&h, &b);
		snprintf(want, sizeof(want), "%s-%s", hello[i].name, hello[i].base64);
		assert_true(bytes_equal(buffer_bytes(&b), bytes_of_string(want)));
	}
}

static void test_text_refused(void **state unused)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "names no algorithm"},
		{"sha256", "names no algorithm"},
		{"5d41402abc4b2a76b9719d911017c592", "names no algorithm"},
		{"sha224:00", "the algorithms are"},
		{"SHA256:00", "the algorithms are"},
		{":00", "the algorithms are"},
		{"-00", "the algorithms are"},
		{"blake3-00", "the algorithms are"},
		{"md5:", "md5 expects 16 bytes in base 16, 32 or 64"},
		{"md5-", "md5 expects 16 bytes in base 64"},
		/* A digit too few, too many, a wrong one, and one of another algorithm's. */
		{"md5:5d41402abc4b2a76b9719d911017c59", "expects 16"},
		{"md5:5d41402abc4b2a76b9719d911017c5922", "expects 16"},
		{"md5:5d41402abc4b2a76b9719d911017c59g", "expects 16"},
		{"sha256:5d41402abc4b2a76b9719d911017c592", "expects 32"},
		{"md5:4jqlbi14cxf6wpcajbphm40hae", "expects 16"},
		{"md5:zjqlbi14cxf6wpcajbphm40hax", "expects 16"},
		{"md5:XUFAKrxLKna5cZ2REBfFkg=", "expects 16"},
		{"md5:XUFAKrxLKna5cZ2REBfFkh==", "expects 16"},
		{"md5:XUFAKrxLKna5cZ2REBfFk_==", "expects 16"},
		/* SRI is base 64 only. */
		{"md5-5d41402abc4b2a76b9719d911017c592", "in base 64"},
		{"md5-4jqlbi14cxf6wpcajbphm40hax", "in base 64"},
		{"md5: XUFAKrxLKna5cZ2REBfFkg==", "expects 16"},
		{" md5:XUFAKrxLKna5cZ2REBfFkg==", "the algorithms are"},
		{"md5:XUFAKrxLKna5cZ2REBfFkg==\n", "expects 16"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hash h = {.algorithm = HASH_SHA512, .bytes = {42}};
		struct error err = {0};

		assert_int_equal(hash_parse(bytes_of_string(bad[i].text), &h, &err),
				 -ERROR_INVALID);
		assert_int_equal(err.code, ERROR_INVALID);
		assert_non_null(strstr(err.text, bad[i].why));
		assert_int_equal(h.algorithm, HASH_SHA512);
		assert_int_equal(h.bytes[0], 42);
	}
	enum hash_algorithm algorithm;
	struct hash h;

	assert_int_equal(hash_parse(bytes_of(NULL, 0), &h, NULL), -ERROR_INVALID);
	assert_false(hash_algorithm_parse(bytes_of(NULL, 0), &algorithm));
	assert_false(hash_algorithm_parse(bytes_of_string("sha2"), &algorithm));
	assert_false(hash_algorithm_parse(bytes_of_string("sha2566"), &algorithm));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads), /* first */
		cmocka_unit_test(test_nixbase32_golden),
		cmocka_unit_test(test_nixbase32_round_trip),
		cmocka_unit_test(test_nixbase32_refused),
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_text_forms),
		cmocka_unit_test(test_text_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
