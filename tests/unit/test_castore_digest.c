/* castore/digest.h and castore/digest_map.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/text.h"
#include "castore/digest.h"
#include "castore/digest_map.h"
#include "castore_vectors.h"
#include "craft.h"

#define HELLO_HEX "5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"
#define HELLO_TEXT "b3:XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww="

static struct digest hello_digest(void)
{
	struct digest d;

	digest_of(&d, bytes_of_string("Hello World!"));
	return d;
}

/* ---- Golden values ---- */

static void test_golden_blobs(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(blob_vectors); i++) {
		const struct blob_vector *v = &blob_vectors[i];
		struct buffer content cleanup(cleanup_buffer) = {0};
		char hex[DIGEST_HEX_SIZE];
		struct digest d;

		for (unsigned k = 0; k < v->repeat; k++) {
			craft_hex(&content, v->content);
		}
		digest_of(&d, buffer_bytes(&content));
		digest_to_hex(hex, &d);
		assert_string_equal(hex, v->digest);
	}
}

static void test_empty(void **state unused)
{
	struct digest d;

	digest_of(&d, bytes_of(NULL, 0));
	assert_true(digest_equal(&d, &digest_empty));
	digest_of(&d, bytes_of("x", 0));
	assert_int_equal(digest_compare(&d, &digest_empty), 0);
	digest_of(&d, bytes_of("x", 1));
	assert_false(digest_equal(&d, &digest_empty));
}

/* ---- Text ---- */

static void test_text_forms(void **state unused)
{
	struct digest d = hello_digest(), back;
	char hex[DIGEST_HEX_SIZE], text[DIGEST_TEXT_SIZE];

	digest_to_hex(hex, &d);
	digest_to_text(text, &d);
	assert_string_equal(hex, HELLO_HEX);
	assert_string_equal(text, HELLO_TEXT);
	assert_string_equal(digest_text(&d), HELLO_TEXT);
	assert_int_equal(digest_from_hex(&back, bytes_of_string(hex), NULL), 0);
	assert_true(digest_equal(&back, &d));
	back = digest_empty;
	assert_int_equal(digest_from_text(&back, bytes_of_string(text), NULL), 0);
	assert_true(digest_equal(&back, &d));
	back = digest_empty;
	assert_int_equal(digest_parse(&back, bytes_of_string(hex), NULL), 0);
	assert_true(digest_equal(&back, &d));
	back = digest_empty;
	assert_int_equal(digest_parse(&back, bytes_of_string(text), NULL), 0);
	assert_true(digest_equal(&back, &d));
}

static void test_text_four_times(void **state unused)
{
	struct digest hello = hello_digest();
	const char *a = digest_text(&hello), *b = digest_text(&digest_empty);
	const char *c = digest_text(&hello), *d = digest_text(&digest_empty);

	assert_string_equal(a, HELLO_TEXT);
	assert_string_equal(c, HELLO_TEXT);
	assert_string_equal(b, d);
	assert_string_not_equal(a, b);
}

static void assert_no_digest(struct bytes text)
{
	struct digest before = hello_digest(), out = before;
	struct error err = {0};

	assert_int_equal(digest_parse(&out, text, &err), -ERROR_INVALID);
	assert_int_equal(err.code, ERROR_INVALID);
	assert_non_null(strstr(err.text, "is not a digest"));
	assert_int_equal(digest_from_hex(&out, text, NULL), -ERROR_INVALID);
	assert_int_equal(digest_from_text(&out, text, NULL), -ERROR_INVALID);
	/* Outputs are written on success only. */
	assert_true(digest_equal(&out, &before));
}

static void test_text_refused(void **state unused)
{
	static const char *const bad[] = {
		"",
		"b3:",
		"b3",
		HELLO_HEX "0",
		" " HELLO_HEX,
		HELLO_HEX "\n",
		"b3:" HELLO_HEX,
		HELLO_TEXT "=",
		HELLO_TEXT "\n",
		"B3:XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww=",
		"XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww=",
		/* Bits under the padding. */
		"b3:XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRwx=",
		/* The alphabet of file names. */
		"b3:XKeBWty0hOmhNsEe_mnB1TAXbVSbXRjQOOtSgLSzRww=",
		"b3:XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww",
		"5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470g",
		"5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_no_digest(bytes_of_string(bad[i]));
	}
	assert_no_digest(bytes_of(HELLO_HEX, 65));
	assert_no_digest(bytes_of(HELLO_TEXT, sizeof(HELLO_TEXT)));
}

/* Each form only where it is asked for. */
static void test_forms_are_not_mixed(void **state unused)
{
	struct digest out;

	assert_int_equal(digest_from_hex(&out, bytes_of_string(HELLO_TEXT), NULL),
			 -ERROR_INVALID);
	assert_int_equal(digest_from_text(&out, bytes_of_string(HELLO_HEX), NULL),
			 -ERROR_INVALID);
}

