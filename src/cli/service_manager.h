#pragma once

/* The protocols of a service manager, as systemd(1) speaks them: readiness and sockets. */

#include <stddef.h>

#include "base/error.h"

/*
 * Tells it a state such as "READY=1", if there is one. Its absence or deafness is no fault of
 * ours.
 */
void service_manager_notify(const char *state);

/* Connects already; before entering a sandbox, in which that is not possible. */
void service_manager_connect(void);

/*
 * The listening sockets that it has opened for this process ($LISTEN_FDS), to be closed by the
 * caller; how many there are, at most max.
 */
int service_manager_sockets(int *fds, size_t max, size_t *count, struct error *err);
