#pragma once

/* Plain files registered with the kernel for FUSE passthrough, on a connection's descriptor. */

#include <stdint.h>

#include "base/error.h"

/*
 * Doer: ERROR_DENIED when this process may not register files, which takes CAP_SYS_ADMIN
 * outside of any user namespace. Whether the kernel knows of passthrough at all, INIT tells.
 */
int fuse_backing_permitted(struct error *err);

/*
 * Registers an open regular file (borrowed) under an id. Reading through the id does not change
 * the file's access time, if the system can do that.
 */
int fuse_backing_open(int dev_fd, int fd, uint32_t *id, struct error *err);
void fuse_backing_close(int dev_fd, uint32_t id);
