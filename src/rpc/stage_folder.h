#pragma once

/*
 * Folders of this machine for what is staged above a peer. Each is locked (flock) by its owner,
 * so that who makes the next one can remove those whose owners were killed.
 */

#include "base/error.h"

struct stage_folder;

/* In $TMPDIR, or /tmp. */
int stage_folder_new(struct stage_folder **out, struct error *err);
/* Removes it, with all that is in it. NULL is allowed. */
void stage_folder_free(struct stage_folder *f);
const char *stage_folder_path(const struct stage_folder *f);
