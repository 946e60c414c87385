#pragma once

/* Which path infos a collection of garbage keeps. */

#include "castore/digest_map.h"
#include "cli/cli.h"

enum gc_paths_mode { GC_PATHS_ALL, GC_PATHS_ROOTS, GC_PATHS_NONE };

struct gc_paths {
	enum gc_paths_mode mode;
	const char *list;        /* a file with store paths; NULL: none */
	uint64_t within;         /* seconds: written so lately; 0: none */
	struct digest_map going; /* in a dry run: store_path_key() of those that would go */
	size_t kept, removed;
};

/*
 * Decides, and unless dry_run takes those away that are not kept. What a path that is kept
 * refers to is kept.
 */
int gc_paths_choose(struct gc_paths *p, struct store *store, bool dry_run, struct error *err);
void gc_paths_done(struct gc_paths *p);
/* For struct store_collect_options; context: struct gc_paths. */
int gc_paths_tree(void *context, struct bytes key, struct bytes value, struct root_node *out,
		  struct error *err);
