/* castore/directory.h: the strict decoder, every rule of it, and what a directory answers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/text.h"
#include "castore/directory.h"
#include "castore_vectors.h"
#include "craft.h"

static struct directory *decode(struct bytes encoding)
{
	struct directory *d = NULL;
	struct error err = {0};

	if (directory_decode(encoding, &d, &err) != 0) {
		fail_msg("%s", err.text);
	}
	return d;
}

/* Built again from its entries, the last one first, it has the same bytes. */
static void assert_rebuilds(const struct directory *d)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *again cleanup(cleanup_directory) = NULL;
	struct directory_entry e;

	for (size_t i = directory_count(d); i-- > 0;) {
		directory_entry(d, i, &e);
		assert_int_equal(directory_builder_add(b, e.name, &e.node, NULL), 0);
	}
	assert_int_equal(directory_builder_finish(b, &again, NULL), 0);
	assert_true(bytes_equal(directory_encoding(d), directory_encoding(again)));
	assert_true(digest_equal(directory_digest(d), directory_digest(again)));
	assert_int_equal(directory_size(d), directory_size(again));
}

/* ---- Golden values ---- */

static void test_golden_directories(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(directory_vectors); i++) {
		const struct directory_vector *v = &directory_vectors[i];
		struct buffer encoding cleanup(cleanup_buffer) = {0};
		struct directory *d cleanup(cleanup_directory) = NULL;
		char hex[DIGEST_HEX_SIZE];

		craft_hex(&encoding, v->encoding);
		d = decode(buffer_bytes(&encoding));
		digest_to_hex(hex, directory_digest(d));
		assert_string_equal(hex, v->digest);
		assert_string_equal(digest_text(directory_digest(d)), v->digest_text);
		assert_int_equal(directory_size(d), v->size);
		assert_true(bytes_equal(directory_encoding(d),
					bytes_of(encoding.ptr, encoding.len)));
		assert_rebuilds(d);
	}
}

/* The second golden directory: a file, a symlink and a directory. */
static struct directory *decode_complicated(void)
{
	struct buffer encoding cleanup(cleanup_buffer) = {0};

	craft_hex(&encoding, directory_vectors[1].encoding);
	return decode(buffer_bytes(&encoding));
}

static void test_entries(void **state unused)
{
	struct directory *d cleanup(cleanup_directory) = decode_complicated();
	struct directory_entry e;

	assert_int_equal(directory_count(d), 3);
	directory_entry(d, 0, &e);
	assert_true(bytes_equal(e.name, bytes_of_string(".keep")));
	assert_int_equal(e.node.kind, NODE_FILE);
	assert_true(digest_equal(&e.node.digest, &digest_empty));
	assert_int_equal(e.node.size, 0);
	assert_false(e.node.executable);
	directory_entry(d, 1, &e);
	assert_true(bytes_equal(e.name, bytes_of_string("aa")));
	assert_int_equal(e.node.kind, NODE_SYMLINK);
	assert_true(bytes_equal(e.node.target, bytes_of_string("/nix/store/somewhereelse")));
	directory_entry(d, 2, &e);
	assert_true(bytes_equal(e.name, bytes_of_string("keep")));
	assert_int_equal(e.node.kind, NODE_DIRECTORY);
	assert_string_equal(digest_text(&e.node.digest), directory_vectors[0].digest_text);
	assert_int_equal(e.node.size, 1);
}

static void test_find(void **state unused)
{
	static const char *const absent[] = {"",    ".",   ".kee",     ".keepe", "a",
					     "aaa", "kee", "keep\x01", "z",      "\xff"};
	struct directory *d cleanup(cleanup_directory) = decode_complicated();

	assert_int_equal(directory_find(d, bytes_of_string(".keep")), 0);
	assert_int_equal(directory_find(d, bytes_of_string("aa")), 1);
	assert_int_equal(directory_find(d, bytes_of_string("keep")), 2);
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
		assert_int_equal(directory_find(d, bytes_of_string(absent[i])), -1);
	}
	assert_int_equal(directory_find(d, bytes_of("aa\0", 3)), -1);
}

