#pragma once

/*
 * Import: a file, a symlink or a directory tree of the file system into a store.
 *
 * Kept are names, contents, symlink targets and whether a file's owner may execute it. What a
 * store cannot hold (sockets, devices, FIFOs) is an error or, if so wished, left out. A file
 * that changes while it is read is an error (ERROR_CHANGED), and so is anything that cannot be
 * read: what is imported is complete, or nothing is.
 *
 * Nothing is made visible: the caller puts the root under a name, or calls store_sync().
 */

#include <stdatomic.h>
#include <sys/types.h>

#include "services/store.h"

/* Directories below each other. */
#define INGEST_DEPTH_MAX 2048

/* Counted while the import runs; any thread may read them for a display. */
struct ingest_stats {
	_Atomic uint64_t files;
	_Atomic uint64_t directories;
	_Atomic uint64_t symlinks;
	_Atomic uint64_t skipped;    /* sockets, devices and FIFOs left out */
	_Atomic uint64_t bytes;      /* of all files */
	_Atomic uint64_t bytes_read; /* of those that were not known from an earlier import */
};

struct ingest_options {
	unsigned threads;     /* 0: one for each CPU, at most 16 */
	bool use_seen;        /* trust the store's memory of unchanged files (seen_cache.h) */
	bool skip_special;    /* leave out sockets, devices and FIFOs */
	bool one_file_system; /* a mount point below the root becomes an empty directory */
	bool count_twice;     /* sizes of directories: see directory_node_counted_twice() */
	/*
	 * A directory that must not be in the tree: the one of the store itself, which grows
	 * while it is read. Device 0 and inode 0: none.
	 */
	dev_t store_device;
	ino_t store_inode;
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
};

/*
 * A symlink as path is imported itself, not what it points to. out is zeroed or holds an
 * earlier node. options and stats may be NULL.
 */
int ingest_path(struct store *store, const char *path, const struct ingest_options *options,
		struct root_node *out, struct ingest_stats *stats, struct error *err);
