#include "nix/store_path.h"

#include <stdio.h>

#include "nix/nixbase32.h"

/* ---- Text ---- */

static bool name_character(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("+._?=-", c));
}

/* Nix keeps these for itself: a dash ends what could be meant as "." or "..". */
static bool name_is_dots(struct bytes name)
{
	size_t dots = 0;

	while (dots < name.len && name.ptr[dots] == '.') {
		dots++;
	}
	return (dots == 1 || dots == 2) && (dots == name.len || name.ptr[dots] == '-');
}

int store_path_check_name(struct bytes name, struct error *err)
{
	if (name.len == 0) {
		return error_set(err, ERROR_INVALID, "the name of a store path is empty");
	}
	if (name.len > STORE_PATH_NAME_MAX) {
		return error_set(err, ERROR_INVALID,
				 "the name \"%s\" of a store path is longer than %d characters",
				 bytes_printable(name), STORE_PATH_NAME_MAX);
	}
	for (size_t i = 0; i < name.len; i++) {
		if (!name_character(name.ptr[i])) {
			return error_set(err, ERROR_INVALID,
					 "\"%s\" is no name of a store path: it has the "
					 "character '%s'; allowed are 0-9, a-z, A-Z and +-._?=",
					 bytes_printable(name),
					 bytes_printable(bytes_of(name.ptr + i, 1)));
		}
	}
	if (name_is_dots(name)) {
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is no name of a store path: \".\" and \"..\" are not, "
				 "nor what begins with \".-\" or \"..-\"",
				 bytes_printable(name));
	}
	return 0;
}

int store_path_set(struct store_path *out, const uint8_t hash[STORE_PATH_HASH_SIZE],
		   struct bytes name, struct error *err)
{
	struct store_path p = {.name_len = (uint8_t)name.len};
	int rc = store_path_check_name(name, err);

	if (rc == 0) {
		memcpy(p.hash, hash, STORE_PATH_HASH_SIZE);
		memcpy(p.name, name.ptr, name.len);
		*out = p;
	}
	return rc;
}

int store_path_parse_basename(struct bytes basename, struct store_path *out, struct error *err)
{
	uint8_t hash[STORE_PATH_HASH_SIZE];

	if (basename.len <= STORE_PATH_HASH_TEXT || basename.ptr[STORE_PATH_HASH_TEXT] != '-' ||
	    !nixbase32_decode(hash, sizeof(hash),
			      bytes_of(basename.ptr, STORE_PATH_HASH_TEXT))) {
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is no store path: it does not begin with 32 "
				 "characters of base 32 and a dash",
				 bytes_printable(basename));
	}
	return store_path_set(out, hash,
			      bytes_of(basename.ptr + STORE_PATH_HASH_TEXT + 1,
				       basename.len - STORE_PATH_HASH_TEXT - 1),
			      err);
}

int store_path_parse(struct bytes path, struct store_path *out, struct error *err)
{
	static const char prefix[] = STORE_DIR "/";
	size_t len = sizeof(prefix) - 1;

	if (path.len < len || memcmp(path.ptr, prefix, len) != 0) {
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is no store path: it is not in " STORE_DIR,
				 bytes_printable(path));
	}
	return store_path_parse_basename(bytes_of(path.ptr + len, path.len - len), out, err);
}

size_t store_path_basename(const struct store_path *p, char out[STORE_PATH_BASENAME_MAX + 1])
{
	nixbase32_encode(out, bytes_of(p->hash, sizeof(p->hash)));
	out[STORE_PATH_HASH_TEXT] = '-';
	memcpy(out + STORE_PATH_HASH_TEXT + 1, p->name, (size_t)p->name_len + 1);
	return STORE_PATH_HASH_TEXT + 1 + (size_t)p->name_len;
}

size_t store_path_absolute(const struct store_path *p, char out[STORE_PATH_MAX + 1])
{
	memcpy(out, STORE_DIR "/", sizeof(STORE_DIR));
	return sizeof(STORE_DIR) + store_path_basename(p, out + sizeof(STORE_DIR));
}

const char *store_path_text(const struct store_path *p)
{
	static _Thread_local char texts[4][STORE_PATH_MAX + 1];
	static _Thread_local unsigned turn;
	char *text = texts[turn++ % ARRAY_SIZE(texts)];

	store_path_absolute(p, text);
	return text;
}

