#pragma once

/* Where NARs come from, for nar_reader.h and those above it. */

#include "nix/hash.h"
#include "nix/nar.h"

/* A file, a pipe or a socket. */
struct nar_fd_source {
	struct nar_source base;
	int fd;                    /* borrowed */
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
};

void nar_fd_source_init(struct nar_fd_source *s, int fd, const atomic_bool *cancel);

/* Another source, hashed on the way: what of it was read is in the hash. */
struct nar_hashed_source {
	struct nar_source base;
	struct nar_source *inner;   /* borrowed */
	struct hash_stream *stream; /* borrowed */
};

void nar_hashed_source_init(struct nar_hashed_source *s, struct nar_source *inner,
			    struct hash_stream *stream);
