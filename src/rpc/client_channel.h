#pragma once

/*
 * Calls to one gRPC peer, in blocking style: here those with one request and one reply, in
 * client_call.h those with streams. Nothing of libgrpc shows here.
 *
 * A channel is shared and thread-safe. Connections are made when the first call needs one, and
 * made again when they are lost.
 *
 * Time: whoever waits, waits for `timeout_ms` at most. A stream must get on by
 * CLIENT_PROGRESS_BYTES in that time, so a peer that gives a byte now and then times out too.
 * All failures name the address.
 */

#include "base/bytes.h"
#include "base/error.h"

#define CLIENT_PROGRESS_BYTES ((size_t)16384)
/* One message, of any kind: a Directory of three million entries is the largest. */
#define CLIENT_MESSAGE_MAX ((size_t)256 << 20)

/* Strings are borrowed for the time of client_channel_new(). */
struct client_channel_config {
	const char *address; /* for messages */
	const char *target;  /* as gRPC names it: unix:/path, dns:///host:port */
	bool tls;
	const char *ca;          /* certificates as PEM text; NULL: those of the system */
	const char *certificate; /* with key, or both NULL */
	const char *key;
	const char *token; /* sent as a bearer token; NULL: none */
	unsigned connections;
	unsigned timeout_ms;
	unsigned connect_timeout_ms;
	unsigned calls_max; /* at the same time; who wants more waits */
};

struct client_channel;

/* Connects to nothing yet, and starts no threads: a process may still fork. */
struct client_channel *client_channel_new(const struct client_channel_config *config);
/* All calls have ended. NULL is allowed. */
void client_channel_free(struct client_channel *c);
const char *client_channel_address(const struct client_channel *c);

/*
 * One request, one reply: most calls. The reply is appended. Statuses are those of
 * rpc_status.h: absent is ERROR_NOT_FOUND, a method that the peer does not have
 * ERROR_UNSUPPORTED.
 */
int client_channel_ask(struct client_channel *c, const char *method, struct bytes request,
		       struct buffer *reply, struct error *err);

/* Many of these at the same time, each with an outcome of its own. */
struct client_question {
	const char *method;
	struct bytes request; /* borrowed */
	struct buffer reply;  /* appended to; the caller's */
	int rc;               /* 0, or a negative error code */
};

/* Returns the first failure, when all have ended; the message is that one's. */
int client_channel_ask_many(struct client_channel *c, struct client_question *questions,
			    size_t count, struct error *err);

/*
 * Waits so many milliseconds before a call is made again; no longer than until there is a
 * connection, when that is what lacks: only while somebody waits for it does one come to be.
 */
void client_channel_wait(struct client_channel *c, unsigned ms, bool connection);