/* The digits ascend in ASCII and the number is little-endian, so its last byte counts most. */
int store_path_compare(const struct store_path *a, const struct store_path *b)
{
	for (size_t i = STORE_PATH_HASH_SIZE; i-- > 0;) {
		if (a->hash[i] != b->hash[i]) {
			return a->hash[i] < b->hash[i] ? -1 : 1;
		}
	}
	return bytes_compare(bytes_of(a->name, a->name_len), bytes_of(b->name, b->name_len));
}

struct digest store_path_key(const struct store_path *p)
{
	struct digest key;

	digest_of(&key, bytes_of(p->hash, STORE_PATH_HASH_SIZE));
	return key;
}

/* ---- Paths of what is addressed by its content ---- */

static void add_string(struct hash_stream *s, const char *text)
{
	hash_stream_update(s, bytes_of_string(text));
}

/* The SHA-256 of "…:<algo>:<hex>:/nix/store:<name>", folded to 20 bytes. */
static void finish_path(struct hash_stream *s, const struct hash *inner, struct bytes name,
			struct store_path *out)
{
	char hex[HASH_HEX_MAX];
	uint8_t folded[STORE_PATH_HASH_SIZE] = {0};
	struct hash h;

	hash_stream_update(s, bytes_of(hex, hash_format_hex(inner, hex)));
	add_string(s, ":" STORE_DIR ":");
	hash_stream_update(s, name);
	hash_stream_finish(s, &h);
	for (size_t i = 0; i < SHA256_SIZE; i++) {
		folded[i % STORE_PATH_HASH_SIZE] ^= h.bytes[i];
	}
	*out = (struct store_path){.name_len = (uint8_t)name.len};
	memcpy(out->hash, folded, sizeof(folded));
	memcpy(out->name, name.ptr, name.len);
}

/* What a fixed output's path is made of: the SHA-256 of "fixed:out:[r:]<algo>:<hex>:". */
static void fixed_output_hash(const struct content_address *ca, struct hash *out)
{
	char text[sizeof("fixed:out:r:") + HASH_HEX_MAX];
	size_t n = (size_t)snprintf(text, sizeof(text), "fixed:out:%s",
				    ca->method == CA_NAR ? "r:" : "");

	n += hash_format_hex(&ca->hash, text + n);
	text[n++] = ':';
	hash_of(HASH_SHA256, bytes_of(text, n), out);
}

static int check_references(const struct content_address *ca, bool with_references,
			    const struct store_path *references, size_t count,
			    bool self_reference, struct error *err)
{
	if (!with_references && (count || self_reference)) {
		return error_set(err, ERROR_INVALID,
				 "what is addressed by its %s hash (%s) cannot have references",
				 ca->method == CA_NAR ? "recursive" : "flat",
				 hash_algorithm_name(ca->hash.algorithm));
	}
	if (ca->method == CA_TEXT && self_reference) {
		return error_set(err, ERROR_INVALID,
				 "what is addressed as text cannot refer to itself");
	}
	for (size_t i = 1; i < count; i++) {
		if (store_path_compare(&references[i - 1], &references[i]) >= 0) {
			return error_set(err, ERROR_INVALID,
					 "references are out of order: %s comes after %s",
					 store_path_text(&references[i]),
					 store_path_text(&references[i - 1]));
		}
	}
	return 0;
}

int store_path_make(const struct content_address *ca, struct bytes name,
		    const struct store_path *references, size_t reference_count,
		    bool self_reference, struct store_path *out, struct error *err)
{
	bool sha256 = ca->hash.algorithm == HASH_SHA256;
	bool with_references = ca->method == CA_TEXT || (ca->method == CA_NAR && sha256);
	int rc = store_path_check_name(name, err);

	if (rc == 0 && ca->method == CA_TEXT && !sha256) {
		rc = error_set(err, ERROR_INVALID,
			       "text is addressed by its sha256, not its %s",
			       hash_algorithm_name(ca->hash.algorithm));
	}
	if (rc == 0) {
		rc = check_references(ca, with_references, references, reference_count,
				      self_reference, err);
	}
	if (rc != 0) {
		return rc;
	}
	struct hash_stream *s cleanup(cleanup_hash_stream) = hash_stream_new(HASH_SHA256);
	struct hash inner = ca->hash;

	if (!with_references) {
		fixed_output_hash(ca, &inner);
		add_string(s, "output:out:");
		finish_path(s, &inner, name, out);
		return 0;
	}
	add_string(s, ca->method == CA_TEXT ? "text:" : "source:");
	for (size_t i = 0; i < reference_count; i++) {
		add_string(s, store_path_text(&references[i]));
		add_string(s, ":");
	}
	if (self_reference) {
		add_string(s, "self:");
	}
	finish_path(s, &inner, name, out);
	return 0;
}
