/* Configurations, and addresses of stores that consist of stores. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/text.h"
#include "services/store.h"
#include "services/store_config.h"

static struct store_config *parse(const char *text)
{
	struct store_config *c = NULL;
	struct error err;

	if (store_config_parse("conf", bytes_of_string(text), &c, &err) < 0) {
		fail_msg("%s", err.text);
	}
	return c;
}

static void check_refused(const char *text, const char *hint)
{
	struct store_config *c = NULL;
	struct error err;

	assert_true(store_config_parse("conf", bytes_of_string(text), &c, &err) < 0);
	if (!strstr(err.text, hint) || !strstr(err.text, "conf")) {
		fail_msg("'%s' gave: %s", text, err.text);
	}
	assert_null(c);
}

static void check_address(const struct store_config *c, const char *name, const char *address)
{
	const struct store_definition *d = store_config_find(c, name);

	assert_non_null(d);
	assert_string_equal(d->address, address);
}

static void test_definitions(void **state unused)
{
	struct store_config *c = parse("# comment\n"
				       "; another\n"
				       "[cairn]\n"
				       "default = main\n"
				       "\n"
				       "[store main]\r\n"
				       "type = cache\n"
				       "near = disk\n"
				       "far: hub\n"
				       "  whole = 128K\n"
				       "[store  disk]\n"
				       "address = /var/lib/a b\n"
				       "[store hub]\n"
				       "address = grpc+https://host:1?timeout=3s\n"
				       "ca = /a;b&c#d.pem\n"
				       "[store with]\n"
				       "address = /a b\n"
				       "compression = none\n"
				       "[store all]\n"
				       "type = fallback\n"
				       "stores = disk hub");

	assert_string_equal(store_config_default(c), "main");
	assert_int_equal(store_config_count(c), 5);
	check_address(c, "main", "cache://?near=disk&far=hub&whole=128K");
	check_address(c, "disk", "/var/lib/a b");
	check_address(c, "hub", "grpc+https://host:1?timeout=3s&ca=/a%3bb%26c%23d.pem");
	check_address(c, "with", "file:///a%20b?compression=none");
	check_address(c, "all", "fallback://?stores=disk%20hub");
	assert_null(store_config_find(c, "other"));
	store_config_free(c);
}

static void test_refused(void **state unused)
{
	static const struct {
		const char *text;
		const char *hint;
	} cases[] = {
		{"key = value\n", "line 1: 'key' is in no section"},
		{"nonsense\n", "line 1"},
		{"[store a\n", "line 1"},
		{"[store a] b\n", "line 1"},
		{"[other]\n", "[cairn], [store NAME]"},
		{"[store]\n", "[store NAME]"},
		{"[store a.b]\naddress = /x\n", "not 'a.b'"},
		{"[store a/b]\naddress = /x\n", "not 'a/b'"},
		{"[store ]\n", "[store NAME]"},
		{"[store a]\n", "line 1: [store a]: a store has either"},
		{"[store a]\ntype = lru\naddress = /x\n", "either a type or an address"},
		{"[store a]\ntype = lru\ntype = cache\n", "line 3: 'type' is in line 2 too"},
		{"[store a]\naddress = /x\n\n[store a]\n", "line 4: [store a] is in line 1"},
		{"[store a]\ntype = nothing\n", "cache, fallback, lru, parts, read-only"},
		{"[store a]\ntype = cache\nnaer = b\n", "line 3: unknown key 'naer'"},
		{"[store a]\ntype = cache\nnaer = b\n", "type, near, far, whole, ranges"},
		{"[store a]\naddress = x/y\n", "line 2: 'x/y'"},
		{"[store a]\naddress =\n", "line 2: 'address' has no value"},
		{"[cairn]\nother = 1\n", "line 2: [cairn] has no key 'other'"},
		{"[cairn]\ndefault = a\ndefault = a\n", "line 3: default is in line 2 too"},
		{"[cairn]\ndefault = a\n[store b]\naddress = /x\n", "there are: b"},
		{"[store aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", "long"},
		{"[store a]\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b\n",
		 "long"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		check_refused(cases[i].text, cases[i].hint);
	}
}

static void test_bytes(void **state unused)
{
	struct store_config *c = NULL;
	struct error err;
	char *line = xmalloc(70000);

	assert_true(store_config_parse("conf", bytes_of("[store a]\naddress = /\0x\n", 24), &c,
				       &err) < 0);
	memset(line, 'x', 70000);
	assert_true(store_config_parse("conf", bytes_of(line, 70000), &c, &err) < 0);
	memcpy(line, "a = ", 4);
	assert_true(store_config_parse("conf", bytes_of(line, 70000), &c, &err) < 0);
	assert_null(c);
	free(line);
}

/* ---- Using it ---- */

