#include "nix/narinfo.h"

#include <inttypes.h>
#include <stdio.h>

#include "nix/signature.h"

void narinfo_done(struct narinfo *n)
{
	path_info_done(&n->info);
	free(n->url);
	free(n->compression);
	free(n->system);
	*n = (struct narinfo){0};
}

/* ---- Values ---- */

/* Text that is kept as it is: not empty, and nothing that a terminal or a C string would eat.
 */
static int parse_text(struct bytes value, char **out, struct error *err)
{
	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] < ' ' || value.ptr[i] == 0x7f) {
			return error_set(err, ERROR_INVALID, "\"%s\" has a control character",
					 bytes_printable(value));
		}
	}
	if (value.len == 0) {
		return error_set(err, ERROR_INVALID, "it is empty");
	}
	*out = memcpy(xcalloc(value.len + 1, 1), value.ptr, value.len);
	return 0;
}

static bool add_digit(uint64_t *n, uint8_t c)
{
	return c >= '0' && c <= '9' && !__builtin_mul_overflow(*n, 10u, n) &&
	       !__builtin_add_overflow(*n, (unsigned)(c - '0'), n);
}

static int parse_number(struct bytes value, uint64_t *out, struct error *err)
{
	bool good = value.len > 0;
	uint64_t n = 0;

	for (size_t i = 0; good && i < value.len; i++) {
		good = add_digit(&n, value.ptr[i]);
	}
	if (!good) {
		return error_set(err, ERROR_INVALID, "\"%s\" is no number of 64 bits",
				 bytes_printable(value));
	}
	*out = n;
	return 0;
}

static int parse_store_path(struct narinfo *n, struct bytes value, struct error *err)
{
	return store_path_parse(value, &n->info.path, err);
}

static int parse_url(struct narinfo *n, struct bytes value, struct error *err)
{
	return parse_text(value, &n->url, err);
}

static int parse_compression(struct narinfo *n, struct bytes value, struct error *err)
{
	return value.len ? parse_text(value, &n->compression, err) : 0;
}

static int parse_system(struct narinfo *n, struct bytes value, struct error *err)
{
	return parse_text(value, &n->system, err);
}

static int parse_file_hash(struct narinfo *n, struct bytes value, struct error *err)
{
	n->has_file_hash = true;
	return hash_parse(value, &n->file_hash, err);
}

static int parse_file_size(struct narinfo *n, struct bytes value, struct error *err)
{
	n->has_file_size = true;
	return parse_number(value, &n->file_size, err);
}

static int parse_nar_hash(struct narinfo *n, struct bytes value, struct error *err)
{
	struct hash hash;
	int rc = hash_parse(value, &hash, err);

	if (rc == 0 && hash.algorithm != HASH_SHA256) {
		rc = error_set(err, ERROR_INVALID, "\"%s\" is no sha256",
			       bytes_printable(value));
	}
	if (rc == 0) {
		memcpy(n->info.nar_sha256, hash.bytes, SHA256_SIZE);
	}
	return rc;
}

static int parse_nar_size(struct narinfo *n, struct bytes value, struct error *err)
{
	int rc = parse_number(value, &n->info.nar_size, err);

	return rc == 0 && n->info.nar_size == 0
		       ? error_set(err, ERROR_INVALID, "no NAR has 0 bytes")
		       : rc;
}

/* The next word of *rest, and what is behind it; false when there is none. */
static bool next_word(struct bytes *rest, struct bytes *word)
{
	while (rest->len && *rest->ptr == ' ') {
		*rest = bytes_of(rest->ptr + 1, rest->len - 1);
	}
	if (rest->len == 0) {
		return false;
	}
	const uint8_t *space = memchr(rest->ptr, ' ', rest->len);
	size_t len = space ? (size_t)(space - rest->ptr) : rest->len;

	*word = bytes_of(rest->ptr, len);
	*rest = bytes_of(rest->ptr + len, rest->len - len);
	return true;
}

