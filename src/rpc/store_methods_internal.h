#pragma once

/* What the files of methods share. */

#include "rpc/messages.h"
#include "rpc/store_methods.h"

extern const struct rpc_service blob_methods_service, directory_methods_service,
	path_info_methods_service, root_methods_service, object_methods_service,
	path_info_table_methods_service, daemon_methods_service, health_methods_service,
	reflection_methods_service;

/* Bytes of many small answers that go into one message, and of a piece of a large one. */
#define METHODS_BATCH_SIZE ((size_t)256 << 10)

/* cairn.v1.Objects.ReadRange. */
int range_method(void *context, struct server_call *c, struct error *err);

/*
 * The only message of a call, decoded; what is decoded borrows from m and storage, which the
 * caller ends.
 */
struct request {
	struct rpc_message message;
	struct buffer storage;
};

void request_done(struct request *r);
int request_receive(struct server_call *c, const struct message_type *type, struct request *r,
		    void *out, struct error *err);
/* Asker: the next message of a stream, all of it. */
int request_next(struct server_call *c, struct request *r, struct bytes *message,
		 struct error *err);
/* A request with a digest alone. */
int request_digest(struct server_call *c, struct digest *out, struct error *err);

/* Ends a call with an answer of this type. */
void reply_message(struct server_call *c, const struct message_type *type, const void *answer);
void reply_empty(struct server_call *c);
void reply_digest(struct server_call *c, const struct digest *digest);
void reply_number(struct server_call *c, uint64_t number);

/* A message of a stream; what is in the buffer is copied, and the buffer emptied. */
int send_buffer(struct server_call *c, struct buffer *message, struct error *err);

/* ERROR_NOT_FOUND, for what askers say. */
int not_found(const char *what, const struct digest *digest, struct error *err);
