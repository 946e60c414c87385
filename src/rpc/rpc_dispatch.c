/* From a call to its handler. */

#include "base/log.h"
#include "rpc/rpc_server_internal.h"
#include "rpc/token_table.h"

static const struct rpc_service *find_service(const struct rpc_server *s, struct bytes name)
{
	for (const struct rpc_service *const *p = s->options.services; *p; p++) {
		for (size_t i = 0; i < RPC_SERVICE_NAMES && (*p)->names[i]; i++) {
			if (bytes_equal(name, bytes_of_string((*p)->names[i]))) {
				return *p;
			}
		}
	}
	return NULL;
}

static const struct rpc_method *find_method(const struct rpc_service *service,
					    struct bytes name)
{
	for (size_t i = 0; i < service->method_count; i++) {
		if (bytes_equal(name, bytes_of_string(service->methods[i].name))) {
			return &service->methods[i];
		}
	}
	return NULL;
}

/* "/service/method" */
static int find(const struct rpc_server *s, struct bytes path,
		const struct rpc_service **service, const struct rpc_method **method,
		struct error *err)
{
	const uint8_t *slash = path.len > 1 ? memrchr(path.ptr + 1, '/', path.len - 1) : NULL;
	size_t at = slash ? (size_t)(slash - path.ptr) : 0;

	*method = NULL;
	*service = slash ? find_service(s, bytes_of(path.ptr + 1, at - 1)) : NULL;
	if (*service) {
		*method = find_method(*service, bytes_of(slash + 1, path.len - at - 1));
	}
	return *method ? 0
		       : error_set(err, ERROR_UNSUPPORTED, "there is no method %s here",
				   bytes_printable(path));
}

int rpc_dispatch_rights(struct rpc_server *s, struct server_call *c, unsigned *rights,
			struct error *err)
{
	struct bytes token = {0};

	*rights = c->door->rights;
	if (*rights == 0) {
		return error_set(err, ERROR_DENIED,
				 "this user or group may not use this daemon");
	}
	if (s->options.tokens) {
		(void)server_call_metadata(c, "authorization", &token);
		*rights &= token_table_rights(s->options.tokens, token);
	}
	if (*rights == 0) {
		c->unauthenticated = true;
		return error_set(err, ERROR_DENIED, "%s",
				 token.len ? "this token is not known here"
					   : "a token is needed (authorization: Bearer TOKEN)");
	}
	return 0;
}

static int check_rights(const struct rpc_method *method, unsigned rights, struct error *err)
{
	unsigned missing = method->rights & ~rights;

	if (missing & RPC_MAY_WRITE) {
		return error_set(err, ERROR_DENIED, "this daemon takes no writes from you");
	}
	if (missing & RPC_MAY_LIST) {
		return error_set(err, ERROR_DENIED, "listing is not allowed");
	}
	return missing ? error_set(err, ERROR_DENIED, "reading is not allowed") : 0;
}

static int handle(struct rpc_server *s, struct server_call *c, struct error *err)
{
	const struct rpc_service *service;
	const struct rpc_method *method;
	int rc = find(s, server_call_method(c), &service, &method, err);

	if (rc == 0) {
		rc = rpc_dispatch_rights(s, c, &c->rights, err);
		/* Who is only let in to see whether the server is well. */
		if (rc < 0 && service->open && c->door->rights) {
			rc = 0;
		}
	}
	if (rc == 0) {
		rc = check_rights(method, c->rights, err);
	}
	return rc < 0 ? rc : method->handle(s->options.context, c, err);
}

static void note_failure(struct server_call *c, const struct error *err)
{
	char *peer cleanup(cleanup_free) = server_call_peer(c);
	struct bytes method = server_call_method(c);

	/* What is wrong with the store is for its operator; the rest is the peer's. */
	if (err->code == ERROR_CORRUPT || err->code == ERROR_IO ||
	    err->code == ERROR_NO_SPACE) {
		log_error("%s: %s", bytes_printable(method), err->text);
	} else {
		log_info("%s from %s: %s", bytes_printable(method), peer, err->text);
	}
}

void rpc_dispatch(struct rpc_server *s, struct server_call *c)
{
	struct error err = {0};
	int rc = handle(s, c, &err);

	if (rc < 0) {
		note_failure(c, &err);
		server_call_fail(c, &err);
		atomic_fetch_add(&s->failed_calls, 1);
	}
	atomic_fetch_add(&s->calls, 1);
	atomic_fetch_add(&s->received_bytes, c->received_bytes);
	atomic_fetch_add(&s->sent_bytes, c->sent_bytes);
}

unsigned server_call_rights(const struct server_call *c)
{
	return c->rights;
}

struct rpc_server *server_call_server(const struct server_call *c)
{
	return c->door->server;
}
