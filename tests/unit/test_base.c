/* base/: bytes, text, endian fields, errors, messages. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/endian.h"
#include "base/error.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "base/util.h"

/* ---- bytes ---- */

static int sign_of(int n)
{
	return (n > 0) - (n < 0);
}

static void assert_order(const char *smaller, const char *larger)
{
	struct bytes a = bytes_of_string(smaller), b = bytes_of_string(larger);

	assert_int_equal(sign_of(bytes_compare(a, b)), -1);
	assert_int_equal(sign_of(bytes_compare(b, a)), 1);
	assert_int_equal(bytes_compare(a, a), 0);
	assert_false(bytes_equal(a, b));
	assert_true(bytes_equal(b, b));
}

static void test_bytes_order(void **state unused)
{
	assert_order("", "a");
	assert_order("a", "b");
	assert_order("a", "aa");
	assert_order("aa", "b");
	assert_order("Z", "a");
	/* Bytes are compared unsigned. */
	assert_order("a", "\xc3\xa4");
	assert_order("a\x7f", "a\x80");
	/* Nothing may have no address. */
	assert_int_equal(bytes_compare(bytes_of(NULL, 0), bytes_of_string("")), 0);
	assert_true(bytes_equal(bytes_of(NULL, 0), bytes_of_string("")));
	/* NUL is a byte like any other. */
	assert_int_equal(sign_of(bytes_compare(bytes_of("a\0a", 3), bytes_of("a\0b", 3))), -1);
}

static void test_bytes_printable(void **state unused)
{
	char longest[1000];

	assert_string_equal(bytes_printable(bytes_of(NULL, 0)), "");
	assert_string_equal(bytes_printable(bytes_of_string("plain ~")), "plain ~");
	assert_string_equal(bytes_printable(bytes_of("a\n\0\x7f\xff", 5)),
			    "a\\x0a\\x00\\x7f\\xff");
	memset(longest, 'x', sizeof(longest));
	const char *whole = bytes_printable(bytes_of(longest, 255));

	assert_int_equal(strlen(whole), 255);
	const char *cut = bytes_printable(bytes_of(longest, sizeof(longest)));

	assert_true(strlen(cut) < 400);
	assert_string_equal(cut + strlen(cut) - 4, "x...");
	memset(longest, 0xff, sizeof(longest));
	cut = bytes_printable(bytes_of(longest, sizeof(longest)));
	assert_string_equal(cut + strlen(cut) - 7, "\\xff...");
}

static void test_bytes_printable_four_times(void **state unused)
{
	const char *texts[4];

	for (size_t i = 0; i < 4; i++) {
		texts[i] = bytes_printable(bytes_of(&"abcd"[i], 1));
	}
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(texts[i][0], "abcd"[i]);
	}
}

static void test_buffer(void **state unused)
{
	struct buffer b = {0};

	buffer_append(&b, NULL, 0);
	assert_int_equal(b.len, 0);
	for (size_t i = 0; i < 1000; i++) {
		buffer_append_byte(&b, (uint8_t)i);
		buffer_append(&b, "xyz", 3);
	}
	assert_int_equal(b.len, 4000);
	assert_true(b.capacity >= b.len);
	for (size_t i = 0; i < 1000; i++) {
		assert_int_equal(b.ptr[4 * i], (uint8_t)i);
		assert_memory_equal(b.ptr + 4 * i + 1, "xyz", 3);
	}
	memset(buffer_reserve(&b, 100000), 'r', 100000);
	assert_int_equal(b.len, 4000);
	assert_true(bytes_equal(buffer_bytes(&b), bytes_of(b.ptr, 4000)));
	buffer_done(&b);
	assert_null(b.ptr);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.capacity, 0);
}

static void test_endian(void **state unused)
{
	static const uint8_t little[8] = {8, 7, 6, 5, 4, 3, 2, 0x81};
	static const uint8_t big[8] = {0x81, 2, 3, 4, 5, 6, 7, 8};
	uint8_t at[9];

	put_le64(at + 1, 0x8102030405060708);
	assert_memory_equal(at + 1, little, 8);
	assert_int_equal(get_le64(at + 1), 0x8102030405060708);
	put_be64(at + 1, 0x8102030405060708);
	assert_memory_equal(at + 1, big, 8);
	assert_int_equal(get_be64(at + 1), 0x8102030405060708);
	put_le32(at + 1, 0x05060708);
	assert_memory_equal(at + 1, little, 4);
	assert_int_equal(get_le32(at + 1), 0x05060708);
}

static void test_round_up(void **state unused)
{
	assert_int_equal(round_up(0, 8), 0);
	assert_int_equal(round_up(1, 8), 8);
	assert_int_equal(round_up(8, 8), 8);
	assert_int_equal(round_up(9, 8), 16);
	assert_int_equal(round_up(10, 7), 14);
}

/* ---- text ---- */

