/* castore/node.h and castore/wire.h: names, targets, and the message Node. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "castore/wire.h"
#include "craft.h"

/* ---- Names and targets ---- */

static void assert_name(struct bytes name, bool valid)
{
	struct error err = {0};

	assert_int_equal(node_name_valid(name), valid);
	assert_int_equal(node_name_check(name, &err), valid ? 0 : -ERROR_INVALID);
	assert_int_equal(err.text[0] == '\0', valid);
}

static void test_names(void **state unused)
{
	static const char *const good[] = {"a",   "...", "..a", ".a", "a.", ". ", " ",
					   "a\\", "\n",  "-",   "~",  "*",  ":",  "\xff\xfe"};
	static const char *const bad[] = {"", ".", "..", "/", "a/", "/a", "a/b", "../a"};
	char longest[256];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_name(bytes_of_string(good[i]), true);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_name(bytes_of_string(bad[i]), false);
	}
	assert_name(bytes_of(NULL, 0), false);
	assert_name(bytes_of("\0", 1), false);
	assert_name(bytes_of("a\0", 2), false);
	assert_name(bytes_of("a\0b", 3), false);
	assert_name(bytes_of(".\0", 2), false);
	memset(longest, 'n', sizeof(longest));
	assert_name(bytes_of(longest, 255), true);
	assert_name(bytes_of(longest, 256), false);
	longest[254] = '/';
	assert_name(bytes_of(longest, 255), false);
}

static void test_targets(void **state unused)
{
	static char longest[4096];

	assert_true(node_target_valid(bytes_of_string("/")));
	assert_true(node_target_valid(bytes_of_string("..")));
	assert_true(node_target_valid(bytes_of_string("a//b/")));
	assert_true(node_target_valid(bytes_of_string("\xff\n")));
	assert_false(node_target_valid(bytes_of_string("")));
	assert_false(node_target_valid(bytes_of(NULL, 0)));
	assert_false(node_target_valid(bytes_of("a\0", 2)));
	memset(longest, 't', sizeof(longest));
	assert_true(node_target_valid(bytes_of(longest, 4095)));
	assert_false(node_target_valid(bytes_of(longest, 4096)));
	longest[4094] = '\0';
	assert_false(node_target_valid(bytes_of(longest, 4095)));
}

static void test_kind_names(void **state unused)
{
	assert_string_equal(node_kind_name(NODE_DIRECTORY), "directory");
	assert_string_equal(node_kind_name(NODE_FILE), "file");
	assert_string_equal(node_kind_name(NODE_SYMLINK), "symlink");
}

static void test_equal(void **state unused)
{
	const struct node nodes[] = {
		craft_directory_node(1, 5),   craft_directory_node(1, 6),
		craft_directory_node(2, 5),   craft_file_node(1, 5, false),
		craft_file_node(1, 5, true),  craft_file_node(1, 6, false),
		craft_file_node(2, 5, false), craft_symlink_node("a"),
		craft_symlink_node("b"),      craft_symlink_node("aa"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(nodes); k++) {
			struct node copy = nodes[k];

			assert_int_equal(node_equal(&nodes[i], &copy), i == k);
		}
	}
	/* What a kind does not have does not count. */
	struct node a = craft_symlink_node("a"), b = craft_directory_node(1, 5);

	a.size = 9;
	a.digest = nodes[0].digest;
	b.executable = true;
	assert_true(node_equal(&a, &nodes[7]));
	assert_true(node_equal(&b, &nodes[0]));
}

/* ---- Varints ---- */

static bool read_varint(struct buffer *b, bool minimal, uint64_t *out)
{
	struct wire w = wire_of(buffer_bytes(b));

	return wire_varint(&w, out, minimal) && wire_at_end(&w);
}

static void test_varint_round_trip(void **state unused)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		for (int near = -1; near <= 1; near++) {
			uint64_t v = ((uint64_t)1 << bit) + (uint64_t)near, back = ~v;
			struct buffer b cleanup(cleanup_buffer) = {0};

			craft_varint(&b, v);
			assert_int_equal(b.len, wire_varint_size(v));
			assert_true(read_varint(&b, true, &back));
			assert_int_equal(back, v);
			/* Cut off anywhere it is none. */
			for (size_t len = 0; len < b.len; len++) {
				struct wire w = wire_of(bytes_of(b.ptr, len));

				assert_false(wire_varint(&w, &back, false));
			}
		}
	}
}

