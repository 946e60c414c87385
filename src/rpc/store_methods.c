#include "rpc/store_methods.h"

#include "rpc/store_methods_internal.h"

const struct rpc_service *const store_methods_services[] = {
	&blob_methods_service,       &directory_methods_service,
	&path_info_methods_service,  &root_methods_service,
	&object_methods_service,     &path_info_table_methods_service,
	&daemon_methods_service,     &health_methods_service,
	&reflection_methods_service, NULL,
};

void store_methods_init(struct store_methods *m, struct store *store)
{
	*m = (struct store_methods){
		.store = store,
		.infos = store->path_infos ? path_info_store_new(store) : NULL,
	};
	write_turns_init(&m->turns, store->blobs);
}

void store_methods_done(struct store_methods *m)
{
	path_info_service_unref(m->infos);
	write_turns_done(&m->turns);
}

/* ---- What the methods share ---- */

void request_done(struct request *r)
{
	rpc_message_done(&r->message);
	buffer_done(&r->storage);
}

int request_receive(struct server_call *c, const struct message_type *type, struct request *r,
		    void *out, struct error *err)
{
	int rc = server_call_receive_only(c, &r->message, err);

	if (rc == 0) {
		rc = message_decode(type, rpc_message_bytes(&r->message, &r->storage), out,
				    err);
	}
	return rc;
}

int request_next(struct server_call *c, struct request *r, struct bytes *message,
		 struct error *err)
{
	int rc = server_call_receive(c, &r->message, err);

	if (rc > 0) {
		*message = rpc_message_bytes(&r->message, &r->storage);
	}
	return rc;
}

int request_digest(struct server_call *c, struct digest *out, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct digest_message m;
	int rc = request_receive(c, &digest_message_type, &r, &m, err);

	return rc == 0 ? message_digest(m.digest, out, err) : rc;
}

void reply_message(struct server_call *c, const struct message_type *type, const void *answer)
{
	struct buffer b cleanup(buffer_done) = {0};

	message_encode(type, answer, &b);
	server_call_reply_bytes(c, buffer_bytes(&b));
}

void reply_empty(struct server_call *c)
{
	server_call_reply_bytes(c, (struct bytes){0});
}

void reply_digest(struct server_call *c, const struct digest *digest)
{
	reply_message(c, &digest_message_type,
		      &(struct digest_message){.digest = digest_bytes(digest)});
}

void reply_number(struct server_call *c, uint64_t number)
{
	reply_message(c, &number_message_type, &(struct number_message){.value = number});
}

int send_buffer(struct server_call *c, struct buffer *message, struct error *err)
{
	struct rpc_message m = {0};

	rpc_message_set(&m, buffer_bytes(message));
	message->len = 0;
	return server_call_send(c, &m, err);
}

int not_found(const char *what, const struct digest *digest, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "%s %s: not in the store", what,
			 digest_text(digest));
}
