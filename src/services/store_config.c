#include "services/store_config.h"

#include <fcntl.h>

#include "base/ini_document.h"
#include "base/io.h"
#include "services/store_scheme.h"

#define STORES_MAX 1024
#define KEYS_MAX URL_PARAMETERS_MAX

static const char *const types[] = {"cache", "fallback", "lru", "parts", "read-only"};

struct store_config {
	char *file;
	char *default_name;
	unsigned default_line;
	struct store_definition *stores;
	size_t count;
};

struct setting {
	char *key;
	char *value;
	unsigned line;
};

/* The section that is being read. */
struct section {
	struct store_config *config;
	bool in_store;
	bool in_general; /* [cairn] */
	struct setting settings[KEYS_MAX];
	size_t count;
};

void store_config_free(struct store_config *c)
{
	if (!c) {
		return;
	}
	for (size_t i = 0; i < c->count; i++) {
		free(c->stores[i].name);
		free(c->stores[i].address);
	}
	free(c->stores);
	free(c->default_name);
	free(c->file);
	free(c);
}

static struct store_definition *current(struct section *s)
{
	return &s->config->stores[s->config->count - 1];
}

static void section_clear(struct section *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->settings[i].key);
		free(s->settings[i].value);
	}
	s->count = 0;
}

static const struct setting *find_setting(const struct section *s, const char *key)
{
	for (size_t i = 0; i < s->count; i++) {
		if (strcmp(s->settings[i].key, key) == 0) {
			return &s->settings[i];
		}
	}
	return NULL;
}

/* ---- From settings to an address ---- */

static int check_type(const struct setting *type, struct error *err)
{
	struct buffer known cleanup(buffer_done) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(type->value, types[i]) == 0) {
			return 0;
		}
		buffer_append_string(&known, i ? ", " : "");
		buffer_append_string(&known, types[i]);
	}
	return error_set(err, ERROR_INVALID, "line %u: unknown type '%s'; there are: %.*s",
			 type->line, bytes_printable(bytes_of_string(type->value)),
			 (int)known.len, (const char *)known.ptr);
}

/* A path is made an address, so that parameters can follow. */
static int begin_address(struct buffer *out, const struct setting *address, bool followed,
			 struct error *err)
{
	const char *text = address->value;
	bool path = url_scheme_length(text) == 0 && (text[0] == '.' || strchr(text, '/'));

	if (path && text[0] != '/') {
		return error_set(err, ERROR_INVALID,
				 "line %u: '%s': a path in a configuration begins with a '/'",
				 address->line, bytes_printable(bytes_of_string(text)));
	}
	if (path && followed) {
		buffer_append_string(out, "file://");
		url_encode(out, text);
	} else {
		buffer_append_string(out, text);
	}
	return 0;
}

static void append_parameters(struct buffer *out, const struct section *s)
{
	bool more = out->len && memchr(out->ptr, '?', out->len);

	for (size_t i = 0; i < s->count; i++) {
		const struct setting *one = &s->settings[i];

		if (strcmp(one->key, "type") != 0 && strcmp(one->key, "address") != 0) {
			buffer_append_byte(out, more ? '&' : '?');
			url_encode(out, one->key);
			buffer_append_byte(out, '=');
			url_encode(out, one->value);
			more = true;
		}
	}
}

static bool is_parameter(const struct store_scheme *scheme, const char *key)
{
	for (const char *const *p = scheme->parameters; p && *p; p++) {
		if (strcmp(*p, key) == 0) {
			return true;
		}
	}
	return false;
}

static int unknown_key(const struct store_scheme *scheme, const struct setting *one,
		       const char *begin, struct error *err)
{
	struct buffer known cleanup(buffer_done) = {0};

	buffer_append_string(&known, begin);
	for (const char *const *p = scheme->parameters; p && *p; p++) {
		buffer_append_string(&known, ", ");
		buffer_append_string(&known, *p);
	}
	return error_set(err, ERROR_INVALID, "line %u: unknown key '%s'; here are: %.*s",
			 one->line, bytes_printable(bytes_of_string(one->key)), (int)known.len,
			 (const char *)known.ptr);
}

