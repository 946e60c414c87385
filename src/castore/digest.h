#pragma once

/* BLAKE3 digests: the names of blobs and of directories. */

#include "base/bytes.h"
#include "base/error.h"

#define DIGEST_SIZE 32
#define DIGEST_HEX_SIZE 65  /* lower hex and a NUL: file names */
#define DIGEST_TEXT_SIZE 48 /* "b3:", padded base64 and a NUL: everything people read */

struct digest {
	uint8_t bytes[DIGEST_SIZE];
};

/* Of the empty byte string: the empty blob, and also the empty Directory. */
extern const struct digest digest_empty;

void digest_of(struct digest *out, struct bytes data);

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

static inline int digest_compare(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_SIZE);
}

static inline struct bytes digest_bytes(const struct digest *d)
{
	return bytes_of(d->bytes, DIGEST_SIZE);
}

/* The first eight bytes as a number: a hash for tables, uniformly distributed. */
static inline uint64_t digest_hash(const struct digest *d)
{
	uint64_t v;

	memcpy(&v, d->bytes, sizeof(v));
	return v;
}

void digest_to_hex(char out[DIGEST_HEX_SIZE], const struct digest *d);
void digest_to_text(char out[DIGEST_TEXT_SIZE], const struct digest *d);
/* The text form in one of four buffers of the calling thread, for printf. */
const char *digest_text(const struct digest *d);

/* Strict, ERROR_INVALID for anything else. */
int digest_from_hex(struct digest *out, struct bytes text, struct error *err);
int digest_from_text(struct digest *out, struct bytes text, struct error *err);
/* Either form: what a user may type. */
int digest_parse(struct digest *out, struct bytes text, struct error *err);

/* Incremental hashing, for data that does not come in one piece. */
struct hasher; /* opaque, about 2 KiB */

struct hasher *hasher_new(void);
void hasher_free(struct hasher *h);
void hasher_reset(struct hasher *h);
/* Makes it one that was given the same data. */
void hasher_copy(struct hasher *to, const struct hasher *from);
void hasher_update(struct hasher *h, struct bytes data);
void hasher_finish(const struct hasher *h, struct digest *out);