static void test_varint_forms(void **state unused)
{
	static const struct {
		const char *hex;
		bool strict, lenient;
		uint64_t value;
	} forms[] = {
		{"00", true, true, 0},
		{"7f", true, true, 127},
		{"8001", true, true, 128},
		{"8000", false, true, 0},
		{"ff00", false, true, 127},
		{"808000", false, true, 0},
		{"80808080808080808000", false, true, 0},
		{"ffffffffffffffffff01", true, true, UINT64_MAX},
		{"80808080808080808001", true, true, (uint64_t)1 << 63},
		{"ffffffffffffffffff02", false, false, 0},
		{"ffffffffffffffffff7f", false, false, 0},
		{"8080808080808080808000", false, false, 0},
		{"8080808080808080808001", false, false, 0},
		{"80", false, false, 0},
		{"", false, false, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct buffer b cleanup(cleanup_buffer) = {0};
		uint64_t v = 0;

		craft_hex(&b, forms[i].hex);
		assert_int_equal(read_varint(&b, true, &v), forms[i].strict);
		assert_int_equal(read_varint(&b, false, &v), forms[i].lenient);
		if (forms[i].lenient) {
			assert_int_equal(v, forms[i].value);
		}
	}
}

static void test_wire_bytes(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	struct bytes out = {0};

	craft_hex(&b, "03616263ff");
	struct wire w = wire_of(buffer_bytes(&b));

	assert_true(wire_bytes(&w, &out, true));
	assert_true(bytes_equal(out, bytes_of_string("abc")));
	assert_ptr_equal(w.ptr, b.ptr + 4);
	w = wire_of(bytes_of(b.ptr, 3));
	assert_false(wire_bytes(&w, &out, true));
	/* A length that would wrap an address. */
	b.len = 0;
	craft_hex(&b, "ffffffffffffffffff01616263");
	w = wire_of(buffer_bytes(&b));
	assert_false(wire_bytes(&w, &out, true));
	w = wire_of(bytes_of(NULL, 0));
	assert_true(wire_at_end(&w));
	assert_false(wire_bytes(&w, &out, true));
}

/* ---- Node messages ---- */

static void assert_decodes(struct bytes encoding, struct bytes name, const struct node *node)
{
	struct bytes its_name;
	struct node its_node;
	struct error err = {0};

	assert_int_equal(node_decode(encoding, &its_name, &its_node, &err), 0);
	assert_true(bytes_equal(its_name, name));
	assert_true(node_equal(&its_node, node));
}

static void assert_round_trip(struct bytes name, const struct node *node)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	/* Appended, whatever is there already. */
	buffer_append(&b, "before", 6);
	node_encode(&b, name, node);
	assert_memory_equal(b.ptr, "before", 6);
	assert_decodes(bytes_of(b.ptr + 6, b.len - 6), name, node);
}

static void test_round_trip(void **state unused)
{
	char longest_name[255], longest_target[4096] = {0};

	memset(longest_name, 'n', sizeof(longest_name));
	memset(longest_target, 't', sizeof(longest_target) - 1);
	const struct node nodes[] = {
		craft_directory_node(1, 0),     craft_directory_node(1, UINT64_MAX),
		craft_file_node(2, 0, false),   craft_file_node(3, 127, true),
		craft_file_node(3, 128, false), craft_file_node(4, 0, true),
		craft_symlink_node("t"),        craft_symlink_node(longest_target),
	};

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		assert_round_trip(bytes_of_string("name"), &nodes[i]);
		assert_round_trip(bytes_of(longest_name, sizeof(longest_name)), &nodes[i]);
		assert_round_trip(bytes_of(NULL, 0), &nodes[i]);
	}
}

static void test_exact_bytes(void **state unused)
{
	struct node file = craft_file_node(0x22, 300, true), link = craft_symlink_node("up");
	struct node directory = {
		.kind = NODE_DIRECTORY, .digest = digest_empty, .executable = true};
	struct buffer b cleanup(cleanup_buffer) = {0}, want cleanup(cleanup_buffer) = {0};

	node_encode(&b, bytes_of_string("f"), &file);
	craft_hex(&want, "122a0a01661220222222222222222222222222222222222222222222222222"
			 "222222222222222218ac022001");
	node_encode(&b, bytes_of_string("l"), &link);
	craft_hex(&want, "1a070a016c12027570");
	node_encode(&b, bytes_of(NULL, 0), &directory);
	craft_hex(&want, "0a221220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93ca"
			 "e41f3262");
	assert_int_equal(b.len, want.len);
	assert_memory_equal(b.ptr, want.ptr, want.len);
}

