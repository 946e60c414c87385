#pragma once

/* What the server has of calls: how they come to be and end. */

#include <pthread.h>

#include "rpc/grpc_library.h"
#include "rpc/server_call.h"

struct rpc_budget;
struct rpc_server;
struct server_door;

/* What a call may have of a message without taking it from the budget, and what it costs else:
 * a copy in one piece, and what is made of that. */
#define SERVER_MESSAGE_FREE ((uint64_t)1 << 20)
#define SERVER_MESSAGE_COST 2

enum server_call_event {
	CALL_ARRIVED, /* on the server's queue; the others on the call's own */
	CALL_RECEIVED,
	CALL_SENT,
	CALL_STATUS_SENT,
	CALL_CLOSED,
	CALL_WOKEN,
	CALL_EVENT_COUNT,
};
#define SERVER_RETIRED CALL_EVENT_COUNT

/* What a completion queue gives back. */
struct server_tag {
	struct server_call *call; /* NULL: a door is closed, or (SERVER_RETIRED) a server */
	enum server_call_event event;
};

struct server_call {
	struct server_tag tags[CALL_EVENT_COUNT];
	struct server_door *door;
	grpc_completion_queue *queue;
	grpc_call *call; /* from its arrival on */
	grpc_call_details details;
	grpc_metadata_array metadata;
	uint64_t timeout; /* milliseconds; 0: none */
	struct rpc_budget *budget;
	struct server_call *next; /* in a list of the server's */
	bool woken;               /* see rpc_server.c */

	/* Of the call that is running: */
	bool pending[CALL_EVENT_COUNT];
	bool succeeded[CALL_EVENT_COUNT];
	struct rpc_message received;
	bool opened;   /* the initial metadata is on its way */
	bool finished; /* the status is */
	bool timed_out;
	bool unauthenticated; /* it may show a token and come again */
	unsigned rights;
	int cancelled;
	uint64_t received_bytes;
	uint64_t sent_bytes;
	uint64_t waited;  /* milliseconds, for the peer, since its pace was looked at */
	uint64_t counted; /* bytes, by then */
	uint64_t message_cost;
	uint64_t other_cost;
	uint64_t held; /* of the budget: for both */
};

struct server_call *server_call_new(struct server_door *door, uint64_t timeout,
				    struct rpc_budget *budget);
/* One that is not running. */
void server_call_free(struct server_call *c);
/* Makes it take the next call that comes through its door, on this queue of the server's. */
void server_call_arm(struct server_call *c, grpc_server *server,
		     grpc_completion_queue *arrivals);
/* It has arrived. */
void server_call_begin(struct server_call *c);
/* Ends it with a failure, unless it was ended. */
void server_call_fail(struct server_call *c, const struct error *err);
/* Waits until nothing of it is left; it can be armed again. */
void server_call_end(struct server_call *c);
/* Waits until the client has gone, or the event CALL_WOKEN, which is pending, has come. */
void server_call_wait_woken(struct server_call *c);
/* Has it come; any thread. */
void server_call_wake(struct server_call *c);