static void test_order(void **state unused)
{
	struct digest a = digest_empty, b = digest_empty;

	b.bytes[31]++;
	assert_true(digest_compare(&a, &b) < 0);
	assert_true(digest_compare(&b, &a) > 0);
	assert_false(digest_equal(&a, &b));
	a.bytes[0] = 0x7f;
	b.bytes[0] = 0x80;
	assert_true(digest_compare(&a, &b) < 0);
}

/* ---- Incremental ---- */

static void test_hasher_pieces(void **state unused)
{
	static uint8_t data[300000];
	struct dice dice = {.state = 1};
	struct hasher *h = hasher_new();
	struct digest whole, pieces;

	dice_fill(&dice, data, sizeof(data));
	for (size_t round = 0; round < 20; round++) {
		size_t len = (size_t)dice_below(&dice, sizeof(data) + 1);

		digest_of(&whole, bytes_of(data, len));
		for (size_t at = 0, n; at < len; at += n) {
			n = (size_t)dice_below(&dice, 70000);
			n = MIN(n, len - at);
			hasher_update(h, bytes_of(data + at, n));
		}
		hasher_finish(h, &pieces);
		assert_true(digest_equal(&whole, &pieces));
		/* To finish is no end: more may follow. */
		hasher_finish(h, &pieces);
		assert_true(digest_equal(&whole, &pieces));
		hasher_reset(h);
	}
	hasher_finish(h, &pieces);
	assert_true(digest_equal(&pieces, &digest_empty));
	hasher_free(h);
	hasher_free(NULL);
}

/* Two go on from the same beginning. */
static void test_hasher_copy(void **state unused)
{
	const uint8_t data[] = "a beginning and an end";
	struct hasher *h = hasher_new(), *other = hasher_new();
	struct digest whole, found;

	digest_of(&whole, bytes_of(data, sizeof(data)));
	hasher_update(h, bytes_of(data, 5));
	hasher_update(other, bytes_of(data, 9));
	hasher_copy(other, h);
	hasher_update(h, bytes_of(data, 1));
	hasher_update(other, bytes_of(data + 5, sizeof(data) - 5));
	hasher_finish(other, &found);
	assert_true(digest_equal(&found, &whole));
	hasher_finish(h, &found);
	assert_false(digest_equal(&found, &whole));
	hasher_free(h);
	hasher_free(other);
}

/* ---- The map ---- */

static struct digest numbered(uint64_t i)
{
	struct digest d;

	digest_of(&d, bytes_of(&i, sizeof(i)));
	return d;
}

static void test_map(void **state unused)
{
	struct digest_map m = {0};
	struct digest key = numbered(0);

	assert_null(digest_map_get(&m, &key));
	for (uint64_t i = 0; i < 20000; i++) {
		key = numbered(i);
		assert_true(digest_map_put(&m, &key, i * 3));
		assert_int_equal(m.count, i + 1);
	}
	for (uint64_t i = 0; i < 20000; i++) {
		key = numbered(i);
		/* A key that is there keeps its value. */
		assert_false(digest_map_put(&m, &key, 7));
		uint64_t *value = digest_map_get(&m, &key);

		assert_non_null(value);
		assert_int_equal(*value, i * 3);
		*value = i;
		assert_int_equal(*digest_map_get(&m, &key), i);
	}
	assert_int_equal(m.count, 20000);
	for (uint64_t i = 20000; i < 40000; i++) {
		key = numbered(i);
		assert_null(digest_map_get(&m, &key));
	}
	digest_map_done(&m);
	assert_int_equal(m.count, 0);
	assert_null(digest_map_get(&m, &key));
	digest_map_done(&m);
}

/* Digests that begin alike, which somebody may have looked for, are still told apart. */
static void test_map_collisions(void **state unused)
{
	struct digest_map m = {0};
	struct digest key = {0};

	for (uint64_t i = 0; i < 1000; i++) {
		memcpy(key.bytes + 24, &i, sizeof(i));
		assert_null(digest_map_get(&m, &key));
		assert_true(digest_map_put(&m, &key, i));
	}
	for (uint64_t i = 0; i < 1000; i++) {
		memcpy(key.bytes + 24, &i, sizeof(i));
		assert_int_equal(*digest_map_get(&m, &key), i);
	}
	digest_map_done(&m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_blobs),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_text_forms),
		cmocka_unit_test(test_text_four_times),
		cmocka_unit_test(test_text_refused),
		cmocka_unit_test(test_forms_are_not_mixed),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_hasher_pieces),
		cmocka_unit_test(test_hasher_copy),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_map_collisions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
