#include "cli/nix_paths.h"

int nix_path_parse(const char *argument, struct store_path *out, struct error *err)
{
	struct bytes text = bytes_of_string(argument);
	int r = argument[0] == '/' ? store_path_parse(text, out, err)
				   : store_path_parse_basename(text, out, err);

	return r < 0 ? error_wrap(err, "'%s'", bytes_printable(text)) : 0;
}

struct collection {
	struct nix_paths *paths;
	size_t capacity;
};

static bool collect(void *context, const struct path_info *info)
{
	struct collection *c = context;
	struct nix_paths *p = c->paths;

	if (p->count == c->capacity) {
		c->capacity = MAX(c->capacity * 2, (size_t)64);
		p->paths = xrealloc(p->paths, c->capacity * sizeof(*p->paths));
	}
	p->paths[p->count++] = info->path;
	return p->count < PATH_CLOSURE_MAX;
}

static int collect_all(struct nix_paths *p, struct error *err)
{
	struct collection c = {.paths = p};
	int r = path_info_service_list(p->infos, NULL, collect, &c, err);

	if (r == 0 && p->count >= PATH_CLOSURE_MAX) {
		r = error_set(err, ERROR_LIMIT, "the store has more than %zu store paths",
			      PATH_CLOSURE_MAX);
	}
	return r;
}

static int parse_all(struct nix_paths *p, char **arguments, size_t count, struct error *err)
{
	int r = 0;

	p->paths = xcalloc(count + 1, sizeof(*p->paths));
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = nix_path_parse(arguments[i], &p->paths[p->count++], err);
	}
	return r;
}

int nix_paths_open(struct nix_paths *p, const struct cli *cli, unsigned flags, bool all,
		   char **arguments, size_t count, struct error *err)
{
	*p = (struct nix_paths){0};
	int r = parse_all(p, arguments, count, err);

	if (r == 0) {
		r = cli_open_store(cli, flags, &p->store, err);
	}
	if (r == 0) {
		p->infos = path_info_store_new(&p->store);
		r = all ? collect_all(p, err) : 0;
	}
	return r;
}

int nix_paths_recurse(struct nix_paths *p, struct error *err)
{
	struct path_closure *c cleanup(cleanup_path_closure) = path_closure_new(p->infos);
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->count; i++) {
		r = path_closure_add(c, &p->paths[i], err);
	}
	if (r < 0) {
		return r;
	}
	p->count = path_closure_count(c);
	p->paths = xrealloc(p->paths, (p->count + 1) * sizeof(*p->paths));
	for (size_t i = 0; i < p->count; i++) {
		p->paths[i] = path_closure_get(c, i)->path;
	}
	return 0;
}

void nix_paths_add(struct nix_paths *p, const struct store_path *path)
{
	p->paths = xrealloc(p->paths, (p->count + 1) * sizeof(*p->paths));
	p->paths[p->count++] = *path;
}

void nix_paths_close(struct nix_paths *p)
{
	path_info_service_unref(p->infos);
	store_close(&p->store);
	free(p->paths);
	*p = (struct nix_paths){0};
}

int nix_paths_get(struct nix_paths *p, const struct store_path *path, struct path_info *out,
		  struct error *err)
{
	int r = path_info_service_get(p->infos, path->hash, out, err);

	if (r > 0 && store_path_compare(&out->path, path) != 0) {
		r = 0;
	}
	if (r == 0) {
		return error_set(err, ERROR_NOT_FOUND, "%s: not in the store",
				 store_path_text(path));
	}
	return MIN(r, 0);
}

bool nix_paths_check(const struct cli_command *command, bool all, size_t count)
{
	if (all && count) {
		cli_usage(command, "--all takes no paths");
	} else if (!all && !count) {
		cli_usage(command, "a store path is missing");
	}
	return all != (count > 0);
}
