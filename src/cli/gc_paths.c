#include "cli/gc_paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "nix/path_info_service.h"

#define REMOVED_AT_ONCE 4096

/* While it decides. */
struct choice {
	struct gc_paths *paths;
	struct store *store;
	struct path_info_service *infos;
	struct digest_map kept;  /* store_path_key() */
	struct digest_map nodes; /* digests of what has a name */
	struct buffer waiting;   /* struct store_path, whose references are to be followed */
	struct buffer all;       /* struct store_path: what there was, and no more */
	struct buffer going;     /* likewise */
	uint64_t now;
	struct error *err;
	int rc;
};

static void keep(struct choice *c, const struct store_path *path)
{
	struct digest key = store_path_key(path);

	if (digest_map_put(&c->kept, &key, 0)) {
		buffer_append(&c->waiting, path, sizeof(*path));
	}
}

/* What is referred to and has no info is not in the store. */
static int follow(struct choice *c, struct error *err)
{
	struct path_info info cleanup(path_info_done) = {.nar_size = 0};
	struct store_path path;
	int r = 0;

	while (r >= 0 && c->waiting.len) {
		c->waiting.len -= sizeof(path);
		memcpy(&path, c->waiting.ptr + c->waiting.len, sizeof(path));
		r = path_info_service_get(c->infos, path.hash, &info, err);
		for (size_t i = 0; r > 0 && i < info.reference_count; i++) {
			keep(c, &info.references[i]);
		}
	}
	return MIN(r, 0);
}

static bool keep_named(void *context, struct bytes name, const struct node *node)
{
	struct choice *c = context;
	struct store_path path;

	if (store_path_parse_basename(name, &path, NULL) == 0) {
		keep(c, &path);
	}
	if (node->kind != NODE_SYMLINK) {
		digest_map_put(&c->nodes, &node->digest, 0);
	}
	return true;
}

static bool is_kept_itself(const struct choice *c, const struct path_info *info)
{
	const struct node *node = &info->node.node;
	uint64_t written;

	if (c->paths->mode == GC_PATHS_ALL ||
	    (node->kind != NODE_SYMLINK && digest_map_get(&c->nodes, &node->digest))) {
		return true;
	}
	return c->paths->within && store_written(node, &written) > 0 &&
	       written + c->paths->within >= c->now;
}

static bool keep_for_itself(void *context, const struct path_info *info)
{
	struct choice *c = context;

	buffer_append(&c->all, &info->path, sizeof(info->path));
	if (is_kept_itself(c, info)) {
		keep(c, &info->path);
	}
	return true;
}

static int keep_line(struct choice *c, char *line, size_t number, struct error *err)
{
	struct store_path path;
	size_t len = strcspn(line, "\r\n");

	line[len] = '\0';
	if (len == 0) {
		return 0;
	}
	struct bytes text = bytes_of_string(line);
	int r = line[0] == '/' ? store_path_parse(text, &path, err)
			       : store_path_parse_basename(text, &path, err);

	if (r < 0) {
		return error_wrap(err, "%s, line %zu", c->paths->list, number);
	}
	keep(c, &path);
	return 0;
}

static int keep_listed(struct choice *c, struct error *err)
{
	FILE *file = strcmp(c->paths->list, "-") == 0 ? stdin : fopen(c->paths->list, "re");
	char *line cleanup(cleanup_free) = NULL;
	size_t room = 0, number = 0;
	int r = file ? 0 : error_set_errno(err, errno, "cannot open %s", c->paths->list);

	while (r == 0 && getline(&line, &room, file) >= 0) {
		r = keep_line(c, line, ++number, err);
	}
	if (r == 0 && ferror(file)) {
		r = error_set_errno(err, errno, "cannot read %s", c->paths->list);
	}
	if (file && file != stdin) {
		(void)fclose(file);
	}
	return r;
}

/* What came since they were listed is not among them: nobody decided about it. */
static void find_going(struct choice *c)
{
	struct store_path path;

	for (size_t at = 0; at < c->all.len; at += sizeof(path)) {
		memcpy(&path, c->all.ptr + at, sizeof(path));
		struct digest key = store_path_key(&path);

		if (digest_map_get(&c->kept, &key)) {
			c->paths->kept++;
		} else {
			digest_map_put(&c->paths->going, &key, 0);
			buffer_append(&c->going, &path, sizeof(path));
		}
	}
}

static int choose(struct choice *c, struct error *err)
{
	int r = 0;

	if (c->paths->mode == GC_PATHS_ROOTS) {
		r = root_nodes_list(c->store->roots, bytes_of(NULL, 0), keep_named, c, err);
	}
	if (r == 0 && c->paths->list) {
		r = keep_listed(c, err);
	}
	if (r == 0) {
		r = path_info_service_list(c->infos, NULL, keep_for_itself, c, err);
	}
	if (r == 0) {
		r = follow(c, err);
	}
	if (r == 0) {
		find_going(c);
	}
	return r;
}

static int take_away(struct choice *c, struct error *err)
{
	const struct store_path *all = (const struct store_path *)(const void *)c->going.ptr;
	size_t count = c->going.len / sizeof(*all);
	int r = 0;

	for (size_t at = 0; r == 0 && at < count; at += REMOVED_AT_ONCE) {
		size_t removed = 0;

		r = path_info_service_remove_many(c->infos, all + at,
						  MIN(count - at, (size_t)REMOVED_AT_ONCE),
						  &removed, err);
		c->paths->removed += removed;
	}
	return r;
}

int gc_paths_choose(struct gc_paths *p, struct store *store, bool dry_run, struct error *err)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(store);
	struct choice c = {
		.paths = p, .store = store, .infos = infos, .now = (uint64_t)time(NULL)};
	int r = choose(&c, err);

	if (r == 0 && dry_run) {
		p->removed = c.going.len / sizeof(struct store_path);
	} else if (r == 0) {
		r = take_away(&c, err);
		/* One that comes again is a new one. */
		digest_map_done(&p->going);
	}
	digest_map_done(&c.kept);
	digest_map_done(&c.nodes);
	buffer_done(&c.waiting);
	buffer_done(&c.all);
	buffer_done(&c.going);
	return r;
}

void gc_paths_done(struct gc_paths *p)
{
	digest_map_done(&p->going);
}

int gc_paths_tree(void *context, struct bytes key unused, struct bytes value,
		  struct root_node *out, struct error *err)
{
	const struct gc_paths *p = context;
	struct path_info info cleanup(path_info_done) = {.nar_size = 0};
	int r = path_info_decode(value, &info, err);

	if (r < 0) {
		struct error why = *err;

		return error_set(err, ERROR_CORRUPT, "a path info of the store is damaged: %s",
				 why.text);
	}
	struct digest path = store_path_key(&info.path);

	if (digest_map_get(&p->going, &path)) {
		return 0;
	}
	root_node_set(out, &info.node.node);
	return 1;
}
