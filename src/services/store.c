#include "services/store.h"

#include "services/local/local_store.h"
#include "services/memory.h"

struct scheme {
	const char *name;
	const char *form; /* for messages */
	/* What follows "scheme://", as the path that open and rebuild take. */
	int (*parse)(struct bytes rest, char path[PATH_MAX], struct error *err);
	int (*open)(struct store *out, const char *path, unsigned flags, struct error *err);
	int (*rebuild)(const char *path, struct store_rebuilt *out, struct error *err);
};

static int parse_memory(struct bytes rest, char path[PATH_MAX], struct error *err)
{
	path[0] = '\0';
	return rest.len ? error_set(err, ERROR_INVALID, "nothing may follow memory://") : 0;
}

static int open_memory(struct store *out, const char *path unused, unsigned flags,
		       struct error *err)
{
	if (flags & STORE_READ_ONLY) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "memory:// begins empty and cannot be opened read-only");
	}
	memory_store_open(out);
	return 0;
}

static int rebuild_memory(const char *path unused, struct store_rebuilt *out unused,
			  struct error *err)
{
	return error_set(err, ERROR_UNSUPPORTED, "memory:// has no index to make again");
}

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

static int decode_path(struct bytes text, char path[PATH_MAX], struct error *err)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		int c = text.ptr[i];

		if (n + 1 >= PATH_MAX) {
			return error_set(err, ERROR_LIMIT, "the path is too long");
		}
		if (c == '#') {
			return error_set(err, ERROR_INVALID,
					 "a '#' in the path is written %%23");
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
		path[n++] = (char)c;
	}
	path[n] = '\0';
	return 0;
}

static int parse_file(struct bytes rest, char path[PATH_MAX], struct error *err)
{
	if (rest.len == 0) {
		return error_set(err, ERROR_INVALID, "a path is missing: file:///path");
	}
	if (rest.ptr[0] != '/') {
		return error_set(err, ERROR_INVALID,
				 "a host is not possible here: write file:///path");
	}
	return decode_path(rest, path, err);
}

static const struct scheme memory_scheme = {
	.name = "memory",
	.form = "memory://",
	.parse = parse_memory,
	.open = open_memory,
	.rebuild = rebuild_memory,
};

static const struct scheme file_scheme = {
	.name = "file",
	.form = "file:///path",
	.parse = parse_file,
	.open = local_store_open,
	.rebuild = local_store_rebuild,
};

static const struct scheme *const schemes[] = {&memory_scheme, &file_scheme};

static const struct scheme *find_scheme(struct bytes name)
{
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (bytes_equal(name, bytes_of_string(schemes[i]->name))) {
			return schemes[i];
		}
	}
	return NULL;
}

static int unknown_scheme(struct bytes name, struct error *err)
{
	struct buffer known = {0};

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		const char *form = schemes[i]->form;

		buffer_append(&known, ", ", i ? 2 : 0);
		buffer_append(&known, form, strlen(form));
	}
	int rc = error_set(err, ERROR_INVALID, "unknown scheme '%s'; there are: %.*s",
			   bytes_printable(name), (int)known.len, (const char *)known.ptr);

	buffer_done(&known);
	return rc;
}

/* Neither scheme has parameters. */
static int check_no_parameters(const struct scheme *scheme, struct bytes rest,
			       struct error *err)
{
	const uint8_t *mark = rest.len ? memchr(rest.ptr, '?', rest.len) : NULL;

	if (!mark) {
		return 0;
	}
	struct bytes query = bytes_of(mark + 1, rest.len - (size_t)(mark - rest.ptr) - 1);
	size_t len = 0;

	while (len < query.len && query.ptr[len] != '=' && query.ptr[len] != '&') {
		len++;
	}
	return error_set(err, ERROR_INVALID,
			 "unknown parameter '%s'; %s:// has no parameters (a '?' in a path is "
			 "written %%3f)",
			 bytes_printable(bytes_of(query.ptr, len)), scheme->name);
}

