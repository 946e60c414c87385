#pragma once

/* Text forms of bytes: hexadecimal and standard base64 with padding (RFC 4648). */

#include "base/bytes.h"

/* Writes 2 * b.len lower-case digits and a NUL. */
void hex_encode(char *out, struct bytes b);
/* Exactly 2 * len digits of either case; false for anything else. */
bool hex_decode(uint8_t *out, size_t len, struct bytes text);

/* Characters of the padded form of len bytes, without the NUL. */
static inline size_t base64_size(size_t len)
{
	return (len + 2) / 3 * 4;
}
/* Writes base64_size(b.len) characters and a NUL. */
void base64_encode(char *out, struct bytes b);
/*
 * Decodes text to exactly len bytes. Strict: padding is required, the bits under it are zero,
 * nothing else than the alphabet. False for anything else.
 */
bool base64_decode(uint8_t *out, size_t len, struct bytes text);

/*
 * A number of bytes as people write it: digits, and K, M, G or T for powers of 1024. False for
 * anything else, and for what does not fit.
 */
bool text_to_size(const char *text, uint64_t *out);
