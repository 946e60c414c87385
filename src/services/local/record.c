#include "services/local/record.h"

#include "base/endian.h"
#include "castore/outboard.h"
#include "services/local/codec.h"

static const uint8_t record_magic[4] = {'c', 'R', 'e', 'c'};
static const char pack_magic[16] = "cairn pack\n";

static void header_check(uint8_t out[4], const uint8_t header[RECORD_HEADER_SIZE])
{
	struct digest d;

	digest_of(&d, bytes_of(header + 8, RECORD_HEADER_SIZE - 8));
	memcpy(out, d.bytes, 4);
}

bool record_lengths_valid(uint8_t encoding, uint64_t stored, uint64_t size)
{
	switch (encoding) {
	case ENCODING_RAW:
		return stored == size;
	case ENCODING_ZSTD:
		return stored < size && size <= CODEC_CONTENT_MAX;
	default:
		return true;
	}
}

void record_encode(uint8_t out[RECORD_HEADER_SIZE], const struct record *r)
{
	memcpy(out, record_magic, 4);
	out[8] = (uint8_t)r->kind;
	out[9] = r->encoding;
	out[10] = out[11] = 0;
	put_le32(out + 12, r->stored);
	put_le64(out + 16, r->size);
	memcpy(out + 24, r->digest.bytes, DIGEST_SIZE);
	header_check(out + 4, out);
}

void record_append(struct buffer *out, const struct record *r, struct bytes payload)
{
	static const uint8_t zeros[RECORD_ALIGN];
	uint64_t used = RECORD_HEADER_SIZE + payload.len;

	record_encode(buffer_reserve(out, RECORD_HEADER_SIZE), r);
	out->len += RECORD_HEADER_SIZE;
	buffer_append(out, payload.ptr, payload.len);
	buffer_append(out, zeros, (size_t)(record_total(payload.len) - used));
}

void record_append_raw(struct buffer *out, enum record_kind kind, struct bytes payload)
{
	struct record r = {.kind = kind,
			   .encoding = ENCODING_RAW,
			   .stored = (uint32_t)payload.len,
			   .size = payload.len};

	digest_of(&r.digest, payload);
	record_append(out, &r, payload);
}

bool record_decode(const uint8_t in[RECORD_HEADER_SIZE], struct record *out)
{
	uint8_t check[4];

	if (memcmp(in, record_magic, 4) != 0) {
		return false;
	}
	header_check(check, in);
	if (memcmp(in + 4, check, 4) != 0 || in[8] < RECORD_BLOB || in[8] > RECORD_PATH_INFO ||
	    in[10] || in[11]) {
		return false;
	}
	out->kind = (enum record_kind)in[8];
	out->encoding = in[9];
	out->stored = get_le32(in + 12);
	out->size = get_le64(in + 16);
	memcpy(out->digest.bytes, in + 24, DIGEST_SIZE);
	return true;
}

void pack_header_encode(uint8_t out[PACK_HEADER_SIZE], uint64_t number,
			const uint8_t id[STORE_ID_SIZE])
{
	memset(out, 0, PACK_HEADER_SIZE);
	memcpy(out, pack_magic, sizeof(pack_magic));
	put_le32(out + 16, PACK_FORMAT_VERSION);
	put_le64(out + 24, number);
	memcpy(out + 32, id, STORE_ID_SIZE);
}

bool pack_header_valid(const uint8_t in[PACK_HEADER_SIZE], uint64_t number,
		       const uint8_t id[STORE_ID_SIZE])
{
	uint8_t expected[PACK_HEADER_SIZE];

	pack_header_encode(expected, number, id);
	return memcmp(in, expected, PACK_HEADER_SIZE) == 0;
}

/*
 * CRC-16 (CCITT: polynomial 0x1021, from 0xffff) of a location without its check: any one byte
 * that changes is found, which a digest of 16 bits could not promise.
 */
static uint16_t location_check(const uint8_t location[LOCATION_SIZE])
{
	unsigned crc = 0xffff;

	for (size_t i = 0; i < LOCATION_SIZE; i++) {
		unsigned byte = i == 2 || i == 3 ? 0u : location[i];
		unsigned top = (crc >> 8) ^ byte;

		/* A byte at a time, as the polynomial's few bits allow without a table. */
		top ^= top >> 4;
		crc = ((crc << 8) ^ (top << 12) ^ (top << 5) ^ top) & 0xffffu;
	}
	/* Zero stands for none: locations of older programs. */
	return crc ? (uint16_t)crc : 0xffff;
}

void location_encode(uint8_t out[LOCATION_SIZE], const struct location *l)
{
	out[0] = (uint8_t)l->kind;
	out[1] = l->encoding;
	put_le32(out + 4, l->pack);
	put_le32(out + 8, (uint32_t)(l->offset / RECORD_ALIGN));
	put_le32(out + 12, l->stored);
	put_le64(out + 16, l->size);
	uint16_t check = location_check(out);

	out[2] = (uint8_t)check;
	out[3] = (uint8_t)(check >> 8);
}

int location_decode(const uint8_t in[LOCATION_SIZE], struct location *out, struct error *err)
{
	struct location l = {
		.kind = (enum location_kind)in[0],
		.encoding = in[1],
		.pack = get_le32(in + 4),
		.offset = (uint64_t)get_le32(in + 8) * RECORD_ALIGN,
		.stored = get_le32(in + 12),
		.size = get_le64(in + 16),
	};
	unsigned check = in[2] | (unsigned)in[3] << 8;

	if ((check && check != location_check(in)) ||
	    (l.kind != LOCATION_PACK && l.kind != LOCATION_FILE) || l.pack == 0 ||
	    l.stored > RECORD_PAYLOAD_MAX || l.offset < PACK_HEADER_SIZE ||
	    (l.kind == LOCATION_PACK && !record_lengths_valid(l.encoding, l.stored, l.size)) ||
	    (l.kind == LOCATION_FILE && (l.encoding != ENCODING_RAW || l.stored == 0 ||
					 l.stored != outboard_encoded_size(l.size)))) {
		return error_set(err, ERROR_CORRUPT,
				 "the index of the store is damaged (an impossible location)");
	}
	*out = l;
	return 0;
}
