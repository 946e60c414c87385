#include "base/text.h"

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hex_encode(char *out, struct bytes b)
{
	for (size_t i = 0; i < b.len; i++) {
		out[2 * i] = hex_digits[b.ptr[i] >> 4];
		out[2 * i + 1] = hex_digits[b.ptr[i] & 15];
	}
	out[2 * b.len] = '\0';
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

bool hex_decode(uint8_t *out, size_t len, struct bytes text)
{
	if (text.len != 2 * len) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		int high = hex_value(text.ptr[2 * i]);
		int low = hex_value(text.ptr[2 * i + 1]);

		if (high < 0 || low < 0) {
			return false;
		}
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void base64_encode(char *out, struct bytes b)
{
	size_t i = 0;

	for (; i + 3 <= b.len; i += 3) {
		uint32_t v =
			(uint32_t)b.ptr[i] << 16 | (uint32_t)b.ptr[i + 1] << 8 | b.ptr[i + 2];

		*out++ = base64_digits[v >> 18];
		*out++ = base64_digits[v >> 12 & 63];
		*out++ = base64_digits[v >> 6 & 63];
		*out++ = base64_digits[v & 63];
	}
	if (b.len - i == 1) {
		*out++ = base64_digits[b.ptr[i] >> 2];
		*out++ = base64_digits[(b.ptr[i] & 3) << 4];
		*out++ = '=';
		*out++ = '=';
	} else if (b.len - i == 2) {
		*out++ = base64_digits[b.ptr[i] >> 2];
		*out++ = base64_digits[(b.ptr[i] & 3) << 4 | b.ptr[i + 1] >> 4];
		*out++ = base64_digits[(b.ptr[i + 1] & 15) << 2];
		*out++ = '=';
	}
	*out = '\0';
}

static int base64_value(uint8_t c)
{
	const char *at = c ? strchr(base64_digits, c) : NULL;

	return at ? (int)(at - base64_digits) : -1;
}

bool base64_decode(uint8_t *out, size_t len, struct bytes text)
{
	size_t digits = (len * 8 + 5) / 6;
	uint32_t bits = 0;
	unsigned count = 0;

	if (text.len != base64_size(len)) {
		return false;
	}
	for (size_t i = 0; i < digits; i++) {
		int value = base64_value(text.ptr[i]);

		if (value < 0) {
			return false;
		}
		bits = bits << 6 | (uint32_t)value;
		count += 6;
		if (count >= 8) {
			count -= 8;
			*out++ = (uint8_t)(bits >> count);
			bits &= (1u << count) - 1;
		}
	}
	for (size_t i = digits; i < text.len; i++) {
		if (text.ptr[i] != '=') {
			return false;
		}
	}
	return bits == 0;
}

/* How many times 1024; -1 for a unit that is none. */
static int power_of_unit(const char *unit)
{
	static const char units[] = "KMGT";
	const char *at = unit[0] ? strchr(units, unit[0]) : units;

	return unit[0] == '\0' ? 0 : at && unit[1] == '\0' ? (int)(at - units) + 1 : -1;
}

bool text_to_size(const char *text, uint64_t *out)
{
	size_t digits = strspn(text, "0123456789");
	int power = power_of_unit(text + digits);
	uint64_t n = 0;

	if (digits == 0 || power < 0) {
		return false;
	}
	for (size_t i = 0; i < digits; i++) {
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(text[i] - '0'), &n)) {
			return false;
		}
	}
	for (; power > 0; power--) {
		if (__builtin_mul_overflow(n, 1024u, &n)) {
			return false;
		}
	}
	*out = n;
	return true;
}
