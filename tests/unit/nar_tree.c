#include "nar_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "services/memory.h"

struct store nar_store;

int nar_setup(void **state unused)
{
	memory_store_open(&nar_store);
	return 0;
}

int nar_teardown(void **state unused)
{
	store_close(&nar_store);
	return 0;
}

/* ---- NARs by hand ---- */

void nar_string(struct buffer *b, struct bytes s)
{
	for (unsigned i = 0; i < 8; i++) {
		buffer_append_byte(b, (uint8_t)((uint64_t)s.len >> 8 * i));
	}
	buffer_append(b, s.ptr, s.len);
	for (size_t i = s.len; i % 8; i++) {
		buffer_append_byte(b, 0);
	}
}

void nar_words(struct buffer *b, ...)
{
	const char *word;
	va_list words;

	va_start(words, b);
	while ((word = va_arg(words, const char *))) {
		nar_string(b, bytes_of_string(word));
	}
	va_end(words);
}

static void expect_file(struct buffer *b, const struct node *node)
{
	uint8_t *content cleanup(cleanup_free) = xmalloc(node->size + 1);
	size_t got;

	assert_int_equal(blob_service_read(nar_store.blobs, &node->digest, 0, content,
					   node->size + 1, 0, &got, NULL),
			 1);
	assert_int_equal(got, node->size);
	nar_words(b, "regular", NULL);
	if (node->executable) {
		nar_words(b, "executable", "", NULL);
	}
	nar_words(b, "contents", NULL);
	nar_string(b, bytes_of(content, got));
}

static void expect_node(struct buffer *b, const struct node *node);

static void expect_directory(struct buffer *b, const struct node *node)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_service_get(nar_store.directories, &node->digest, &d, NULL),
			 1);
	nar_words(b, "directory", NULL);
	for (size_t i = 0; i < directory_count(d); i++) {
		struct directory_entry e;

		directory_entry(d, i, &e);
		nar_words(b, "entry", "(", "name", NULL);
		nar_string(b, e.name);
		nar_words(b, "node", NULL);
		expect_node(b, &e.node);
		nar_words(b, ")", NULL);
	}
}

static void expect_node(struct buffer *b, const struct node *node)
{
	nar_words(b, "(", "type", NULL);
	switch (node->kind) {
	case NODE_DIRECTORY:
		expect_directory(b, node);
		break;
	case NODE_FILE:
		expect_file(b, node);
		break;
	case NODE_SYMLINK:
		nar_words(b, "symlink", "target", NULL);
		nar_string(b, node->target);
		break;
	}
	nar_words(b, ")", NULL);
}

void nar_expected(struct buffer *b, const struct node *node)
{
	nar_words(b, "nix-archive-1", NULL);
	expect_node(b, node);
}

/* ---- Trees ---- */

struct node nar_put_blob(struct bytes content, bool executable)
{
	struct node node = {.kind = NODE_FILE, .executable = executable, .size = content.len};

	assert_int_equal(blob_service_put(nar_store.blobs, content, &node.digest, NULL), 0);
	return node;
}

struct node nar_put_random_blob(struct dice *dice, size_t size)
{
	uint8_t *content cleanup(cleanup_free) = xmalloc(size);

	dice_fill(dice, content, size);
	return nar_put_blob(bytes_of(content, size), dice_below(dice, 4) == 0);
}

struct node nar_put_directory(struct directory_builder *b)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_builder_finish(b, &d, NULL), 0);
	assert_int_equal(directory_service_put(nar_store.directories, d, NULL), 0);
	return directory_node(d);
}

void nar_add(struct directory_builder *b, const char *name, struct node node)
{
	assert_int_equal(directory_builder_add(b, bytes_of_string(name), &node, NULL), 0);
}

struct node nar_put_deep(unsigned depth)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node node = nar_put_blob(bytes_of_string("bottom"), false);

	for (unsigned i = 0; i < depth; i++) {
		nar_add(b, "d", node);
		node = nar_put_directory(b);
	}
	return node;
}

/* Names begin with their number, so that none comes twice. */
static struct bytes random_name(struct dice *dice, unsigned number, char text[NODE_NAME_MAX])
{
	size_t n = (size_t)snprintf(text, NODE_NAME_MAX,
				    "%c%u:", (char)(33 + dice_below(dice, 14)), number);
	size_t len = dice_below(dice, 8) ? n + dice_below(dice, 12) : NODE_NAME_MAX;

	while (n < len) {
		char c = (char)(1 + dice_below(dice, 255));

		text[n++] = c == '/' ? '-' : c;
	}
	return bytes_of(text, len);
}

static struct node random_file(struct dice *dice)
{
	static const size_t small[] = {0, 1, 7, 8, 9, 4096};
	static const size_t large[] = {70000, 262144, 1048575, 1048576, 1048577, 1500000};
	uint64_t kind = dice_below(dice, 100);
	size_t size = kind < 10   ? small[dice_below(dice, ARRAY_SIZE(small))]
		      : kind < 12 ? large[dice_below(dice, ARRAY_SIZE(large))]
				  : dice_below(dice, 300);

	return nar_put_random_blob(dice, size);
}

static struct node random_symlink(struct dice *dice)
{
	static char target[NODE_TARGET_MAX + 1];

	memset(target, 't', NODE_TARGET_MAX);
	target[dice_below(dice, 6) ? 1 + dice_below(dice, 20) : NODE_TARGET_MAX] = '\0';
	return craft_symlink_node(target);
}

struct node nar_put_random_tree(struct dice *dice, unsigned depth)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	unsigned count = (unsigned)dice_below(dice, dice_below(dice, 6) ? 8 : 200);

	for (unsigned i = 0; i < count; i++) {
		uint64_t kind = dice_below(dice, 10);
		char text[NODE_NAME_MAX];
		struct bytes name = random_name(dice, i, text);
		struct node node = kind < 2 && depth ? nar_put_random_tree(dice, depth - 1)
				   : kind < 4        ? random_symlink(dice)
						     : random_file(dice);

		assert_int_equal(directory_builder_add(b, name, &node, NULL), 0);
	}
	return nar_put_directory(b);
}

/* ---- Sinks and sources ---- */

static int write_buffer(struct nar_sink *s, struct bytes data, struct error *err)
{
	struct buffer_sink *b = container_of(s, struct buffer_sink, base);

	if (b->room && data.len > b->room - b->data.len) {
		return error_set(err, ERROR_NO_SPACE, "the sink is full");
	}
	buffer_append(&b->data, data.ptr, data.len);
	return 0;
}

struct buffer_sink buffer_sink_of(uint64_t room)
{
	return (struct buffer_sink){.base.write = write_buffer, .room = room};
}

static int read_bytes(struct nar_source *s, void *buf, size_t len, size_t *got,
		      struct error *err)
{
	struct bytes_source *b = container_of(s, struct bytes_source, base);
	size_t n = MIN(MIN(len, b->rest.len), b->piece ? b->piece : len);

	if (n == 0 && b->fails) {
		return error_set(err, ERROR_IO, "the source failed");
	}
	if (n) {
		memcpy(buf, b->rest.ptr, n);
		b->rest = bytes_of(b->rest.ptr + n, b->rest.len - n);
	}
	*got = n;
	return 0;
}

struct bytes_source bytes_source_of(struct bytes data, size_t piece)
{
	return (struct bytes_source){.base.read = read_bytes, .rest = data, .piece = piece};
}
