#pragma once

/* The protocols of a service manager, as systemd(1) speaks them: readiness and sockets. */

#include "base/error.h"

/*
 * Tells it a state such as "READY=1", if there is one. Its absence or deafness is no fault of
 * ours.
 */
void service_manager_notify(const char *state);

/* Connects already; before entering a sandbox, in which that is not possible. */
void service_manager_connect(void);

/*
 * Asker: the listening socket that it has opened for this process ($LISTEN_FDS), to be closed
 * by the caller; 0 when there is none. More than one is an error.
 */
int service_manager_socket(int *fd, struct error *err);
