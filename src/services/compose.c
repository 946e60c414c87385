#include "services/compose.h"

#include "base/log.h"
#include "base/text.h"
#include "services/cache/cache.h"
#include "services/fallback.h"
#include "services/lru.h"
#include "services/read_only.h"
#include "services/synced_names.h"

#define LRU_SIZE_DEFAULT ((uint64_t)64 << 20)
#define LRU_SIZE_MIN ((uint64_t)1 << 20)
#define LRU_SIZE_MAX ((uint64_t)1 << 40)

/* ---- Parameters ---- */

static int check_bare(const struct url *u, struct error *err)
{
	return u->authority[0] || u->path[0]
		       ? error_set(err, ERROR_INVALID, "after %s:// come parameters: ?%s=...",
				   u->scheme, store_scheme_find(u->scheme)->parameters[0])
		       : 0;
}

static int check_given(const struct url *u, const char *name, struct error *err)
{
	const char *value = url_get(u, name);

	return value && value[0] ? 0
				 : error_set(err, ERROR_INVALID, "%s:// needs %s=ADDRESS",
					     u->scheme, name);
}

static int get_size(const struct url *u, const char *name, uint64_t min, uint64_t max,
		    uint64_t *size, struct error *err)
{
	const char *value = url_get(u, name);

	if (value && (!text_to_size(value, size) || *size < min || *size > max)) {
		return error_set(err, ERROR_INVALID,
				 "%s is a number of bytes, as 64M, from %ju to %ju, not '%s'",
				 name, (uintmax_t)min, (uintmax_t)max,
				 bytes_printable(bytes_of_string(value)));
	}
	return 0;
}

/* ---- cache ---- */

static const char *const cache_parameters[] = {"near", "far", "whole", "ranges", NULL};

static int get_cache_options(const struct url *u, struct cache_options *o, struct error *err)
{
	int rc = get_size(u, "whole", CACHE_WHOLE_MIN, CACHE_WHOLE_MAX, &o->whole_max, err);

	return rc ? rc : get_size(u, "ranges", 0, CACHE_RANGES_MAX, &o->ranges_max, err);
}

static int check_cache(const struct url *u, struct error *err)
{
	struct cache_options o;
	int rc = check_bare(u, err);

	rc = rc ? rc : check_given(u, "near", err);
	rc = rc ? rc : check_given(u, "far", err);
	if (rc == 0 && strcmp(url_get(u, "near"), url_get(u, "far")) == 0) {
		rc = error_set(err, ERROR_INVALID, "near and far are one store");
	}
	return rc ? rc : get_cache_options(u, &o, err);
}

/* Where near is on a disk, ranges can wait there too. */
static int make_cache(struct store *out, const struct url *u, const struct store *near,
		      const struct store *far, struct error *err)
{
	struct store_needs needs cleanup(store_needs_done) = {0};
	struct error why;
	int rc = store_needs(url_get(u, "near"), &needs, err);
	const char *folder = rc == 0 && needs.folder_count ? needs.folders[0] : NULL;
	struct cache_options o = {.whole_max = CACHE_WHOLE_DEFAULT,
				  .ranges_max = CACHE_RANGES_DEFAULT,
				  .folder = folder};

	if (rc == 0) {
		rc = get_cache_options(u, &o, err);
	}
	if (rc < 0) {
		return rc;
	}
	if (folder && cache_store(out, near, far, &o, &why) == 0) {
		return 0;
	}
	if (folder) {
		log_warning("%s: in memory instead", why.text);
	}
	o.folder = NULL;
	o.ranges_max = CACHE_RANGES_MEMORY_DEFAULT;
	rc = get_cache_options(u, &o, err);
	return rc < 0 ? rc : cache_store(out, near, far, &o, err);
}

/* Near is written to and made also where far is only read. */
static int open_cache(struct store *out, const struct url *u, unsigned flags, struct error *err)
{
	unsigned near_flags =
		(flags & ~(unsigned)STORE_READ_ONLY) | STORE_CREATE | STORE_INCOMPLETE;
	struct store near cleanup(store_close) = {0}, far cleanup(store_close) = {0};
	int rc = store_open(&near, url_get(u, "near"), near_flags, err);

	if (rc == 0) {
		rc = store_open(&far, url_get(u, "far"), flags, err);
	}
	return rc < 0 ? rc : make_cache(out, u, &near, &far, err);
}

