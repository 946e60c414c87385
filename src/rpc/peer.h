#pragma once

/*
 * A peer as the client's services see it: which names its services have, whether it has those
 * of cairn, and calls that are made again when the peer is out of reach for a moment.
 *
 * Everything that goes through here may be repeated: objects are named by their contents.
 * Shared and thread-safe.
 */

#include "rpc/client_call.h"

/* Offered under two packages each, tvix.* and snix.*; which one is found out, and remembered.
 */
enum peer_service { PEER_BLOBS, PEER_DIRECTORIES, PEER_PATH_INFOS, PEER_SERVICE_COUNT };

struct peer;

struct peer *peer_new(const struct client_channel_config *config);
void peer_free(struct peer *p);
const char *peer_address(const struct peer *p);

/* Asker: whether it has the services of cairn.v1. */
int peer_is_cairn(struct peer *p, struct error *err);
/* The same without asking: false as long as it is not known. */
bool peer_known_cairn(const struct peer *p);

/*
 * Where a call goes: one of the services above and its method, or, for those of cairn.v1 alone,
 * a path ("/cairn.v1.Roots/Put").
 */
struct peer_method {
	const char *path; /* NULL: the following two */
	enum peer_service service;
	const char *name;
};

#define PEER_METHOD(of, method) (&(struct peer_method){.service = (of), .name = (method)})
#define PEER_CAIRN(method) (&(struct peer_method){.path = "/cairn.v1." method})

/* One request and one reply. ERROR_NOT_FOUND is the peer's word for absent. */
int peer_ask(struct peer *p, const struct peer_method *method, struct bytes request,
	     struct buffer *reply, struct error *err);

/* The same for an asker: 0 when the peer says that it is absent. */
int peer_lookup(struct peer *p, const struct peer_method *method, struct bytes request,
		struct buffer *reply, struct error *err);

/*
 * One request and a stream of messages, each given to take, which returns 0, or 1 when it has
 * enough, or a failure. Asker: 0 when the peer says that it is absent. Is repeated only while
 * take was given nothing.
 */
typedef int (*peer_take)(void *context, struct bytes message, struct error *err);
int peer_stream(struct peer *p, const struct peer_method *method, struct bytes request,
		peer_take take, void *context, struct error *err);

/*
 * The same, of messages in the pieces that they come in. stop, or NULL: what another
 * thread ends it by.
 */
typedef int (*peer_take_pieces)(void *context, const struct rpc_message *message,
				struct error *err);
int peer_stream_pieces(struct peer *p, const struct peer_method *method, struct bytes request,
		       peer_take_pieces take, void *context, struct client_stop *stop,
		       struct error *err);

/* A call to which messages are sent; not repeated. */
int peer_upload(struct peer *p, const struct peer_method *method, struct client_call **out,
		struct error *err);

/* For those who repeat a call themselves. */
struct peer_retry {
	struct peer *peer;
	unsigned attempts;
};

/*
 * Whether to try again after this failure; waits a little before it says so, or until the peer
 * is there again.
 */
bool peer_retry(struct peer_retry *r, int rc);

/* Many questions at once, as client_channel_ask_many; method paths are made here. */
int peer_ask_many(struct peer *p, const struct peer_method *method,
		  struct client_question *questions, size_t count, struct error *err);
