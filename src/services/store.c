#include "services/store.h"

#include <assert.h>

#include "services/compose.h"
#include "services/local/local_store.h"
#include "services/memory.h"
#include "services/store_check.h"
#include "services/store_config.h"
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

static int memory_needs(const struct url *address unused, struct store_needs *out unused,
			struct error *err unused)
{
	return 0;
}

static const struct store_scheme memory_scheme = {
	.name = "memory",
	.form = "memory://",
	.check = check_memory,
	.open = open_memory,
	.needs = memory_needs,
};

static const char *const file_parameters[] = {"compression", "durability", NULL};

int store_durability_flags(const char *level)
{
	if (strcmp(level, "full") == 0) {
		return 0;
	}
	return strcmp(level, "batch") == 0  ? STORE_SYNCED_LATER
	       : strcmp(level, "none") == 0 ? STORE_NEVER_SYNCED
					    : -1;
}

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
	const char *durability = url_get(address, "durability");

	if (durability && store_durability_flags(durability) < 0) {
		return error_set(err, ERROR_INVALID,
				 "durability is full, batch or none, not '%s'",
				 bytes_printable(bytes_of_string(durability)));
	}
	return 0;
}

static int open_file(struct store *out, const struct url *address, unsigned flags,
		     struct error *err)
{
	const char *compression = url_get(address, "compression");
	const char *durability = url_get(address, "durability");

	if (compression && strcmp(compression, "none") == 0) {
		flags |= STORE_UNCOMPRESSED;
	}
	if (durability) {
		flags &= ~(unsigned)(STORE_SYNCED_LATER | STORE_NEVER_SYNCED);
		flags |= (unsigned)store_durability_flags(durability);
	}
	return local_store_open(out, address->path, flags, err);
}

static int file_needs(const struct url *address, struct store_needs *out,
		      struct error *err unused)
{
	store_needs_add_folder(out, address->path);
	return 0;
}

static int take_stock_of_file(const struct url *address, struct store_figures *out,
			      struct error *err)
{
	return local_store_take_stock(address->path, out, err);
}

static int rebuild_file(const struct url *address, struct store_rebuilt *out, struct error *err)
{
	return local_store_rebuild(address->path, out, err);
}

static int check_file_store(const struct url *address, const struct store_check_options *o,
			    struct store_check_report *out, struct error *err)
{
	return local_store_check(address->path, o, out, err);
}

static int repair_file(const struct url *address, const struct store_repair_options *o,
		       struct store_check_report *before, struct store_check_report *after,
		       struct error *err)
{
	return local_store_repair(address->path, o, before, after, err);
}

static int collect_file(const struct url *address, const struct store_collect_options *options,
			struct store_collected *out, struct error *err)
{
	return local_store_collect(address->path, options, out, err);
}

static const struct store_scheme file_scheme = {
	.name = "file",
	.form = "file:///path",
	.parameters = file_parameters,
	.check = check_file,
	.open = open_file,
	.needs = file_needs,
	.take_stock = take_stock_of_file,
	.rebuild = rebuild_file,
	.check_store = check_file_store,
	.repair = repair_file,
	.collect = collect_file,
};

static const struct store_scheme *schemes[STORE_SCHEMES_MAX] = {
	&memory_scheme,           &file_scheme,        &compose_cache_scheme,
	&compose_fallback_scheme, &compose_lru_scheme, &compose_parts_scheme,
	&compose_read_only_scheme};
static size_t scheme_count = 7;

void store_scheme_add(const struct store_scheme *scheme)
{
	assert(scheme_count < STORE_SCHEMES_MAX);
	schemes[scheme_count++] = scheme;
}

const struct store_scheme *store_scheme_find(const char *name)
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

/* Neither an address nor a path, and no name of the configuration. */
static int unknown_name(struct error *err)
{
	const struct store_config *c = store_config_used();
	struct buffer known cleanup(buffer_done) = {0};

	if (!c) {
		return error_set(err, ERROR_INVALID,
				 "neither an address nor a path (a path has a '/' or starts "
				 "with '.'), and there is no configuration with names");
	}
	for (size_t i = 0; i < store_config_count(c); i++) {
		buffer_append_string(&known, i ? ", " : "");
		buffer_append_string(&known, store_config_at(c, i)->name);
	}
	return error_set(err, ERROR_INVALID,
			 "neither an address nor a path (a path has a '/' or starts with '.'), "
			 "and %s names only: %.*s",
			 store_config_file(c), (int)known.len, (const char *)known.ptr);
}