static int cache_needs(const struct url *u, struct store_needs *out, struct error *err)
{
	size_t before = out->folder_count;
	int rc = store_needs(url_get(u, "near"), out, err);

	out->writes |= out->folder_count > before;
	return rc < 0 ? rc : store_needs(url_get(u, "far"), out, err);
}

const struct store_scheme compose_cache_scheme = {
	.name = "cache",
	.form = "cache://?near=ADDRESS&far=ADDRESS",
	.parameters = cache_parameters,
	.check = check_cache,
	.open = open_cache,
	.needs = cache_needs,
};

/* ---- fallback ---- */

static const char *const fallback_parameters[] = {"stores", NULL};

typedef int (*list_visit)(void *context, size_t i, const char *address, struct error *err);

/* The addresses of a list with spaces between. */
static int each_store(const struct url *u, list_visit visit, void *context, struct error *err)
{
	char *list cleanup(cleanup_free) = xstrdup(url_get(u, "stores"));
	char *rest = list, *one;
	size_t n = 0;
	int rc = 0;

	while (rc == 0 && (one = strtok_r(rest, " \t", &rest))) {
		rc = n < FALLBACK_STORES_MAX
			     ? visit(context, n, one, err)
			     : error_set(err, ERROR_LIMIT, "more than %zu stores",
					 FALLBACK_STORES_MAX);
		n++;
	}
	return rc;
}

static int count_store(void *context, size_t i, const char *address unused,
		       struct error *err unused)
{
	*(size_t *)context = i + 1;
	return 0;
}

static int check_fallback(const struct url *u, struct error *err)
{
	size_t count = 0;
	int rc = check_bare(u, err);

	rc = rc ? rc : check_given(u, "stores", err);
	rc = rc ? rc : each_store(u, count_store, &count, err);
	return rc == 0 && count < 2 ? error_set(err, ERROR_INVALID,
						"stores are two or more, with spaces between")
				    : rc;
}

struct fallback_open {
	struct store stores[FALLBACK_STORES_MAX];
	size_t count;
	unsigned flags;
};

/* Only the first is made where it is not there: the absence of others is a fault. */
static int open_member(void *context, size_t i, const char *address, struct error *err)
{
	struct fallback_open *f = context;
	unsigned flags = i == 0 ? f->flags : f->flags & ~(unsigned)STORE_CREATE;
	int rc = store_open(&f->stores[i], address, flags, err);

	f->count += rc == 0;
	return rc;
}

static int open_fallback(struct store *out, const struct url *u, unsigned flags,
			 struct error *err)
{
	struct fallback_open f = {.flags = flags};
	int rc = each_store(u, open_member, &f, err);

	if (rc == 0) {
		fallback_store(out, f.stores, f.count);
	}
	for (size_t i = 0; i < f.count; i++) {
		store_close(&f.stores[i]);
	}
	return rc;
}

static int add_needs(void *context, size_t i unused, const char *address, struct error *err)
{
	return store_needs(address, context, err);
}

static int fallback_needs(const struct url *u, struct store_needs *out, struct error *err)
{
	return each_store(u, add_needs, out, err);
}

const struct store_scheme compose_fallback_scheme = {
	.name = "fallback",
	.form = "fallback://?stores=ADDRESS%20ADDRESS",
	.parameters = fallback_parameters,
	.check = check_fallback,
	.open = open_fallback,
	.needs = fallback_needs,
};

/* ---- read-only and lru ---- */

static int store_parameter_needs(const struct url *u, struct store_needs *out,
				 struct error *err)
{
	return store_needs(url_get(u, "store"), out, err);
}

static const char *const read_only_parameters[] = {"store", NULL};

static int check_read_only(const struct url *u, struct error *err)
{
	int rc = check_bare(u, err);

	return rc ? rc : check_given(u, "store", err);
}

static int open_read_only(struct store *out, const struct url *u, unsigned flags,
			  struct error *err)
{
	struct store inner cleanup(store_close) = {0};
	unsigned inner_flags = (flags | STORE_READ_ONLY) & ~(unsigned)STORE_CREATE;
	int rc = store_open(&inner, url_get(u, "store"), inner_flags, err);

	if (rc == 0) {
		read_only_store(out, &inner);
	}
	return rc;
}

const struct store_scheme compose_read_only_scheme = {
	.name = "read-only",
	.form = "read-only://?store=ADDRESS",
	.parameters = read_only_parameters,
	.check = check_read_only,
	.open = open_read_only,
	.needs = store_parameter_needs,
};

