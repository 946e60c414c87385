#pragma once

/*
 * NAR: the archive format that Nix hashes and sends; what its writer, its views and its readers
 * share. A string is its length (64 bits, little-endian), its bytes, and zeros up to a multiple
 * of
 * 8. A NAR is the string "nix-archive-1" and a node, which is one of
 *   ( type regular [executable ""] contents <bytes> )
 *   ( type symlink target <target> )
 *   ( type directory (entry ( name <name> node <node> ))* )   names strictly ascending
 * every word and parenthesis a string. So one tree has one NAR.
 */

#include <stdatomic.h>

#include "castore/node.h"

/* Directories below each other: what a path of PATH_MAX bytes can have. */
#define NAR_DEPTH_MAX 2048
/* Bytes of a NAR, and of a file in it: offsets are signed in most places they go to. */
#define NAR_SIZE_MAX ((uint64_t)INT64_MAX)

/* Takes a NAR piece by piece, in order; called by one thread at a time. */
struct nar_sink {
	int (*write)(struct nar_sink *s, struct bytes data, struct error *err);
};

/* Where a NAR comes from: up to len bytes, at least one; *got 0 is the end. */
struct nar_source {
	int (*read)(struct nar_source *s, void *buf, size_t len, size_t *got,
		    struct error *err);
};

struct nar_stats {
	_Atomic uint64_t files;
	_Atomic uint64_t directories;
	_Atomic uint64_t symlinks;
	_Atomic uint64_t bytes; /* of the NAR */
};

struct nar_options {
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
	struct nar_stats *stats;   /* may be NULL; counted while it runs */
};
