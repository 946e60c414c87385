#pragma once

/* The operations of one call, and the places for what they send and receive. */

#include "rpc/client_channel_internal.h"
#include "rpc/rpc_message.h"

#define CLIENT_OPS_MAX 6

/* What is begun together; zeroed is nothing. */
struct client_ops {
	grpc_op list[CLIENT_OPS_MAX];
	size_t count;
};

grpc_op *client_ops_add(struct client_ops *ops, grpc_op_type type);

/* Where the library puts what it receives, and what it sends, until that is done. */
struct client_exchange {
	grpc_metadata authorization;
	struct rpc_message sent;
	struct rpc_message received;
	grpc_metadata_array initial;
	grpc_metadata_array trailing;
	grpc_status_code status;
	grpc_slice details;
};

void client_exchange_init(struct client_exchange *x);
/* Nothing of it is under way. */
void client_exchange_done(struct client_exchange *x);

/* These add an operation. */
void client_exchange_send_metadata(struct client_ops *ops, const struct client_channel *c,
				   struct client_exchange *x);
/* Takes over the message. */
void client_exchange_send(struct client_ops *ops, struct client_exchange *x,
			  struct rpc_message *message);
void client_exchange_receive_metadata(struct client_ops *ops, struct client_exchange *x);
void client_exchange_receive(struct client_ops *ops, struct client_exchange *x);
void client_exchange_receive_status(struct client_ops *ops, struct client_exchange *x);

/* Once there is a status: 0, or what the peer (or the library in its place) says. */
int client_exchange_status(const struct client_channel *c, const struct client_exchange *x,
			   struct error *err);
