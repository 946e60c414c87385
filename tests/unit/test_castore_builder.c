/* castore/directory.h: building directories, and making foreign encodings canonical. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "castore/directory.h"
#include "castore/wire.h"
#include "castore_vectors.h"
#include "craft.h"

static struct bytes name_of(const char *s)
{
	return bytes_of_string(s);
}

/* ---- The builder ---- */

static void test_exact_bytes(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct buffer want cleanup(cleanup_buffer) = {0};
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct node keep = {.kind = NODE_FILE, .digest = digest_empty};
	struct node link = craft_symlink_node("/nix/store/somewhereelse");
	struct node below = {.kind = NODE_DIRECTORY, .size = 1};

	assert_int_equal(
		digest_parse(&below.digest, name_of(directory_vectors[0].digest), NULL), 0);
	assert_int_equal(directory_builder_add(b, name_of("keep"), &below, NULL), 0);
	assert_int_equal(directory_builder_add(b, name_of("aa"), &link, NULL), 0);
	assert_int_equal(directory_builder_add(b, name_of(".keep"), &keep, NULL), 0);
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	craft_hex(&want, directory_vectors[1].encoding);
	assert_true(bytes_equal(directory_encoding(d), buffer_bytes(&want)));
	assert_string_equal(digest_text(directory_digest(d)), directory_vectors[1].digest_text);
	assert_int_equal(directory_size(d), directory_vectors[1].size);
}

/* What is added is copied. */
static void test_builder_copies(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;
	char name[] = "name", target[] = "target";
	struct node node = craft_symlink_node(target);
	struct directory_entry e;

	assert_int_equal(directory_builder_add(b, name_of(name), &node, NULL), 0);
	memset(name, 'x', 4);
	memset(target, 'x', 6);
	node = craft_file_node(1, 1, true);
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	directory_entry(d, 0, &e);
	assert_true(bytes_equal(e.name, name_of("name")));
	assert_true(bytes_equal(e.node.target, name_of("target")));
}

static void test_builder_again(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node file = craft_file_node(1, 1, false);
	struct directory *d = NULL;

	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	assert_true(digest_equal(directory_digest(d), &digest_empty));
	directory_unref(d);
	assert_int_equal(directory_builder_add(b, name_of("a"), &file, NULL), 0);
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	assert_int_equal(directory_count(d), 1);
	directory_unref(d);
	/* Empty again, also after a failure. */
	assert_int_equal(directory_builder_add(b, name_of("b"), &file, NULL), 0);
	assert_int_equal(directory_builder_add(b, name_of("b"), &file, NULL), 0);
	d = NULL;
	assert_int_equal(directory_builder_finish(b, &d, NULL), -ERROR_INVALID);
	assert_null(d);
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	assert_int_equal(directory_count(d), 0);
	directory_unref(d);
	directory_builder_free(NULL);
}

static void assert_add_refused(struct directory_builder *b, struct bytes name,
			       const struct node *node)
{
	struct error err = {0};

	assert_int_equal(directory_builder_add(b, name, node, &err), -ERROR_INVALID);
	assert_true(err.text[0] != '\0');
}

static void test_builder_checks_entries(void **state unused)
{
	static const char *const names[] = {"", ".", "..", "/", "a/b"};
	static char longest[4097];
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct node file = craft_file_node(1, 1, false), link = craft_symlink_node("");

	memset(longest, 'x', 4096);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_add_refused(b, name_of(names[i]), &file);
	}
	assert_add_refused(b, bytes_of("a\0b", 3), &file);
	assert_add_refused(b, bytes_of(longest, 256), &file);
	assert_add_refused(b, name_of("s"), &link);
	link.target = bytes_of("a\0b", 3);
	assert_add_refused(b, name_of("s"), &link);
	link.target = bytes_of(longest, 4096);
	assert_add_refused(b, name_of("s"), &link);
	/* What was refused is not in. */
	assert_int_equal(directory_builder_add(b, bytes_of(longest, 255), &file, NULL), 0);
	link.target = bytes_of(longest, 4095);
	assert_int_equal(directory_builder_add(b, name_of("s"), &link, NULL), 0);
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	assert_int_equal(directory_count(d), 2);
}