/* An unknown scheme is found when the address is looked at, with all that there are. */
static int check_keys(const struct section *s, const char *begin, const char *address,
		      struct error *err)
{
	size_t n = url_scheme_length(address);
	char *name cleanup(cleanup_free) = xasprintf("%.*s", (int)n, address);
	const struct store_scheme *scheme = store_scheme_find(n ? name : "file");

	for (size_t i = 0; scheme && i < s->count; i++) {
		const struct setting *one = &s->settings[i];

		if (strcmp(one->key, begin) != 0 && !is_parameter(scheme, one->key)) {
			return unknown_key(scheme, one, begin, err);
		}
	}
	return 0;
}

static int make_address(const struct section *s, struct buffer *out, struct error *err)
{
	const struct setting *type = find_setting(s, "type");
	const struct setting *address = find_setting(s, "address");
	int rc = 0;

	if (!type == !address) {
		return error_set(err, ERROR_INVALID, "a store has either a type or an address");
	}
	if (address) {
		rc = begin_address(out, address, s->count > 1, err);
	} else {
		rc = check_type(type, err);
		buffer_append_string(out, type->value);
		buffer_append_string(out, "://");
	}
	if (rc == 0) {
		append_parameters(out, s);
		buffer_append_byte(out, '\0');
		rc = check_keys(s, type ? "type" : "address", (const char *)out->ptr, err);
	}
	return rc;
}

/* What was read of a store becomes its definition. */
static int end_section(struct section *s, struct error *err)
{
	struct buffer address cleanup(buffer_done) = {0};
	int rc = 0;

	if (s->in_store) {
		rc = make_address(s, &address, err);
		if (rc < 0) {
			error_wrap(err, "line %u: [store %s]", current(s)->line,
				   current(s)->name);
		} else {
			current(s)->address = xstrdup((const char *)address.ptr);
		}
	}
	section_clear(s);
	s->in_store = false;
	s->in_general = false;
	return rc;
}

/* ---- Reading ---- */

static bool is_name(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				"0123456789_-");

	return n > 0 && text[n] == '\0';
}

static int begin_store(struct section *s, const struct ini_entry *e, const char *name,
		       struct error *err)
{
	struct store_config *c = s->config;
	const struct store_definition *known = store_config_find(c, name);

	if (!is_name(name)) {
		return error_set(err, ERROR_INVALID,
				 "line %u: the name of a store has letters, digits, '-' and "
				 "'_', not '%s'",
				 e->line, bytes_printable(bytes_of_string(name)));
	}
	if (known) {
		return error_set(err, ERROR_INVALID, "line %u: [store %s] is in line %u too",
				 e->line, name, known->line);
	}
	if (c->count == STORES_MAX) {
		return error_set(err, ERROR_LIMIT, "line %u: more than %d stores", e->line,
				 STORES_MAX);
	}
	c->stores = xrealloc(c->stores, (c->count + 1) * sizeof(*c->stores));
	c->stores[c->count++] =
		(struct store_definition){.name = xstrdup(name), .line = e->line};
	s->in_store = true;
	return 0;
}

static int begin_section(struct section *s, const struct ini_entry *e, struct error *err)
{
	int rc = end_section(s, err);

	if (rc < 0) {
		return rc;
	}
	if (strncmp(e->section, "store ", 6) == 0) {
		return begin_store(s, e, e->section + 6 + strspn(e->section + 6, " \t"), err);
	}
	s->in_general = strcmp(e->section, "cairn") == 0;
	return s->in_general ? 0
			     : error_set(err, ERROR_INVALID,
					 "line %u: unknown section [%s]; there are: [cairn], "
					 "[store NAME]",
					 e->line, bytes_printable(bytes_of_string(e->section)));
}

static int set_general(struct store_config *c, const struct ini_entry *e, struct error *err)
{
	if (strcmp(e->key, "default") != 0) {
		return error_set(err, ERROR_INVALID,
				 "line %u: [cairn] has no key '%s'; there is: default", e->line,
				 bytes_printable(bytes_of_string(e->key)));
	}
	if (c->default_name) {
		return error_set(err, ERROR_INVALID, "line %u: default is in line %u too",
				 e->line, c->default_line);
	}
	c->default_name = xstrdup(e->value);
	c->default_line = e->line;
	return 0;
}

