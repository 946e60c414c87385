#include "rpc/client_exchange.h"

#include "rpc/rpc_status.h"

grpc_op *client_ops_add(struct client_ops *ops, grpc_op_type type)
{
	grpc_op *op = &ops->list[ops->count++];

	*op = (grpc_op){.op = type};
	return op;
}

void client_exchange_init(struct client_exchange *x)
{
	*x = (struct client_exchange){.details = grpc_library_static_slice("")};
	grpc_library.grpc_metadata_array_init(&x->initial);
	grpc_library.grpc_metadata_array_init(&x->trailing);
}

void client_exchange_done(struct client_exchange *x)
{
	rpc_message_done(&x->sent);
	rpc_message_done(&x->received);
	grpc_library.grpc_metadata_array_destroy(&x->initial);
	grpc_library.grpc_metadata_array_destroy(&x->trailing);
	grpc_library.grpc_slice_unref(x->details);
}

void client_exchange_send_metadata(struct client_ops *ops, const struct client_channel *c,
				   struct client_exchange *x)
{
	grpc_op *op = client_ops_add(ops, GRPC_OP_SEND_INITIAL_METADATA);

	if (c->authorization) {
		x->authorization.key = grpc_library_static_slice("authorization");
		x->authorization.value = grpc_library_static_slice(c->authorization);
		op->data.send_initial_metadata.count = 1;
		op->data.send_initial_metadata.metadata = &x->authorization;
	}
}

void client_exchange_send(struct client_ops *ops, struct client_exchange *x,
			  struct rpc_message *message)
{
	rpc_message_done(&x->sent);
	x->sent = *message;
	*message = (struct rpc_message){0};
	client_ops_add(ops, GRPC_OP_SEND_MESSAGE)->data.send_message.send_message =
		x->sent.buffer;
}

void client_exchange_receive_status(struct client_ops *ops, struct client_exchange *x)
{
	grpc_op *op = client_ops_add(ops, GRPC_OP_RECV_STATUS_ON_CLIENT);

	op->data.recv_status_on_client.trailing_metadata = &x->trailing;
	op->data.recv_status_on_client.status = &x->status;
	op->data.recv_status_on_client.status_details = &x->details;
}

void client_exchange_receive_metadata(struct client_ops *ops, struct client_exchange *x)
{
	client_ops_add(ops, GRPC_OP_RECV_INITIAL_METADATA)
		->data.recv_initial_metadata.recv_initial_metadata = &x->initial;
}

void client_exchange_receive(struct client_ops *ops, struct client_exchange *x)
{
	client_ops_add(ops, GRPC_OP_RECV_MESSAGE)->data.recv_message.recv_message =
		&x->received.buffer;
}

/* What a cairn says more exactly than by the status. */
static struct bytes code_name(const struct client_exchange *x)
{
	struct bytes key = bytes_of_string(RPC_STATUS_KEY);

	for (size_t i = 0; i < x->trailing.count; i++) {
		const grpc_metadata *m = &x->trailing.metadata[i];

		if (bytes_equal(grpc_library_slice_bytes(&m->key), key)) {
			return grpc_library_slice_bytes(&m->value);
		}
	}
	return bytes_of(NULL, 0);
}

int client_exchange_status(const struct client_channel *c, const struct client_exchange *x,
			   struct error *err)
{
	if (x->status == GRPC_STATUS_OK) {
		return 0;
	}
	struct bytes details = grpc_library_slice_bytes(&x->details);
	enum error_code code = rpc_status_code((int)x->status, code_name(x));

	return error_set(err, code, "%s: %s", c->address,
			 details.len ? bytes_printable(details)
				     : rpc_status_name((int)x->status));
}