static void test_builder_checks_the_whole(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	const struct node nodes[] = {craft_directory_node(1, 1), craft_file_node(1, 1, false),
				     craft_symlink_node("t")};
	struct node half = craft_directory_node(1, UINT64_MAX / 2);
	struct directory *d = NULL;
	struct error err;

	/* One name for two entries, of any kinds. */
	for (size_t i = 0; i < 9; i++) {
		err = (struct error){0};
		assert_int_equal(directory_builder_add(b, name_of("a"), &nodes[i / 3], NULL),
				 0);
		assert_int_equal(directory_builder_add(b, name_of("a"), &nodes[i % 3], NULL),
				 0);
		assert_int_equal(directory_builder_finish(b, &d, &err), -ERROR_INVALID);
		assert_true(err.text[0] != '\0');
	}
	assert_int_equal(directory_builder_add(b, name_of("a"), &half, NULL), 0);
	assert_int_equal(directory_builder_add(b, name_of("b"), &half, NULL), 0);
	assert_int_equal(directory_builder_finish(b, &d, &err), -ERROR_INVALID);
	assert_non_null(strstr(err.text, "64 bits"));
	assert_null(d);
}

/* ---- Random directories ---- */

struct named {
	char name[24];
	char target[24];
	struct node node;
};

static int compare_named(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Few different bytes in few places, so that names share prefixes and sometimes are equal. */
static void roll_name(struct dice *dice, char *out, size_t max)
{
	static const char letters[] = "ab.\x01\x7f\x80\xff-Z";
	size_t len = 1 + (size_t)dice_below(dice, max);

	do {
		for (size_t i = 0; i < len; i++) {
			out[i] = letters[dice_below(dice, sizeof(letters) - 1)];
		}
		out[len] = '\0';
	} while (!node_name_valid(bytes_of(out, len)));
}

static void roll_entry(struct dice *dice, struct named *out)
{
	/* Below 2^48, so that the sum fits. */
	uint64_t size = dice_roll(dice) >> (16 + dice_below(dice, 48));
	uint8_t fill = (uint8_t)dice_roll(dice);

	roll_name(dice, out->name, 8);
	switch (dice_below(dice, 3)) {
	case 0:
		out->node = craft_directory_node(fill, dice_below(dice, 4) ? size : 0);
		break;
	case 1:
		out->node = craft_file_node(fill, size, dice_below(dice, 2));
		break;
	default:
		roll_name(dice, out->target, 20);
		out->node = craft_symlink_node(out->target);
		break;
	}
}

/* Sorts by name and keeps the first of those that share one. Returns how many are left. */
static size_t sort_unique(struct named *entries, size_t count)
{
	size_t kept = 0;

	qsort(entries, count, sizeof(*entries), compare_named);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || strcmp(entries[kept - 1].name, entries[i].name) != 0) {
			entries[kept] = entries[i];
			if (entries[kept].node.kind == NODE_SYMLINK) {
				entries[kept].node.target = name_of(entries[kept].target);
			}
			kept++;
		}
	}
	return kept;
}

static struct directory *build_shuffled(struct dice *dice, const struct named *entries,
					size_t count)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	size_t *order cleanup(cleanup_free) = xcalloc(count, sizeof(*order));
	struct directory *d = NULL;

	for (size_t i = 0; i < count; i++) {
		size_t k = (size_t)dice_below(dice, i + 1);

		order[i] = order[k];
		order[k] = i;
	}
	for (size_t i = 0; i < count; i++) {
		const struct named *e = &entries[order[i]];

		assert_int_equal(directory_builder_add(b, name_of(e->name), &e->node, NULL), 0);
	}
	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	return d;
}

static void assert_has(const struct directory *d, const struct named *entries, size_t count)
{
	uint64_t size = count;

	assert_int_equal(directory_count(d), count);
	for (size_t i = 0; i < count; i++) {
		struct bytes name = name_of(entries[i].name);
		struct directory_entry e;

		directory_entry(d, i, &e);
		assert_true(bytes_equal(e.name, name));
		assert_true(bytes_equal(directory_entry_name(d, i), name));
		assert_true(node_equal(&e.node, &entries[i].node));
		assert_int_equal(directory_find(d, name), i);
		size += e.node.kind == NODE_DIRECTORY ? e.node.size : 0;
	}
	assert_int_equal(directory_size(d), size);
}

