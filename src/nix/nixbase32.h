#pragma once

/*
 * Nix's base 32: the bytes are a little-endian number, written with its most significant digit
 * first. The digits 0123456789abcdfghijklmnpqrsvwxyz ascend in ASCII.
 */

#include "base/bytes.h"

static inline size_t nixbase32_size(size_t len)
{
	return (len * 8 + 4) / 5;
}
/* Writes nixbase32_size(b.len) characters and a NUL. */
void nixbase32_encode(char *out, struct bytes b);
/*
 * Strict: exactly the form that encode writes for len bytes. False for anything else; out is
 * then undefined.
 */
bool nixbase32_decode(uint8_t *out, size_t len, struct bytes text);
