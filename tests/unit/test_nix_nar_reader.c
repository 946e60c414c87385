/* nix/nar_reader.h: what is in a NAR, and what is no NAR. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "nar_tree.h"
#include "nix/nar_reader.h"
#include "nix_vectors.h"

/* ---- What is right ---- */

/* Writes down what a reader tells: the same NAR again, when all is well. */
static int transcribe_content(struct nar_reader *r, uint64_t size, struct buffer *out,
			      struct error *err)
{
	struct bytes piece;
	uint64_t sum = 0;
	int rc;

	while ((rc = nar_reader_content(r, &piece, err)) > 0) {
		assert_true(piece.len > 0);
		buffer_append(out, piece.ptr, piece.len);
		sum += piece.len;
	}
	if (rc == 0) {
		assert_int_equal(sum, size);
		/* Nothing comes behind the end, and asking harms nothing. */
		assert_int_equal(nar_reader_content(r, &piece, err), 0);
	}
	for (; sum % 8; sum++) {
		buffer_append_byte(out, 0);
	}
	return rc;
}

static void transcribe_number(struct buffer *out, uint64_t n)
{
	for (unsigned i = 0; i < 8; i++) {
		buffer_append_byte(out, (uint8_t)(n >> 8 * i));
	}
}

struct transcript {
	struct nar_reader *reader;
	struct buffer nar;
	size_t depth;
	bool skip; /* contents */
};

static void end_node(struct transcript *t)
{
	nar_words(&t->nar, ")", NULL);
	if (t->depth) {
		nar_words(&t->nar, ")", NULL);
	}
}

static int transcribe_item(struct transcript *t, const struct nar_item *item, struct error *err)
{
	int rc = 0;

	if (item->event != NAR_DIRECTORY_END && t->depth) {
		nar_words(&t->nar, "entry", "(", "name", NULL);
		nar_string(&t->nar, item->name);
		nar_words(&t->nar, "node", NULL);
	}
	switch (item->event) {
	case NAR_FILE:
		nar_words(&t->nar, "(", "type", "regular", NULL);
		if (item->executable) {
			nar_words(&t->nar, "executable", "", NULL);
		}
		nar_words(&t->nar, "contents", NULL);
		transcribe_number(&t->nar, item->size);
		rc = t->skip ? 0 : transcribe_content(t->reader, item->size, &t->nar, err);
		end_node(t);
		break;
	case NAR_SYMLINK:
		nar_words(&t->nar, "(", "type", "symlink", "target", NULL);
		nar_string(&t->nar, item->target);
		end_node(t);
		break;
	case NAR_DIRECTORY:
		nar_words(&t->nar, "(", "type", "directory", NULL);
		t->depth++;
		break;
	case NAR_DIRECTORY_END:
		assert_int_equal(item->name.len, 0);
		t->depth--;
		end_node(t);
		break;
	}
	return rc;
}

/* Reads all, in pieces of this size. The transcript is the caller's to free. */
static int transcribe(struct transcript *t, struct bytes nar, size_t piece, struct error *err)
{
	struct bytes_source source = bytes_source_of(nar, piece);
	struct nar_reader *r cleanup(cleanup_nar_reader) = nar_reader_new(&source.base);
	struct nar_item item;
	int rc;

	t->reader = r;
	nar_words(&t->nar, "nix-archive-1", NULL);
	while ((rc = nar_reader_next(r, &item, err)) > 0) {
		rc = transcribe_item(t, &item, err);
		if (rc < 0) {
			break;
		}
	}
	assert_true(nar_reader_offset(r) <= nar.len);
	if (rc == 0) {
		assert_int_equal(nar_reader_offset(r), nar.len);
		assert_int_equal(t->depth, 0);
	}
	return rc;
}

static void assert_read(struct bytes nar, size_t piece)
{
	struct transcript t = {0};
	struct error err = {0};

	assert_int_equal(transcribe(&t, nar, piece, &err), 0);
	assert_true(bytes_equal(buffer_bytes(&t.nar), nar));
	buffer_done(&t.nar);
}