static void test_node_and_memory(void **state unused)
{
	struct directory *d cleanup(cleanup_directory) = decode_complicated();
	struct node node = directory_node(d);
	size_t len = directory_encoding(d).len;

	assert_int_equal(node.kind, NODE_DIRECTORY);
	assert_true(digest_equal(&node.digest, directory_digest(d)));
	assert_int_equal(node.size, 4);
	assert_in_range(directory_memory(d), len + 3 * 4, len + 3 * 4 + 200);
}

static void test_empty(void **state unused)
{
	struct directory *d cleanup(cleanup_directory) = decode(bytes_of(NULL, 0));

	assert_int_equal(directory_count(d), 0);
	assert_int_equal(directory_size(d), 0);
	assert_int_equal(directory_encoding(d).len, 0);
	assert_true(digest_equal(directory_digest(d), &digest_empty));
	assert_int_equal(directory_find(d, bytes_of_string("a")), -1);
	directory_unref(NULL);
}

static void test_references(void **state unused)
{
	struct directory *d = decode_complicated();
	struct directory *same = directory_ref(d);

	assert_ptr_equal(d, same);
	directory_unref(d);
	assert_int_equal(directory_count(same), 3);
	directory_unref(same);
}

/* The caller's memory is copied, or taken over. */
static void test_ownership(void **state unused)
{
	struct buffer b = {0};
	struct directory *copied cleanup(cleanup_directory) = NULL;
	struct directory *owner cleanup(cleanup_directory) = NULL;

	craft_file(&b, "f");
	copied = decode(buffer_bytes(&b));
	uint8_t *encoding = b.ptr;
	size_t len = b.len;

	b = (struct buffer){0};
	assert_int_equal(directory_decode_owned(encoding, len, &owner, NULL), 0);
	assert_ptr_equal(directory_encoding(owner).ptr, encoding);
	assert_ptr_not_equal(directory_encoding(copied).ptr, encoding);
	assert_true(digest_equal(directory_digest(owner), directory_digest(copied)));
	/* On failure it is freed: a sanitizer would tell. */
	struct directory *none = NULL;

	craft_hex(&b, "2200");
	assert_int_equal(directory_decode_owned(b.ptr, b.len, &none, NULL), -ERROR_INVALID);
	assert_null(none);
}

/* ---- Rules ---- */

/* Empties b, so that one buffer serves many cases. */
static void assert_refused(struct buffer *b, const char *why)
{
	struct directory *d = NULL;
	struct error err = {0};

	assert_int_equal(directory_decode(buffer_bytes(b), &d, &err), -ERROR_INVALID);
	assert_int_equal(err.code, ERROR_INVALID);
	assert_null(d);
	if (!strstr(err.text, "not a valid Directory") || !strstr(err.text, why)) {
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	}
	b->len = 0;
}

static void assert_accepted(struct buffer *b, size_t count)
{
	struct directory *d cleanup(cleanup_directory) = decode(buffer_bytes(b));

	assert_int_equal(directory_count(d), count);
	assert_rebuilds(d);
	b->len = 0;
}

/* One entry of each kind with this name. */
static void assert_name(struct bytes name, bool valid)
{
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	for (unsigned kind = NODE_DIRECTORY; kind <= NODE_SYMLINK; kind++) {
		craft_bytes(&entry, 1, name);
		if (kind == NODE_SYMLINK) {
			craft_string(&entry, 2, "t");
		} else {
			craft_digest(&entry, 1);
		}
		craft_wrap(&b, kind, &entry);
		if (valid) {
			assert_accepted(&b, 1);
		} else {
			assert_refused(&b, name.len ? "a name that is not valid" : "canonical");
		}
	}
}

static void test_names(void **state unused)
{
	static const char *const bad[] = {"", ".", "..", "/", "a/b", "/a", "a/"};
	char longest[256];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_name(bytes_of_string(bad[i]), false);
	}
	assert_name(bytes_of("\0", 1), false);
	assert_name(bytes_of("a\0b", 3), false);
	memset(longest, 'n', sizeof(longest));
	assert_name(bytes_of(longest, 256), false);
	assert_name(bytes_of(longest, 255), true);
	assert_name(bytes_of_string("..."), true);
	assert_name(bytes_of_string("\xff\x01 \n"), true);
}

