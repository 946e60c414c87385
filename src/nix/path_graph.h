#pragma once

/*
 * Graphs of store paths, as Nix tells them in JSON, into path infos. Forms:
 *   - an object with a member, "closure" or another, that is one of those below: what a
 *     derivation gets through exportReferencesGraph with structured attributes
 *   - a list of {"path", "narHash", "narSize", "references", …}: also what Nix up to 2.18
 *     prints with `nix path-info --json`
 *   - an object of {PATH: {"narHash", "narSize", "references", …}}: Nix from 2.19 on
 * "ca", "deriver" and "signatures" are taken where they are; what else there is, is passed
 * over. Paths stand with or without /nix/store/ before them. The infos have no node.
 */

#include "base/json_document.h"
#include "castore/digest_map.h"
#include "nix/path_info.h"

#define PATH_GRAPH_MAX ((size_t)1 << 19)

/* A value; zeroed is empty. It owns what it points to. */
struct path_graph {
	struct path_info *infos;
	size_t count, capacity;
	struct digest_map numbers; /* store_path_key() -> number of the info */
};

void path_graph_done(struct path_graph *g);
/*
 * Adds what a text tells. key: the member that is meant; NULL takes "closure", or all of the
 * text when it has no such member. What is there already must be said again as it was, but for
 * its signatures, which are collected. ERROR_INVALID, saying what is wrong with which path;
 * ERROR_LIMIT. After an error, only path_graph_done().
 */
int path_graph_add(struct path_graph *g, struct bytes text, const char *key, struct error *err);
/* The number of a path, or g->count when it is not there. */
size_t path_graph_find(const struct path_graph *g, const struct store_path *path);
/*
 * Orders the infos: what a path refers to before it (where paths refer to each other in a
 * circle, one of them does not).
 */
void path_graph_sort(struct path_graph *g);
