#include "base/url.h"

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that %XX stands for, or -1. */
static int decode_escape(struct bytes text, size_t at)
{
	if (text.len - at < 3) {
		return -1;
	}
	int high = hex_value(text.ptr[at + 1]);
	int low = hex_value(text.ptr[at + 2]);

	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* malloc'd to *out. */
static int decode(struct bytes text, char **out, struct error *err)
{
	char *decoded cleanup(cleanup_free) = xmalloc(text.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		int c = text.ptr[i];

		if (c == '#') {
			return error_set(err, ERROR_INVALID, "a '#' is written %%23");
		}
		if (c == '%') {
			c = decode_escape(text, i);
			i += 2;
		}
		if (c <= 0) {
			return error_set(err, ERROR_INVALID,
					 "after '%%' come two hexadecimal digits, not 00 (and "
					 "'%%' itself is %%25)");
		}
		decoded[n++] = (char)c;
	}
	decoded[n] = '\0';
	*out = decoded;
	decoded = NULL;
	return 0;
}

/* Takes what is before the first `end` off *text; all of it when there is none (false). */
static bool split(struct bytes *text, char end, struct bytes *out)
{
	const uint8_t *found = text->len ? memchr(text->ptr, end, text->len) : NULL;

	if (!found) {
		*out = *text;
		*text = bytes_of(text->ptr + text->len, 0);
		return false;
	}
	size_t n = (size_t)(found - text->ptr);

	*out = bytes_of(text->ptr, n);
	*text = bytes_of(found + 1, text->len - n - 1);
	return true;
}

static int add_parameter(struct url *u, struct bytes text, struct error *err)
{
	struct url_parameter *p = &u->parameters[u->parameter_count];
	struct bytes name;

	if (u->parameter_count == URL_PARAMETERS_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %d parameters",
				 URL_PARAMETERS_MAX);
	}
	u->parameter_count++;
	split(&text, '=', &name);
	int rc = decode(name, &p->name, err);

	return rc < 0 ? rc : decode(text, &p->value, err);
}

static int parse_query(struct url *u, struct bytes query, struct error *err)
{
	struct bytes one;
	int rc = 0;

	u->parameters = xcalloc(URL_PARAMETERS_MAX, sizeof(*u->parameters));
	while (rc == 0 && query.len) {
		split(&query, '&', &one);
		rc = add_parameter(u, one, err);
	}
	return rc;
}

size_t url_scheme_length(const char *text)
{
	size_t n = 0;

	if (!((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'))) {
		return 0;
	}
	n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
	return text[n] == ':' ? n : 0;
}

static int parse_parts(struct url *u, const char *text, struct error *err)
{
	size_t n = url_scheme_length(text);

	if (n == 0 || strncmp(text + n, "://", 3) != 0) {
		return error_set(err, ERROR_INVALID, "after '%s:' comes //",
				 bytes_printable(bytes_of(text, n)));
	}
	struct bytes rest = bytes_of_string(text + n + 3), before;

	u->scheme = xasprintf("%.*s", (int)n, text);
	u->has_query = split(&rest, '?', &before);
	const uint8_t *slash = before.len ? memchr(before.ptr, '/', before.len) : NULL;
	size_t authority = slash ? (size_t)(slash - before.ptr) : before.len;

	u->authority = xasprintf("%.*s", (int)authority, (const char *)before.ptr);
	int rc =
		decode(bytes_of(before.ptr + authority, before.len - authority), &u->path, err);

	return rc < 0 ? rc : parse_query(u, rest, err);
}

int url_parse(struct url *out, const char *text, struct error *err)
{
	struct url u = {0};

	if (strlen(text) > URL_LENGTH_MAX) {
		return error_set(err, ERROR_LIMIT, "longer than %d bytes", URL_LENGTH_MAX);
	}
	int rc = parse_parts(&u, text, err);

	if (rc < 0) {
		url_done(&u);
		return rc;
	}
	*out = u;
	return 0;
}

void url_done(struct url *u)
{
	for (size_t i = 0; i < u->parameter_count; i++) {
		free(u->parameters[i].name);
		free(u->parameters[i].value);
	}
	free(u->parameters);
	free(u->scheme);
	free(u->authority);
	free(u->path);
	*u = (struct url){0};
}

const char *url_get(const struct url *u, const char *name)
{
	for (size_t i = 0; i < u->parameter_count; i++) {
		if (strcmp(u->parameters[i].name, name) == 0) {
			return u->parameters[i].value;
		}
	}
	return NULL;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; names && *names; names++) {
		if (strcmp(name, *names) == 0) {
			return true;
		}
	}
	return false;
}

static int unknown_parameter(const struct url *u, const char *name, const char *const *names,
			     struct error *err)
{
	struct buffer known cleanup(buffer_done) = {0};

	if (!names) {
		return error_set(err, ERROR_INVALID,
				 "unknown parameter '%s'; %s:// has no parameters (a '?' in a "
				 "path is written %%3f)",
				 bytes_printable(bytes_of_string(name)), u->scheme);
	}
	for (size_t i = 0; names[i]; i++) {
		buffer_append_string(&known, i ? ", " : "");
		buffer_append_string(&known, names[i]);
	}
	return error_set(err, ERROR_INVALID, "unknown parameter '%s'; %s:// has: %.*s",
			 bytes_printable(bytes_of_string(name)), u->scheme, (int)known.len,
			 (const char *)known.ptr);
}

int url_check_parameters(const struct url *u, const char *const *names, struct error *err)
{
	if (u->has_query && u->parameter_count == 0) {
		return unknown_parameter(u, "", names, err);
	}
	for (size_t i = 0; i < u->parameter_count; i++) {
		const char *name = u->parameters[i].name;

		if (!is_one_of(name, names)) {
			return unknown_parameter(u, name, names, err);
		}
		if (url_get(u, name) != u->parameters[i].value) {
			return error_set(err, ERROR_INVALID, "parameter '%s' comes twice",
					 name);
		}
	}
	return 0;
}

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~/", c));
}

void url_encode(struct buffer *out, const char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (; *text; text++) {
		uint8_t byte = (uint8_t)*text;

		if (is_unreserved(*text)) {
			buffer_append_byte(out, byte);
		} else {
			buffer_append_byte(out, '%');
			buffer_append_byte(out, (uint8_t)digits[byte >> 4]);
			buffer_append_byte(out, (uint8_t)digits[byte & 15]);
		}
	}
}
