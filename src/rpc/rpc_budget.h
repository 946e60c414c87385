#pragma once

/*
 * Memory that calls may take together, for what they hold of their peers' messages. Shared and
 * thread-safe.
 */

#include <stdint.h>

#include "base/error.h"

struct rpc_budget;

struct rpc_budget *rpc_budget_new(uint64_t bytes_max);
void rpc_budget_free(struct rpc_budget *b);
/*
 * Takes so many bytes, to be given back. While others have them, it waits for so many
 * milliseconds (0: for ever), unless the caller holds some already: who holds and waits may
 * wait for one who does the same. ERROR_LIMIT when there are none.
 */
int rpc_budget_take(struct rpc_budget *b, uint64_t bytes, uint64_t held, uint64_t timeout,
		    struct error *err);
void rpc_budget_give(struct rpc_budget *b, uint64_t bytes);
