#pragma once

/* A listening Unix stream socket with a name in the file system. */

#include <sys/types.h>

#include "base/error.h"

struct unix_listener_options {
	mode_t mode; /* who may connect needs permission to write */
	uid_t owner; /* (uid_t)-1 and (gid_t)-1: as a new file */
	gid_t group;
};

struct unix_listener;

/*
 * The name appears when the socket listens and has its mode and owner. What a process that died
 * has left is replaced; a socket that somebody listens on, and any other file, is ERROR_EXISTS.
 */
int unix_listener_new(const char *path, const struct unix_listener_options *o,
		      struct unix_listener **out, struct error *err);
/* Removes the name, if it is still this socket's. NULL is allowed. */
void unix_listener_free(struct unix_listener *l);

/* The descriptor; it stays the listener's. */
int unix_listener_fd(const struct unix_listener *l);
/* The absolute folder of the name. */
const char *unix_listener_folder(const struct unix_listener *l);

/* That a descriptor from elsewhere is a listening Unix stream socket. */
int unix_listener_check(int fd, struct error *err);
