/* base/url: URLs apart and parameters checked. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/url.h"

static struct url parse(const char *text)
{
	struct url u = {0};
	struct error err = {0};

	if (url_parse(&u, text, &err) != 0) {
		fail_msg("%s: %s", text, err.text);
	}
	return u;
}

static void check_parts(const char *text, const char *scheme, const char *authority,
			const char *path)
{
	struct url u = parse(text);

	assert_string_equal(u.scheme, scheme);
	assert_string_equal(u.authority, authority);
	assert_string_equal(u.path, path);
	url_done(&u);
	assert_null(u.scheme);
}

static void test_parts(void **state unused)
{
	check_parts("memory://", "memory", "", "");
	check_parts("file:///a/b", "file", "", "/a/b");
	check_parts("grpc+http://[::1]:8000", "grpc+http", "[::1]:8000", "");
	check_parts("grpc+https://host:1/p?x=/y", "grpc+https", "host:1", "/p");
	check_parts("file:///a%20b%3f%2Fc%c3%a4", "file", "", "/a b?/c\xc3\xa4");
	check_parts("s://a%20b/", "s", "a%20b", "/");
	check_parts("s://?x", "s", "", "");
}

static void test_scheme_length(void **state unused)
{
	assert_int_equal(url_scheme_length("file:///x"), 4);
	assert_int_equal(url_scheme_length("a+b-c.9:"), 7);
	assert_int_equal(url_scheme_length("9a:"), 0);
	assert_int_equal(url_scheme_length("./a:b"), 0);
	assert_int_equal(url_scheme_length("name"), 0);
	assert_int_equal(url_scheme_length(""), 0);
}

static void test_parameters(void **state unused)
{
	struct url u = parse("s://h?a=1&b=x%26y%3d&c&d=e=f");

	assert_true(u.has_query);
	assert_int_equal(u.parameter_count, 4);
	assert_string_equal(url_get(&u, "a"), "1");
	assert_string_equal(url_get(&u, "b"), "x&y=");
	assert_string_equal(url_get(&u, "c"), "");
	assert_string_equal(url_get(&u, "d"), "e=f");
	assert_null(url_get(&u, "e"));
	url_done(&u);
	u = parse("s://h?");
	assert_true(u.has_query);
	assert_int_equal(u.parameter_count, 0);
	url_done(&u);
}

static void check_parameters(const char *text, const char *const *names, const char *hint)
{
	struct url u = parse(text);
	struct error err = {0};
	int rc = url_check_parameters(&u, names, &err);

	assert_int_equal(rc, hint ? -ERROR_INVALID : 0);
	if (hint && !strstr(err.text, hint)) {
		fail_msg("%s: %s", text, err.text);
	}
	url_done(&u);
}

static void test_check_parameters(void **state unused)
{
	static const char *const names[] = {"near", "far", NULL};

	check_parameters("s://", names, NULL);
	check_parameters("s://?near=a&far=", names, NULL);
	check_parameters("s://?near=a&middle=b", names, "'middle'; s:// has: near, far");
	check_parameters("s://?near=a&far=b&near=a", names, "'near' comes twice");
	check_parameters("s://?", names, "parameter");
	check_parameters("s://", NULL, NULL);
	check_parameters("s://?near=a", NULL, "no parameters");
}

static void check_refused(const char *text, enum error_code code)
{
	struct url u = {0};
	struct error err = {0};

	assert_int_equal(url_parse(&u, text, &err), -(int)code);
	assert_true(err.text[0] != '\0');
	assert_null(u.scheme);
	assert_null(u.parameters);
}

static void test_refused(void **state unused)
{
	static const char *const cases[] = {
		"",        "file",       "file:",     "file:/x",  "://x",     "s:///%",
		"s:///%2", "s:///%zz",   "s:///%00",  "s:///a#b", "s://?a=%", "s://?%00=a",
		"s://?#",  "s://?a=b%2", "s:///%-1x", "9://x",
	};
	char many[4 * (URL_PARAMETERS_MAX + 2) + 10] = "s://?";
	static char text[URL_LENGTH_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		check_refused(cases[i], ERROR_INVALID);
	}
	for (size_t i = 0; i <= URL_PARAMETERS_MAX; i++) {
		memcpy(many + 5 + 4 * i, "a=b&", 5);
	}
	check_refused(many, ERROR_LIMIT);
	memset(text, 'a', sizeof(text) - 1);
	memcpy(text, "s://", 4);
	check_refused(text, ERROR_LIMIT);
}

static void test_encode(void **state unused)
{
	struct buffer b cleanup(buffer_done) = {0};

	url_encode(&b, "s:///a b?c=d&e%\xff~");
	buffer_append_byte(&b, '\0');
	assert_string_equal((const char *)b.ptr, "s%3a///a%20b%3fc%3dd%26e%25%ff~");
	char *whole cleanup(cleanup_free) = xasprintf("x://?inner=%s", (const char *)b.ptr);
	struct url u = parse(whole);

	assert_string_equal(url_get(&u, "inner"), "s:///a b?c=d&e%\xff~");
	url_done(&u);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),      cmocka_unit_test(test_scheme_length),
		cmocka_unit_test(test_parameters), cmocka_unit_test(test_check_parameters),
		cmocka_unit_test(test_refused),    cmocka_unit_test(test_encode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
