/* Texts that claim to be addresses: what was read of one says the same when it is written. */

#include <stdint.h>
#include <stdlib.h>

#include "base/url.h"
#include "rpc/remote_store.h"
#include "services/store.h"

#include "fuzz.h"

static void format(const struct url *u, struct buffer *out)
{
	buffer_append_string(out, u->scheme);
	buffer_append_string(out, "://");
	buffer_append_string(out, u->authority);
	url_encode(out, u->path);
	buffer_append_string(out, u->has_query ? "?" : "");
	for (size_t i = 0; i < u->parameter_count; i++) {
		buffer_append_string(out, i ? "&" : "");
		url_encode(out, u->parameters[i].name);
		buffer_append_byte(out, '=');
		url_encode(out, u->parameters[i].value);
	}
	buffer_append_byte(out, '\0');
}

static void check_same(const struct url *a, const struct url *b)
{
	check(strcmp(a->scheme, b->scheme) == 0 && strcmp(a->authority, b->authority) == 0);
	check(strcmp(a->path, b->path) == 0 && a->has_query == b->has_query);
	check(a->parameter_count == b->parameter_count);
	for (size_t i = 0; i < a->parameter_count; i++) {
		check(strcmp(a->parameters[i].name, b->parameters[i].name) == 0);
		check(strcmp(a->parameters[i].value, b->parameters[i].value) == 0);
	}
}

static void check_url(const char *text)
{
	struct url u = {0}, again = {0};
	struct buffer written = {0};
	struct error err = {0};

	if (url_parse(&u, text, &err) != 0) {
		check((err.code == ERROR_INVALID || err.code == ERROR_LIMIT) && told(&err));
		return;
	}
	format(&u, &written);
	/* Escaped, it may be too long. */
	if (written.len <= URL_LENGTH_MAX) {
		check(url_parse(&again, (const char *)written.ptr, &err) == 0);
		check_same(&u, &again);
	}
	buffer_done(&written);
	url_done(&u);
	url_done(&again);
}

/* Once, as a program does when it starts. */
static void add_schemes(void)
{
	static bool added;

	if (!added) {
		remote_store_add_schemes();
	}
	added = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct store_needs needs = {0};
	struct error err = {0};

	if (!text) {
		return 0;
	}
	add_schemes();
	if (size) {
		memcpy(text, data, size);
	}
	text[size] = '\0';
	check_url(text);
	/* The addresses inside of it too; nothing is opened. */
	check(store_needs(text, &needs, &err) == 0 || (err.code && told(&err)));
	store_needs_done(&needs);
	free(text);
	return 0;
}