static int parse_references(struct narinfo *n, struct bytes value, struct error *err)
{
	struct bytes rest = value, word;
	size_t count = 0;
	int rc = 0;

	while (next_word(&rest, &word)) {
		count++;
	}
	if (count > PATH_INFO_REFERENCES_MAX) {
		return error_set(err, ERROR_LIMIT, "%zu references, more than %zu", count,
				 PATH_INFO_REFERENCES_MAX);
	}
	struct store_path *paths cleanup(cleanup_free) = xcalloc(count, sizeof(*paths));

	rest = value;
	for (size_t i = 0; rc == 0 && next_word(&rest, &word); i++) {
		rc = store_path_parse_basename(word, &paths[i], err);
	}
	return rc == 0 ? path_info_set_references(&n->info, paths, count, err) : rc;
}

static int parse_deriver(struct narinfo *n, struct bytes value, struct error *err)
{
	struct store_path path;

	if (bytes_equal(value, bytes_of_string("unknown-deriver"))) {
		return 0;
	}
	int rc = store_path_parse_basename(value, &path, err);

	return rc == 0 ? path_info_set_deriver(&n->info, &path, err) : rc;
}

static int parse_signature(struct narinfo *n, struct bytes value, struct error *err)
{
	uint8_t data[SIGNATURE_SIZE];
	struct bytes name;
	int rc = signature_parse(value, &name, data, err);

	if (rc == 0) {
		rc = path_info_keep_signature(&n->info, name, data, err);
	}
	return rc < 0 ? rc : 0;
}

static int parse_ca(struct narinfo *n, struct bytes value, struct error *err)
{
	n->info.has_ca = true;
	return content_address_parse(value, &n->info.ca, err);
}

/* ---- Lines ---- */

enum key_kind { KEY_OPTIONAL, KEY_REQUIRED, KEY_REPEATED };

static const struct key {
	const char *name;
	enum key_kind kind;
	int (*parse)(struct narinfo *n, struct bytes value, struct error *err);
} keys[] = {
	{"StorePath", KEY_REQUIRED, parse_store_path},
	{"URL", KEY_REQUIRED, parse_url},
	{"Compression", KEY_OPTIONAL, parse_compression},
	{"FileHash", KEY_OPTIONAL, parse_file_hash},
	{"FileSize", KEY_OPTIONAL, parse_file_size},
	{"NarHash", KEY_REQUIRED, parse_nar_hash},
	{"NarSize", KEY_REQUIRED, parse_nar_size},
	{"References", KEY_OPTIONAL, parse_references},
	{"Deriver", KEY_OPTIONAL, parse_deriver},
	{"System", KEY_OPTIONAL, parse_system},
	{"Sig", KEY_REPEATED, parse_signature},
	{"CA", KEY_OPTIONAL, parse_ca},
};

/* Key and value of the next line of *rest; 1, or 0 at the end. */
static int next_line(struct bytes *rest, size_t number, struct bytes *key, struct bytes *value,
		     struct error *err)
{
	if (rest->len == 0) {
		return 0;
	}
	const uint8_t *end = memchr(rest->ptr, '\n', rest->len);

	if (!end) {
		return error_set(err, ERROR_INVALID, "line %zu of a narinfo is cut off",
				 number);
	}
	size_t len = (size_t)(end - rest->ptr);
	const uint8_t *colon = memchr(rest->ptr, ':', len);

	if (!colon || (colon + 1 < end && colon[1] != ' ')) {
		return error_set(err, ERROR_INVALID,
				 "line %zu of a narinfo is not of the form \"Key: value\": "
				 "\"%s\"",
				 number, bytes_printable(bytes_of(rest->ptr, len)));
	}
	const uint8_t *start = colon + 1 < end ? colon + 2 : end;

	*key = bytes_of(rest->ptr, (size_t)(colon - rest->ptr));
	*value = bytes_of(start, (size_t)(end - start));
	*rest = bytes_of(end + 1, rest->len - len - 1);
	return 1;
}

static int take_line(struct narinfo *n, struct bytes name, struct bytes value,
		     bool seen[ARRAY_SIZE(keys)], struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!bytes_equal(name, bytes_of_string(keys[i].name))) {
			continue;
		}
		if (seen[i] && keys[i].kind != KEY_REPEATED) {
			return error_set(err, ERROR_INVALID, "a narinfo with %s twice",
					 keys[i].name);
		}
		seen[i] = true;
		int rc = keys[i].parse(n, value, err);

		return rc == 0 ? 0 : error_wrap(err, "%s of a narinfo", keys[i].name);
	}
	return 0;
}

