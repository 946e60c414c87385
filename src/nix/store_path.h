#pragma once

/*
 * Store paths: /nix/store/<32 characters of nixbase32>-<name>.
 * The name: 1 to 211 of [0-9a-zA-Z+._?=-]; not ".", "..", and not beginning with ".-" or "..-".
 */

#include "castore/digest.h"
#include "nix/content_address.h"

#define STORE_PATH_HASH_SIZE 20
#define STORE_PATH_HASH_TEXT 32
#define STORE_PATH_NAME_MAX 211
#define STORE_PATH_BASENAME_MAX (STORE_PATH_HASH_TEXT + 1 + STORE_PATH_NAME_MAX)
#define STORE_DIR "/nix/store"
/* Of "/nix/store/" and a basename. */
#define STORE_PATH_MAX (sizeof(STORE_DIR) + STORE_PATH_BASENAME_MAX)

/* A value that owns what it holds. */
struct store_path {
	uint8_t hash[STORE_PATH_HASH_SIZE];
	uint8_t name_len;
	char name[STORE_PATH_NAME_MAX + 1]; /* ends with a NUL */
};

int store_path_check_name(struct bytes name, struct error *err);
/* Of a hash and a name, which is checked. */
int store_path_set(struct store_path *out, const uint8_t hash[STORE_PATH_HASH_SIZE],
		   struct bytes name, struct error *err);
/* HASH-NAME. */
int store_path_parse_basename(struct bytes basename, struct store_path *out, struct error *err);
/* /nix/store/HASH-NAME, nothing behind it. */
int store_path_parse(struct bytes path, struct store_path *out, struct error *err);
/* NUL-terminated; returns the length. */
size_t store_path_basename(const struct store_path *p, char out[STORE_PATH_BASENAME_MAX + 1]);
/* The same with /nix/store/ before it. */
size_t store_path_absolute(const struct store_path *p, char out[STORE_PATH_MAX + 1]);
/* The absolute path in one of four buffers of the calling thread, for printf. */
const char *store_path_text(const struct store_path *p);
/* Order of basenames, as Nix sorts references. */
int store_path_compare(const struct store_path *a, const struct store_path *b);
/* The digest of its hash, for a map of digests: hashes can be made up so that they collide. */
struct digest store_path_key(const struct store_path *p);

/*
 * The store path of something of that content, name and references (in the order of
 * store_path_compare, unique, without itself). ERROR_INVALID when that cannot be.
 */
int store_path_make(const struct content_address *ca, struct bytes name,
		    const struct store_path *references, size_t reference_count,
		    bool self_reference, struct store_path *out, struct error *err);
