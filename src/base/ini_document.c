#include "base/ini_document.h"

#include <ini.h>

struct parse {
	struct bytes rest;
	unsigned line;
	ini_document_visit visit;
	void *context;
	char section[INI_NAME_MAX + 1];
	int rc;
	struct error *err;
};

static int fail(struct parse *p, const char *what)
{
	p->rc = error_set(p->err, ERROR_INVALID, "line %u: %s", p->line, what);
	return p->rc;
}

static void tell(struct parse *p, const char *key, const char *value)
{
	struct ini_entry e = {
		.section = p->section, .key = key, .value = value, .line = p->line};

	p->rc = p->visit(p->context, &e, p->err);
}

static struct bytes trim(struct bytes b)
{
	while (b.len && strchr(" \t\r\n", b.ptr[0])) {
		b = bytes_of(b.ptr + 1, b.len - 1);
	}
	while (b.len && strchr(" \t\r\n", b.ptr[b.len - 1])) {
		b.len--;
	}
	return b;
}

/* inih tells of no section that is empty, and cuts off a name that is long. */
static int begin_section(struct parse *p, struct bytes line)
{
	const uint8_t *end = memchr(line.ptr, ']', line.len);

	if (!end || end != line.ptr + line.len - 1) {
		return fail(p, "a section is written [name], alone on its line");
	}
	struct bytes name = trim(bytes_of(line.ptr + 1, line.len - 2));

	if (name.len > INI_NAME_MAX) {
		return fail(p, "the name of this section is too long");
	}
	memcpy(p->section, name.ptr, name.len);
	p->section[name.len] = '\0';
	tell(p, NULL, NULL);
	return p->rc;
}

static int check_line(struct parse *p, struct bytes raw)
{
	struct bytes line = trim(raw);
	size_t key = 0;

	if (line.len && memchr(line.ptr, '\0', line.len)) {
		return fail(p, "a byte 0 is no text");
	}
	if (line.len == 0 || line.ptr[0] == ';' || line.ptr[0] == '#') {
		return 0;
	}
	if (line.ptr[0] == '[') {
		return begin_section(p, line);
	}
	while (key < line.len && line.ptr[key] != '=' && line.ptr[key] != ':') {
		key++;
	}
	if (key == line.len || key == 0) {
		return fail(p, "neither [section] nor key = value");
	}
	return key > INI_NAME_MAX ? fail(p, "this key is too long") : 0;
}

/* Like fgets, as inih asks for it. */
static char *next_line(char *out, int size, void *stream)
{
	struct parse *p = stream;
	const uint8_t *end = p->rest.len ? memchr(p->rest.ptr, '\n', p->rest.len) : NULL;
	size_t n = end ? (size_t)(end - p->rest.ptr) + 1 : p->rest.len;

	if (n == 0 || p->rc < 0) {
		return NULL;
	}
	p->line++;
	if (n + 1 > (size_t)size) {
		fail(p, "too long");
		return NULL;
	}
	if (check_line(p, bytes_of(p->rest.ptr, n)) < 0) {
		return NULL;
	}
	memcpy(out, p->rest.ptr, n);
	out[n] = '\0';
	p->rest = bytes_of(p->rest.ptr + n, p->rest.len - n);
	return out;
}

static int on_entry(void *user, const char *section unused, const char *key, const char *value)
{
	struct parse *p = user;

	if (p->rc == 0) {
		tell(p, key, value);
	}
	return p->rc == 0;
}

int ini_document_parse(struct bytes text, ini_document_visit visit, void *context,
		       struct error *err)
{
	struct parse p = {.rest = text, .visit = visit, .context = context, .err = err};

	if (text.len > INI_DOCUMENT_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %zu bytes", INI_DOCUMENT_MAX);
	}
	/* An address has ':' and ';' in places, and a line is a line. */
	ini_allow_multiline = false;
	ini_allow_inline_comments = false;
	ini_use_stack = false;
	ini_max_line = (int)INI_LINE_MAX;
	int rc = ini_parse_stream(next_line, &p, on_entry, &p);

	if (p.rc == 0 && rc < 0) {
		return error_set(err, ERROR_LIMIT, "no memory for a line");
	}
	if (p.rc == 0 && rc > 0) {
		return error_set(err, ERROR_INVALID, "line %d: not understood", rc);
	}
	return p.rc;
}
