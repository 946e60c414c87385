#pragma once

/*
 * One call that a client makes of us, from its arrival to its status. One thread runs it, and
 * waits for each message; so the client's pace is ours. A call that makes no progress for the
 * server's timeout, or hardly any, is ended (ERROR_TIMEOUT), as is one whose deadline has
 * passed or whose client is gone (ERROR_CANCELED).
 *
 * Large messages take memory from what all calls share: ERROR_LIMIT when there is none.
 */

#include "base/error.h"
#include "rpc/rpc_message.h"

struct server_call;

/* "/package.Service/Method". */
struct bytes server_call_method(const struct server_call *c);
/* The first value that the client sent under this key; false when there is none. */
bool server_call_metadata(const struct server_call *c, const char *key, struct bytes *value);
/* The client's address, malloc'd. */
char *server_call_peer(const struct server_call *c);

/* Asker: the next message (replaces what m was), 0 after the last. */
int server_call_receive(struct server_call *c, struct rpc_message *m, struct error *err);
/* The one message of a call that has one. ERROR_INVALID when there is none. */
int server_call_receive_only(struct server_call *c, struct rpc_message *m, struct error *err);
/*
 * Takes the message. Returns when the one before has left, so that the next can be made while
 * this one is on its way.
 */
int server_call_send(struct server_call *c, struct rpc_message *m, struct error *err);
/*
 * Ends the call well, with this message as its last (none when it is empty). Takes the message.
 * What fails here, nobody is there to hear.
 */
void server_call_reply(struct server_call *c, struct rpc_message *m);
/* The same with bytes, which are copied. */
void server_call_reply_bytes(struct server_call *c, struct bytes answer);
/*
 * Besides its messages, the call holds so many bytes in all, from now to its end (if that is
 * more than it said before).
 */
int server_call_hold(struct server_call *c, uint64_t bytes, struct error *err);
