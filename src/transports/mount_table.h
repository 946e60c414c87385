#pragma once

/* What this process sees mounted. */

#include "base/error.h"

#define MOUNT_TYPE_MAX 64

/*
 * The type of the file system that is mounted on an absolute path without symlinks; of several,
 * the one on top. Asker. Does not touch the file system itself, whose server may be dead.
 */
int mount_table_type(const char *path, char type[MOUNT_TYPE_MAX], struct error *err);