static void test_name_left_out(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	craft_digest(&entry, 1);
	craft_wrap(&b, NODE_FILE, &entry);
	assert_refused(&b, "a name that is not valid");
	craft_string(&entry, 2, "t");
	craft_wrap(&b, NODE_SYMLINK, &entry);
	assert_refused(&b, "a name that is not valid");
}

static void test_targets(void **state unused)
{
	static char longest[4096];
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};
	const struct {
		struct bytes target;
		bool valid;
	} cases[] = {
		{bytes_of_string(""), false},    {bytes_of_string("/"), true},
		{bytes_of_string(".."), true},   {bytes_of("a\0", 2), false},
		{bytes_of(longest, 4095), true}, {bytes_of(longest, 4096), false},
	};

	memset(longest, 't', sizeof(longest));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		craft_string(&entry, 1, "s");
		craft_bytes(&entry, 2, cases[i].target);
		craft_wrap(&b, NODE_SYMLINK, &entry);
		if (cases[i].valid) {
			assert_accepted(&b, 1);
		} else {
			assert_refused(&b, "a symlink target that is not valid");
		}
	}
	craft_string(&entry, 1, "s");
	craft_wrap(&b, NODE_SYMLINK, &entry);
	assert_refused(&b, "a symlink without a target");
}

static void test_digest_length(void **state unused)
{
	static const uint8_t bytes[64] = {1};
	static const size_t lens[] = {0, 1, 31, 33, 64};
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	for (unsigned kind = NODE_DIRECTORY; kind <= NODE_FILE; kind++) {
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			craft_string(&entry, 1, "n");
			craft_bytes(&entry, 2, bytes_of(bytes, lens[i]));
			craft_wrap(&b, kind, &entry);
			assert_refused(&b, "a digest that is not 32 bytes");
		}
		craft_string(&entry, 1, "n");
		craft_wrap(&b, kind, &entry);
		assert_refused(&b, "an entry without a digest");
	}
}

static void test_order_within_a_list(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	static const char *const why = "names that are not in ascending order";

	craft_directory(&b, "b");
	craft_directory(&b, "a");
	assert_refused(&b, why);
	craft_file(&b, "ab");
	craft_file(&b, "a");
	assert_refused(&b, why);
	craft_symlink(&b, "\xff", "t");
	craft_symlink(&b, "a", "t");
	assert_refused(&b, why);
	/* Twice. */
	craft_directory(&b, "a");
	craft_directory(&b, "a");
	assert_refused(&b, why);
	craft_symlink(&b, "a", "t");
	craft_symlink(&b, "a", "u");
	assert_refused(&b, why);
	craft_file(&b, "a");
	craft_file(&b, "b");
	craft_file(&b, "c");
	craft_file(&b, "b");
	assert_refused(&b, why);
	/* Bytes, not letters; unsigned; a prefix first. */
	craft_file(&b, "B");
	craft_file(&b, "a");
	craft_file(&b, "a-");
	craft_file(&b, "a.b");
	craft_file(&b, "aa");
	craft_file(&b, "a\xff");
	assert_accepted(&b, 6);
}

static void test_duplicates_across_lists(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	static const char *const why = "a name that is there twice";

	craft_directory(&b, "a");
	craft_file(&b, "a");
	assert_refused(&b, why);
	craft_directory(&b, "a");
	craft_symlink(&b, "a", "t");
	assert_refused(&b, why);
	craft_file(&b, "a");
	craft_symlink(&b, "a", "t");
	assert_refused(&b, why);
	/* Not at the beginning of any list, and the third list comes first. */
	craft_directory(&b, "b");
	craft_directory(&b, "m");
	craft_file(&b, "c");
	craft_file(&b, "m");
	craft_symlink(&b, "a", "t");
	craft_symlink(&b, "z", "t");
	assert_refused(&b, why);
	craft_directory(&b, "z");
	craft_file(&b, "a");
	craft_symlink(&b, "b", "t");
	craft_symlink(&b, "z", "t");
	assert_refused(&b, why);
	craft_directory(&b, "ab");
	craft_file(&b, "a");
	craft_symlink(&b, "abc", "t");
	assert_accepted(&b, 3);
}

