#pragma once

/*
 * One message of a call, as bytes. A value; zeroed is none. It comes from the library in
 * pieces, which need not be put together to be read.
 */

#include "base/bytes.h"
#include "base/util.h"

struct grpc_byte_buffer;

struct rpc_message {
	struct grpc_byte_buffer *buffer; /* NULL: none */
};

void rpc_message_done(struct rpc_message *m);

static inline bool rpc_message_present(const struct rpc_message *m)
{
	return m->buffer != NULL;
}

/* These replace what the message was. Copies: */
void rpc_message_set(struct rpc_message *m, struct bytes content);
/*
 * head, which is copied, and body after it, which is not: release(context) is called when the
 * library needs it no more, which may be after the call, in any thread.
 */
void rpc_message_set_parts(struct rpc_message *m, struct bytes head, struct bytes body,
			   void (*release)(void *context), void *context);

size_t rpc_message_size(const struct rpc_message *m);
size_t rpc_message_piece_count(const struct rpc_message *m);
/* Piece number i < count, borrowed from the message. */
struct bytes rpc_message_piece(const struct rpc_message *m, size_t i);
/*
 * All of it in a row: borrowed from the message where that is one piece, else copied into
 * storage (replaced).
 */
struct bytes rpc_message_bytes(const struct rpc_message *m, struct buffer *storage);