/* Names that may be there or not: found exactly when they are. */
static void assert_finds(struct dice *dice, const struct directory *d,
			 const struct named *entries, size_t count)
{
	for (size_t i = 0; i < 50; i++) {
		struct named key;

		roll_name(dice, key.name, 8);
		const struct named *found =
			bsearch(&key, entries, count, sizeof(key), compare_named);

		assert_int_equal(directory_find(d, name_of(key.name)),
				 found ? (ssize_t)(found - entries) : -1);
	}
}

static void test_random_directories(void **state unused)
{
	struct dice dice = {.state = 2};

	for (size_t round = 0; round < 400; round++) {
		size_t count = (size_t)dice_below(&dice, round % 40 ? 30 : 3000);
		struct named *entries cleanup(cleanup_free) =
			xcalloc(count + 1, sizeof(*entries));

		for (size_t i = 0; i < count; i++) {
			roll_entry(&dice, &entries[i]);
		}
		count = sort_unique(entries, count);
		struct directory *d cleanup(cleanup_directory) =
			build_shuffled(&dice, entries, count);
		struct directory *again cleanup(cleanup_directory) =
			build_shuffled(&dice, entries, count);
		struct directory *same cleanup(cleanup_directory) = NULL;
		struct digest digest;

		assert_has(d, entries, count);
		assert_finds(&dice, d, entries, count);
		assert_true(bytes_equal(directory_encoding(d), directory_encoding(again)));
		digest_of(&digest, directory_encoding(d));
		assert_true(digest_equal(directory_digest(d), &digest));
		assert_int_equal(directory_decode(directory_encoding(d), &same, NULL), 0);
		assert_has(same, entries, count);
	}
}

/* ---- Normalizing ---- */

/* Becomes the canonical form. Empties both. */
static void assert_normal(struct buffer *message, struct buffer *canonical)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct directory *strict cleanup(cleanup_directory) = NULL;
	struct error err = {0};

	if (directory_normalize(buffer_bytes(message), &d, &err) != 0) {
		fail_msg("%s", err.text);
	}
	assert_true(bytes_equal(directory_encoding(d), buffer_bytes(canonical)));
	assert_int_equal(directory_decode(buffer_bytes(canonical), &strict, NULL), 0);
	assert_true(digest_equal(directory_digest(d), directory_digest(strict)));
	message->len = 0;
	canonical->len = 0;
}

static void test_canonical_stays(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(directory_vectors); i++) {
		struct buffer a cleanup(cleanup_buffer) = {0}, b cleanup(cleanup_buffer) = {0};

		craft_hex(&a, directory_vectors[i].encoding);
		craft_hex(&b, directory_vectors[i].encoding);
		assert_normal(&a, &b);
	}
}

static void test_lists_in_any_order(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0}, want cleanup(cleanup_buffer) = {0};

	craft_symlink(&b, "c", "t");
	craft_file(&b, "b");
	craft_directory(&b, "a");
	craft_file(&b, "d");
	craft_symlink(&b, "e", "u");
	craft_directory(&b, "f");
	craft_directory(&want, "a");
	craft_directory(&want, "f");
	craft_file(&want, "b");
	craft_file(&want, "d");
	craft_symlink(&want, "c", "t");
	craft_symlink(&want, "e", "u");
	assert_normal(&b, &want);
}

/* Ways to write a file "a" with digest 11…, and then what. */
static void test_fields_of_a_file(void **state unused)
{
	static const struct {
		const char *before, *after; /* the digest between them */
		const char *want;           /* behind name and digest */
	} cases[] = {
		{"0a0161", "", ""},
		{"", "0a0161", ""},                 /* name last */
		{"18050a0161", "", "1805"},         /* size first */
		{"20010a0161", "1805", "18052001"}, /* executable first */
		{"0a0161", "1800", ""},             /* explicit defaults */
		{"0a0161", "18002000", ""},
		{"0a0161", "2002", "2001"}, /* a bool is zero or not */
		{"0a0161", "20ffffffffffffffffff01", "2001"},
		{"0a0161", "208000", ""}, /* long varints */
		{"0a0161", "20818000", "2001"},
		{"0a0161", "18858000", "1805"},
		{"0a0161", "1880808080808080808000", ""},
		{"0a0161", "18ffffffffffffffffff01", "18ffffffffffffffffff01"},
		{"0a810061", "", ""},
		{"8a000161", "", ""}, /* also in a tag */
		{"0a0161", "988000058a000161", "1805"},
		{"0a0162", "0a0161", ""}, /* the last one counts */
		{"0a022e2e0a0161", "", ""},
		{"0a0161", "18051806", "1806"},
		{"0a0161", "18051800", ""},
		{"0a0161", "20012000", ""},
		{"120162"
		 "0a0161",
		 "", ""},
	};
	struct buffer b cleanup(cleanup_buffer) = {0}, want cleanup(cleanup_buffer) = {0};
	struct buffer entry cleanup(cleanup_buffer) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		craft_hex(&entry, cases[i].before);
		craft_digest(&entry, 0x11);
		craft_hex(&entry, cases[i].after);
		craft_wrap(&b, NODE_FILE, &entry);
		craft_hex(&entry, "0a0161");
		craft_digest(&entry, 0x11);
		craft_hex(&entry, cases[i].want);
		craft_wrap(&want, NODE_FILE, &entry);
		assert_normal(&b, &want);
	}
}