static void test_order_of_lists(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};
	static const char *const why = "lists that are not in order";

	craft_file(&b, "a");
	craft_directory(&b, "b");
	assert_refused(&b, why);
	craft_symlink(&b, "a", "t");
	craft_file(&b, "b");
	assert_refused(&b, why);
	craft_directory(&b, "a");
	craft_symlink(&b, "b", "t");
	craft_directory(&b, "c");
	assert_refused(&b, why);
}

static void test_merged_order(void **state unused)
{
	static const char *const want[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
	struct buffer b cleanup(cleanup_buffer) = {0};

	craft_directory(&b, "c");
	craft_directory(&b, "d");
	craft_directory(&b, "h");
	craft_file(&b, "a");
	craft_file(&b, "e");
	craft_symlink(&b, "b", "t");
	craft_symlink(&b, "f", "t");
	craft_symlink(&b, "g", "t");
	struct directory *d cleanup(cleanup_directory) = decode(buffer_bytes(&b));

	assert_int_equal(directory_count(d), ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct bytes name = bytes_of_string(want[i]);

		assert_true(bytes_equal(directory_entry_name(d, i), name));
		assert_int_equal(directory_find(d, name), i);
	}
}

/* A child directory of this size, and another when it is not 0. */
static void craft_sizes(struct buffer *b, uint64_t first, uint64_t second)
{
	struct buffer entry cleanup(cleanup_buffer) = {0};

	craft_string(&entry, 1, "a");
	craft_digest(&entry, 1);
	craft_number(&entry, 3, first);
	craft_wrap(b, NODE_DIRECTORY, &entry);
	if (second) {
		craft_string(&entry, 1, "b");
		craft_digest(&entry, 1);
		craft_number(&entry, 3, second);
		craft_wrap(b, NODE_DIRECTORY, &entry);
	}
}

static void test_size_sum(void **state unused)
{
	static const char *const why = "sizes that do not fit 64 bits";
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};
	struct directory *d = NULL;

	craft_sizes(&b, 3, 4);
	d = decode(buffer_bytes(&b));
	assert_int_equal(directory_size(d), 9);
	directory_unref(d);
	b.len = 0;
	craft_sizes(&b, UINT64_MAX - 1, 0);
	d = decode(buffer_bytes(&b));
	assert_int_equal(directory_size(d), UINT64_MAX);
	directory_unref(d);
	/* The last entry that does not fit is a file. */
	craft_file(&b, "z");
	assert_refused(&b, why);
	craft_sizes(&b, UINT64_MAX, 0);
	assert_refused(&b, why);
	craft_sizes(&b, UINT64_MAX / 2, UINT64_MAX / 2 + 1);
	assert_refused(&b, why);
	craft_sizes(&b, UINT64_MAX / 2, UINT64_MAX / 2 - 1);
	assert_accepted(&b, 2);
	/* Sizes of files do not count. */
	craft_string(&entry, 1, "f");
	craft_digest(&entry, 1);
	craft_number(&entry, 3, UINT64_MAX);
	craft_wrap(&b, NODE_FILE, &entry);
	d = decode(buffer_bytes(&b));
	assert_int_equal(directory_size(d), 1);
	directory_unref(d);
}

