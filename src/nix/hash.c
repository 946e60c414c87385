/* First: their inline functions have parameters that base/util.h makes macros of. */
#include <openssl/evp.h>
#include <openssl/provider.h>

#include <pthread.h>
#include <stdio.h>

#include "base/text.h"
#include "nix/hash.h"
#include "nix/hash_internal.h"
#include "nix/nixbase32.h"

struct algorithm {
	const char *name;
	const char *fetch; /* libcrypto's name */
	size_t size;
};

static const struct algorithm algorithms[] = {
	[HASH_MD5] = {"md5", "MD5", 16},
	[HASH_SHA1] = {"sha1", "SHA1", 20},
	[HASH_SHA256] = {"sha256", "SHA2-256", SHA256_SIZE},
	[HASH_SHA512] = {"sha512", "SHA2-512", 64},
};

size_t hash_size(enum hash_algorithm algorithm)
{
	return algorithms[algorithm].size;
}

const char *hash_algorithm_name(enum hash_algorithm algorithm)
{
	return algorithms[algorithm].name;
}

bool hash_algorithm_parse(struct bytes name, enum hash_algorithm *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
		if (bytes_equal(name, bytes_of_string(algorithms[i].name))) {
			*out = (enum hash_algorithm)i;
			return true;
		}
	}
	return false;
}

struct hash hash_of_sha256(const uint8_t sha256[SHA256_SIZE])
{
	struct hash h = {.algorithm = HASH_SHA256};

	memcpy(h.bytes, sha256, SHA256_SIZE);
	return h;
}

bool hash_equal(const struct hash *a, const struct hash *b)
{
	return a->algorithm == b->algorithm && bytes_equal(hash_bytes(a), hash_bytes(b));
}

/* ---- Text ---- */

/* No two of the three forms are of one length. */
static bool decode_digest(struct bytes text, struct hash *h, bool base64_only)
{
	size_t size = hash_size(h->algorithm);

	if (text.len == base64_size(size)) {
		return base64_decode(h->bytes, size, text);
	}
	if (base64_only) {
		return false;
	}
	return text.len == 2 * size ? hex_decode(h->bytes, size, text)
				    : nixbase32_decode(h->bytes, size, text);
}

int hash_parse(struct bytes text, struct hash *out, struct error *err)
{
	const uint8_t *at = text.len ? memchr(text.ptr, ':', text.len) : NULL;
	bool sri = !at;
	struct hash h = {0};

	if (sri && text.len) {
		at = memchr(text.ptr, '-', text.len);
	}
	if (!at) {
		return error_set(err, ERROR_INVALID, "\"%s\" is no hash: it names no algorithm",
				 bytes_printable(text));
	}
	size_t len = (size_t)(at - text.ptr);

	if (!hash_algorithm_parse(bytes_of(text.ptr, len), &h.algorithm)) {
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is no hash: the algorithms are md5, sha1, sha256, "
				 "sha512",
				 bytes_printable(text));
	}
	if (!decode_digest(bytes_of(at + 1, text.len - len - 1), &h, sri)) {
		return error_set(
			err, ERROR_INVALID, "\"%s\" is no hash: %s expects %zu bytes%s",
			bytes_printable(text), hash_algorithm_name(h.algorithm),
			hash_size(h.algorithm), sri ? " in base 64" : " in base 16, 32 or 64");
	}
	*out = h;
	return 0;
}

void hash_format(const struct hash *h, struct buffer *out)
{
	size_t len = nixbase32_size(hash_size(h->algorithm));

	buffer_append_string(out, hash_algorithm_name(h->algorithm));
	buffer_append_byte(out, ':');
	nixbase32_encode((char *)buffer_reserve(out, len + 1), hash_bytes(h));
	out->len += len;
}

size_t hash_format_hex(const struct hash *h, char out[HASH_HEX_MAX])
{
	int n = snprintf(out, HASH_HEX_MAX, "%s:", hash_algorithm_name(h->algorithm));

	hex_encode(out + n, hash_bytes(h));
	return (size_t)n + 2 * hash_size(h->algorithm);
}

void hash_format_sri(const struct hash *h, struct buffer *out)
{
	size_t len = base64_size(hash_size(h->algorithm));

	buffer_append_string(out, hash_algorithm_name(h->algorithm));
	buffer_append_byte(out, '-');
	base64_encode((char *)buffer_reserve(out, len + 1), hash_bytes(h));
	out->len += len;
}

/* ---- Hashing ---- */

static OSSL_LIB_CTX *library_context;
/* Fetched once: a fetch takes locks and costs more than the hash of a small file. */
static EVP_MD *fetched[ARRAY_SIZE(algorithms)];

/* libcrypto fails here only for want of memory, or when it was built without these hashes. */
static void must(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "cairn: libcrypto cannot %s\n", what);
		abort();
	}
}

static void set_up(void)
{
	library_context = OSSL_LIB_CTX_new();
	must(library_context && OSSL_PROVIDER_load(library_context, "default"),
	     "load its default provider");
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
		fetched[i] = EVP_MD_fetch(library_context, algorithms[i].fetch, NULL);
		must(fetched[i] && (size_t)EVP_MD_get_size(fetched[i]) == algorithms[i].size,
		     algorithms[i].name);
	}
}

static void set_up_once(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, set_up);
}

struct ossl_lib_ctx_st *hash_library_context(void)
{
	set_up_once();
	return library_context;
}

static const EVP_MD *evp_of(enum hash_algorithm algorithm)
{
	set_up_once();
	return fetched[algorithm];
}

struct hash_stream {
	EVP_MD_CTX *context;
	enum hash_algorithm algorithm;
};

struct hash_stream *hash_stream_new(enum hash_algorithm algorithm)
{
	struct hash_stream *s = xmalloc(sizeof(*s));

	s->algorithm = algorithm;
	s->context = EVP_MD_CTX_new();
	must(s->context && EVP_DigestInit_ex2(s->context, evp_of(algorithm), NULL),
	     "begin a hash");
	return s;
}

void hash_stream_update(struct hash_stream *s, struct bytes data)
{
	must(EVP_DigestUpdate(s->context, data.ptr, data.len), "go on with a hash");
}

void hash_stream_finish(struct hash_stream *s, struct hash *out)
{
	*out = (struct hash){.algorithm = s->algorithm};
	must(EVP_DigestFinal_ex(s->context, out->bytes, NULL) &&
		     EVP_DigestInit_ex2(s->context, evp_of(s->algorithm), NULL),
	     "finish a hash");
}

void hash_stream_free(struct hash_stream *s)
{
	if (s) {
		EVP_MD_CTX_free(s->context);
		free(s);
	}
}

void hash_of(enum hash_algorithm algorithm, struct bytes data, struct hash *out)
{
	*out = (struct hash){.algorithm = algorithm};
	must(EVP_Digest(data.ptr, data.len, out->bytes, NULL, evp_of(algorithm), NULL), "hash");
}
