#pragma once

/*
 * A call with a stream in either direction: a thread starts it, sends, receives and ends it. It
 * belongs to one thread at a time. Time limits are the channel's (client_channel.h).
 */

#include "rpc/client_channel.h"
#include "rpc/rpc_message.h"

struct client_call;

/*
 * What other threads end calls by that somebody waits in. Shared and thread-safe; every call
 * that obeys it is freed before it is.
 */
struct client_stop;

struct client_stop *client_stop_new(void);
/* NULL is allowed. */
void client_stop_free(struct client_stop *s);
/* Its calls, also those to come, end with ERROR_CANCELED. */
void client_stop_all(struct client_stop *s);

int client_call_start(struct client_channel *c, const char *method, struct client_call **out,
		      struct error *err);
/*
 * Sends one message; last: none comes after it. Returns when there is room for it, not when it
 * arrived. A failure may be that of an earlier message.
 */
int client_call_send(struct client_call *call, struct bytes message, bool last,
		     struct error *err);
/*
 * The same, of head, which is copied, and body after it, which is not: release(context) is
 * called when it is needed no more, which may be after the call, in any thread.
 */
int client_call_send_parts(struct client_call *call, struct bytes head, struct bytes body,
			   bool last, void (*release)(void *context), void *context,
			   struct error *err);
/* Nothing more is sent. */
int client_call_send_end(struct client_call *call, struct error *err);
/*
 * Asker: the next message, borrowed until the next call here; 0 when the peer has ended the
 * stream and all was well.
 */
int client_call_receive(struct client_call *call, struct bytes *message, struct error *err);
/* The same, in the pieces that it came in. */
int client_call_receive_pieces(struct client_call *call, const struct rpc_message **message,
			       struct error *err);
/* The one reply to what was sent, appended: anything else than one is ERROR_CORRUPT. */
int client_call_receive_one(struct client_call *call, struct buffer *reply, struct error *err);
/* From now on. ERROR_CANCELED when it was to stop already; then the call is only to be freed.
 */
int client_call_obey(struct client_call *call, struct client_stop *stop, struct error *err);
/* Gives up what has not ended. NULL is allowed. */
void client_call_free(struct client_call *call);
DEFINE_CLEANUP(cleanup_client_call, struct client_call *, client_call_free)
