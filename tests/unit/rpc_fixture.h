#pragma once

/* A server over a store in memory, with a client, for tests. */

#include "raw_client.h"
#include "rpc/store_methods.h"
#include "rpc/token_table.h"

struct rpc_fixture {
	struct rpc_server_options options; /* to be set before rpc_fixture_start() */
	unsigned rights;
	struct rpc_peers peers;
	struct store store;
	struct store_methods methods;
	struct rpc_server *server;
	struct unix_listener *listener;
	struct raw_client *client;
	char folder[64];
	char target[128];
	pthread_t thread;
	bool running;
};

int rpc_fixture_setup(void **state);
int rpc_fixture_teardown(void **state);

/* The fixture of a test, whose server is started and has a client. */
struct rpc_fixture *rpc_fixture_start(void **state);
/* Waits for the end of the server. */
void rpc_fixture_stop(struct rpc_fixture *f);
