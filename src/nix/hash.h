#pragma once

/* Cryptographic hashes that Nix uses, over OpenSSL's libcrypto. */

#include "base/bytes.h"
#include "base/error.h"

enum hash_algorithm { HASH_MD5, HASH_SHA1, HASH_SHA256, HASH_SHA512 };

#define HASH_SIZE_MAX 64
#define SHA256_SIZE 32

struct hash {
	enum hash_algorithm algorithm;
	uint8_t bytes[HASH_SIZE_MAX]; /* the first hash_size() of them */
};

size_t hash_size(enum hash_algorithm algorithm);
/* "md5", "sha1", "sha256", "sha512". */
const char *hash_algorithm_name(enum hash_algorithm algorithm);
bool hash_algorithm_parse(struct bytes name, enum hash_algorithm *out);

static inline struct bytes hash_bytes(const struct hash *h)
{
	return bytes_of(h->bytes, hash_size(h->algorithm));
}

/* A SHA-256 that stands alone, as a hash. */
struct hash hash_of_sha256(const uint8_t sha256[SHA256_SIZE]);
bool hash_equal(const struct hash *a, const struct hash *b);

/*
 * ALGO:DIGEST, the digest in base 16, nixbase32 or base 64, or ALGO-BASE64 (SRI), as Nix takes
 * them all. ERROR_INVALID otherwise.
 */
int hash_parse(struct bytes text, struct hash *out, struct error *err);
/* ALGO:NIXBASE32, what Nix writes into narinfos, fingerprints and content addresses. */
void hash_format(const struct hash *h, struct buffer *out);
/* ALGO-BASE64, what Nix calls SRI and writes as JSON. */
void hash_format_sri(const struct hash *h, struct buffer *out);
/* ALGO:BASE16, what Nix hashes for the paths of what is addressed by content. */
#define HASH_HEX_MAX (sizeof("sha512:") + 2 * HASH_SIZE_MAX)
size_t hash_format_hex(const struct hash *h, char out[HASH_HEX_MAX]);

/* Hashing of what does not come in one piece; one thread at a time. */
struct hash_stream;

struct hash_stream *hash_stream_new(enum hash_algorithm algorithm);
void hash_stream_update(struct hash_stream *s, struct bytes data);
/* The hash of all so far; the stream begins anew. */
void hash_stream_finish(struct hash_stream *s, struct hash *out);
void hash_stream_free(struct hash_stream *s);
DEFINE_CLEANUP(cleanup_hash_stream, struct hash_stream *, hash_stream_free)

void hash_of(enum hash_algorithm algorithm, struct bytes data, struct hash *out);
