/* JSON that claims to tell of store paths: what is taken keeps the rules, and its order. */

#include <stdint.h>
#include <stdlib.h>

#include "nix/path_graph.h"

#include "fuzz.h"

/* Said once more, so that the code under test does not judge itself. */
static void check_rules(const struct path_info *info)
{
	check(info->nar_size != 0 && info->path.name_len >= 1);
	for (size_t i = 0; i < info->reference_count; i++) {
		check(info->references[i].name_len >= 1);
		check(i == 0 ||
		      store_path_compare(&info->references[i - 1], &info->references[i]) < 0);
	}
	check(info->signature_count <= PATH_INFO_SIGNATURES_MAX);
	check(!info->has_ca || path_info_content_addressed(info));
}

/* A path before what it refers to is only right in a circle. */
static bool leads_to(const struct path_graph *g, size_t from, size_t to, bool *seen)
{
	if (from == to) {
		return true;
	}
	seen[from] = true;
	for (size_t i = 0; i < g->infos[from].reference_count; i++) {
		size_t k = path_graph_find(g, &g->infos[from].references[i]);

		if (k < g->count && !seen[k] && leads_to(g, k, to, seen)) {
			return true;
		}
	}
	return false;
}

static void check_order(const struct path_graph *g)
{
	for (size_t i = 0; i < g->count; i++) {
		check(path_graph_find(g, &g->infos[i].path) == i);
		for (size_t k = 0; k < g->infos[i].reference_count; k++) {
			size_t number = path_graph_find(g, &g->infos[i].references[k]);
			bool *seen = calloc(g->count, sizeof(*seen));

			check(seen != NULL);
			check(number == g->count || number <= i ||
			      leads_to(g, number, i, seen));
			free(seen);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct path_graph g = {0};
	struct error err = {0};

	if (path_graph_add(&g, bytes_of(data, size), NULL, &err) < 0) {
		check((err.code == ERROR_INVALID || err.code == ERROR_LIMIT) && told(&err));
	} else {
		/* The same again says nothing new. */
		size_t count = g.count;

		check(path_graph_add(&g, bytes_of(data, size), NULL, &err) == 0);
		check(g.count == count);
		for (size_t i = 0; i < g.count; i++) {
			check_rules(&g.infos[i]);
		}
		path_graph_sort(&g);
		if (g.count <= 64) {
			check_order(&g);
		}
	}
	path_graph_done(&g);
	return 0;
}
