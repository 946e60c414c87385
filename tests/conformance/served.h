#pragma once

/* Stores behind a server of their own in this process, and reached through it. */

#include "services/store.h"

enum served_kind {
	SERVED_UNIX,
	SERVED_TCP,
	SERVED_TLS,
	SERVED_PLAIN, /* on a Unix socket, without what only a cairn offers */
	SERVED_KINDS
};

/* Opens `out` as a client of a new server over inner, which is kept as long as that runs. */
void served_open(struct store *out, const struct store *inner, enum served_kind kind);
/* What the last one has behind it; NULL when there is none. */
struct store *served_behind(void);
/* When the clients are closed. */
void served_stop_all(void);
