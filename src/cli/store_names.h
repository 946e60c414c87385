#pragma once

/* Copies of all names of a store, because a provider must not be asked while it lists. */

#include "services/store.h"

struct store_name {
	struct buffer name;
	struct root_node node;
};

/* Zeroed is empty. */
struct store_names {
	struct store_name *items;
	size_t count;
	size_t capacity;
};

void store_names_done(struct store_names *n);
/* Adds the names of trees. */
int store_names_add_roots(struct store_names *n, struct store *store, struct error *err);
/* Adds the store paths that have a path info, with /nix/store/ before them. */
int store_names_add_paths(struct store_names *n, struct store *store, struct error *err);
