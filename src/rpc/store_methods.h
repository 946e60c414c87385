#pragma once

/*
 * What a daemon does for its callers: the methods of all services over one store, for
 * rpc_server.h. Statuses follow from error codes by rpc_status.h; what is absent is NOT_FOUND.
 */

#include "nix/path_info_service.h"
#include "rpc/rpc_server.h"
#include "rpc/write_turn.h"

/* The context of all handlers. */
struct store_methods {
	struct store *store;             /* borrowed */
	struct path_info_service *infos; /* NULL where the store keeps none */
	struct write_turns turns;
};

void store_methods_init(struct store_methods *m, struct store *store);
void store_methods_done(struct store_methods *m);

/* All services, with a NULL behind them. */
extern const struct rpc_service *const store_methods_services[];