/* A path, short for file://, means what it says: nothing in it is decoded. */
static int url_of_path(struct url *url, const char *path, struct error *err)
{
	if (path[0] != '.' && !strchr(path, '/')) {
		return unknown_name(err);
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
	*scheme = store_scheme_find(url->scheme);
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

/* ---- What is done with an address ---- */

/* Stores that consist of stores, on the way to being opened by this thread. */
struct nesting {
	struct nesting *outer;
	const char *name; /* of the configuration; NULL: an address */
	bool part_failed; /* a message names it already */
	unsigned parts;   /* of the outermost: stores in it, at any depth */
};

#define NESTING_MAX 16
#define PARTS_MAX 256

static _Thread_local struct nesting *nesting;

typedef int (*address_call)(void *context, const struct store_scheme *scheme,
			    const struct url *url, struct error *err);

static int call_with_url(const char *address, address_call call, void *context,
			 struct error *err)
{
	const struct store_scheme *scheme;
	struct url url cleanup(url_done) = {0};
	int rc = parse_address(address, &url, &scheme, err);

	return rc < 0 ? rc : call(context, scheme, &url, err);
}

/* The definition of a bare name; NULL when the address is none, or there is no such name. */
static const struct store_definition *find_definition(const char *address)
{
	const struct store_config *c = store_config_used();

	return c ? store_config_find(c, address) : NULL;
}

static int check_nesting(struct nesting *here, struct error *err)
{
	struct nesting *outermost = here;
	unsigned depth = 0;

	for (struct nesting *n = here->outer; n; n = n->outer) {
		if (here->name && n->name && strcmp(here->name, n->name) == 0) {
			return error_set(err, ERROR_INVALID, "this store is a part of itself");
		}
		outermost = n;
		depth++;
	}
	if (depth >= NESTING_MAX) {
		return error_set(err, ERROR_LIMIT, "stores are nested more than %d deep",
				 NESTING_MAX);
	}
	return ++outermost->parts <= PARTS_MAX
		       ? 0
		       : error_set(err, ERROR_LIMIT, "more than %d stores in one", PARTS_MAX);
}

static int call_with_address(const char *address, address_call call, void *context,
			     struct error *err)
{
	const struct store_definition *d = find_definition(address);
	struct nesting here = {.outer = nesting, .name = d ? d->name : NULL};
	int rc = check_nesting(&here, err);

	if (rc == 0) {
		nesting = &here;
		rc = d ? call_with_address(d->address, call, context, err)
		       : call_with_url(address, call, context, err);
		nesting = here.outer;
	}
	if (rc < 0 && d) {
		error_wrap(err, "%s, line %u: [store %s]",
			   store_config_file(store_config_used()), d->line, d->name);
	} else if (rc < 0 && !here.part_failed) {
		error_wrap(err, "store '%s'", bytes_printable(bytes_of_string(address)));
	}
	if (here.outer) {
		here.outer->part_failed |= rc < 0;
	}
	return rc;
}

struct open_call {
	struct store *out;
	unsigned flags;
};

static int call_open(void *context, const struct store_scheme *scheme, const struct url *url,
		     struct error *err)
{
	const struct open_call *c = context;

	return scheme->open(c->out, url, c->flags, err);
}

int store_open(struct store *out, const char *address, unsigned flags, struct error *err)
{
	struct open_call c = {.out = out, .flags = flags};

	return call_with_address(address, call_open, &c, err);
}

static int call_take_stock(void *context, const struct store_scheme *scheme,
			   const struct url *url, struct error *err)
{
	return scheme->take_stock
		       ? scheme->take_stock(url, context, err)
		       : error_set(err, ERROR_UNSUPPORTED,
				   "%s:// has no folder to take stock of", scheme->name);
}

int store_take_stock(const char *address, struct store_figures *out, struct error *err)
{
	return call_with_address(address, call_take_stock, out, err);
}

static int call_rebuild(void *context, const struct store_scheme *scheme, const struct url *url,
			struct error *err)
{
	return scheme->rebuild ? scheme->rebuild(url, context, err)
			       : error_set(err, ERROR_UNSUPPORTED,
					   "%s:// has no index to make again", scheme->name);
}

int store_rebuild(const char *address, struct store_rebuilt *out, struct error *err)
{
	return call_with_address(address, call_rebuild, out, err);
}

struct check_call {
	const struct store_check_options *options;
	struct store_check_report *report;
};

static int nothing_on_disk(const struct store_scheme *scheme, struct error *err)
{
	return error_set(err, ERROR_UNSUPPORTED,
			 "%s:// has nothing on a disk here that could be checked",
			 scheme->name);
}

static int call_check(void *context, const struct store_scheme *scheme, const struct url *url,
		      struct error *err)
{
	const struct check_call *call = context;

	return scheme->check_store ? scheme->check_store(url, call->options, call->report, err)
				   : nothing_on_disk(scheme, err);
}

int store_check(const char *address, const struct store_check_options *o,
		struct store_check_report *out, struct error *err)
{
	struct check_call call = {.options = o, .report = out};

	*out = (struct store_check_report){0};
	return call_with_address(address, call_check, &call, err);
}

struct repair_call {
	const struct store_repair_options *options;
	struct store_check_report *before, *after;
};

static int call_repair(void *context, const struct store_scheme *scheme, const struct url *url,
		       struct error *err)
{
	const struct repair_call *call = context;

	return scheme->repair
		       ? scheme->repair(url, call->options, call->before, call->after, err)
		       : nothing_on_disk(scheme, err);
}

int store_repair(const char *address, const struct store_repair_options *o,
		 struct store_check_report *before, struct store_check_report *after,
		 struct error *err)
{
	struct repair_call call = {.options = o, .before = before, .after = after};

	*before = *after = (struct store_check_report){0};
	return call_with_address(address, call_repair, &call, err);
}

struct collect_call {
	const struct store_collect_options *options;
	struct store_collected *out;
};

static int call_collect(void *context, const struct store_scheme *scheme, const struct url *url,
			struct error *err)
{
	const struct collect_call *c = context;

	return scheme->collect
		       ? scheme->collect(url, c->options, c->out, err)
		       : error_set(err, ERROR_UNSUPPORTED,
				   "%s:// has no garbage of its own; the stores on disk "
				   "that are behind it may have",
				   scheme->name);
}

int store_collect(const char *address, const struct store_collect_options *options,
		  struct store_collected *out, struct error *err)
{
	struct collect_call c = {.options = options, .out = out};

	*out = (struct store_collected){0};
	return call_with_address(address, call_collect, &c, err);
}

static int call_needs(void *context, const struct store_scheme *scheme, const struct url *url,
		      struct error *err)
{
	struct store_needs *n = context;

	if (scheme->needs) {
		return scheme->needs(url, n, err);
	}
	n->peers = true;
	return 0;
}

int store_needs(const char *address, struct store_needs *out, struct error *err)
{
	return call_with_address(address, call_needs, out, err);
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
