#include "base/bytes.h"

#include <stdio.h>

#include "base/util.h"

int bytes_compare(struct bytes a, struct bytes b)
{
	size_t n = MIN(a.len, b.len);
	int order = n ? memcmp(a.ptr, b.ptr, n) : 0;

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

const char *bytes_printable(struct bytes b)
{
	static _Thread_local char texts[4][320];
	static _Thread_local unsigned turn;
	char *text = texts[turn++ % ARRAY_SIZE(texts)];
	size_t n = 0;

	for (size_t i = 0; i < b.len; i++) {
		uint8_t c = b.ptr[i];

		if (n + 8 > sizeof(texts[0])) {
			memcpy(text + n, "...", 3);
			n += 3;
			break;
		}
		if (c >= 0x20 && c < 0x7f) {
			text[n++] = (char)c;
		} else {
			n += (size_t)snprintf(text + n, 5, "\\x%02x", c);
		}
	}
	text[n] = '\0';
	return text;
}

void buffer_done(struct buffer *b)
{
	free(b->ptr);
	*b = (struct buffer){0};
}

uint8_t *buffer_reserve(struct buffer *b, size_t more)
{
	/* Also for nothing: callers may do arithmetic with the result. */
	if (!b->ptr || b->capacity - b->len < more) {
		size_t capacity = MAX(b->capacity * 2, b->len + more);

		b->ptr = xrealloc(b->ptr, MAX(capacity, (size_t)64));
		b->capacity = MAX(capacity, (size_t)64);
	}
	return b->ptr + b->len;
}

void buffer_append(struct buffer *b, const void *data, size_t len)
{
	if (len) {
		memcpy(buffer_reserve(b, len), data, len);
		b->len += len;
	}
}

void buffer_append_byte(struct buffer *b, uint8_t byte)
{
	*buffer_reserve(b, 1) = byte;
	b->len++;
}

void buffer_append_string(struct buffer *b, const char *text)
{
	buffer_append(b, text, strlen(text));
}
