#include "cli/store_names.h"

#include "nix/path_info_service.h"

void store_names_done(struct store_names *n)
{
	for (size_t i = 0; i < n->count; i++) {
		buffer_done(&n->items[i].name);
		root_node_done(&n->items[i].node);
	}
	free(n->items);
	*n = (struct store_names){0};
}

static bool add_name(void *context, struct bytes name, const struct node *node)
{
	struct store_names *n = context;

	if (n->count == n->capacity) {
		n->capacity = MAX(16, n->capacity * 2);
		n->items = xrealloc(n->items, n->capacity * sizeof(n->items[0]));
	}
	struct store_name *added = &n->items[n->count++];

	*added = (struct store_name){0};
	buffer_append(&added->name, name.ptr, name.len);
	root_node_set(&added->node, node);
	return true;
}

int store_names_add_roots(struct store_names *n, struct store *store, struct error *err)
{
	return root_nodes_list(store->roots, (struct bytes){0}, add_name, n, err);
}

static bool add_path(void *context, const struct path_info *info)
{
	return add_name(context, bytes_of_string(store_path_text(&info->path)),
			&info->node.node);
}

int store_names_add_paths(struct store_names *n, struct store *store, struct error *err)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(store);

	return path_info_service_list(infos, NULL, add_path, n, err);
}
