#pragma once

/*
 * Which pages of a guest we have written to, for a hypervisor that moves the guest elsewhere
 * while it runs: one bit for each 4 KiB of guest addresses, in memory that it shares. Any
 * thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct dirty_log;

/* size bytes of bits at an offset of a file (borrowed). */
int dirty_log_new(int fd, uint64_t size, uint64_t offset, struct dirty_log **out,
		  struct error *err);
struct dirty_log *dirty_log_ref(struct dirty_log *l);
/* NULL is allowed. */
void dirty_log_unref(struct dirty_log *l);

/* After bytes were written. NULL: nobody wants to know. What the log has no bits for is left.
 */
void dirty_log_mark(struct dirty_log *l, uint64_t address, size_t len);

/* True when its file was cut off, and so bits were lost. */
bool dirty_log_broken(const struct dirty_log *l);
