#include "castore/digest.h"

#include <blake3.h>

#include "base/text.h"

_Static_assert(DIGEST_SIZE == BLAKE3_OUT_LEN, "a digest is a BLAKE3 output");

#define TEXT_PREFIX "b3:"
#define TEXT_PREFIX_LEN 3

const struct digest digest_empty = {{0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6,
				     0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49,
				     0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7,
				     0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62}};

struct hasher {
	blake3_hasher state;
};

/*
 * BLAKE3 looks at the processor at its first use and keeps what it found in a plain variable:
 * that first use comes before there are threads.
 */
__attribute__((constructor)) static void choose_instructions(void)
{
	struct digest d;

	digest_of(&d, bytes_of(NULL, 0));
}

void digest_of(struct digest *out, struct bytes data)
{
	blake3_hasher state;

	blake3_hasher_init(&state);
	blake3_hasher_update(&state, data.ptr, data.len);
	blake3_hasher_finalize(&state, out->bytes, DIGEST_SIZE);
}

void digest_to_hex(char out[DIGEST_HEX_SIZE], const struct digest *d)
{
	hex_encode(out, digest_bytes(d));
}

void digest_to_text(char out[DIGEST_TEXT_SIZE], const struct digest *d)
{
	memcpy(out, TEXT_PREFIX, TEXT_PREFIX_LEN);
	base64_encode(out + TEXT_PREFIX_LEN, digest_bytes(d));
}

const char *digest_text(const struct digest *d)
{
	static _Thread_local char texts[4][DIGEST_TEXT_SIZE];
	static _Thread_local unsigned turn;
	char *text = texts[turn++ % ARRAY_SIZE(texts)];

	digest_to_text(text, d);
	return text;
}

int digest_from_hex(struct digest *out, struct bytes text, struct error *err)
{
	struct digest d;

	if (!hex_decode(d.bytes, DIGEST_SIZE, text)) {
		return error_set(err, ERROR_INVALID, "\"%s\" is not a digest of 64 hex digits",
				 bytes_printable(text));
	}
	*out = d;
	return 0;
}

int digest_from_text(struct digest *out, struct bytes text, struct error *err)
{
	struct digest d;

	if (text.len < TEXT_PREFIX_LEN || memcmp(text.ptr, TEXT_PREFIX, TEXT_PREFIX_LEN) != 0 ||
	    !base64_decode(d.bytes, DIGEST_SIZE,
			   bytes_of(text.ptr + TEXT_PREFIX_LEN, text.len - TEXT_PREFIX_LEN))) {
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is not a digest (b3: and 44 characters of base64)",
				 bytes_printable(text));
	}
	*out = d;
	return 0;
}

int digest_parse(struct digest *out, struct bytes text, struct error *err)
{
	return text.len == 2 * DIGEST_SIZE ? digest_from_hex(out, text, err)
					   : digest_from_text(out, text, err);
}

struct hasher *hasher_new(void)
{
	struct hasher *h = xmalloc(sizeof(*h));

	hasher_reset(h);
	return h;
}

void hasher_free(struct hasher *h)
{
	free(h);
}

void hasher_reset(struct hasher *h)
{
	blake3_hasher_init(&h->state);
}

void hasher_copy(struct hasher *to, const struct hasher *from)
{
	*to = *from;
}

void hasher_update(struct hasher *h, struct bytes data)
{
	blake3_hasher_update(&h->state, data.ptr, data.len);
}

void hasher_finish(const struct hasher *h, struct digest *out)
{
	blake3_hasher_finalize(&h->state, out->bytes, DIGEST_SIZE);
}
