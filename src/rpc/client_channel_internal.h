#pragma once

/*
 * What the files of the client have of a channel: room for a call, and a completion queue for
 * it. Each call has a queue to itself, and whoever waits for an operation is the one who moves
 * bytes: there are no threads of our own. Queues are kept for the next call, since making one
 * costs more than a small call.
 */

#include <pthread.h>

#include "rpc/client_channel.h"
#include "rpc/grpc_library.h"

#define IDLE_QUEUES_MAX 64

struct client_channel {
	struct client_channel_config config; /* with copies of the strings */
	const char *address;
	char *authorization;        /* the header's value; NULL: none */
	grpc_channel **connections; /* NULL before the first call */
	unsigned connection_count;
	_Atomic unsigned turn;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t call_ended;
	unsigned calls;
	grpc_completion_queue *idle[IDLE_QUEUES_MAX];
	unsigned idle_count;
};

/* Asker: whether one more call may begin. Waits for others to end only when told to. */
int client_channel_enter(struct client_channel *c, bool wait, struct error *err);
/* The other end of what entered. */
void client_channel_leave(struct client_channel *c);
grpc_completion_queue *client_channel_take_queue(struct client_channel *c);
/* The queue is empty: all that was started has been waited for. */
void client_channel_give_queue(struct client_channel *c, grpc_completion_queue *q);
grpc_call *client_channel_create_call(struct client_channel *c, grpc_completion_queue *queue,
				      const char *method, gpr_timespec deadline);
/* ERROR_TIMEOUT. */
int client_channel_timed_out(const struct client_channel *c, struct error *err);
