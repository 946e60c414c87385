#pragma once

/* The setuid helper of libfuse, fusermount3: mounts and unmounts for who may not. */

#include <stdbool.h>

#include "base/error.h"

/* Mounts with comma-separated options; the descriptor of the connection goes to *fd. */
int fusermount_mount(const char *mountpoint, const char *options, int *fd, struct error *err);
int fusermount_unmount(const char *mountpoint, bool lazy, struct error *err);