static void check_open_fails(const char *address, enum error_code code, const char *hint)
{
	struct store s = {0};
	struct error err = {.code = ERROR_NONE};
	int rc = store_open(&s, address, STORE_CREATE, &err);

	if (rc != -(int)code || !strstr(err.text, hint)) {
		fail_msg("%s: gave %d: %s", address, rc, err.text);
	}
	assert_null(s.blobs);
}

static void test_names(void **state unused)
{
	struct store_config *c = parse("[store a]\naddress = memory://\n"
				       "[store main]\ntype = cache\nnear = a\nfar = b\n"
				       "[store b]\naddress = a\n"
				       "[store loop]\ntype = lru\nstore = loop2\n"
				       "[store loop2]\ntype = fallback\nstores = a loop\n"
				       "[store lost]\ntype = lru\nstore = c\n");
	struct store s = {0};
	struct store_needs needs cleanup(store_needs_done) = {0};

	check_open_fails("main", ERROR_INVALID, "no configuration");
	store_config_use(c);
	assert_int_equal(store_open(&s, "main", STORE_CREATE, NULL), 0);
	assert_non_null(s.blobs);
	store_close(&s);
	assert_int_equal(store_open(&s, "lru://?store=main", STORE_CREATE, NULL), 0);
	store_close(&s);
	check_open_fails("loop", ERROR_INVALID, "a part of itself");
	check_open_fails("lost", ERROR_INVALID, "a, main, b, loop, loop2, lost");
	check_open_fails("lost", ERROR_INVALID, "conf, line 15: [store lost]");
	assert_int_equal(store_needs("loop", &needs, NULL), -ERROR_INVALID);
	assert_int_equal(store_needs("main", &needs, NULL), 0);
	store_config_use(NULL);
	store_config_free(c);
}

static const char all_parts[] = "parts://?blobs=memory://&directories=memory://&"
				"roots=memory://&path-infos=memory://";

static void test_addresses(void **state unused)
{
	static const char *const valid[] = {
		"cache://?near=memory://&far=memory://?",
		"cache://?near=memory%3a%2f%2f&far=lru://?store=memory://",
		"lru://?store=memory://&size=1M",
		"fallback://?stores=memory://%20lru://%3fstore%3dmemory://",
		all_parts,
		"cache://?near=memory://&far=cache://%3fnear%3dmemory://%26far%3dmemory:///..",
	};
	static const struct {
		const char *address;
		const char *hint;
	} cases[] = {
		{"cache://", "near=ADDRESS"},
		{"cache://host?near=memory://&far=/x", "?near="},
		{"cache://?near=/x", "far=ADDRESS"},
		{"cache://?near=/x&far=/x", "one store"},
		{"cache://?near=memory://&far=memory://x&whole=1", "from 65536 to"},
		{"cache://?near=memory://&far=memory://x&ranges=-1", "not '-1'"},
		{"cache://?near=memory://&far=/x&other=1", "near, far, whole, ranges"},
		{"fallback://?stores=/x", "two or more"},
		{"fallback://?stores=", "stores="},
		{"fallback://?stores=memory://%20nonsense://", "store 'nonsense://'"},
		{"lru://?store=memory://&size=1", "size is a number of bytes"},
		{"lru://?store=other", "neither an address nor a path"},
		{"read-only://?store=memory://", "memory://"},
		{"parts://?blobs=/x", "directories="},
	};
	struct store s = {0};
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum error_code code = i == 12 ? ERROR_UNSUPPORTED : ERROR_INVALID;

		check_open_fails(cases[i].address, code, cases[i].hint);
	}
	for (size_t i = 1; i < ARRAY_SIZE(valid) - 1; i++) {
		if (store_open(&s, valid[i], STORE_CREATE, &err) < 0) {
			fail_msg("%s: %s", valid[i], err.text);
		}
		store_close(&s);
	}
	/* What follows memory:// is refused wherever it stands. */
	check_open_fails(valid[0], ERROR_INVALID, "memory://");
	check_open_fails(valid[5], ERROR_INVALID, "memory://");
}