static void test_unknown_fields(void **state unused)
{
	static const char *const why = "an unknown field";
	static const char *const bad[] = {"2200", "02", "00", "0200", "2800", "fa0100",
					  /* Other wire types of the known fields. */
					  "0800", "1000", "1801", "0d00000000",
					  "090000000000000000", "0b", "0c", "0e", "0f",
					  /* A long form of the first tag. */
					  "8a0000"};
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		craft_hex(&b, bad[i]);
		assert_refused(&b, why);
		craft_symlink(&b, "a", "t");
		craft_hex(&b, bad[i]);
		assert_refused(&b, why);
	}
	for (unsigned kind = NODE_DIRECTORY; kind <= NODE_FILE; kind++) {
		craft_string(&entry, 1, "a");
		craft_digest(&entry, 1);
		craft_number(&entry, kind == NODE_FILE ? 5 : 4, 1);
		craft_wrap(&b, kind, &entry);
		assert_refused(&b, "canonical");
	}
	craft_string(&entry, 1, "a");
	craft_string(&entry, 2, "t");
	craft_number(&entry, 3, 1);
	craft_wrap(&b, NODE_SYMLINK, &entry);
	assert_refused(&b, "canonical");
}

/* Entries of a file beyond their name and digest, and what is wrong with them. */
static void test_not_canonical(void **state unused)
{
	static const char *const tails[] = {
		"1800",                   /* explicit default */
		"2000",                   /* explicit default */
		"2002",                   /* a bool is 0 or 1 */
		"208100",                 /* not minimal */
		"188100",                 /* not minimal */
		"18ffffffffffffffffff02", /* more than 64 bits */
		"1880",                   /* cut off */
		"18",                     /* cut off */
		"20",                     /* cut off */
		"18011801",               /* repeated scalar */
		"20012001",               /* repeated scalar */
		"20011801",               /* not in the order of numbers */
		"1801200118",             /* trailing byte */
		"0a0161",                 /* name again */
		"1a0101",                 /* wrong wire type */
		"1d01000000",             /* wrong wire type */
		"220101",                 /* wrong wire type */
		"00",
	};
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
		craft_string(&entry, 1, "a");
		craft_digest(&entry, 1);
		craft_hex(&entry, tails[i]);
		craft_wrap(&b, NODE_FILE, &entry);
		assert_refused(&b, "canonical");
	}
	craft_string(&entry, 1, "a");
	craft_digest(&entry, 1);
	craft_hex(&entry, "18012001");
	craft_wrap(&b, NODE_FILE, &entry);
	assert_accepted(&b, 1);
}

static void test_not_canonical_before_the_digest(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	/* Digest before name. */
	craft_digest(&entry, 1);
	craft_string(&entry, 1, "a");
	craft_wrap(&b, NODE_FILE, &entry);
	assert_refused(&b, "canonical");
	/* Two names. */
	craft_string(&entry, 1, "a");
	craft_string(&entry, 1, "b");
	craft_digest(&entry, 1);
	craft_wrap(&b, NODE_FILE, &entry);
	assert_refused(&b, "without a digest");
	/* A name as a number, a digest as a number. */
	craft_number(&entry, 1, 1);
	craft_digest(&entry, 1);
	craft_wrap(&b, NODE_FILE, &entry);
	assert_refused(&b, "without a digest");
	craft_string(&entry, 1, "a");
	craft_number(&entry, 2, 1);
	craft_wrap(&b, NODE_FILE, &entry);
	assert_refused(&b, "without a digest");
	/* The name's length in two bytes. */
	craft_hex(&entry, "0a810061");
	craft_digest(&entry, 1);
	craft_wrap(&b, NODE_FILE, &entry);
	assert_refused(&b, "canonical");
	/* A name that is longer than its entry. */
	craft_hex(&entry, "0a0261");
	craft_wrap(&b, NODE_FILE, &entry);
	craft_file(&b, "z");
	assert_refused(&b, "canonical");
	/* The entry's own length in two bytes. */
	craft_hex(&b, "1a8600");
	craft_hex(&b, "0a0161120174");
	assert_refused(&b, "cut off or not canonical");
	craft_hex(&b, "1a060a0161120174");
	assert_accepted(&b, 1);
}

static bool ends_an_entry(const struct directory *d, size_t len)
{
	const uint8_t *encoding = directory_encoding(d).ptr;
	size_t at = 0;

	/* Entries shorter than 128 bytes have one byte of length. */
	while (at < len) {
		at += (size_t)2 + encoding[at + 1];
	}
	return at == len;
}

