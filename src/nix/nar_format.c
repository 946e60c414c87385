#include "nix/nar_format.h"

#include "base/endian.h"

/* Strings with their lengths and their padding. */
#define MAGIC "\15\0\0\0\0\0\0\0nix-archive-1\0\0\0"
#define OPEN "\1\0\0\0\0\0\0\0(\0\0\0\0\0\0\0"
#define CLOSE "\1\0\0\0\0\0\0\0)\0\0\0\0\0\0\0"
#define TYPE "\4\0\0\0\0\0\0\0type\0\0\0\0"
#define REGULAR "\7\0\0\0\0\0\0\0regular\0"
#define SYMLINK "\7\0\0\0\0\0\0\0symlink\0"
#define DIRECTORY "\11\0\0\0\0\0\0\0directory\0\0\0\0\0\0\0"
#define EXECUTABLE "\12\0\0\0\0\0\0\0executable\0\0\0\0\0\0"
#define EMPTY "\0\0\0\0\0\0\0\0"
#define CONTENTS "\10\0\0\0\0\0\0\0contents"
#define TARGET "\6\0\0\0\0\0\0\0target\0\0"
#define ENTRY "\5\0\0\0\0\0\0\0entry\0\0\0"
#define NAME "\4\0\0\0\0\0\0\0name\0\0\0\0"
#define NODE "\4\0\0\0\0\0\0\0node\0\0\0\0"

static const char entry_words[] = ENTRY OPEN NAME;
static const char node_word[] = NODE;
static const char directory_words[] = OPEN TYPE DIRECTORY;
static const char symlink_words[] = OPEN TYPE SYMLINK TARGET;
static const char file_words[] = OPEN TYPE REGULAR CONTENTS;
static const char executable_words[] = OPEN TYPE REGULAR EXECUTABLE EMPTY CONTENTS;

/* Without the NUL that the compiler puts behind it. */
#define WORDS_SIZE(words) (sizeof(words) - 1)

_Static_assert(WORDS_SIZE(MAGIC) == NAR_MAGIC_SIZE, "as the header says");
_Static_assert(WORDS_SIZE(CLOSE) == NAR_CLOSE_SIZE, "as the header says");
_Static_assert(NAR_CLOSING_MAX >= 7 + 2 * NAR_CLOSE_SIZE, "two parentheses");
_Static_assert(NAR_OPENING_MAX >= NAR_MAGIC_SIZE + sizeof(entry_words) + 8 + NODE_NAME_MAX + 1 +
					  sizeof(node_word) + sizeof(executable_words) +
					  sizeof(symlink_words) + 8 + NODE_TARGET_MAX + 1,
	       "any opening");

static inline uint8_t *put(uint8_t *at, const void *data, size_t len)
{
	memcpy(at, data, len);
	return at + len;
}

static inline uint8_t *put_number(uint8_t *at, uint64_t n)
{
	put_le64(at, n);
	return at + 8;
}

uint8_t *nar_put_padding(uint8_t *at, uint64_t len)
{
	size_t padding = (size_t)NAR_PAD(len);

	memset(at, 0, padding);
	return at + padding;
}

static uint8_t *put_string(uint8_t *at, struct bytes s)
{
	at = put_number(at, s.len);
	at = put(at, s.ptr, s.len);
	return nar_put_padding(at, s.len);
}

uint8_t *nar_put_magic(uint8_t *at)
{
	return put(at, MAGIC, NAR_MAGIC_SIZE);
}

uint8_t *nar_put_entry(uint8_t *at, struct bytes name)
{
	at = put(at, entry_words, WORDS_SIZE(entry_words));
	at = put_string(at, name);
	return put(at, node_word, WORDS_SIZE(node_word));
}

static uint8_t *put_file(uint8_t *at, const struct node *node)
{
	at = node->executable ? put(at, executable_words, WORDS_SIZE(executable_words))
			      : put(at, file_words, WORDS_SIZE(file_words));
	return put_number(at, node->size);
}

uint8_t *nar_put_node(uint8_t *at, const struct node *node)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
		return put(at, directory_words, WORDS_SIZE(directory_words));
	case NODE_FILE:
		return put_file(at, node);
	case NODE_SYMLINK:
		at = put(at, symlink_words, WORDS_SIZE(symlink_words));
		return put_string(at, node->target);
	}
	return at;
}

uint8_t *nar_put_close(uint8_t *at, unsigned count)
{
	while (count-- > 0) {
		at = put(at, CLOSE, NAR_CLOSE_SIZE);
	}
	return at;
}

static size_t string_size(struct bytes s)
{
	return 8 + (size_t)round_up(s.len, 8);
}

size_t nar_entry_size(struct bytes name)
{
	return WORDS_SIZE(entry_words) + string_size(name) + WORDS_SIZE(node_word);
}

size_t nar_node_size(const struct node *node)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
		return WORDS_SIZE(directory_words);
	case NODE_FILE:
		return 8 + (node->executable ? WORDS_SIZE(executable_words)
					     : WORDS_SIZE(file_words));
	case NODE_SYMLINK:
		return WORDS_SIZE(symlink_words) + string_size(node->target);
	}
	return 0;
}
