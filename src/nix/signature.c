/* First: its inline functions have parameters that base/util.h makes macros of. */
#include <openssl/evp.h>

#include <fcntl.h>

#include "base/io.h"
#include "base/text.h"
#include "nix/hash_internal.h"
#include "nix/signature.h"

#define SEED_SIZE 32
#define PUBLIC_SIZE 32
#define SECRET_SIZE (SEED_SIZE + PUBLIC_SIZE)
#define KEY_FILE_MAX 4096

struct signing_key {
	EVP_PKEY *key;
	char *name;
	uint8_t secret[SECRET_SIZE];
};

struct verifying_key {
	EVP_PKEY *key;
	char *name;
};

/* ---- Text ---- */

static struct bytes trim_end(struct bytes text)
{
	while (text.len && strchr(" \t\r\n", text.ptr[text.len - 1]) &&
	       text.ptr[text.len - 1]) {
		text.len--;
	}
	return text;
}

/*
 * NAME:BASE64 of size bytes. Messages have the name alone, since what should be one kind of key
 * may be a secret.
 */
static int split(struct bytes text, const char *what, uint8_t *data, size_t size,
		 struct bytes *name, struct error *err)
{
	const uint8_t *colon = text.len ? memchr(text.ptr, ':', text.len) : NULL;

	if (!colon) {
		return error_set(err, ERROR_INVALID, "a %s that is not of the form NAME:BASE64",
				 what);
	}
	struct bytes its_name = bytes_of(text.ptr, (size_t)(colon - text.ptr));
	struct bytes digits = bytes_of(colon + 1, text.len - its_name.len - 1);

	if (signature_check_name(its_name, NULL) != 0) {
		return error_set(err, ERROR_INVALID,
				 "a %s without a name: it takes 1 to %d printable characters "
				 "before the ':'",
				 what, SIGNATURE_NAME_MAX);
	}
	if (!base64_decode(data, size, digits)) {
		return error_set(err, ERROR_INVALID,
				 "%s is no %s: that is %zu bytes in base 64",
				 bytes_printable(its_name), what, size);
	}
	*name = its_name;
	return 0;
}

static void append_text(struct buffer *out, const char *name, struct bytes data)
{
	size_t len = base64_size(data.len);

	buffer_append_string(out, name);
	buffer_append_byte(out, ':');
	base64_encode((char *)buffer_reserve(out, len + 1), data);
	out->len += len;
}

int signature_parse(struct bytes text, struct bytes *name, uint8_t data[SIGNATURE_SIZE],
		    struct error *err)
{
	uint8_t its_data[SIGNATURE_SIZE];
	int rc = split(text, "signature", its_data, sizeof(its_data), name, err);

	if (rc == 0) {
		memcpy(data, its_data, sizeof(its_data));
	}
	return rc;
}

void signature_format(const struct path_signature *s, struct buffer *out)
{
	append_text(out, s->name, bytes_of(s->data, SIGNATURE_SIZE));
}

static char *name_of(struct bytes name)
{
	return xasprintf("%.*s", (int)name.len, (const char *)name.ptr);
}

/* ---- Signing keys ---- */

/* Takes over key, which may be NULL. */
static int signing_key_new(EVP_PKEY *key, struct bytes name, struct signing_key **out,
			   struct error *err)
{
	struct signing_key *k = xcalloc(1, sizeof(*k));
	size_t seed_len = SEED_SIZE, public_len = PUBLIC_SIZE;

	k->key = key;
	k->name = name_of(name);
	if (!key || !EVP_PKEY_get_raw_private_key(key, k->secret, &seed_len) ||
	    !EVP_PKEY_get_raw_public_key(key, k->secret + SEED_SIZE, &public_len)) {
		signing_key_free(k);
		return error_set(err, ERROR_UNSUPPORTED,
				 "libcrypto cannot make an ed25519 key");
	}
	*out = k;
	return 0;
}

int signing_key_parse(struct bytes text, struct signing_key **out, struct error *err)
{
	uint8_t secret[SECRET_SIZE];
	struct signing_key *k = NULL;
	struct bytes name;
	int rc = split(trim_end(text), "secret key", secret, sizeof(secret), &name, err);

	if (rc == 0) {
		rc = signing_key_new(EVP_PKEY_new_raw_private_key_ex(hash_library_context(),
								     "ED25519", NULL, secret,
								     SEED_SIZE),
				     name, &k, err);
	}
	if (rc == 0 && memcmp(k->secret, secret, sizeof(secret)) != 0) {
		signing_key_free(k);
		rc = error_set(err, ERROR_INVALID,
			       "the secret key %s does not agree with the public key in it",
			       bytes_printable(name));
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc == 0) {
		*out = k;
	}
	return rc;
}