static const char *const lru_parameters[] = {"store", "size", NULL};

static int get_lru_size(const struct url *u, uint64_t *size, struct error *err)
{
	*size = LRU_SIZE_DEFAULT;
	return get_size(u, "size", LRU_SIZE_MIN, LRU_SIZE_MAX, size, err);
}

static int check_lru(const struct url *u, struct error *err)
{
	uint64_t size;
	int rc = check_bare(u, err);

	rc = rc ? rc : check_given(u, "store", err);
	return rc ? rc : get_lru_size(u, &size, err);
}

static int open_lru(struct store *out, const struct url *u, unsigned flags, struct error *err)
{
	struct store inner cleanup(store_close) = {0};
	uint64_t size;
	int rc = get_lru_size(u, &size, err);

	if (rc == 0) {
		rc = store_open(&inner, url_get(u, "store"), flags, err);
	}
	if (rc == 0) {
		lru_store(out, &inner, (size_t)size);
	}
	return rc;
}

const struct store_scheme compose_lru_scheme = {
	.name = "lru",
	.form = "lru://?store=ADDRESS",
	.parameters = lru_parameters,
	.check = check_lru,
	.open = open_lru,
	.needs = store_parameter_needs,
};

/* ---- parts ---- */

enum part { PART_BLOBS, PART_DIRECTORIES, PART_ROOTS, PART_PATH_INFOS, PART_COUNT };

static const char *const parts_parameters[] = {
	[PART_BLOBS] = "blobs", [PART_DIRECTORIES] = "directories",
	[PART_ROOTS] = "roots", [PART_PATH_INFOS] = "path-infos",
	[PART_COUNT] = NULL,
};

static int check_parts(const struct url *u, struct error *err)
{
	int rc = check_bare(u, err);

	for (size_t i = 0; rc == 0 && i < PART_COUNT; i++) {
		rc = check_given(u, parts_parameters[i], err);
	}
	return rc;
}

/* The first part with the same address, which is opened once. */
static size_t first_of(const struct url *u, size_t part)
{
	size_t i = 0;

	while (strcmp(url_get(u, parts_parameters[i]), url_get(u, parts_parameters[part])) !=
	       0) {
		i++;
	}
	return i;
}

/*
 * What is put into one store must be durable before another one names it, so only what is put
 * to a single store of blobs and directories can be held back as a whole.
 */
static void put_together(struct store *out, const struct store parts[PART_COUNT],
			 bool one_store)
{
	*out = (struct store){
		.blobs = blob_service_ref(parts[PART_BLOBS].blobs),
		.directories = directory_service_ref(parts[PART_DIRECTORIES].directories),
		.roots = root_nodes_ref(parts[PART_ROOTS].roots),
		.path_infos = record_table_ref(parts[PART_PATH_INFOS].path_infos),
		.seen = parts[PART_BLOBS].seen,
	};
	synced_names_wrap(out);
	if (one_store && parts[PART_BLOBS].stager) {
		out->stager = stager_ref(parts[PART_BLOBS].stager);
	}
}

static int open_parts(struct store *out, const struct url *u, unsigned flags, struct error *err)
{
	struct store parts[PART_COUNT] = {{.blobs = NULL}};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < PART_COUNT; i++) {
		size_t first = first_of(u, i);

		if (first < i) {
			store_ref(&parts[i], &parts[first]);
		} else {
			rc = store_open(&parts[i], url_get(u, parts_parameters[i]), flags, err);
		}
	}
	if (rc == 0) {
		put_together(out, parts, first_of(u, PART_DIRECTORIES) == PART_BLOBS);
	}
	for (size_t i = 0; i < PART_COUNT; i++) {
		store_close(&parts[i]);
	}
	return rc;
}

static int parts_needs(const struct url *u, struct store_needs *out, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < PART_COUNT; i++) {
		rc = store_needs(url_get(u, parts_parameters[i]), out, err);
	}
	return rc;
}

const struct store_scheme compose_parts_scheme = {
	.name = "parts",
	.form = "parts://?blobs=ADDRESS&directories=ADDRESS&roots=ADDRESS&path-infos=ADDRESS",
	.parameters = parts_parameters,
	.check = check_parts,
	.open = open_parts,
	.needs = parts_needs,
};
