#pragma once

/* What the files of the server share. */

#include <stdatomic.h>

#include "rpc/rpc_budget.h"
#include "rpc/rpc_server.h"
#include "rpc/server_call_internal.h"

#define SERVER_DOORS_MAX 16

struct server_door {
	struct server_tag closed; /* comes on the server's queue when its last call has ended */
	struct rpc_server *server;
	grpc_server *grpc;
	unsigned rights;
	int fd; /* the listening socket, or -1 */
	bool checks_peers;
	struct rpc_peers peers;
	grpc_server_credentials *tls; /* or NULL */
	char *tls_address;            /* with the port that was chosen */
	bool deaf;                    /* it is to be opened again */
};

/* A server whose place another one took; it goes with its last call. */
struct retired_server {
	struct server_tag closed;
	grpc_server *grpc;
	struct retired_server *next;
};

/* One that was accepted here. It is gone when its descriptor is something else. */
struct server_connection {
	int fd;
	ino_t inode;
};

struct rpc_server {
	struct rpc_server_options options;
	struct server_door doors[SERVER_DOORS_MAX];
	size_t door_count;
	struct server_door
		*refusing; /* where those go who may not come in; NULL: everybody may */
	grpc_completion_queue *arrivals;
	grpc_resource_quota *quota;
	struct rpc_budget *budget;
	int stop_fd;
	bool started;

	/* Of the thread that runs the server, but for the number. */
	struct server_connection *connections;
	_Atomic size_t connection_count;
	size_t connection_max;
	int spare_fd; /* given up for a moment to refuse a connection when there is no other */
	bool told_full;
	unsigned failed_accepts; /* of the library's, that were seen */

	_Atomic uint64_t calls, failed_calls, received_bytes, sent_bytes;

	pthread_mutex_t lock;   /* guards everything below */
	pthread_cond_t changed; /* a door has closed, or a call has ended */
	pthread_t *threads;
	size_t thread_count;
	size_t waiting;                    /* threads that wait for a call */
	size_t running;                    /* calls */
	struct server_call *first, **last; /* calls that wait for a thread */
	size_t queued;
	struct server_call *spare; /* not armed */
	struct server_call *watching;
	size_t watching_count;
	size_t closed_doors;
	struct retired_server *retired;
	size_t retired_count;
	bool stopping;
};

/* ---- rpc_workers.c ---- */

/* The first thread and the first armed calls. */
int rpc_workers_start(struct rpc_server *s, struct error *err);
/* After the last door is closed. */
void rpc_workers_end(struct rpc_server *s);
/* Lets another server of the library's, which is started, stand behind a door. */
void rpc_workers_replace(struct rpc_server *s, struct server_door *door, grpc_server *grpc);

/* ---- rpc_server.c ---- */

/* A server of the library's that takes calls for us; to be given an address and started. */
grpc_server *rpc_server_make_grpc(const struct rpc_server *s);

/* ---- rpc_dispatch.c ---- */

/* Finds what a call that has begun is for, checks that its caller may, and runs it. */
void rpc_dispatch(struct rpc_server *s, struct server_call *c);
/* What its caller may do; ERROR_DENIED when that is nothing. */
int rpc_dispatch_rights(struct rpc_server *s, struct server_call *c, unsigned *rights,
			struct error *err);

/* ---- rpc_connections.c ---- */

/* Takes connections until the server is to stop. */
int rpc_connections_accept(struct rpc_server *s, struct error *err);
