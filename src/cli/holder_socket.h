#pragma once

/*
 * Where a holder can be asked for something: an abstract Unix socket whose name says which
 * mount it is about. Anybody may take such names, so both sides look who the other one is.
 */

#include "base/error.h"

struct holder_socket;

/* For whatever is mounted there. */
int holder_socket_new(const char *mountpoint, struct holder_socket **out, struct error *err);
/* NULL is allowed. */
void holder_socket_free(struct holder_socket *s);
/* Readable when somebody comes; -1 for NULL. */
int holder_socket_fd(const struct holder_socket *s);
/* A connection of this user or of root; -1: there was none. */
int holder_socket_accept(struct holder_socket *s);

/*
 * Asker: a connection to the holder of what is mounted at an absolute path without symlinks; 0:
 * it has none that could be asked. Only the mount's owner is taken for that.
 */
int holder_socket_connect(const char *mountpoint, int *out, struct error *err);
