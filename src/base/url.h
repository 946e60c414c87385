#pragma once

/*
 * URLs as addresses are written (RFC 3986): scheme://authority/path?name=value&name=value
 *
 * The path and the parameters are decoded: %XX stands for a byte, which may not be 0. The
 * authority is kept as it was written. There are no fragments: a '#' is written %23.
 */

#include "base/bytes.h"
#include "base/error.h"

#define URL_LENGTH_MAX 65536
#define URL_PARAMETERS_MAX 64

struct url_parameter {
	char *name;
	char *value;
};

struct url {
	char *scheme;                     /* as written */
	char *authority;                  /* what is before the path: "", "host:port" */
	char *path;                       /* "" or "/..." */
	bool has_query;                   /* there was a '?', even with nothing behind it */
	struct url_parameter *parameters; /* in the order of the text */
	size_t parameter_count;
};

/*
 * The length of the scheme where the text begins with "scheme:", else 0: then it is no URL, and
 * neither is one where no "//" follows (url_parse() says so).
 */
size_t url_scheme_length(const char *text);
/* ERROR_INVALID, saying what is wrong where; ERROR_LIMIT where it is too long. */
int url_parse(struct url *out, const char *text, struct error *err);
void url_done(struct url *u);
/* The value of the first parameter of this name, or NULL. */
const char *url_get(const struct url *u, const char *name);
/*
 * ERROR_INVALID unless each parameter has one of these names (NULL behind the last; NULL
 * itself: there are none) and comes once; the message lists them.
 */
int url_check_parameters(const struct url *u, const char *const *names, struct error *err);

/* Appends text with everything but letters, digits and "-._~/" (RFC 3986) as %XX. */
void url_encode(struct buffer *out, const char *text);