static void test_other_kinds(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0}, want cleanup(cleanup_buffer) = {0};
	struct buffer entry cleanup(cleanup_buffer) = {0};

	craft_number(&entry, 3, 0);
	craft_digest(&entry, 0x22);
	craft_string(&entry, 1, "d");
	craft_digest(&entry, 0x11);
	craft_wrap(&b, NODE_DIRECTORY, &entry);
	craft_string(&entry, 2, "first");
	craft_string(&entry, 2, "second");
	craft_string(&entry, 1, "s");
	craft_wrap(&b, NODE_SYMLINK, &entry);
	craft_directory(&want, "d");
	craft_symlink(&want, "s", "second");
	assert_normal(&b, &want);
	/* Long forms of an entry's tag and length. */
	craft_hex(&b, "9a8000"
		      "8600"
		      "0a0173120174");
	craft_symlink(&want, "s", "t");
	assert_normal(&b, &want);
}

/* Empties b. */
static void assert_not_normal(struct buffer *b, const char *why)
{
	struct directory *d = NULL;
	struct error err = {0};

	assert_int_equal(directory_normalize(buffer_bytes(b), &d, &err), -ERROR_INVALID);
	assert_int_equal(err.code, ERROR_INVALID);
	assert_null(d);
	if (!strstr(err.text, why)) {
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	}
	b->len = 0;
}

static void test_unknown_fields(void **state unused)
{
	static const char *const messages[] = {"2200",
					       "02",
					       "00",
					       "0200",
					       "2800",
					       "fa0100",
					       "0800",
					       "1801",
					       "0d00000000",
					       "0b",
					       "0c",
					       "80",
					       "0a",
					       "0a05",
					       "8a808080808080808080808000",
					       "0affffffffffffffffff01"};
	/* Behind name and digest. */
	static const char *const fields[] = {"2801",       "2a00",
					     "0801",       "1001",
					     "1a0101",     "220101",
					     "1d00000000", "190000000000000000",
					     "1b",         "1c",
					     "00",         "0200",
					     "18",         "1880",
					     "80",         "12",
					     "1205",       "18ffffffffffffffffff02",
					     "0a05"};
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		craft_file(&b, "a");
		craft_hex(&b, messages[i]);
		assert_not_normal(&b, "unknown or cut off");
	}
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		craft_string(&entry, 1, "a");
		craft_digest(&entry, 1);
		craft_hex(&entry, fields[i]);
		craft_wrap(&b, NODE_FILE, &entry);
		assert_not_normal(&b, "not a valid Directory");
	}
	craft_string(&entry, 1, "a");
	craft_digest(&entry, 1);
	craft_number(&entry, 4, 0);
	craft_wrap(&b, NODE_DIRECTORY, &entry);
	assert_not_normal(&b, "a field that an entry does not have");
	craft_string(&entry, 1, "a");
	craft_string(&entry, 2, "t");
	craft_number(&entry, 3, 0);
	craft_wrap(&b, NODE_SYMLINK, &entry);
	assert_not_normal(&b, "a field that an entry does not have");
}

static void test_lists_out_of_order(void **state unused)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	craft_file(&b, "b");
	craft_file(&b, "a");
	assert_not_normal(&b, "ascending");
	craft_directory(&b, "b");
	craft_symlink(&b, "c", "t");
	craft_directory(&b, "a");
	assert_not_normal(&b, "ascending");
	craft_symlink(&b, "b", "t");
	craft_file(&b, "c");
	craft_symlink(&b, "b", "t");
	assert_not_normal(&b, "ascending");
	craft_symlink(&b, "a", "t");
	craft_file(&b, "a");
	assert_not_normal(&b, "twice");
	craft_file(&b, "a");
	craft_directory(&b, "a");
	assert_not_normal(&b, "twice");
}

