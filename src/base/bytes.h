#pragma once

/*
 * struct bytes: a borrowed range, valid until its owner changes.
 * struct buffer: an owned, growing range.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *ptr;
	size_t len;
};

static inline struct bytes bytes_of(const void *ptr, size_t len)
{
	return (struct bytes){.ptr = ptr, .len = len};
}

static inline struct bytes bytes_of_string(const char *s)
{
	return bytes_of(s, strlen(s));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Order of memcmp, a prefix before what it begins: the order of names in a Directory. */
int bytes_compare(struct bytes a, struct bytes b);

/*
 * Text for messages: bytes outside printable ASCII become \xNN, a long value ends in "...". The
 * result is in one of a few buffers of the calling thread and valid for the next calls (four of
 * them), as a printf argument needs it.
 */
const char *bytes_printable(struct bytes b);

struct buffer {
	uint8_t *ptr;
	size_t len;
	size_t capacity;
};

void buffer_done(struct buffer *b);
/* Room for `more` bytes after len; returns where they start. */
uint8_t *buffer_reserve(struct buffer *b, size_t more);
void buffer_append(struct buffer *b, const void *data, size_t len);
void buffer_append_byte(struct buffer *b, uint8_t byte);
void buffer_append_string(struct buffer *b, const char *text);

static inline struct bytes buffer_bytes(const struct buffer *b)
{
	return bytes_of(b->ptr, b->len);
}
