#pragma once

/*
 * For libraries that read a mapped file and believe what it says: past the end of the file, or
 * at an address that follows from what the file says, a read is SIGBUS or SIGSEGV, which would
 * end the process. Inside of fault_guard_run() it ends the call instead, and so does
 * fault_guard_leave(). What the call had allocated or locked stays so: guard what only reads,
 * and no more than the library.
 *
 * The handlers are the process's; faults outside of such calls go to whoever had the signals
 * before. A thread that calls this has both unblocked from then on.
 */

#include <stdbool.h>

#include "base/error.h"

/* Before the first call, and again when somebody else may have set handlers. */
int fault_guard_install(struct error *err);

/* Calls run(context). False: it was left, because of a fault or by fault_guard_leave(). */
bool fault_guard_run(void (*run)(void *context), void *context);

/* Leaves the call of this thread that is guarded; returns when there is none. */
void fault_guard_leave(void);