static int parse_lines(struct bytes text, struct narinfo *n, struct error *err)
{
	bool seen[ARRAY_SIZE(keys)] = {false};
	struct bytes rest = text, key = {0}, value = {0};
	int rc = 1;

	for (size_t number = 1; rc > 0; number++) {
		rc = next_line(&rest, number, &key, &value, err);
		if (rc > 0) {
			int taken = take_line(n, key, value, seen, err);

			rc = taken == 0 ? rc : taken;
		}
	}
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(keys); i++) {
		if (keys[i].kind == KEY_REQUIRED && !seen[i]) {
			rc = error_set(err, ERROR_INVALID, "a narinfo without %s",
				       keys[i].name);
		}
	}
	return rc;
}

int narinfo_parse(struct bytes text, struct narinfo *out, struct error *err)
{
	struct narinfo n = {0};

	if (text.len > NARINFO_SIZE_MAX) {
		return error_set(err, ERROR_LIMIT, "a narinfo of %zu bytes, more than %zu",
				 text.len, NARINFO_SIZE_MAX);
	}
	int rc = parse_lines(text, &n, err);

	if (rc != 0) {
		narinfo_done(&n);
		return rc;
	}
	if (!n.compression) {
		n.compression = xstrdup("bzip2");
	}
	narinfo_done(out);
	*out = n;
	return 0;
}

/* ---- Writing ---- */

static void append_line(struct buffer *out, const char *key, const char *value)
{
	buffer_append_string(out, key);
	buffer_append_string(out, ": ");
	buffer_append_string(out, value);
	buffer_append_byte(out, '\n');
}

static void append_hash(struct buffer *out, const char *key, const struct hash *hash)
{
	buffer_append_string(out, key);
	buffer_append_string(out, ": ");
	hash_format(hash, out);
	buffer_append_byte(out, '\n');
}

static void append_number(struct buffer *out, const char *key, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	append_line(out, key, text);
}

static void append_references(struct buffer *out, const struct path_info *info)
{
	buffer_append_string(out, "References:");
	for (size_t i = 0; i < info->reference_count; i++) {
		char basename[STORE_PATH_BASENAME_MAX + 1];
		size_t len = store_path_basename(&info->references[i], basename);

		buffer_append_byte(out, ' ');
		buffer_append(out, basename, len);
	}
	/* Nix writes the space and reads a line without it wrongly. */
	buffer_append_string(out, info->reference_count ? "\n" : " \n");
}

static void append_deriver(struct buffer *out, const struct path_info *info)
{
	char basename[STORE_PATH_BASENAME_MAX + 1];
	struct store_path path;

	path_info_deriver_path(info, &path);
	store_path_basename(&path, basename);
	append_line(out, "Deriver", basename);
}

static void append_signatures_and_ca(struct buffer *out, const struct path_info *info)
{
	for (size_t i = 0; i < info->signature_count; i++) {
		buffer_append_string(out, "Sig: ");
		signature_format(&info->signatures[i], out);
		buffer_append_byte(out, '\n');
	}
	if (info->has_ca) {
		buffer_append_string(out, "CA: ");
		content_address_format(&info->ca, out);
		buffer_append_byte(out, '\n');
	}
}

void narinfo_format(const struct narinfo *n, struct buffer *out)
{
	struct hash nar = hash_of_sha256(n->info.nar_sha256);

	append_line(out, "StorePath", store_path_text(&n->info.path));
	append_line(out, "URL", n->url);
	append_line(out, "Compression", n->compression);
	if (n->has_file_hash) {
		append_hash(out, "FileHash", &n->file_hash);
	}
	if (n->has_file_size) {
		append_number(out, "FileSize", n->file_size);
	}
	append_hash(out, "NarHash", &nar);
	append_number(out, "NarSize", n->info.nar_size);
	append_references(out, &n->info);
	if (n->info.has_deriver) {
		append_deriver(out, &n->info);
	}
	if (n->system) {
		append_line(out, "System", n->system);
	}
	append_signatures_and_ca(out, &n->info);
}
