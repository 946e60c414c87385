#include "services/store.h"

#include <assert.h>

#include "services/local/local_store.h"
#include "services/memory.h"
#include "services/store_scheme.h"

static int check_memory(const struct url *address, struct error *err)
{
	return address->authority[0] || address->path[0]
		       ? error_set(err, ERROR_INVALID, "nothing may follow memory://")
		       : 0;
}

static int open_memory(struct store *out, const struct url *address unused, unsigned flags,
		       struct error *err)
{
	if (flags & STORE_READ_ONLY) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "memory:// begins empty and cannot be opened read-only");
	}
	memory_store_open(out);
	return 0;
}

static const struct store_scheme memory_scheme = {
	.name = "memory",
	.form = "memory://",
	.check = check_memory,
	.open = open_memory,
};

static const char *const file_parameters[] = {"compression", NULL};

static int check_file(const struct url *address, struct error *err)
{
	if (address->authority[0]) {
		return error_set(err, ERROR_INVALID,
				 "a host is not possible here: write file:///path");
	}
	if (address->path[0] == '\0') {
		return error_set(err, ERROR_INVALID, "a path is missing: file:///path");
	}
	if (strlen(address->path) >= PATH_MAX) {
		return error_set(err, ERROR_LIMIT, "the path is too long");
	}
	const char *compression = url_get(address, "compression");

	if (compression && strcmp(compression, "zstd") != 0 &&
	    strcmp(compression, "none") != 0) {
		return error_set(err, ERROR_INVALID, "compression is zstd or none, not '%s'",
				 bytes_printable(bytes_of_string(compression)));
	}
	return 0;
}

static int open_file(struct store *out, const struct url *address, unsigned flags,
		     struct error *err)
{
	const char *compression = url_get(address, "compression");

	if (compression && strcmp(compression, "none") == 0) {
		flags |= STORE_UNCOMPRESSED;
	}
	return local_store_open(out, address->path, flags, err);
}

static int file_folder(const struct url *address, char path[PATH_MAX], struct error *err unused)
{
	memcpy(path, address->path, strlen(address->path) + 1);
	return 1;
}

static int rebuild_file(const struct url *address, struct store_rebuilt *out, struct error *err)
{
	return local_store_rebuild(address->path, out, err);
}

static const struct store_scheme file_scheme = {
	.name = "file",
	.form = "file:///path",
	.parameters = file_parameters,
	.check = check_file,
	.open = open_file,
	.folder = file_folder,
	.rebuild = rebuild_file,
};

static const struct store_scheme *schemes[STORE_SCHEMES_MAX] = {&memory_scheme, &file_scheme};
static size_t scheme_count = 2;

void store_scheme_add(const struct store_scheme *scheme)
{
	assert(scheme_count < STORE_SCHEMES_MAX);
	schemes[scheme_count++] = scheme;
}

static const struct store_scheme *find_scheme(const char *name)
{
	for (size_t i = 0; i < scheme_count; i++) {
		if (strcmp(name, schemes[i]->name) == 0) {
			return schemes[i];
		}
	}
	return NULL;
}

static int unknown_scheme(const char *name, struct error *err)
{
	struct buffer known cleanup(buffer_done) = {0};

	for (size_t i = 0; i < scheme_count; i++) {
		buffer_append_string(&known, i ? ", " : "");
		buffer_append_string(&known, schemes[i]->form);
	}
	return error_set(err, ERROR_INVALID, "unknown scheme '%s'; there are: %.*s",
			 bytes_printable(bytes_of_string(name)), (int)known.len,
			 (const char *)known.ptr);
}

/* A path, short for file://, means what it says: nothing in it is decoded. */
static int url_of_path(struct url *url, const char *path, struct error *err)
{
	if (path[0] != '.' && !strchr(path, '/')) {
		return error_set(
			err, ERROR_INVALID,
			"neither an address nor a path (a path has a '/' or starts with '.')");
	}
	if (strlen(path) >= PATH_MAX) {
		return error_set(err, ERROR_LIMIT, "the path is too long");
	}
	*url = (struct url){
		.scheme = xstrdup(file_scheme.name),
		.authority = xstrdup(""),
		.path = xstrdup(path),
	};
	return 0;
}

static int check_address(const struct url *url, const struct store_scheme **scheme,
			 struct error *err)
{
	*scheme = find_scheme(url->scheme);
	if (!*scheme) {
		return unknown_scheme(url->scheme, err);
	}
	int rc = url_check_parameters(url, (*scheme)->parameters, err);

	return rc < 0 ? rc : (*scheme)->check(url, err);
}

/* url is zeroed and ended by the caller, whatever this returns. */
static int parse_address(const char *address, struct url *url,
			 const struct store_scheme **scheme, struct error *err)
{
	size_t n = url_scheme_length(address);

	*scheme = &file_scheme;
	if (n == 0) {
		return url_of_path(url, address, err);
	}
	if (strncmp(address + n, "://", 3) != 0) {
		return error_set(
			err, ERROR_INVALID,
			"after '%.*s:' comes // (a path that begins so is written ./path)",
			(int)MIN(n, (size_t)64), address);
	}
	int rc = url_parse(url, address, err);

	return rc < 0 ? rc : check_address(url, scheme, err);
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
	const struct store_scheme *scheme;
	struct url url cleanup(url_done) = {0};
	int rc = parse_address(address, &url, &scheme, err);

	if (rc == 0) {
		rc = scheme->open(out, &url, flags, err);
	}
	return wrap_address(rc, address, err);
}

int store_folder(const char *address, char path[PATH_MAX], struct error *err)
{
	const struct store_scheme *scheme;
	struct url url cleanup(url_done) = {0};
	int r = parse_address(address, &url, &scheme, err);

	if (r == 0 && scheme->folder) {
		r = scheme->folder(&url, path, err);
	}
	return wrap_address(r, address, err);
}

int store_rebuild(const char *address, struct store_rebuilt *out, struct error *err)
{
	const struct store_scheme *scheme;
	struct url url cleanup(url_done) = {0};
	int rc = parse_address(address, &url, &scheme, err);

	if (rc == 0) {
		rc = scheme->rebuild
			     ? scheme->rebuild(&url, out, err)
			     : error_set(err, ERROR_UNSUPPORTED,
					 "%s:// has no index to make again", scheme->name);
	}
	return wrap_address(rc, address, err);
}

void store_ref(struct store *out, const struct store *s)
{
	*out = (struct store){
		.blobs = blob_service_ref(s->blobs),
		.directories = directory_service_ref(s->directories),
		.roots = root_nodes_ref(s->roots),
		.path_infos = record_table_ref(s->path_infos),
		.seen = s->seen,
		.stager = s->stager ? stager_ref(s->stager) : NULL,
	};
}

void store_close(struct store *s)
{
	if (s->stage) {
		s->stage->ops->free(s->stage);
	}
	stager_unref(s->stager);
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