static void assert_refused(struct bytes encoding, const char *why)
{
	struct bytes name = bytes_of_string("before");
	struct node node = craft_file_node(9, 9, true), same = node;
	struct error err = {0};

	assert_int_equal(node_decode(encoding, &name, &node, &err), -ERROR_INVALID);
	assert_int_equal(err.code, ERROR_INVALID);
	if (!strstr(err.text, why)) {
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	}
	/* Outputs are written on success only. */
	assert_true(bytes_equal(name, bytes_of_string("before")));
	assert_true(node_equal(&node, &same));
}

/* Wraps entry, and empties both. */
static void assert_entry_refused(unsigned kind, struct buffer *entry, const char *why)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	craft_wrap(&b, kind, entry);
	assert_refused(buffer_bytes(&b), why);
}

static void test_refused_messages(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	assert_refused(bytes_of(NULL, 0), "no directory, file or symlink");
	craft_hex(&b, "22020a00");
	assert_refused(buffer_bytes(&b), "no directory, file or symlink");
	b.len = 0;
	craft_file(&b, "f");
	/* Truncated anywhere. */
	for (size_t len = 0; len < b.len; len++) {
		assert_refused(bytes_of(b.ptr, len), "");
	}
	buffer_append_byte(&b, 0);
	assert_refused(buffer_bytes(&b), "not in canonical form");
	b.len--;
	/* A oneof that has two. */
	craft_directory(&b, "d");
	assert_refused(buffer_bytes(&b), "not in canonical form");
	b.len = 0;
	craft_symlink(&b, "a", "t");
	craft_symlink(&b, "a", "t");
	assert_refused(buffer_bytes(&b), "not in canonical form");
	/* A length that could be shorter. */
	b.len = 0;
	craft_hex(&b, "1a87000a016c12027570");
	assert_refused(buffer_bytes(&b), "not in canonical form");
}

static void test_refused_names(void **state unused)
{
	static const char *const bad[] = {".", "..", "a/b"};
	struct buffer entry cleanup(cleanup_buffer) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		craft_string(&entry, 1, bad[i]);
		craft_digest(&entry, 1);
		assert_entry_refused(NODE_FILE, &entry, "the name");
	}
	/* The empty name is left out. */
	craft_string(&entry, 1, "");
	craft_digest(&entry, 1);
	assert_entry_refused(NODE_FILE, &entry, "not in canonical form");
}

static void test_refused_fields(void **state unused)
{
	struct buffer entry cleanup(cleanup_buffer) = {0};

	craft_string(&entry, 1, "n");
	assert_entry_refused(NODE_FILE, &entry, "without a digest");
	assert_entry_refused(NODE_DIRECTORY, &entry, "without a digest");
	craft_string(&entry, 1, "n");
	assert_entry_refused(NODE_SYMLINK, &entry, "without a target");
	craft_string(&entry, 2, "short");
	assert_entry_refused(NODE_DIRECTORY, &entry, "not 32 bytes");
	craft_string(&entry, 2, "");
	assert_entry_refused(NODE_SYMLINK, &entry, "target");
	craft_bytes(&entry, 2, bytes_of("a\0", 2));
	assert_entry_refused(NODE_SYMLINK, &entry, "target");
	craft_string(&entry, 2, "t");
	craft_number(&entry, 3, 1);
	assert_entry_refused(NODE_SYMLINK, &entry, "not in canonical form");
	craft_digest(&entry, 1);
	craft_number(&entry, 3, 0);
	assert_entry_refused(NODE_FILE, &entry, "not in canonical form");
	craft_digest(&entry, 1);
	craft_number(&entry, 4, 0);
	assert_entry_refused(NODE_FILE, &entry, "not in canonical form");
	craft_digest(&entry, 1);
	craft_number(&entry, 4, 2);
	assert_entry_refused(NODE_FILE, &entry, "not in canonical form");
	craft_digest(&entry, 1);
	craft_number(&entry, 4, 1);
	assert_entry_refused(NODE_DIRECTORY, &entry, "not in canonical form");
	craft_digest(&entry, 1);
	craft_number(&entry, 5, 1);
	assert_entry_refused(NODE_FILE, &entry, "not in canonical form");
	craft_number(&entry, 3, 1);
	craft_digest(&entry, 1);
	assert_entry_refused(NODE_FILE, &entry, "without a digest");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_kind_names),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_varint_round_trip),
		cmocka_unit_test(test_varint_forms),
		cmocka_unit_test(test_wire_bytes),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_exact_bytes),
		cmocka_unit_test(test_refused_messages),
		cmocka_unit_test(test_refused_names),
		cmocka_unit_test(test_refused_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
