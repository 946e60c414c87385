#pragma once

/*
 * For libraries that read a mapped file and believe what it says: a read past the end of the
 * file is SIGBUS, which would end the process. Inside of fault_guard_run() it ends the call
 * instead, and so does fault_guard_leave(). What the call had allocated or locked stays so:
 * guard what only reads.
 *
 * The handler is the process's; faults elsewhere go to whoever had SIGBUS before.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Once before the first call, also more than once. */
int fault_guard_install(struct error *err);

/*
 * Calls run(context). False: it was left, because of a fault at an address from start on, len
 * bytes (start NULL: at any address), or by fault_guard_leave().
 */
bool fault_guard_run(void (*run)(void *context), void *context, const void *start, size_t len);

/* Leaves the call of this thread that is guarded; returns when there is none. */
void fault_guard_leave(void);
