#include "nix/nixbase32.h"

static const char digits[] = "0123456789abcdfghijklmnpqrsvwxyz";

void nixbase32_encode(char *out, struct bytes b)
{
	for (size_t n = nixbase32_size(b.len); n-- > 0;) {
		size_t byte = n * 5 / 8, shift = n * 5 % 8;
		unsigned group = b.ptr[byte] >> shift;

		if (shift > 3 && byte + 1 < b.len) {
			group |= (unsigned)b.ptr[byte + 1] << (8 - shift);
		}
		*out++ = digits[group & 31];
	}
	*out = '\0';
}

static int value_of(uint8_t c)
{
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool nixbase32_decode(uint8_t *out, size_t len, struct bytes text)
{
	if (text.len != nixbase32_size(len)) {
		return false;
	}
	memset(out, 0, len);
	for (size_t i = 0; i < text.len; i++) {
		size_t n = text.len - 1 - i, byte = n * 5 / 8, shift = n * 5 % 8;
		int value = value_of(text.ptr[i]);

		if (value < 0) {
			return false;
		}
		unsigned over = (unsigned)value >> (8 - shift);

		out[byte] |= (uint8_t)((unsigned)value << shift);
		if (byte + 1 < len) {
			out[byte + 1] |= (uint8_t)over;
		} else if (over) {
			return false; /* bits that no byte has */
		}
	}
	return true;
}
