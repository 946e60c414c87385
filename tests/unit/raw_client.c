#include "raw_client.h"

#include "rpc/grpc_library.h"
#include "rpc/rpc_message.h"

struct raw_client {
	grpc_channel *channel;
};

struct raw_call {
	grpc_call *call;
	grpc_completion_queue *queue;
	grpc_metadata_array initial, trailing;
	grpc_status_code status;
	grpc_slice text;
	bool opened; /* the initial metadata was received */
};

struct raw_client *raw_client_new(const char *target)
{
	struct raw_client *c = xcalloc(1, sizeof(*c));
	grpc_arg list[GRPC_LIBRARY_TUNING_MAX + 2];
	grpc_channel_args args = {.args = list};
	struct error err;

	if (grpc_library_load(&err) != 0) {
		fail_msg("%s", err.text);
	}
	grpc_library_tune(&args);
	/* Channels to one address are to be connections of their own. */
	grpc_library_add_number(&args, "grpc.use_local_subchannel_pool", 1);
	grpc_channel_credentials *credentials = grpc_library.grpc_insecure_credentials_create();

	c->channel = grpc_library.grpc_channel_create(target, credentials, &args);
	grpc_library.grpc_channel_credentials_release(credentials);
	return c;
}

void raw_client_free(struct raw_client *c)
{
	grpc_library.grpc_channel_destroy(c->channel);
	free(c);
}

/* Waits for the end of a batch. */
static bool run(struct raw_call *call, const grpc_op *ops, size_t count, void *tag)
{
	const struct grpc_library *lib = &grpc_library;

	assert_int_equal(lib->grpc_call_start_batch(call->call, ops, count, tag, NULL),
			 GRPC_CALL_OK);
	grpc_event e = lib->grpc_completion_queue_pluck(call->queue, tag,
							grpc_library_deadline(0), NULL);

	assert_int_equal(e.type, GRPC_OP_COMPLETE);
	return e.success;
}

struct raw_call *raw_call_start(struct raw_client *c, const char *method,
				const char *authorization)
{
	const struct grpc_library *lib = &grpc_library;
	struct raw_call *call = xcalloc(1, sizeof(*call));
	grpc_metadata metadata = {
		.key = grpc_library_static_slice("authorization"),
		.value = grpc_library_static_slice(authorization ? authorization : ""),
	};
	grpc_op op = {
		.op = GRPC_OP_SEND_INITIAL_METADATA,
		.data.send_initial_metadata = {.count = authorization ? 1 : 0,
					       .metadata = &metadata},
	};

	call->queue = lib->grpc_completion_queue_create_for_pluck(NULL);
	lib->grpc_metadata_array_init(&call->initial);
	lib->grpc_metadata_array_init(&call->trailing);
	call->call = lib->grpc_channel_create_call(c->channel, NULL, 0, call->queue,
						   grpc_library_static_slice(method), NULL,
						   grpc_library_deadline(0), NULL);
	run(call, &op, 1, &call->initial);
	return call;
}

bool raw_call_send(struct raw_call *call, struct bytes message)
{
	struct rpc_message m cleanup(rpc_message_done) = {0};

	rpc_message_set(&m, message);
	grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = m.buffer};

	return run(call, &op, 1, &m);
}

void raw_call_send_end(struct raw_call *call)
{
	grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

	(void)run(call, &op, 1, &op);
}

bool raw_call_receive(struct raw_call *call, struct buffer *message)
{
	struct rpc_message m cleanup(rpc_message_done) = {0};
	struct buffer storage cleanup(buffer_done) = {0};
	const grpc_op ops[] = {
		{.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &m.buffer},
		{.op = GRPC_OP_RECV_INITIAL_METADATA,
		 .data.recv_initial_metadata.recv_initial_metadata = &call->initial},
	};
	/* The initial metadata comes once. */
	size_t count = call->opened ? 1 : 2;

	call->opened = true;
	if (!run(call, ops, count, &m) || !rpc_message_present(&m)) {
		return false;
	}
	struct bytes content = rpc_message_bytes(&m, &storage);

	message->len = 0;
	buffer_append(message, content.ptr, content.len);
	return true;
}

void raw_call_cancel(struct raw_call *call)
{
	(void)grpc_library.grpc_call_cancel(call->call, NULL);
}

static void free_call(struct raw_call *call)
{
	const struct grpc_library *lib = &grpc_library;

	lib->grpc_slice_unref(call->text);
	lib->grpc_metadata_array_destroy(&call->initial);
	lib->grpc_metadata_array_destroy(&call->trailing);
	lib->grpc_call_unref(call->call);
	lib->grpc_completion_queue_shutdown(call->queue);
	lib->grpc_completion_queue_destroy(call->queue);
	free(call);
}

enum rpc_status raw_call_finish(struct raw_call *call, struct buffer *text)
{
	const grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
			    .data.recv_status_on_client = {
				    .trailing_metadata = &call->trailing,
				    .status = &call->status,
				    .status_details = &call->text,
			    }};
	struct buffer rest cleanup(buffer_done) = {0};

	/* The status comes behind all messages. */
	while (raw_call_receive(call, &rest)) {
	}
	run(call, &op, 1, &call->trailing);
	enum rpc_status status = (enum rpc_status)call->status;
	struct bytes details = grpc_library_slice_bytes(&call->text);

	if (text) {
		text->len = 0;
		buffer_append(text, details.ptr, details.len);
	}
	free_call(call);
	return status;
}

enum rpc_status raw_ask(struct raw_client *c, const char *method, struct bytes request,
			struct buffer *answer)
{
	struct raw_call *call = raw_call_start(c, method, NULL);
	struct buffer message cleanup(buffer_done) = {0};

	raw_call_send(call, request);
	raw_call_send_end(call);
	while (raw_call_receive(call, &message)) {
		if (answer) {
			buffer_append(answer, message.ptr, message.len);
		}
	}
	return raw_call_finish(call, NULL);
}
