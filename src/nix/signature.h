#pragma once

/*
 * Ed25519 keys and signatures in the text forms of Nix: NAME:BASE64, of 64 bytes for a secret
 * key (seed and public key) and for a signature, of 32 for a public key.
 */

#include "nix/path_info.h"

struct signing_key;   /* immutable: any thread */
struct verifying_key; /* immutable: any thread */

/* White space at the end is passed over, as files have it. ERROR_INVALID; never shows the
 * secret. */
int signing_key_parse(struct bytes text, struct signing_key **out, struct error *err);
/* From a file. ERROR_NOT_FOUND when there is none. */
int signing_key_load(const char *path, struct signing_key **out, struct error *err);
int signing_key_generate(struct bytes name, struct signing_key **out, struct error *err);
const char *signing_key_name(const struct signing_key *k);
/* Append the secret in the text form of its file, and the public key that goes with it. */
void signing_key_format(const struct signing_key *k, struct buffer *out);
void signing_key_public_text(const struct signing_key *k, struct buffer *out);
void signing_key_free(struct signing_key *k);
DEFINE_CLEANUP(cleanup_signing_key, struct signing_key *, signing_key_free)

int verifying_key_parse(struct bytes text, struct verifying_key **out, struct error *err);
const char *verifying_key_name(const struct verifying_key *k);
void verifying_key_free(struct verifying_key *k);
DEFINE_CLEANUP(cleanup_verifying_key, struct verifying_key *, verifying_key_free)

int signing_key_sign(const struct signing_key *k, struct bytes message,
		     uint8_t out[SIGNATURE_SIZE], struct error *err);
bool verifying_key_verify(const struct verifying_key *k, struct bytes message,
			  const uint8_t signature[SIGNATURE_SIZE]);

/* Signs a path info's fingerprint, and adds the signature (path_info_add_signature). */
int path_info_sign(struct path_info *info, const struct signing_key *k, struct error *err);
/* True when a signature of this info is by one of the keys, and right. */
bool path_info_signed_by(const struct path_info *info, struct verifying_key *const *keys,
			 size_t count);

/* A signature: NAME:BASE64. The name borrows from text. */
int signature_parse(struct bytes text, struct bytes *name, uint8_t data[SIGNATURE_SIZE],
		    struct error *err);
void signature_format(const struct path_signature *s, struct buffer *out);