static void test_depth(void **state unused)
{
	struct buffer address = {0};

	for (unsigned i = 0; i < 4000; i++) {
		buffer_append_string(&address, "lru://?store=");
	}
	buffer_append_string(&address, "memory://");
	buffer_append_byte(&address, '\0');
	check_open_fails((const char *)address.ptr, ERROR_LIMIT, "nested");
	buffer_done(&address);
}

/* Each four times the one before: what is written in a few lines is not opened for ever. */
static void test_many(void **state unused)
{
	struct buffer text = {0};
	char line[100];

	buffer_append_string(&text, "[store s0]\naddress = memory://\n");
	for (unsigned i = 1; i < 7; i++) {
		snprintf(line, sizeof(line),
			 "[store s%u]\ntype = fallback\nstores = s%u s%u s%u s%u\n", i, i - 1,
			 i - 1, i - 1, i - 1);
		buffer_append_string(&text, line);
	}
	buffer_append_byte(&text, '\0');
	struct store_config *c = parse((const char *)text.ptr);

	store_config_use(c);
	check_open_fails("s6", ERROR_LIMIT, "more than 256 stores");
	store_config_use(NULL);
	store_config_free(c);
	buffer_done(&text);
}

/* Things of different kinds in different stores. */
static void test_parts(void **state unused)
{
	struct store_config *c =
		parse("[store main]\ntype = parts\nblobs = memory://\ndirectories = memory://\n"
		      "roots = lru://?store=memory://\npath-infos = memory://\n");
	struct store s = {0}, staged = {0};
	struct node node = {.kind = NODE_FILE};
	struct error err;

	store_config_use(c);
	if (store_open(&s, "main", STORE_CREATE, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(blob_service_put(s.blobs, bytes_of("x", 1), &node.digest, NULL), 0);
	assert_int_equal(root_nodes_put(s.roots, bytes_of("x", 1), &node, false, NULL), 0);
	assert_int_equal(store_stage(&s, &staged, NULL), 0);
	store_close(&staged);
	store_close(&s);
	store_config_use(NULL);
	store_config_free(c);
}

static void test_sizes(void **state unused)
{
	static const char *const bad[] = {"",
					  "K",
					  "1KB",
					  "1k",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "0x1",
					  "1.5M",
					  "99999999999999999999",
					  "16777216T"};
	uint64_t n;

	assert_true(text_to_size("0", &n) && n == 0);
	assert_true(text_to_size("4096", &n) && n == 4096);
	assert_true(text_to_size("64K", &n) && n == 65536);
	assert_true(text_to_size("3M", &n) && n == (uint64_t)3 << 20);
	assert_true(text_to_size("2G", &n) && n == (uint64_t)2 << 30);
	assert_true(text_to_size("1T", &n) && n == (uint64_t)1 << 40);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(text_to_size(bad[i], &n));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_definitions), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bytes),       cmocka_unit_test(test_names),
		cmocka_unit_test(test_addresses),   cmocka_unit_test(test_depth),
		cmocka_unit_test(test_many),        cmocka_unit_test(test_parts),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