static void test_invalid_stays_invalid(void **state unused)
{
	static const char *const names[] = {"", ".", "..", "a/b"};
	struct buffer b cleanup(cleanup_buffer) = {0}, entry cleanup(cleanup_buffer) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		craft_file(&b, names[i]);
		assert_not_normal(&b, "the name");
	}
	craft_digest(&entry, 1);
	craft_wrap(&b, NODE_FILE, &entry);
	assert_not_normal(&b, "the name");
	craft_string(&entry, 1, "a");
	craft_wrap(&b, NODE_FILE, &entry);
	assert_not_normal(&b, "32 bytes");
	craft_string(&entry, 1, "a");
	craft_digest(&entry, 1);
	craft_string(&entry, 2, "short");
	craft_wrap(&b, NODE_FILE, &entry);
	assert_not_normal(&b, "32 bytes");
	craft_symlink(&b, "a", "");
	assert_not_normal(&b, "target");
	craft_string(&entry, 1, "a");
	craft_wrap(&b, NODE_SYMLINK, &entry);
	assert_not_normal(&b, "target");
	craft_string(&entry, 1, "a");
	craft_digest(&entry, 1);
	craft_number(&entry, 3, UINT64_MAX);
	craft_wrap(&b, NODE_DIRECTORY, &entry);
	assert_not_normal(&b, "64 bits");
}

/* Writes the fields of an entry in any order, with defaults and long varints here and there. */
static void craft_loosely(struct dice *dice, struct buffer *b, const struct named *e)
{
	struct buffer entry cleanup(cleanup_buffer) = {0};
	unsigned first = (unsigned)dice_below(dice, 4);
	const struct node *node = &e->node;

	for (unsigned i = 0; i < 4; i++) {
		unsigned field = 1 + (first + i) % 4;

		if (field == 1) {
			craft_string(&entry, 1, e->name);
		} else if (field == 2) {
			craft_bytes(&entry, 2,
				    node->kind == NODE_SYMLINK ? node->target
							       : digest_bytes(&node->digest));
		} else if (field == 3 && node->kind != NODE_SYMLINK) {
			craft_long_varint(&entry, WIRE_TAG(3, WIRE_VARINT), 3);
			craft_long_varint(&entry, node->size, WIRE_VARINT_MAX);
		} else if (field == 4 && node->kind == NODE_FILE) {
			craft_number(&entry, 4, node->executable ? dice_roll(dice) | 1 : 0);
		}
	}
	craft_wrap(b, node->kind, &entry);
}

static void test_random_messages(void **state unused)
{
	struct dice dice = {.state = 3};

	for (size_t round = 0; round < 300; round++) {
		struct buffer b cleanup(cleanup_buffer) = {0};
		struct named entries[20] = {0};
		size_t count = (size_t)dice_below(&dice, ARRAY_SIZE(entries) + 1);
		struct directory *d cleanup(cleanup_directory) = NULL;
		struct error err = {0};

		for (size_t i = 0; i < count; i++) {
			roll_entry(&dice, &entries[i]);
		}
		count = sort_unique(entries, count);
		for (size_t i = 0; i < count; i++) {
			craft_loosely(&dice, &b, &entries[i]);
		}
		if (directory_normalize(buffer_bytes(&b), &d, &err) != 0) {
			fail_msg("%s", err.text);
		}
		struct directory *built cleanup(cleanup_directory) =
			build_shuffled(&dice, entries, count);

		assert_has(d, entries, count);
		assert_true(bytes_equal(directory_encoding(d), directory_encoding(built)));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_bytes),
		cmocka_unit_test(test_builder_copies),
		cmocka_unit_test(test_builder_again),
		cmocka_unit_test(test_builder_checks_entries),
		cmocka_unit_test(test_builder_checks_the_whole),
		cmocka_unit_test(test_random_directories),
		cmocka_unit_test(test_canonical_stays),
		cmocka_unit_test(test_lists_in_any_order),
		cmocka_unit_test(test_fields_of_a_file),
		cmocka_unit_test(test_other_kinds),
		cmocka_unit_test(test_unknown_fields),
		cmocka_unit_test(test_lists_out_of_order),
		cmocka_unit_test(test_invalid_stays_invalid),
		cmocka_unit_test(test_random_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
