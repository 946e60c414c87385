#pragma once

/* Root-relative paths inside a tree: names joined by '/'. */

#include "castore/directory.h"

#define PATH_BYTES_MAX ((size_t)1 << 20)

/*
 * Takes the next name off the front of *rest. Asker: 1 and the name, 0 when nothing is left,
 * ERROR_INVALID for a name that no directory can hold ("", ".", "..", NUL, too long).
 * The empty path has no names. Leading, trailing and doubled slashes are not accepted; a caller
 * that takes paths from people trims them first.
 */
int path_next(struct bytes *rest, struct bytes *name, struct error *err);

typedef int (*path_get)(void *context, const struct digest *digest, struct directory **out,
			struct error *err);

/*
 * Finds the node at a path below root. Asker: 0 when some name on the way is absent, or stands
 * below a file or symlink (symlinks are not followed). A Directory object that the way needs
 * and get reports absent is ERROR_UNAVAILABLE. Where the node is a symlink, its target is
 * copied into target_storage and borrowed from there.
 */
int path_lookup(const struct node *root, struct bytes path, path_get get, void *context,
		struct node *out, struct buffer *target_storage, struct error *err);
