#pragma once

/* The PATH arguments of the nix commands, and what they stand for. */

#include "cli/cli.h"
#include "nix/path_closure.h"

struct nix_paths {
	struct store store;
	struct path_info_service *infos;
	struct store_path *paths;
	size_t count;
};

/* /nix/store/HASH-NAME or HASH-NAME. */
int nix_path_parse(const char *argument, struct store_path *out, struct error *err);

/*
 * Opens the store and collects the paths that the arguments name, or with all, every path of
 * the store. Whether it has those that are named, is not asked. nix_paths_close() ends it, also
 * after a failure.
 */
int nix_paths_open(struct nix_paths *p, const struct cli *cli, unsigned flags, bool all,
		   char **arguments, size_t count, struct error *err);
/* Replaces the paths by their closure, what a path refers to before it. */
int nix_paths_recurse(struct nix_paths *p, struct error *err);
/* One more. */
void nix_paths_add(struct nix_paths *p, const struct store_path *path);
void nix_paths_close(struct nix_paths *p);
/* Doer: the info must be there. */
int nix_paths_get(struct nix_paths *p, const struct store_path *path, struct path_info *out,
		  struct error *err);

/*
 * What commands check that take --all or PATH...: false after a usage message, when there is
 * neither or both.
 */
bool nix_paths_check(const struct cli_command *command, bool all, size_t count);
