#pragma once

/*
 * SIGINT, SIGTERM and SIGHUP, for a command that serves until it gets one of them. In the
 * thread that serves; all others block signals.
 */

#include <signal.h>

/* Until there is something to stop: no signal may leave a mount or a socket behind. */
void stop_signals_block(sigset_t *before);
/*
 * From now on such a signal calls stop(object), which is async-signal-safe; also one that came
 * meanwhile. mask: what stop_signals_block() gave.
 */
void stop_signals_handle(void (*stop)(void *object), void *object, const sigset_t *mask);
/* From now on they do nothing; before the object goes. */
void stop_signals_forget(void);