static void test_vectors(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		struct buffer nar cleanup(cleanup_buffer) = {0};

		craft_hex(&nar, nar_vectors[i].hex);
		assert_read(buffer_bytes(&nar), 0);
		/* Wherever the source cuts, in a word or in a name. */
		for (size_t piece = 1; piece < 40; piece++) {
			assert_read(buffer_bytes(&nar), piece);
		}
	}
}

static void test_random_trees(void **state unused)
{
	for (uint64_t seed = 100; seed < 105; seed++) {
		struct dice dice = {.state = seed};
		struct node tree = nar_put_random_tree(&dice, 4);
		struct buffer nar cleanup(cleanup_buffer) = {0};

		nar_expected(&nar, &tree);
		assert_read(buffer_bytes(&nar), 0);
		assert_read(buffer_bytes(&nar), 1 + dice_below(&dice, 5000));
	}
}

static void test_paths(void **state unused)
{
	static const char *const paths[] = {"",    "a", "a/b", "a/b/c", "a/b",
					    "a/d", "a", "b",   ""};
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node file = nar_put_blob(bytes_of_string("x"), false);

	nar_add(b, "c", file);
	struct node node = nar_put_directory(b);

	nar_add(b, "b", node);
	nar_add(b, "d", file);
	node = nar_put_directory(b);
	nar_add(b, "a", node);
	nar_add(b, "b", file);
	node = nar_put_directory(b);
	nar_expected(&nar, &node);
	struct bytes_source source = bytes_source_of(buffer_bytes(&nar), 0);
	struct nar_reader *r cleanup(cleanup_nar_reader) = nar_reader_new(&source.base);
	struct nar_item item;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		assert_int_equal(nar_reader_next(r, &item, NULL), 1);
		assert_true(bytes_equal(nar_reader_path(r), bytes_of_string(paths[i])));
	}
	assert_int_equal(nar_reader_next(r, &item, NULL), 0);
	assert_int_equal(nar_reader_next(r, &item, NULL), 0);
}

/* Content that nobody asks for, or only the beginning of. */
static void test_pass_over(void **state unused)
{
	struct dice dice = {.state = 9};
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct buffer nar cleanup(cleanup_buffer) = {0};

	nar_add(b, "a", nar_put_random_blob(&dice, 600001));
	nar_add(b, "b", nar_put_random_blob(&dice, 5));
	struct node tree = nar_put_directory(b);

	nar_expected(&nar, &tree);
	for (unsigned pieces = 0; pieces < 3; pieces++) {
		struct bytes_source source = bytes_source_of(buffer_bytes(&nar), 100000);
		struct nar_reader *r cleanup(cleanup_nar_reader) = nar_reader_new(&source.base);
		struct nar_item item;
		struct bytes piece;

		assert_int_equal(nar_reader_next(r, &item, NULL), 1);
		assert_int_equal(nar_reader_content(r, &piece, NULL), 0);
		assert_int_equal(nar_reader_next(r, &item, NULL), 1);
		for (unsigned i = 0; i < pieces; i++) {
			assert_int_equal(nar_reader_content(r, &piece, NULL), 1);
		}
		assert_int_equal(nar_reader_next(r, &item, NULL), 1);
		assert_true(bytes_equal(item.name, bytes_of_string("b")));
		assert_int_equal(nar_reader_next(r, &item, NULL), 1);
		assert_int_equal(item.event, NAR_DIRECTORY_END);
		assert_int_equal(nar_reader_next(r, &item, NULL), 0);
	}
}

static void test_depth(void **state unused)
{
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct node deepest = nar_put_deep(NAR_DEPTH_MAX);

	nar_expected(&nar, &deepest);
	assert_read(buffer_bytes(&nar), 0);
}

/* ---- What is wrong ---- */

static void assert_refused(struct bytes nar, enum error_code code, const char *blamed)
{
	static const size_t pieces[] = {0, 1, 7, 24};

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct transcript t = {0};
		struct error err = {0};
		int rc = transcribe(&t, nar, pieces[i], &err);

		buffer_done(&t.nar);
		assert_int_equal(rc, -(int)code);
		assert_int_equal(err.code, code);
		if (!strstr(err.text, blamed)) {
			print_message("%s\nlacks %s\n", err.text, blamed);
			fail();
		}
		/* Without contents, the same is found. */
		t = (struct transcript){.skip = true};
		assert_int_equal(transcribe(&t, nar, pieces[i], NULL), -(int)code);
		buffer_done(&t.nar);
	}
}

