#pragma once

/*
 * Memory whose file somebody else may cut off: touching what is gone then is SIGBUS. While a
 * range is guarded, its first such fault puts zero pages over the whole of it and goes on, so
 * that the program never sees it; and from then on the range is known as broken. System calls
 * fail with EFAULT there meanwhile.
 *
 * The handler is the process's; faults elsewhere go to whoever had SIGBUS before.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct memory_guard;

/* len bytes at start: one whole mapping, readable and writable, at page boundaries. */
int memory_guard_new(void *start, size_t len, struct memory_guard **out, struct error *err);
/* Before the range is unmapped, and when nobody touches it any more. NULL is allowed. */
void memory_guard_free(struct memory_guard *g);

bool memory_guard_broken(const struct memory_guard *g);
