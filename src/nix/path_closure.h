#pragma once

/*
 * Store paths and all that they refer to, with their infos, in memory. Belongs to one thread.
 */

#include "nix/path_info_service.h"

/* More would be no closure that anybody can use, and takes gigabytes to hold. */
#define PATH_CLOSURE_MAX ((size_t)1 << 22)

struct path_closure;

/* The service must outlive it. */
struct path_closure *path_closure_new(struct path_info_service *infos);
void path_closure_free(struct path_closure *c);
DEFINE_CLEANUP(cleanup_path_closure, struct path_closure *, path_closure_free)

/*
 * Adds a path and its closure. ERROR_NOT_FOUND when the path has no info, or one that it refers
 * to: then the message says both. After an error, only path_closure_free.
 */
int path_closure_add(struct path_closure *c, const struct store_path *path, struct error *err);

/*
 * What a path refers to comes before it (where paths refer to each other in a circle, one of
 * them does not). The info is borrowed.
 */
size_t path_closure_count(const struct path_closure *c);
const struct path_info *path_closure_get(const struct path_closure *c, size_t i);
/*
 * The sum of the sizes of the NARs of a path, which was added, and of all that it refers to;
 * UINT64_MAX at most.
 */
uint64_t path_closure_size(struct path_closure *c, const struct store_path *path);
