#pragma once

/* What fuzz targets share: the contract with libFuzzer, checks, and inputs taken piece by
 * piece.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/error.h"

/* The target. The bytes are as long as they say: a step too far is seen. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise of the code under test. Where it was broken is told, as a stack may not have it. */
#define check(promise) ((promise) ? (void)0 : check_failed(__FILE__, __LINE__, #promise))

static inline _Noreturn void check_failed(const char *file, int line, const char *promise)
{
	fprintf(stderr, "ERROR: broken promise: %s at %s:%d\n", promise, file, line);
	abort();
}

/* No line of its own in a log, and nothing that a terminal obeys, whoever made the bytes. */
static inline bool printable(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f) {
			return false;
		}
	}
	return true;
}

/* An error that says what it is. */
static inline bool told(const struct error *err)
{
	return err->code != ERROR_NONE && err->text[0] && printable(err->text);
}

/* What a doer or an asker returns, and the error that goes with it. */
static inline int result(int rc, const struct error *err)
{
	check(rc >= 0 || (rc == -(int)err->code && told(err)));
	return rc;
}

/* What is left of an input; behind its end come zeros. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline struct input input_of(const uint8_t *data, size_t size)
{
	return (struct input){.at = data, .left = size};
}

/* A little-endian number of at most eight bytes. */
static inline uint64_t input_number(struct input *in, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes && in->left; i++) {
		value |= (uint64_t)*in->at++ << 8 * i;
		in->left--;
	}
	return value;
}

/* The next bytes, borrowed; fewer where there are no more. */
static inline struct bytes input_bytes(struct input *in, size_t len)
{
	struct bytes b = bytes_of(in->at, MIN(len, in->left));

	in->at += b.len;
	in->left -= b.len;
	return b;
}

/* Bytes with their length before them, in one byte. */
static inline struct bytes input_string(struct input *in)
{
	return input_bytes(in, (size_t)input_number(in, 1));
}