static void test_hex(void **state unused)
{
	uint8_t all[256], back[256];
	char text[513];

	for (size_t i = 0; i < sizeof(all); i++) {
		all[i] = (uint8_t)i;
	}
	hex_encode(text, bytes_of(all, sizeof(all)));
	assert_int_equal(strlen(text), 512);
	assert_memory_equal(text, "000102030405060708090a0b0c0d0e0f10", 34);
	assert_true(hex_decode(back, sizeof(back), bytes_of(text, 512)));
	assert_memory_equal(all, back, sizeof(all));
	assert_true(hex_decode(back, 3, bytes_of_string("AbCdEf")));
	assert_memory_equal(back, "\xab\xcd\xef", 3);
	assert_true(hex_decode(back, 0, bytes_of(NULL, 0)));
}

static void test_hex_refused(void **state unused)
{
	static const char *const bad[] = {"",     "a",    "aaa",  "aaaaa", "aaaaaa",
					  "0xaa", "ag00", "0 00", "000/",  "000:"};
	uint8_t out[2];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(hex_decode(out, 2, bytes_of_string(bad[i])));
	}
	assert_false(hex_decode(out, 2,
				bytes_of("00\0"
					 "0",
					 4)));
}

static void test_base64(void **state unused)
{
	/* RFC 4648, section 10. */
	static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
	static const char *const coded[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
					    "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	char text[16];
	uint8_t back[8];

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		size_t len = strlen(plain[i]);

		assert_int_equal(base64_size(len), strlen(coded[i]));
		base64_encode(text, bytes_of_string(plain[i]));
		assert_string_equal(text, coded[i]);
		assert_true(base64_decode(back, len, bytes_of_string(coded[i])));
		assert_memory_equal(back, plain[i], len);
	}
	base64_encode(text, bytes_of("\xfb\xff\xbf", 3));
	assert_string_equal(text, "+/+/");
}

/* Whatever is put at whatever place: what decodes is the one encoding of its bytes. */
static void test_base64_is_strict(void **state unused)
{
	static const char *const coded[] = {"Zg==", "Zm8=", "Zm9v", "Zm9vYg=="};
	static const size_t lens[] = {1, 2, 3, 4};

	for (size_t k = 0; k < ARRAY_SIZE(coded); k++) {
		size_t size = strlen(coded[k]), good = 0;

		for (size_t i = 0; i < size * 256; i++) {
			char text[16], again[16];
			uint8_t out[8];

			memcpy(text, coded[k], size + 1);
			text[i / 256] = (char)(i % 256);
			if (base64_decode(out, lens[k], bytes_of(text, size))) {
				good++;
				base64_encode(again, bytes_of(out, lens[k]));
				assert_memory_equal(again, text, size);
			}
		}
		assert_true(good > 64);
		assert_true(good < size * 64 + 1);
	}
}

static void test_base64_refused(void **state unused)
{
	static const char *const bad[] = {"",      "Zg",    "Zg=",  "Zg===", "Zh==", "Zm8=",
					  "Zg=\n", " Zg==", "-g==", "_g==",  "Z===", "=g=="};
	uint8_t out[4];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(base64_decode(out, 1, bytes_of_string(bad[i])));
	}
}

/* ---- errors ---- */

