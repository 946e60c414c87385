/*
 * Which store paths a stream refers to, against a search for each of them.
 *
 * Input: a byte for how many paths there are, a byte for how long pieces are, a byte from which
 * the hash of each follows, then the stream: 0x80 and above stands for the text of one of the
 * hashes, or for a part of it, all else for itself.
 */

#include "nix/nixbase32.h"
#include "nix/reference_scan.h"

#include "fuzz.h"

#define PATHS_MAX 12u

struct paths {
	struct store_path list[PATHS_MAX];
	char texts[PATHS_MAX][STORE_PATH_HASH_TEXT + 1];
	size_t count;
};

/* Alike at their ends, so that they hide in each other. */
static void take_paths(struct paths *p, struct input *in)
{
	uint8_t seed = (uint8_t)input_number(in, 1);

	for (size_t i = 0; i < p->count; i++) {
		uint8_t hash[STORE_PATH_HASH_SIZE];

		memset(hash, seed, sizeof(hash));
		hash[i % 5 * 4] = (uint8_t)(input_number(in, 1));
		check(store_path_set(&p->list[i], hash, bytes_of_string("x"), NULL) == 0);
		nixbase32_encode(p->texts[i], bytes_of(hash, sizeof(hash)));
	}
}

static void take_stream(const struct paths *p, struct input *in, struct buffer *out)
{
	while (in->left) {
		unsigned byte = (unsigned)input_number(in, 1);

		if (byte < 0x80 || p->count == 0) {
			buffer_append_byte(out, (uint8_t)byte);
		} else {
			size_t from = byte & 0x40 ? input_number(in, 1) % 32 : 0;

			buffer_append_string(out, p->texts[byte % 0x40 % p->count] + from);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	struct paths p = {.count = (size_t)input_number(&in, 1) % (PATHS_MAX + 1)};
	size_t piece = 1 + (size_t)input_number(&in, 1);
	struct buffer stream = {0};

	take_paths(&p, &in);
	take_stream(&p, &in, &stream);
	struct reference_scan *s = reference_scan_new(p.list, p.count);

	for (size_t at = 0; at < stream.len; at += piece) {
		size_t len = MIN(piece, stream.len - at);
		/* On its own, so that a look beyond it is seen. */
		uint8_t *copy = xmalloc(len);

		memcpy(copy, stream.ptr + at, len);
		reference_scan_update(s, bytes_of(copy, len));
		free(copy);
	}
	for (size_t i = 0; i < p.count; i++) {
		bool there = stream.len && memmem(stream.ptr, stream.len, p.texts[i],
						  STORE_PATH_HASH_TEXT) != NULL;

		check(reference_scan_found(s, i) == there);
	}
	reference_scan_free(s);
	buffer_done(&stream);
	return 0;
}
