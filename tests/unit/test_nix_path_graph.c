/* nix/path_graph.h: the forms, what is refused and why, and the order. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "nix/path_graph.h"
#include "nix/signature.h"

#define HASH "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define LIB "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib"
#define TOOL "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-tool"
#define MEMBERS(references) \
	"\"narHash\": \"" HASH "\", \"narSize\": 112, \"references\": [" references "]"
#define ITEM(path, references) "{\"path\": \"" path "\", " MEMBERS(references) "}"
#define LIB_ITEM ITEM(LIB, "\"" LIB "\"")
#define TOOL_ITEM ITEM(TOOL, "\"" LIB "\"")

static struct error err;

static void cleanup_graph(struct path_graph *g)
{
	path_graph_done(g);
}

static void add(struct path_graph *g, const char *text, const char *key)
{
	if (path_graph_add(g, bytes_of_string(text), key, &err) != 0) {
		fail_msg("%s: %s", text, err.text);
	}
}

static struct store_path path_of(const char *text)
{
	struct store_path p;

	assert_int_equal(store_path_parse(bytes_of_string(text), &p, NULL), 0);
	return p;
}

static size_t number_of(const struct path_graph *g, const char *text)
{
	struct store_path p = path_of(text);

	return path_graph_find(g, &p);
}

static void test_forms(void **state unused)
{
	static const char *const forms[] = {
		"[" TOOL_ITEM ", " LIB_ITEM "]",
		"{\"closure\": [" TOOL_ITEM ", " LIB_ITEM "], \"other\": 1}",
		"{\"" TOOL "\": {" MEMBERS("\"" LIB "\"") "}, \"" LIB
							  "\": {" MEMBERS("\"" LIB "\"") "}}",
		"{\"closure\": {\"" TOOL
		"\": {" MEMBERS("\"" LIB "\"") "}, \"" LIB "\": {" MEMBERS("\"" LIB "\"") "}}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct path_graph g cleanup(cleanup_graph) = {0};

		add(&g, forms[i], NULL);
		assert_int_equal(g.count, 2);
		path_graph_sort(&g);
		assert_int_equal(number_of(&g, LIB), 0);
		assert_int_equal(number_of(&g, TOOL), 1);
		assert_int_equal(number_of(&g, "/nix/store/cccccccccccccccccccccccccccccccc-x"),
				 2);
		assert_int_equal(number_of(&g, LIB "-other"), 2);
		for (size_t k = 0; k < 2; k++) {
			assert_int_equal(g.infos[k].nar_size, 112);
			assert_int_equal(g.infos[k].reference_count, 1);
			assert_string_equal(store_path_text(&g.infos[k].references[0]), LIB);
			assert_false(g.infos[k].has_ca || g.infos[k].has_deriver);
		}
	}
}

static void test_key(void **state unused)
{
	static const char text[] = "{\"closure\": [" LIB_ITEM "], \"x\": [" TOOL_ITEM "]}";
	struct path_graph g cleanup(cleanup_graph) = {0};

	add(&g, text, "x");
	assert_int_equal(g.count, 1);
	assert_int_equal(number_of(&g, TOOL), 0);
	assert_int_equal(path_graph_add(&g, bytes_of_string(text), "y", &err), -ERROR_INVALID);
	assert_non_null(strstr(err.text, "\"y\""));
}

static void test_merge(void **state unused)
{
	static const char deriver[] = "/nix/store/cccccccccccccccccccccccccccccccc-lib.drv";
	struct path_graph g cleanup(cleanup_graph) = {0};
	struct store_path found;

	add(&g, "[" LIB_ITEM "]", NULL);
	/* Without the directory, and with what was not known yet. */
	add(&g,
	    "[{\"path\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib\", " MEMBERS(
		    "\"" LIB
		    "\"") ", \"deriver\": "
			  "\"/nix/store/cccccccccccccccccccccccccccccccc-lib.drv\","
			  " \"signatures\": "
			  "[\"k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
			  "AAAAAAAAAAAAAAAAAAAAAAAAAA==\"]}]",
	    NULL);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.infos[0].signature_count, 1);
	assert_true(g.infos[0].has_deriver);
	path_info_deriver_path(&g.infos[0], &found);
	assert_string_equal(store_path_text(&found), deriver);
	assert_int_equal(path_graph_add(&g, bytes_of_string("[" ITEM(LIB, "") "]"), NULL, &err),
			 -ERROR_INVALID);
	assert_non_null(strstr(err.text, "twice"));
}