/* Empties b, too. */
static void assert_words_refused(struct buffer *b, const char *blamed)
{
	assert_refused(buffer_bytes(b), ERROR_INVALID, blamed);
	buffer_done(b);
}

#define ROOT "nix-archive-1", "("

/* A directory up to the entry that is wrong. */
static void begin_directory(struct buffer *b)
{
	nar_words(b, ROOT, "type", "directory", NULL);
}

static void add_file(struct buffer *b, const char *name)
{
	nar_words(b, "entry", "(", "name", name, "node", "(", "type", "regular", "contents", "",
		  ")", ")", NULL);
}

static void test_words(void **state unused)
{
	struct buffer b = {0};

	assert_words_refused(&b, "byte 0 of the NAR: it ends too early");
	nar_words(&b, "nix-archive-2", NULL);
	assert_words_refused(&b,
			     "byte 0 of the NAR: \"nix-archive-2\" where \"nix-archive-1\"");
	nar_words(&b, "nix-archive-1", "[", NULL);
	assert_words_refused(&b, "byte 24 of the NAR: \"[\" where \"(\" must be");
	nar_words(&b, ROOT, "kind", NULL);
	assert_words_refused(&b, "\"kind\" where \"type\" must be");
	nar_words(&b, ROOT, "type", "fifo", ")", NULL);
	assert_words_refused(&b, "\"fifo\" where \"regular\", \"symlink\" or \"directory\"");
	nar_words(&b, ROOT, "type", "regular", ")", NULL);
	assert_words_refused(&b, "\")\" where \"executable\" or \"contents\" must be");
	nar_words(&b, ROOT, "type", "regular", "contents", "", "(", NULL);
	assert_words_refused(&b, "\"(\" where \")\" must be");
	nar_words(&b, ROOT, "type", "symlink", "contents", "x", ")", NULL);
	assert_words_refused(&b, "\"contents\" where \"target\" must be");
	begin_directory(&b);
	nar_words(&b, "file", NULL);
	assert_words_refused(&b, "\"file\" where \"entry\" or \")\" must be");
	begin_directory(&b);
	nar_words(&b, "entry", "(", "node", NULL);
	assert_words_refused(&b, "\"node\" where \"name\" must be");
	/* Attributes come once, in their order. */
	nar_words(&b, ROOT, "type", "regular", "contents", "", "executable", "", ")", NULL);
	assert_words_refused(&b, "\"executable\" where \")\" must be");
	nar_words(&b, ROOT, "type", "regular", "executable", "", "executable", "", "contents",
		  "", ")", NULL);
	assert_words_refused(&b, "\"executable\" where \"contents\" must be");
	nar_words(&b, ROOT, "type", "regular", "type", "regular", "contents", "", ")", NULL);
	assert_words_refused(&b, "\"type\" where \"executable\" or");
	begin_directory(&b);
	nar_words(&b, "entry", "(", "node", NULL);
	assert_words_refused(&b, "\"node\" where");
}

static void test_executable(void **state unused)
{
	struct buffer b = {0};

	nar_words(&b, ROOT, "type", "regular", "executable", "x", "contents", "", ")", NULL);
	assert_words_refused(&b, "\"x\" where the empty string behind \"executable\" must be");
	nar_words(&b, ROOT, "type", "regular", "executable", "contents", "", ")", NULL);
	assert_words_refused(&b, "\"contents\" where the empty string");
}

static void test_order(void **state unused)
{
	static const char *const pairs[][2] = {
		{"b", "a"}, {"a", "a"}, {"aa", "a"}, {"\xff", "a"}, {"a0", "a/"}};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct buffer b = {0};

		begin_directory(&b);
		add_file(&b, pairs[i][0]);
		add_file(&b, pairs[i][1]);
		nar_words(&b, ")", NULL);
		assert_words_refused(&b, "does not come after");
	}
	struct buffer b = {0};

	/* Behind a directory, whatever was in it. */
	begin_directory(&b);
	nar_words(&b, "entry", "(", "name", "m", "node", "(", "type", "directory", NULL);
	add_file(&b, "z");
	nar_words(&b, ")", ")", NULL);
	add_file(&b, "m");
	nar_words(&b, ")", NULL);
	assert_words_refused(&b, "the name \"m\" does not come after \"m\"");
	/* The place is that of the directory. */
	begin_directory(&b);
	nar_words(&b, "entry", "(", "name", "inner", "node", "(", "type", "directory", NULL);
	add_file(&b, "b");
	add_file(&b, "a");
	nar_words(&b, ")", ")", NULL);
	assert_words_refused(&b, "of the NAR, in \"inner\": the name \"a\" does not");
}