int signing_key_load(const char *path, struct signing_key **out, struct error *err)
{
	struct buffer text = {0};
	int rc = read_small_file(AT_FDCWD, path, KEY_FILE_MAX, &text, err);

	if (rc == 0) {
		rc = error_set(err, ERROR_NOT_FOUND, "the key file %s does not exist", path);
	} else if (rc > 0) {
		rc = signing_key_parse(buffer_bytes(&text), out, err);
		if (rc != 0) {
			rc = error_wrap(err, "the key file %s", path);
		}
	}
	if (text.ptr) {
		OPENSSL_cleanse(text.ptr, text.capacity);
	}
	buffer_done(&text);
	return rc;
}

int signing_key_generate(struct bytes name, struct signing_key **out, struct error *err)
{
	int rc = signature_check_name(name, err);

	return rc == 0 ? signing_key_new(
				 EVP_PKEY_Q_keygen(hash_library_context(), NULL, "ED25519"),
				 name, out, err)
		       : rc;
}

const char *signing_key_name(const struct signing_key *k)
{
	return k->name;
}

void signing_key_format(const struct signing_key *k, struct buffer *out)
{
	append_text(out, k->name, bytes_of(k->secret, SECRET_SIZE));
}

void signing_key_public_text(const struct signing_key *k, struct buffer *out)
{
	append_text(out, k->name, bytes_of(k->secret + SEED_SIZE, PUBLIC_SIZE));
}

void signing_key_free(struct signing_key *k)
{
	if (k) {
		EVP_PKEY_free(k->key);
		OPENSSL_cleanse(k->secret, sizeof(k->secret));
		free(k->name);
		free(k);
	}
}

/* ---- Verifying keys ---- */

int verifying_key_parse(struct bytes text, struct verifying_key **out, struct error *err)
{
	uint8_t public[PUBLIC_SIZE];
	struct bytes name;
	int rc = split(trim_end(text), "public key", public, sizeof(public), &name, err);

	if (rc != 0) {
		return rc;
	}
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key_ex(hash_library_context(), "ED25519", NULL,
						       public, sizeof(public));

	if (!key) {
		return error_set(err, ERROR_INVALID,
				 "libcrypto does not take the public key %s",
				 bytes_printable(name));
	}
	struct verifying_key *k = xmalloc(sizeof(*k));

	*k = (struct verifying_key){.key = key, .name = name_of(name)};
	*out = k;
	return 0;
}

const char *verifying_key_name(const struct verifying_key *k)
{
	return k->name;
}

void verifying_key_free(struct verifying_key *k)
{
	if (k) {
		EVP_PKEY_free(k->key);
		free(k->name);
		free(k);
	}
}

/* ---- Signing and verifying ---- */

int signing_key_sign(const struct signing_key *k, struct bytes message,
		     uint8_t out[SIGNATURE_SIZE], struct error *err)
{
	uint8_t signature[SIGNATURE_SIZE];
	size_t len = sizeof(signature);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = context &&
		    EVP_DigestSignInit_ex(context, NULL, NULL, hash_library_context(), NULL,
					  k->key, NULL) &&
		    EVP_DigestSign(context, signature, &len, message.ptr, message.len) &&
		    len == sizeof(signature);

	EVP_MD_CTX_free(context);
	if (!good) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "libcrypto cannot sign with the key %s", k->name);
	}
	memcpy(out, signature, sizeof(signature));
	return 0;
}

bool verifying_key_verify(const struct verifying_key *k, struct bytes message,
			  const uint8_t signature[SIGNATURE_SIZE])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = context &&
		    EVP_DigestVerifyInit_ex(context, NULL, NULL, hash_library_context(), NULL,
					    k->key, NULL) &&
		    EVP_DigestVerify(context, signature, SIGNATURE_SIZE, message.ptr,
				     message.len) == 1;

	EVP_MD_CTX_free(context);
	return good;
}

int path_info_sign(struct path_info *info, const struct signing_key *k, struct error *err)
{
	struct buffer fingerprint cleanup(buffer_done) = {0};
	uint8_t data[SIGNATURE_SIZE];

	path_info_fingerprint(info, &fingerprint);
	int rc = signing_key_sign(k, buffer_bytes(&fingerprint), data, err);

	if (rc == 0) {
		rc = path_info_add_signature(info, bytes_of_string(k->name), data, err);
	}
	return rc < 0 ? rc : 0;
}

bool path_info_signed_by(const struct path_info *info, struct verifying_key *const *keys,
			 size_t count)
{
	struct buffer fingerprint cleanup(buffer_done) = {0};

	path_info_fingerprint(info, &fingerprint);
	for (size_t i = 0; i < info->signature_count; i++) {
		const struct path_signature *s = &info->signatures[i];

		for (size_t k = 0; k < count; k++) {
			if (strcmp(s->name, keys[k]->name) == 0 &&
			    verifying_key_verify(keys[k], buffer_bytes(&fingerprint),
						 s->data)) {
				return true;
			}
		}
	}
	return false;
}
