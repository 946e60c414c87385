#pragma once

/* The protocols of a service manager, as systemd(1) speaks them: readiness. */

/*
 * Tells it a state such as "READY=1", if there is one. Its absence or deafness is no fault of
 * ours.
 */
void service_manager_notify(const char *state);