static void test_refused(void **state unused)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "no JSON"},
		{"[", "line 1"},
		{"[] []", "no JSON"},
		{"{\"closure\": [], \"closure\": []}", "duplicate"},
		{"1", "a list or an object"},
		{"{\"closure\": 1}", "a list or an object"},
		{"[1]", "item 0 has no \"path\""},
		{"[{\"path\": 1}]", "item 0 has no \"path\""},
		{"[{\"path\": \"/nix/store/x\"}]", "no store path"},
		{"{\"builder\": \"/bin/sh\"}", "no store path"},
		{"{\"" LIB "\": null}", "not valid"},
		{"[{\"path\": \"" LIB "\", \"valid\": false}]", "not valid"},
		{"[{\"path\": \"" LIB "\"}]", "\"narHash\" is missing"},
		{"[{\"path\": \"" LIB "\", \"narHash\": \"x\"}]", "narHash: \"x\" is no hash"},
		{"[{\"path\": \"" LIB
		 "\", \"narHash\": \"md5:00000000000000000000000000000000\"}]",
		 "no sha256"},
		{"[{\"path\": \"" LIB "\", \"narHash\": \"" HASH "\", \"narSize\": 0}]",
		 "\"narSize\""},
		{"[{\"path\": \"" LIB "\", \"narHash\": \"" HASH "\", \"narSize\": 1}]",
		 "\"references\" is missing"},
		{"[" ITEM(LIB, "1") "]", "a reference is no text"},
		{"[" ITEM(LIB, "\"x\"") "]", "references: \"x\""},
		{"[" ITEM(LIB, "\"" LIB "\", \"" LIB "\"") "]", "twice"},
		{"[{\"path\": \"" LIB "\", " MEMBERS("") ", \"signatures\": [\"k\"]}]",
		 "NAME:BASE64"},
		{"[{\"path\": \"" LIB "\", " MEMBERS("") ", \"deriver\": \"" LIB "\"}]",
		 ".drv"},
		{"[{\"path\": \"" LIB "\", " MEMBERS("") ", \"ca\": \"x\"}]",
		 "content address"},
		{"[{\"path\": \"" LIB
		 "\", " MEMBERS("") ", \"ca\": "
				    "\"fixed:r:sha256:"
				    "0000000000000000000000000000000000000000000000000000\"}]",
		 "does not follow"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct path_graph g cleanup(cleanup_graph) = {0};

		assert_int_equal(path_graph_add(&g, bytes_of_string(bad[i].text), NULL, &err),
				 -ERROR_INVALID);
		if (!strstr(err.text, bad[i].why)) {
			fail_msg("%s: %s", bad[i].text, err.text);
		}
	}
}

/* Item `number` refers to the one before it and, in a circle, the first to the last. */
static void append_item(struct buffer *b, unsigned number, unsigned count, bool circle)
{
	char text[400];
	unsigned before = number ? number - 1 : count - 1;
	bool refers = number || circle;

	snprintf(text, sizeof(text),
		 "%s{\"path\": \"/nix/store/%032u-x\", \"narHash\": \"" HASH
		 "\", \"narSize\": 8, \"references\": [",
		 b->len > 1 ? "," : "", number);
	buffer_append_string(b, text);
	if (refers) {
		snprintf(text, sizeof(text), "\"/nix/store/%032u-x\"", before);
		buffer_append_string(b, text);
	}
	buffer_append_string(b, "]}");
}

/* A chain that no stack would hold, told from its end. */
static void test_order(void **state unused)
{
	for (int circle = 0; circle < 2; circle++) {
		struct path_graph g cleanup(cleanup_graph) = {0};
		struct buffer text cleanup(buffer_done) = {0};
		unsigned count = 20000;

		buffer_append_byte(&text, '[');
		for (unsigned i = count; i-- > 0;) {
			append_item(&text, i, count, circle);
		}
		buffer_append_byte(&text, ']');
		assert_int_equal(path_graph_add(&g, buffer_bytes(&text), NULL, &err), 0);
		path_graph_sort(&g);
		assert_int_equal(g.count, count);
		size_t late = 0;

		for (size_t i = 0; i < count; i++) {
			assert_int_equal(path_graph_find(&g, &g.infos[i].path), i);
			for (size_t k = 0; k < g.infos[i].reference_count; k++) {
				late += path_graph_find(&g, &g.infos[i].references[k]) > i;
			}
		}
		assert_int_equal(late, circle);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms), cmocka_unit_test(test_key),
		cmocka_unit_test(test_merge), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