static void test_error_set(void **state unused)
{
	struct error err = {.os_errno = EIO};
	char longest[3000];

	assert_int_equal(error_set(&err, ERROR_CORRUPT, "%s %d", "blob", 7), -ERROR_CORRUPT);
	assert_int_equal(err.code, ERROR_CORRUPT);
	assert_int_equal(err.os_errno, 0);
	assert_string_equal(err.text, "blob 7");
	assert_int_equal(error_set(NULL, ERROR_LIMIT, "dropped"), -ERROR_LIMIT);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	error_set(&err, ERROR_LIMIT, "%s", longest);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_error_set_errno(void **state unused)
{
	struct error err = {0};

	assert_int_equal(error_set_errno(&err, ENOENT, "cannot open %s", "x"),
			 -ERROR_NOT_FOUND);
	assert_int_equal(err.os_errno, ENOENT);
	assert_string_equal(err.text, "cannot open x: No such file or directory");
	assert_int_equal(error_set_errno(NULL, ENOSPC, "full"), -ERROR_NO_SPACE);
	assert_int_equal(error_set_errno(&err, EDQUOT, "full"), -ERROR_NO_SPACE);
	assert_int_equal(error_set_errno(&err, EACCES, "no"), -ERROR_DENIED);
	assert_int_equal(error_set_errno(&err, EEXIST, "no"), -ERROR_EXISTS);
	assert_int_equal(error_set_errno(&err, EIO, "no"), -ERROR_IO);
	assert_int_equal(error_set_errno(&err, ENOMEM, "no"), -ERROR_LIMIT);
	/* Also one that no table has. */
	assert_int_equal(error_set_errno(&err, 99999, "odd"), -ERROR_IO);
	assert_int_equal(err.os_errno, 99999);
}

static void test_error_wrap(void **state unused)
{
	struct error err = {0};
	char longest[3000];

	error_set_errno(&err, ENOSPC, "cannot write");
	assert_int_equal(error_wrap(&err, "import of %s", "tree"), -ERROR_NO_SPACE);
	assert_string_equal(err.text, "import of tree: cannot write: No space left on device");
	assert_int_equal(err.os_errno, ENOSPC);
	assert_true(error_wrap(NULL, "dropped") < 0);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	error_set(&err, ERROR_INVALID, "%s", longest);
	assert_int_equal(error_wrap(&err, "context"), -ERROR_INVALID);
	assert_memory_equal(err.text, "context: xxx", 12);
	assert_true(strlen(err.text) < sizeof(err.text));
	assert_int_equal(error_wrap(&err, "%s", longest), -ERROR_INVALID);
	assert_true(strlen(err.text) < sizeof(err.text));
}

/* The context may be of any length, up to the edges of the text. */
static void test_error_wrap_fits(void **state unused)
{
	struct error err = {0};
	char context[sizeof(err.text) + 8];

	memset(context, 'c', sizeof(context));
	for (size_t len = sizeof(err.text) - 8; len < sizeof(context); len++) {
		error_set(&err, ERROR_INVALID, "old text");
		assert_int_equal(error_wrap(&err, "%.*s", (int)len, context), -ERROR_INVALID);
		size_t got = strnlen(err.text, sizeof(err.text));

		assert_in_range(got, MIN(len, sizeof(err.text) - 1), sizeof(err.text) - 1);
		assert_memory_equal(err.text, context, MIN(got, len));
	}
}

static void test_error_tables(void **state unused)
{
	struct error err = {0};

	assert_int_equal(error_to_errno(&err), 0);
	for (int code = 1; code < ERROR_CODE_COUNT; code++) {
		err.code = (enum error_code)code;
		assert_true(error_to_errno(&err) > 0);
		assert_string_not_equal(error_code_name(err.code), "unknown");
		for (int other = 0; other < code; other++) {
			assert_string_not_equal(error_code_name(err.code),
						error_code_name((enum error_code)other));
		}
	}
	assert_string_equal(error_code_name(ERROR_CODE_COUNT), "unknown");
	err.code = ERROR_CORRUPT;
	assert_int_equal(error_to_errno(&err), EIO);
	err.code = ERROR_UNAVAILABLE;
	assert_int_equal(error_to_errno(&err), EIO);
	err.code = ERROR_NO_SPACE;
	assert_int_equal(error_to_errno(&err), ENOSPC);
}

/* ---- messages ---- */

/* What goes to stderr while fn runs. */
static void capture_stderr(void (*fn)(void), char *text, size_t size)
{
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);

	assert_non_null(file);
	assert_true(saved >= 0);
	assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
	fn();
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	ssize_t n = pread_full(fileno(file), text, size - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	assert_int_equal(fclose(file), 0);
}

static void log_some(void)
{
	log_error("%s", "one");
	log_warning("two");
	log_info("three");
	log_debug("four");
}

static void log_much(void)
{
	char longest[5000];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	log_error("%s", longest);
}

static void test_log(void **state unused)
{
	char text[8000];

	capture_stderr(log_some, text, sizeof(text));
	assert_string_equal(text, "cairn: error: one\ncairn: warning: two\n");
	log_set_level(LOG_LEVEL_DEBUG);
	capture_stderr(log_some, text, sizeof(text));
	assert_string_equal(text, "cairn: error: one\ncairn: warning: two\ncairn: three\n"
				  "cairn: debug: four\n");
	log_set_level(LOG_LEVEL_ERROR);
	capture_stderr(log_some, text, sizeof(text));
	assert_string_equal(text, "cairn: error: one\n");
	capture_stderr(log_much, text, sizeof(text));
	assert_memory_equal(text, "cairn: error: xxx", 17);
	/* Cut, but still one line with its end. */
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	log_set_level(LOG_LEVEL_WARNING);
}

/* ---- Arena ---- */

static void test_arena(void **state unused)
{
	struct arena a = {.limit = 100000};
	uint8_t *p = arena_alloc(&a, 1), *q = arena_alloc(&a, 0);

	assert_non_null(p);
	assert_true(q > p);
	assert_int_equal((uintptr_t)q % _Alignof(max_align_t), 0);
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, 100001));
	assert_null(arena_alloc(&a, 100000));
	memset(arena_alloc(&a, 50000), 1, 50000);
	size_t count = 0;

	while (arena_alloc(&a, 1000)) {
		count++;
	}
	assert_in_range(count, 40, 50);
	assert_true(a.taken <= a.limit);
	arena_done(&a);
	assert_int_equal(a.taken, 0);
	assert_non_null(arena_alloc(&a, 100000));
	arena_done(&a);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_order),
		cmocka_unit_test(test_bytes_printable),
		cmocka_unit_test(test_bytes_printable_four_times),
		cmocka_unit_test(test_buffer),
		cmocka_unit_test(test_endian),
		cmocka_unit_test(test_round_up),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_hex_refused),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_base64_is_strict),
		cmocka_unit_test(test_base64_refused),
		cmocka_unit_test(test_error_set),
		cmocka_unit_test(test_error_set_errno),
		cmocka_unit_test(test_error_wrap),
		cmocka_unit_test(test_error_wrap_fits),
		cmocka_unit_test(test_error_tables),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_arena),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
