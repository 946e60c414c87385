#pragma once

/*
 * One guest: its file system, and the thread that takes its requests from the rings.
 *
 * That thread answers at once whatever needs no waiting, and a pool gets the rest, as with
 * /dev/fuse. Requests and replies are copied out of and into guest memory: what is checked or
 * hashed is never where the guest could change it meanwhile.
 */

#include "fs/fs.h"

struct guest;

struct guest_options {
	const struct fs_options *fs;
	unsigned threads; /* that thread among them; 0: default */
	unsigned number;  /* names it in the log */
};

/* Takes over the connection to the front end, also when it fails. */
int guest_new(int socket, const struct guest_options *o, struct guest **out, struct error *err);
/* NULL is allowed. */
void guest_free(struct guest *g);

/*
 * Serves until the front end goes, or guest_stop was called, or the front end breaks the
 * protocol, which is an error.
 */
int guest_run(struct guest *g, struct error *err);
/* Any thread, also before run. */
void guest_stop(struct guest *g);