static int parse_url(struct bytes name, struct bytes rest, const struct scheme **scheme,
		     char path[PATH_MAX], struct error *err)
{
	*scheme = find_scheme(name);
	if (!*scheme) {
		return unknown_scheme(name, err);
	}
	int rc = check_no_parameters(*scheme, rest, err);

	return rc < 0 ? rc : (*scheme)->parse(rest, path, err);
}

/* The length of "scheme" where the text begins with "scheme:", else 0. */
static size_t scheme_len(const char *text)
{
	size_t n = 0;

	if (!((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'))) {
		return 0;
	}
	n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
	return text[n] == ':' ? n : 0;
}

static int parse_address(const char *address, const struct scheme **scheme, char path[PATH_MAX],
			 struct error *err)
{
	size_t n = scheme_len(address);

	if (n && strncmp(address + n, "://", 3) == 0) {
		return parse_url(bytes_of(address, n), bytes_of_string(address + n + 3), scheme,
				 path, err);
	}
	if (n) {
		return error_set(
			err, ERROR_INVALID,
			"after '%.*s:' comes // (a path that begins so is written ./path)",
			(int)MIN(n, (size_t)64), address);
	}
	if (address[0] != '.' && !strchr(address, '/')) {
		return error_set(
			err, ERROR_INVALID,
			"neither an address nor a path (a path has a '/' or starts with '.')");
	}
	if (strlen(address) >= PATH_MAX) {
		return error_set(err, ERROR_LIMIT, "the path is too long");
	}
	*scheme = &file_scheme;
	memcpy(path, address, strlen(address) + 1);
	return 0;
}

static int wrap_address(int rc, const char *address, struct error *err)
{
	if (rc < 0) {
		error_wrap(err, "store '%s'", bytes_printable(bytes_of_string(address)));
	}
	return rc;
}

int store_open(struct store *out, const char *address, unsigned flags, struct error *err)
{
	const struct scheme *scheme;
	char path[PATH_MAX];
	int rc = parse_address(address, &scheme, path, err);

	if (rc == 0) {
		rc = scheme->open(out, path, flags, err);
	}
	return wrap_address(rc, address, err);
}

int store_folder(const char *address, char path[PATH_MAX], struct error *err)
{
	const struct scheme *scheme;
	int rc = parse_address(address, &scheme, path, err);

	/* Only the store in memory has no path. */
	return rc < 0 ? wrap_address(rc, address, err) : path[0] != '\0';
}

int store_rebuild(const char *address, struct store_rebuilt *out, struct error *err)
{
	const struct scheme *scheme;
	char path[PATH_MAX];
	int rc = parse_address(address, &scheme, path, err);

	if (rc == 0) {
		rc = scheme->rebuild(path, out, err);
	}
	return wrap_address(rc, address, err);
}

void store_close(struct store *s)
{
	if (s->stage) {
		s->stage->ops->free(s->stage);
	}
	if (s->stager) {
		s->stager->ops->free(s->stager);
	}
	blob_service_unref(s->blobs);
	directory_service_unref(s->directories);
	root_nodes_unref(s->roots);
	record_table_unref(s->path_infos);
	*s = (struct store){0};
}

int store_sync(struct store *s, struct error *err)
{
	int rc = s->blobs ? blob_service_sync(s->blobs, err) : 0;

	if (rc == 0 && s->directories) {
		rc = directory_service_sync(s->directories, err);
	}
	return rc;
}

int store_stage(struct store *s, struct store *staged, struct error *err)
{
	struct store made = {0};

	if (!s->stager) {
		return error_set(err, ERROR_UNSUPPORTED, "this store cannot hold puts back");
	}
	int rc = s->stager->ops->begin(s->stager, &made, err);

	if (rc == 0) {
		*staged = made;
	}
	return rc;
}

int store_stage_commit(struct store *staged, struct error *err)
{
	int rc = staged->stage->ops->commit(staged->stage, err);

	store_close(staged);
	return rc;
}
