#pragma once

/* What the nar commands share: the NAR that they read, and how they tell of hashes. */

#include "cli/cli.h"
#include "cli/json.h"
#include "nix/nar_source.h"

/* Where a NAR is read from. */
struct nar_file {
	struct nar_fd_source source;
	const char *name; /* for messages */
	int fd;           /* -1: not open */
};

/*
 * NULL or "-" is standard input, which must not be a terminal. nar_file_close() ends it, also
 * after a failure. cancel may be NULL.
 */
int nar_file_open(struct nar_file *f, const char *path, const atomic_bool *cancel,
		  struct error *err);
void nar_file_close(struct nar_file *f);

/*
 * What a command that read the NAR returned, and returns: a broken NAR is corrupt data, not a
 * wrong argument, and the message says which file it is.
 */
int nar_file_result(const struct nar_file *f, int r, struct error *err);

/* narHash (SRI) and narSize, as Nix calls them. */
void json_nar(struct json *j, const uint8_t sha256[SHA256_SIZE], uint64_t size);
