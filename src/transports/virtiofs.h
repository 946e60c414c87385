#pragma once

/*
 * Shows a file system to virtual machines: the device end of vhost-user, for the virtiofs of
 * QEMU and other hypervisors, which connect to a Unix socket.
 *
 * Every connection is a guest with a thread, a pool and a struct fs of its own. What one of
 * them does is never felt by another.
 */

#include "base/error.h"
#include "fs/fs.h"

/* Guests at one time; more are turned away. */
#define VIRTIOFS_GUESTS_MAX 1024u

struct virtiofs_options {
	struct fs_options fs; /* a struct fs is made of it for each guest */
	unsigned threads;     /* for each guest; 0: default; 1: answer everything in turn */
	bool once;            /* end when the first guest has gone */
};

struct virtiofs_server;

/* listener: a listening Unix stream socket, borrowed. No thread is started yet. */
int virtiofs_server_new(int listener, const struct virtiofs_options *o,
			struct virtiofs_server **out, struct error *err);
/* Serves guests, any number after one another, until stopped. Once. */
int virtiofs_server_run(struct virtiofs_server *s, struct error *err);
/* Async-signal-safe, any thread, also before run: makes run end its guests and return 0. */
void virtiofs_server_stop(struct virtiofs_server *s);
/* NULL is allowed. */
void virtiofs_server_free(struct virtiofs_server *s);