static void test_names(void **state unused)
{
	static const char *const names[] = {"", ".", "..", "/", "a/b", "a/", "/a", "../a"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct buffer b = {0};

		begin_directory(&b);
		add_file(&b, names[i]);
		nar_words(&b, ")", NULL);
		assert_words_refused(&b, "byte 128 of the NAR: the name \"");
	}
	struct buffer b = {0};
	char longest[NODE_NAME_MAX + 2];

	begin_directory(&b);
	nar_words(&b, "entry", "(", "name", NULL);
	nar_string(&b, bytes_of("a\0b", 3));
	nar_words(&b, "node", "(", "type", "regular", "contents", "", ")", ")", ")", NULL);
	assert_words_refused(&b, "the name \"a\\x00b\"");
	memset(longest, 'n', sizeof(longest));
	longest[NODE_NAME_MAX + 1] = '\0';
	begin_directory(&b);
	add_file(&b, longest);
	nar_words(&b, ")", NULL);
	assert_words_refused(&b, "256 bytes where a name must be");
	longest[NODE_NAME_MAX] = '\0';
	begin_directory(&b);
	add_file(&b, longest);
	nar_words(&b, ")", ")", NULL);
	assert_words_refused(&b, "it goes on behind its end");
}

static void test_targets(void **state unused)
{
	struct buffer b = {0};
	char longest[NODE_TARGET_MAX + 2];

	nar_words(&b, ROOT, "type", "symlink", "target", "", ")", NULL);
	assert_words_refused(&b, "\"\" cannot be the target of a symlink");
	nar_words(&b, ROOT, "type", "symlink", "target", NULL);
	nar_string(&b, bytes_of("a\0", 2));
	nar_words(&b, ")", NULL);
	assert_words_refused(&b, "\"a\\x00\" cannot be the target of a symlink");
	memset(longest, 't', sizeof(longest));
	longest[NODE_TARGET_MAX + 1] = '\0';
	nar_words(&b, ROOT, "type", "symlink", "target", longest, ")", NULL);
	assert_words_refused(&b, "4096 bytes where the target of a symlink must be");
	longest[NODE_TARGET_MAX] = '\0';
	nar_words(&b, ROOT, "type", "symlink", "target", longest, ")", NULL);
	assert_read(buffer_bytes(&b), 0);
	assert_read(buffer_bytes(&b), 13);
	buffer_done(&b);
}

/* Every byte of padding in a NAR that has all kinds of it. */
static void test_padding(void **state unused)
{
	struct directory_builder *builder cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct buffer nar cleanup(cleanup_buffer) = {0};
	unsigned refused = 0;

	nar_add(builder, "name", nar_put_blob(bytes_of_string("content"), true));
	nar_add(builder, "other", craft_symlink_node("target"));
	struct node tree = nar_put_directory(builder);

	nar_expected(&nar, &tree);
	for (size_t i = 0; i < nar.len; i++) {
		struct transcript t = {0};
		uint8_t was = nar.ptr[i];

		nar.ptr[i] ^= 0x40;
		int rc = transcribe(&t, buffer_bytes(&nar), 0, NULL);

		/* Content, names and targets may be anything; nothing else may. */
		if (rc < 0) {
			refused++;
		} else {
			assert_true(was >= 'a' && was <= 'z');
		}
		buffer_done(&t.nar);
		nar.ptr[i] = was;
	}
	assert_int_equal(refused, nar.len - strlen("content") - strlen("name") -
					  strlen("other") - strlen("target") + 1);
	nar.ptr[nar.len - 1] = 1;
	assert_refused(buffer_bytes(&nar), ERROR_INVALID, "padding that is not zero");
}

