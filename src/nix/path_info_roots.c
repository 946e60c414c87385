/* RootNodes over path infos: what a mount shows as /nix/store. */

#include "nix/path_info_service.h"

struct path_info_roots {
	struct root_nodes base;
	struct path_info_service *infos; /* a reference */
};

static struct path_info_service *infos_of(struct root_nodes *r)
{
	return container_of(r, struct path_info_roots, base)->infos;
}

static void roots_destroy(struct root_nodes *r)
{
	path_info_service_unref(infos_of(r));
	free(container_of(r, struct path_info_roots, base));
}

static int roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err)
{
	struct path_info info cleanup(path_info_done) = {0};
	struct store_path path;

	if (store_path_parse_basename(name, &path, NULL) < 0) {
		return 0;
	}
	int rc = path_info_service_get(infos_of(r), path.hash, &info, err);

	if (rc > 0 && store_path_compare(&info.path, &path) != 0) {
		rc = 0;
	}
	if (rc > 0) {
		root_node_set(out, &info.node.node);
	}
	return rc;
}

struct listing {
	struct bytes after;
	root_nodes_visit visit;
	void *context;
	bool stopped;
};

static bool visit_info(void *context, const struct path_info *info)
{
	struct listing *l = context;
	char text[STORE_PATH_BASENAME_MAX + 1];
	struct bytes name = bytes_of(text, store_path_basename(&info->path, text));

	if (bytes_compare(name, l->after) > 0) {
		l->stopped = !l->visit(l->context, name, &info->node.node);
	}
	return !l->stopped;
}

/*
 * A store path is gone on from at its hash; there may be another one with this hash, and a
 * greater name. After any other name, all are looked at.
 */
static int roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	struct path_info same cleanup(path_info_done) = {0};
	struct listing l = {.after = after, .visit = visit, .context = context};
	struct store_path path;

	if (store_path_parse_basename(after, &path, NULL) < 0) {
		return path_info_service_list(infos_of(r), NULL, visit_info, &l, err);
	}
	int rc = path_info_service_get(infos_of(r), path.hash, &same, err);

	if (rc < 0 || (rc > 0 && !visit_info(&l, &same))) {
		return MIN(rc, 0);
	}
	return path_info_service_list(infos_of(r), path.hash, visit_info, &l, err);
}

static int roots_put(struct root_nodes *r unused, struct bytes name unused,
		     const struct node *node unused, bool replace unused, struct error *err)
{
	return error_set(err, ERROR_UNSUPPORTED, "store paths are named by their path infos");
}

static int roots_remove(struct root_nodes *r unused, struct bytes name unused,
			struct error *err)
{
	return error_set(err, ERROR_UNSUPPORTED, "store paths are named by their path infos");
}

static const struct root_nodes_ops roots_ops = {
	.name = "nix",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *path_info_roots_new(struct path_info_service *s)
{
	struct path_info_roots *r = xcalloc(1, sizeof(*r));

	root_nodes_init(&r->base, &roots_ops);
	r->infos = path_info_service_ref(s);
	r->base.is_local = path_info_service_is_local(s);
	return &r->base;
}
