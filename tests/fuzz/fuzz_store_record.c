/*
 * What a damaged disk may hold: locations of the index; headers, changes of tables and
 * compressed payloads in packs. The first byte chooses which.
 */

#include <stdint.h>
#include <stdlib.h>

#include "base/endian.h"
#include "castore/outboard.h"
#include "services/local/codec.h"
#include "services/local/logged_table.h"

#include "fuzz.h"

static void try_location(struct bytes in)
{
	uint8_t again[LOCATION_SIZE];
	struct error err = {0};
	struct location l;

	if (in.len != LOCATION_SIZE) {
		return;
	}
	if (location_decode(in.ptr, &l, &err) != 0) {
		check(err.code == ERROR_CORRUPT && told(&err));
		return;
	}
	/* What readers rely on before they allocate and read. */
	check(l.pack > 0 && l.stored <= RECORD_PAYLOAD_MAX && l.offset >= PACK_HEADER_SIZE);
	check(l.kind != LOCATION_FILE || l.stored == outboard_encoded_size(l.size));
	check(l.kind != LOCATION_FILE || (l.encoding == ENCODING_RAW && l.size > 0));
	check(l.kind != LOCATION_PACK || l.encoding != ENCODING_RAW || l.size == l.stored);
	check(l.kind != LOCATION_PACK || l.encoding != ENCODING_ZSTD ||
	      (l.stored < l.size && l.size <= CODEC_CONTENT_MAX));
	location_encode(again, &l);
	check(memcmp(again + 4, in.ptr + 4, LOCATION_SIZE - 4) == 0);
}

static void try_header(struct bytes in)
{
	uint8_t again[RECORD_HEADER_SIZE];
	struct record r;

	if (in.len == RECORD_HEADER_SIZE && record_decode(in.ptr, &r)) {
		record_encode(again, &r);
		check(memcmp(again, in.ptr, RECORD_HEADER_SIZE) == 0);
	}
	/* The check in a header keeps chance out, so the fields are also given a right one. */
	if (in.len >= RECORD_HEADER_SIZE - 8) {
		memcpy(&again[8], in.ptr, RECORD_HEADER_SIZE - 8);
		again[8] = (uint8_t)(RECORD_BLOB + again[8] % RECORD_PATH_INFO);
		r = (struct record){.kind = (enum record_kind)again[8], .encoding = again[9]};
		memcpy(r.digest.bytes, again + 24, DIGEST_SIZE);
		memcpy(&r.stored, again + 12, sizeof(r.stored));
		record_encode(again, &r);
		check(record_decode(again, &r));
		again[in.ptr[0] % RECORD_HEADER_SIZE] ^= (uint8_t)(in.ptr[1] | 1);
		check(!record_decode(again, &r));
	}
}

static void try_change(const struct logged_table *table, struct bytes in)
{
	struct error err = {0};
	struct table_change change;

	if (table_change_decode(table, in, &change, &err) != 0) {
		check(err.code == ERROR_CORRUPT && told(&err));
		return;
	}
	check(change.key.len >= 1 && change.key.len <= RECORD_KEY_MAX);
	check(change.value.ptr + change.value.len == in.ptr + in.len);
	check(change.removal || change.value.len <= RECORD_VALUE_MAX);
	check(change.removal || table != &logged_roots || node_name_valid(change.key));
}

/* What can be compressed comes back as it was. */
static void try_compress(struct codec *c, struct bytes content)
{
	uint8_t *again = xmalloc(content.len + 1);
	struct error err = {0};
	struct bytes frame;

	if (codec_compress(c, content, &frame)) {
		check(frame.len <= content.len - CODEC_SAVED_MIN(content.len));
		check(codec_decompress(c, frame, again, content.len, &err) == 0);
		check(memcmp(again, content.ptr, content.len) == 0);
	}
	free(again);
}

/* le32 size, then a frame that is said to have as many bytes. */
static void try_frame(struct bytes in)
{
	struct codec_pool pool;
	struct error err = {0};

	if (in.len < 4) {
		return;
	}
	size_t size = get_le32(in.ptr) % (CODEC_CONTENT_MAX + 2);
	uint8_t *out = xmalloc(MAX(size, (size_t)1));

	codec_pool_init(&pool);
	struct codec *c = codec_take(&pool);
	int rc = codec_decompress(c, bytes_of(in.ptr + 4, in.len - 4), out, size, &err);

	check(rc == 0 || (rc == -ERROR_CORRUPT && err.code == ERROR_CORRUPT && told(&err)));
	check(rc != 0 || size <= CODEC_CONTENT_MAX);
	try_compress(c, in);
	codec_give(&pool, c);
	codec_pool_done(&pool);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) {
		return 0;
	}
	struct bytes in = bytes_of(data + 1, size - 1);

	switch (data[0] % 5) {
	case 0:
		try_location(in);
		break;
	case 1:
		try_header(in);
		break;
	case 2:
		try_change(&logged_roots, in);
		break;
	case 3:
		try_change(&logged_path_infos, in);
		break;
	default:
		try_frame(in);
		break;
	}
	return 0;
}