/* A part is a directory exactly when it ends where an entry does. */
static void test_truncated(void **state unused)
{
	struct directory *whole cleanup(cleanup_directory) = decode_complicated();
	struct bytes encoding = directory_encoding(whole);

	for (size_t len = 0; len < encoding.len; len++) {
		struct directory *d cleanup(cleanup_directory) = NULL;
		int rc = directory_decode(bytes_of(encoding.ptr, len), &d, NULL);

		assert_int_equal(rc, ends_an_entry(whole, len) ? 0 : -ERROR_INVALID);
	}
}

static void test_trailing_bytes(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	for (unsigned byte = 0; byte < 256; byte++) {
		craft_hex(&b, directory_vectors[1].encoding);
		buffer_append_byte(&b, (uint8_t)byte);
		assert_refused(&b, "");
	}
}

/*
 * Any byte changed to any other: what is still accepted is canonical, and named by another
 * digest.
 */
static void test_changed_bytes(void **state unused)
{
	struct directory *whole cleanup(cleanup_directory) = decode_complicated();
	struct bytes encoding = directory_encoding(whole);
	struct buffer b cleanup(cleanup_buffer) = {0};
	size_t accepted = 0, refused = 0;

	buffer_append(&b, encoding.ptr, encoding.len);
	for (size_t i = 0; i < b.len; i++) {
		for (unsigned change = 1; change < 256; change++) {
			struct directory *d cleanup(cleanup_directory) = NULL;

			b.ptr[i] ^= (uint8_t)change;
			if (directory_decode(buffer_bytes(&b), &d, NULL) == 0) {
				accepted++;
				assert_rebuilds(d);
				assert_true(
					bytes_equal(directory_encoding(d), buffer_bytes(&b)));
				assert_false(digest_equal(directory_digest(d),
							  directory_digest(whole)));
			} else {
				refused++;
			}
			b.ptr[i] ^= (uint8_t)change;
		}
	}
	assert_true(accepted > 64 * 255);
	assert_true(refused > 16 * 255);
}

/* ---- Limits ---- */

static void test_too_many_entries(void **state unused)
{
	size_t len = (DIRECTORY_ENTRIES_MAX + 1) * 2;
	uint8_t *encoding = malloc(len);
	struct directory *d = NULL;
	struct error err = {0};

	assert_non_null(encoding);
	for (size_t i = 0; i < len; i += 2) {
		encoding[i] = 0x1a;
		encoding[i + 1] = 0;
	}
	assert_int_equal(directory_decode(bytes_of(encoding, len), &d, &err), -ERROR_LIMIT);
	assert_int_equal(err.code, ERROR_LIMIT);
	/* One fewer is looked at, and found wrong. */
	assert_int_equal(directory_decode(bytes_of(encoding, len - 2), &d, &err),
			 -ERROR_INVALID);
	free(encoding);
}

static void test_too_long(void **state unused)
{
	static const uint8_t first = 0x1a;
	struct directory *d = NULL;

	/* Nothing is read. */
	assert_int_equal(
		directory_decode(bytes_of(&first, DIRECTORY_ENCODING_MAX + 1), &d, NULL),
		-ERROR_LIMIT);
	assert_int_equal(
		directory_normalize(bytes_of(&first, DIRECTORY_ENCODING_MAX + 1), &d, NULL),
		-ERROR_LIMIT);
	assert_null(d);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_directories),
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_node_and_memory),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_ownership),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_name_left_out),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_digest_length),
		cmocka_unit_test(test_order_within_a_list),
		cmocka_unit_test(test_duplicates_across_lists),
		cmocka_unit_test(test_order_of_lists),
		cmocka_unit_test(test_merged_order),
		cmocka_unit_test(test_size_sum),
		cmocka_unit_test(test_unknown_fields),
		cmocka_unit_test(test_not_canonical),
		cmocka_unit_test(test_not_canonical_before_the_digest),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_trailing_bytes),
		cmocka_unit_test(test_changed_bytes),
		cmocka_unit_test(test_too_many_entries),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
