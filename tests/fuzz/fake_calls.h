#pragma once

/*
 * What the library does for calls that come to the daemon (rpc/server_call.h and
 * rpc/rpc_message.h), done in memory: no sockets, no threads, and messages in two pieces, so
 * that there is something to be put together.
 */

#include "rpc/store_methods.h"

#include "fuzz.h"

struct grpc_byte_buffer {
	struct buffer bytes;
	size_t first; /* bytes of the first piece, unless that is all */
};

static inline struct bytes fake_message_bytes(const struct rpc_message *m)
{
	return buffer_bytes(&m->buffer->bytes);
}

struct fake_messages {
	struct rpc_message *list;
	size_t count;
	size_t capacity;
};

void fake_messages_add(struct fake_messages *l, struct bytes content);
void fake_messages_done(struct fake_messages *l);

/* Zeroed, but for the requests. */
struct server_call {
	struct fake_messages requests;
	size_t taken;
	struct fake_messages answers;
	bool ended; /* well */
};

void fake_call_done(struct server_call *c);
/* Runs it to its end, and checks that it had one, or failed. */
int fake_call_run(struct server_call *c, const struct rpc_method *method,
		  struct store_methods *context, struct error *err);
