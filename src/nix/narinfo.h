#pragma once

/*
 * narinfo: the text form of a path info in a binary cache, lines of "Key: value": StorePath,
 * URL, Compression (absent: bzip2), FileHash, FileSize, NarHash, NarSize, References, Deriver
 * (absent, or "unknown-deriver": none), System, Sig (any number), CA. Every line ends, so one
 * that was cut off shows. Unknown keys are passed over, as Nix does; a known key given twice
 * (but Sig), a wrong value or a missing StorePath, URL, NarHash or NarSize is ERROR_INVALID.
 */

#include "nix/path_info.h"

#define NARINFO_SIZE_MAX ((size_t)4 << 20)

/* A value; zeroed is empty. It owns what it points to. */
struct narinfo {
	struct path_info info; /* but for its node, which a narinfo does not tell */
	char *url;             /* as it stands there: mostly relative to the cache's */
	char *compression;     /* "none", "xz", "zstd", …; whatever stands there */
	char *system;          /* or NULL */
	bool has_file_hash;
	struct hash file_hash; /* of what is at url */
	bool has_file_size;
	uint64_t file_size;
};

void narinfo_done(struct narinfo *n);
/* ERROR_LIMIT for a text above NARINFO_SIZE_MAX. out is zeroed or holds an earlier one. */
int narinfo_parse(struct bytes text, struct narinfo *out, struct error *err);
/* Appends it, as Nix would write it. */
void narinfo_format(const struct narinfo *n, struct buffer *out);