/* A length of a string, in place of the right one, at a place. */
static void assert_length_refused(const struct buffer *nar, size_t at, uint64_t length,
				  enum error_code code, const char *blamed)
{
	struct buffer b cleanup(cleanup_buffer) = {0};

	buffer_append(&b, nar->ptr, at);
	transcribe_number(&b, length);
	buffer_append(&b, nar->ptr + at + 8, nar->len - at - 8);
	assert_refused(buffer_bytes(&b), code, blamed);
}

static void test_lengths(void **state unused)
{
	static const uint64_t huge[] = {UINT64_MAX,       UINT64_MAX - 6, (uint64_t)1 << 63,
					INT64_MAX,        UINT32_MAX,     (uint64_t)1 << 32,
					(uint64_t)1 << 20};
	struct directory_builder *builder cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct buffer nar cleanup(cleanup_buffer) = {0};

	nar_add(builder, "name", nar_put_blob(bytes_of_string("content"), false));
	struct node tree = nar_put_directory(builder);

	nar_expected(&nar, &tree);
	for (size_t i = 0; i < ARRAY_SIZE(huge); i++) {
		bool limit = huge[i] >= (uint64_t)INT64_MAX;

		assert_length_refused(&nar, 0, huge[i], ERROR_INVALID, "\"nix-archive-1\"");
		assert_length_refused(&nar, 24, huge[i], ERROR_INVALID, "bytes where \"(\"");
		assert_length_refused(&nar, 80, huge[i], ERROR_INVALID,
				      "bytes where \"entry\" or \")\"");
		assert_length_refused(&nar, 128, huge[i], ERROR_INVALID, "bytes where a name");
		/* A file's length is believed, its content must come. */
		assert_length_refused(&nar, 224, huge[i], limit ? ERROR_LIMIT : ERROR_INVALID,
				      limit ? "a file of" : "it ends too early");
	}
}

static void test_too_deep(void **state unused)
{
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct node deeper = nar_put_deep(NAR_DEPTH_MAX + 1);

	nar_expected(&nar, &deeper);
	assert_refused(buffer_bytes(&nar), ERROR_LIMIT, "more than 2048 directories");
}

static void test_trailing(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		struct buffer nar cleanup(cleanup_buffer) = {0};

		craft_hex(&nar, nar_vectors[i].hex);
		buffer_append_byte(&nar, 0);
		assert_refused(buffer_bytes(&nar), ERROR_INVALID, "it goes on behind its end");
		craft_hex(&nar, nar_vectors[i].hex);
		assert_refused(buffer_bytes(&nar), ERROR_INVALID, "it goes on behind its end");
	}
}

static void test_cut(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		struct buffer nar cleanup(cleanup_buffer) = {0};

		craft_hex(&nar, nar_vectors[i].hex);
		for (size_t len = 0; len < nar.len; len++) {
			struct transcript t = {.skip = len % 2};
			struct error err = {0};

			assert_int_equal(transcribe(&t, bytes_of(nar.ptr, len), len % 11, &err),
					 -ERROR_INVALID);
			assert_non_null(strstr(err.text, "it ends too early"));
			buffer_done(&t.nar);
		}
	}
}

static void test_failing_source(void **state unused)
{
	struct buffer nar cleanup(cleanup_buffer) = {0};

	craft_hex(&nar, nar_vectors[4].hex);
	for (size_t len = 0; len <= nar.len; len++) {
		struct bytes_source source = bytes_source_of(bytes_of(nar.ptr, len), 0);
		struct nar_reader *r cleanup(cleanup_nar_reader) = nar_reader_new(&source.base);
		struct error err = {0};
		struct nar_item item;
		int rc;

		source.fails = true;
		while ((rc = nar_reader_next(r, &item, &err)) > 0) {
		}
		assert_int_equal(rc, -ERROR_IO);
		assert_string_equal(err.text, "the source failed");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vectors, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_random_trees, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_paths, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_pass_over, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_depth, nar_setup, nar_teardown),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_executable),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_targets),
		cmocka_unit_test_setup_teardown(test_padding, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_lengths, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_too_deep, nar_setup, nar_teardown),
		cmocka_unit_test(test_trailing),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_failing_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
