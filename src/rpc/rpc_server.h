#pragma once

/*
 * A gRPC server: takes connections, has each call run by a thread of a bounded pool, and ends
 * in good order. What the calls do is in the services that it is given.
 *
 * Connections come in through doors. A door says what those who come through it may do; tokens,
 * where there are any, say it for each call.
 */

#include <sys/types.h>

#include "rpc/server_call.h"

struct rpc_server;

/* What a caller may do. */
enum rpc_right {
	RPC_MAY_READ = 1,
	RPC_MAY_WRITE = 2,
	RPC_MAY_LIST = 4,
};

/* Runs a call; who answered, ended it. A failure becomes its status. */
typedef int (*rpc_handler)(void *context, struct server_call *c, struct error *err);

struct rpc_method {
	const char *name;
	unsigned rights; /* that it takes; 0: anybody's who has any */
	rpc_handler handle;
};

#define RPC_SERVICE_NAMES 2

/* The same methods under one or more names, such as "tvix.castore.v1.BlobService". */
struct rpc_service {
	const char *names[RPC_SERVICE_NAMES];
	const struct rpc_method *methods;
	size_t method_count;
	bool open; /* also for those who show no token where one is needed */
};

struct rpc_token_table;

struct rpc_server_options {
	const struct rpc_service *const *services; /* with a NULL behind them */
	void *context;                             /* for their handlers */
	unsigned threads; /* calls that run at the same time; 0: default */
	unsigned
		connections; /* at the same time, of those that are accepted here; 0: default */
	uint64_t timeout;    /* milliseconds without progress that end a call; 0: never */
	uint64_t drain;      /* milliseconds that calls have to end when the server stops */
	size_t message_max;  /* bytes of a message that may come; 0: default */
	/*
	 * Bytes for messages over all connections: half of it for those under way, half for
	 * those that calls work on. 0: default. A message may have an eighth of it.
	 */
	uint64_t memory_max;
	const struct rpc_token_table *tokens; /* NULL: none is needed; borrowed */
};

#define RPC_SERVER_THREADS_DEFAULT 64
#define RPC_SERVER_THREADS_MAX 1024
#define RPC_SERVER_CONNECTIONS_DEFAULT 1024
#define RPC_SERVER_MESSAGE_MAX ((size_t)256 << 20)
#define RPC_SERVER_MEMORY_DEFAULT ((uint64_t)2 << 30)
#define RPC_SERVER_MEMORY_MIN ((uint64_t)32 << 20)

int rpc_server_new(const struct rpc_server_options *o, struct rpc_server **out,
		   struct error *err);
/* One that is not running. NULL is allowed. */
void rpc_server_free(struct rpc_server *s);

/* Who may come through a Unix socket; with no ids at all, whoever can connect. */
struct rpc_peers {
	const uid_t *users;
	size_t user_count;
	const gid_t *groups; /* the peer's own group or one of its further ones */
	size_t group_count;
};

/*
 * A door at a listening stream socket, Unix or TCP, which stays the caller's and open while the
 * server is there. peers may be NULL; it is for Unix sockets. All doors before run.
 */
int rpc_server_add_socket(struct rpc_server *s, int fd, unsigned rights,
			  const struct rpc_peers *peers, struct error *err);

struct rpc_tls {
	struct bytes certificate; /* chain and key in PEM, each with a NUL behind it */
	struct bytes key;
	struct bytes client_ca; /* empty: clients need no certificate */
};

/* A door with TLS at "host:port"; with port 0, the system chooses one. */
int rpc_server_add_tls(struct rpc_server *s, const char *address, unsigned rights,
		       const struct rpc_tls *tls, unsigned *port, struct error *err);

/*
 * Starts: connections are taken from here on. Once only; rpc_server_run() must follow.
 */
int rpc_server_start(struct rpc_server *s, struct error *err);
/* Serves until it is stopped and its calls have ended, or were ended. */
int rpc_server_run(struct rpc_server *s, struct error *err);
/* Async-signal-safe; any thread. */
void rpc_server_stop(struct rpc_server *s);

struct rpc_server_counts {
	uint64_t calls;
	uint64_t failed_calls;
	uint64_t received_bytes;
	uint64_t sent_bytes;
	uint64_t running_calls;
	uint64_t connections; /* of those that were accepted here */
};

void rpc_server_count(struct rpc_server *s, struct rpc_server_counts *out);

/* ---- For handlers ---- */

/* What the caller may do. */
unsigned server_call_rights(const struct server_call *c);
struct rpc_server *server_call_server(const struct server_call *c);
/* Waits until the client has gone or the server stops. ERROR_LIMIT when too many do that. */
int server_call_wait(struct server_call *c, struct error *err);