static int add_setting(struct section *s, const struct ini_entry *e, struct error *err)
{
	const struct setting *known = find_setting(s, e->key);

	if (known) {
		return error_set(err, ERROR_INVALID, "line %u: '%s' is in line %u too", e->line,
				 bytes_printable(bytes_of_string(e->key)), known->line);
	}
	if (e->value[0] == '\0') {
		return error_set(err, ERROR_INVALID, "line %u: '%s' has no value", e->line,
				 bytes_printable(bytes_of_string(e->key)));
	}
	if (s->count == KEYS_MAX) {
		return error_set(err, ERROR_LIMIT, "line %u: more than %d keys", e->line,
				 KEYS_MAX);
	}
	s->settings[s->count++] = (struct setting){
		.key = xstrdup(e->key), .value = xstrdup(e->value), .line = e->line};
	return 0;
}

static int on_entry(void *context, const struct ini_entry *e, struct error *err)
{
	struct section *s = context;

	if (!e->key) {
		return begin_section(s, e, err);
	}
	if (s->in_general) {
		return set_general(s->config, e, err);
	}
	return s->in_store ? add_setting(s, e, err)
			   : error_set(err, ERROR_INVALID,
				       "line %u: '%s' is in no section; there are: [cairn], "
				       "[store NAME]",
				       e->line, bytes_printable(bytes_of_string(e->key)));
}

static void append_names(const struct store_config *c, struct buffer *out)
{
	for (size_t i = 0; i < c->count; i++) {
		buffer_append_string(out, i ? ", " : "");
		buffer_append_string(out, c->stores[i].name);
	}
}

static int check_default(const struct store_config *c, struct error *err)
{
	struct buffer known cleanup(buffer_done) = {0};

	if (!c->default_name || store_config_find(c, c->default_name)) {
		return 0;
	}
	append_names(c, &known);
	return error_set(err, ERROR_INVALID, "line %u: there is no [store %s]; there are: %.*s",
			 c->default_line, bytes_printable(bytes_of_string(c->default_name)),
			 (int)known.len, (const char *)known.ptr);
}

int store_config_parse(const char *file, struct bytes text, struct store_config **out,
		       struct error *err)
{
	struct store_config *c = xcalloc(1, sizeof(*c));
	struct section *s = xcalloc(1, sizeof(*s));

	c->file = xstrdup(file);
	s->config = c;
	int rc = ini_document_parse(text, on_entry, s, err);

	if (rc == 0) {
		rc = end_section(s, err);
	}
	if (rc == 0) {
		rc = check_default(c, err);
	}
	section_clear(s);
	free(s);
	if (rc < 0) {
		store_config_free(c);
		error_wrap(err, "%s", file);
		return rc;
	}
	*out = c;
	return 0;
}

int store_config_load(const char *file, struct store_config **out, struct error *err)
{
	struct buffer text cleanup(buffer_done) = {0};
	int rc = read_small_file(AT_FDCWD, file, INI_DOCUMENT_MAX, &text, err);

	if (rc < 0) {
		error_wrap(err, "%s", file);
		return rc;
	}
	if (rc > 0) {
		rc = store_config_parse(file, buffer_bytes(&text), out, err);
		return rc < 0 ? rc : 1;
	}
	return 0;
}

const char *store_config_file(const struct store_config *c)
{
	return c->file;
}

const char *store_config_default(const struct store_config *c)
{
	return c->default_name;
}

size_t store_config_count(const struct store_config *c)
{
	return c->count;
}

const struct store_definition *store_config_at(const struct store_config *c, size_t i)
{
	return &c->stores[i];
}

const struct store_definition *store_config_find(const struct store_config *c, const char *name)
{
	for (size_t i = 0; i < c->count; i++) {
		if (strcmp(c->stores[i].name, name) == 0) {
			return &c->stores[i];
		}
	}
	return NULL;
}

static const struct store_config *used;

void store_config_use(const struct store_config *c)
{
	used = c;
}

const struct store_config *store_config_used(void)
{
	return used;
}
