#pragma once

/*
 * The bytes on disk: records in pack files, and locations in the index. docs/store-format.md
 * describes them for people.
 */

#include "castore/digest.h"

/* A pack begins with this: magic, le32 version, le32 reserved, le64 number, store id, zeros. */
#define PACK_HEADER_SIZE ((uint64_t)64)
#define PACK_FORMAT_VERSION 1
/* A writer goes on to another pack when one has reached this. */
#define PACK_SIZE_TARGET ((uint64_t)1 << 30)
/* Offsets are kept in units of 8 bytes in 32 bits. */
#define PACK_SIZE_MAX ((uint64_t)1 << 34)
#define RECORD_ALIGN ((uint64_t)8)
/* Payloads of records, outboards of blobs of up to 1 TiB among them. */
#define RECORD_PAYLOAD_MAX ((uint64_t)3 << 30)
#define STORE_ID_SIZE 16

enum record_kind {
	RECORD_BLOB = 1,      /* payload: the blob */
	RECORD_DIRECTORY = 2, /* payload: canonical encoding */
	RECORD_OUTBOARD = 3,  /* payload: outboard of a large blob, which is a plain file */
	RECORD_ROOT = 4,      /* payload: see logged_table.h; digest: of the payload */
	RECORD_PATH_INFO = 5, /* likewise */
};

enum record_encoding {
	ENCODING_RAW = 0,
	ENCODING_ZSTD = 1, /* one frame of zstd, see codec.h; of blobs and Directories only */
};

/*
 * magic "cRec" | first 4 bytes of the BLAKE3 of the rest of the header | kind u8 | encoding u8
 * | zero u16 | le32 stored length | le64 size | digest. The payload follows, then zeros up to a
 * multiple of 8. size: of the blob (for an outboard too) or Directory, decoded.
 */
#define RECORD_HEADER_SIZE ((uint64_t)56)

struct record {
	enum record_kind kind;
	uint8_t encoding;
	uint32_t stored;
	uint64_t size;
	struct digest digest;
};

static inline uint64_t record_total(uint64_t stored)
{
	return round_up(RECORD_HEADER_SIZE + stored, RECORD_ALIGN);
}

/* Do these fit together? Of an encoding that this program does not know: it cannot tell, so
 * yes. */
bool record_lengths_valid(uint8_t encoding, uint64_t stored, uint64_t size);

void record_encode(uint8_t out[RECORD_HEADER_SIZE], const struct record *r);
/* Appends a whole record, its payload as it is to be stored. */
void record_append(struct buffer *out, const struct record *r, struct bytes payload);
/* The same for one that is its payload, with the digest of that. */
void record_append_raw(struct buffer *out, enum record_kind kind, struct bytes payload);
/* False when these bytes are no header (damaged, or no record begins here). */
bool record_decode(const uint8_t in[RECORD_HEADER_SIZE], struct record *out);

void pack_header_encode(uint8_t out[PACK_HEADER_SIZE], uint64_t number,
			const uint8_t id[STORE_ID_SIZE]);
bool pack_header_valid(const uint8_t in[PACK_HEADER_SIZE], uint64_t number,
		       const uint8_t id[STORE_ID_SIZE]);

/*
 * Where an object is. In the index: kind u8 | encoding u8 | le16 check | le32 pack | le32
 * offset / 8 | le32 stored length | le64 size. check: CRC-16 of the rest; zero, of older
 * programs: none.
 */
#define LOCATION_SIZE 24

enum location_kind {
	LOCATION_PACK = 1, /* the record is the object */
	LOCATION_FILE = 2, /* a plain file; the record is its outboard */
};

struct location {
	enum location_kind kind;
	uint8_t encoding;
	uint32_t pack;
	uint32_t stored;
	uint64_t offset; /* of the record's header */
	uint64_t size;   /* of the object */
};

/* All of the room that the object takes. */
static inline uint64_t location_stored(const struct location *l)
{
	return record_total(l->stored) + (l->kind == LOCATION_FILE ? l->size : 0);
}

void location_encode(uint8_t out[LOCATION_SIZE], const struct location *l);
/* The encoding may be one that this program does not know. */
int location_decode(const uint8_t in[LOCATION_SIZE], struct location *out, struct error *err);
