#pragma once

/*
 * Export: a tree of a store back into the file system.
 *
 * Directories get mode 0755, files 0644 or 0755, less the umask; owners and times are those of
 * newly made files. Long runs of zeros become holes. Nothing outside of the destination is
 * touched, whatever the tree holds: symlinks in it are made, never followed.
 */

#include <stdatomic.h>

#include "services/store.h"

/* Directories below each other. */
#define EXPORT_DEPTH_MAX 2048

/* Counted while the export runs; any thread may read them for a display. */
struct export_stats {
	_Atomic uint64_t files;
	_Atomic uint64_t directories;
	_Atomic uint64_t symlinks;
	_Atomic uint64_t bytes;
};

struct export_options {
	unsigned threads; /* at most 16; 0: one for each CPU, 8 when the store is far */
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
};

/*
 * dest must not exist (ERROR_EXISTS), or be an empty directory when root is a directory. After
 * another failure the destination is incomplete, and the message says so. options and stats may
 * be NULL.
 */
int export_tree(struct store *store, const struct node *root, const char *dest,
		const struct export_options *options, struct export_stats *stats,
		struct error *err);
