/* What a daemon says of itself: cairn.v1.Daemon and grpc.health.v1.Health. */

#include "rpc/store_methods_internal.h"

/* ---- cairn.v1.Daemon ---- */

static int info(void *context unused, struct server_call *c, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct rpc_server_counts counts;
	unsigned rights = server_call_rights(c);
	int rc = server_call_receive_only(c, &r.message, err);

	if (rc < 0) {
		return rc;
	}
	rpc_server_count(server_call_server(c), &counts);
	struct info_response m = {
		.version = bytes_of_string(CAIRN_VERSION),
		.may_write = rights & RPC_MAY_WRITE,
		.may_list = rights & RPC_MAY_LIST,
		.calls = counts.calls,
		.failed_calls = counts.failed_calls,
		.received_bytes = counts.received_bytes,
		.sent_bytes = counts.sent_bytes,
		.running_calls = counts.running_calls,
		.connections = counts.connections,
	};

	reply_message(c, &info_response_type, &m);
	return 0;
}

static const struct rpc_method daemon_methods[] = {
	{"Info", 0, info},
};

const struct rpc_service daemon_methods_service = {
	.names = {"cairn.v1.Daemon"},
	.methods = daemon_methods,
	.method_count = ARRAY_SIZE(daemon_methods),
};

/* ---- Health ---- */

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

/* Empty: the daemon as a whole. */
static bool service_known(struct bytes name)
{
	if (name.len == 0) {
		return true;
	}
	for (const struct rpc_service *const *s = store_methods_services; *s; s++) {
		for (size_t i = 0; i < RPC_SERVICE_NAMES && (*s)->names[i]; i++) {
			if (bytes_equal(name, bytes_of_string((*s)->names[i]))) {
				return true;
			}
		}
	}
	return false;
}

static int check_health(void *context unused, struct server_call *c, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct bytes_message m;
	int rc = request_receive(c, &bytes_message_type, &r, &m, err);

	if (rc == 0 && !service_known(m.value)) {
		rc = error_set(err, ERROR_NOT_FOUND, "there is no service %s here",
			       bytes_printable(m.value));
	}
	if (rc == 0) {
		reply_number(c, SERVING);
	}
	return rc;
}

static int send_health(struct server_call *c, uint64_t state, struct error *err)
{
	struct number_message m = {.value = state};
	struct buffer b cleanup(buffer_done) = {0};

	message_encode(&number_message_type, &m, &b);
	return send_buffer(c, &b, err);
}

/* The state changes once, when the daemon ends. */
static int watch_health(void *context unused, struct server_call *c, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct bytes_message m;
	int rc = request_receive(c, &bytes_message_type, &r, &m, err);

	if (rc == 0) {
		rc = send_health(c, service_known(m.value) ? SERVING : SERVICE_UNKNOWN, err);
	}
	if (rc == 0) {
		rc = server_call_wait(c, err);
	}
	if (rc == 0) {
		reply_number(c, NOT_SERVING);
	}
	return rc;
}

static const struct rpc_method health_methods[] = {
	{"Check", 0, check_health},
	{"Watch", 0, watch_health},
};

const struct rpc_service health_methods_service = {
	.names = {"grpc.health.v1.Health"},
	.methods = health_methods,
	.method_count = ARRAY_SIZE(health_methods),
	.open = true,
};
