#include "rpc/rpc_server.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/moment.h"
#include "rpc/rpc_server_internal.h"

/* Calls of one connection at the same time; its further ones wait at its end. */
#define STREAMS_MAX 128
/* Who does nothing for so long is asked to connect again when there is something. */
#define IDLE_MS (15 * 60 * 1000)
/* Peers that vanished without a word are noticed. */
#define KEEPALIVE_MS (60 * 1000)
#define KEEPALIVE_TIMEOUT_MS (20 * 1000)
/* Peers may ask as often as that whether we are there. */
#define PING_INTERVAL_MS (5 * 1000)
/* For TLS. */
#define HANDSHAKE_MS (20 * 1000)
#define ARGUMENTS_MAX 16
/* One for what the library holds, one for what calls do. */
#define MEMORY_SHARES 2
/* So that a call with the largest message finds room for that and for what is made of it. */
#define MESSAGES_IN_MEMORY 8
/* Calls that wait for the end of the server: each keeps a thread. */
#define WATCHING_MAX 16

/* ---- Doors ---- */

/* What the library holds of messages that are under way, over all connections. */
static void add_quota(grpc_channel_args *args, grpc_resource_quota *quota)
{
	args->args[args->num_args++] = (grpc_arg){
		.type = GRPC_ARG_POINTER,
		.key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
		.value.pointer = {.p = quota,
				  .vtable = grpc_library.grpc_resource_quota_arg_vtable()},
	};
}

grpc_server *rpc_server_make_grpc(const struct rpc_server *s)
{
	grpc_arg list[GRPC_LIBRARY_TUNING_MAX + ARGUMENTS_MAX];
	grpc_channel_args args = {.args = list};

	grpc_library_tune(&args);
	grpc_library_add_number(&args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
				(int)s->options.message_max);
	grpc_library_add_number(&args, GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MAX);
	grpc_library_add_number(&args, GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS);
	grpc_library_add_number(&args, GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS);
	grpc_library_add_number(&args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS);
	grpc_library_add_number(&args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
	add_quota(&args, s->quota);
	/* Two daemons at one address would be an oversight. */
	grpc_library_add_number(&args, GRPC_ARG_ALLOW_REUSEPORT, 0);
	grpc_library_add_number(&args, GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS);
	grpc_library_add_number(&args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
				PING_INTERVAL_MS);
	grpc_server *grpc = grpc_library.grpc_server_create(&args, NULL);

	grpc_library.grpc_server_register_completion_queue(grpc, s->arrivals, NULL);
	return grpc;
}

static int add_door(struct rpc_server *s, unsigned rights, struct server_door **out,
		    struct error *err)
{
	if (s->door_count == SERVER_DOORS_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %d addresses to listen on",
				 SERVER_DOORS_MAX - 1);
	}
	struct server_door *door = &s->doors[s->door_count++];

	*door = (struct server_door){
		.closed = {.event = CALL_CLOSED},
		.server = s,
		.grpc = rpc_server_make_grpc(s),
		.rights = rights,
		.fd = -1,
	};
	*out = door;
	return 0;
}

static struct rpc_peers copy_peers(const struct rpc_peers *peers)
{
	size_t users = peers->user_count * sizeof(*peers->users);
	size_t groups = peers->group_count * sizeof(*peers->groups);
	uid_t *user_copy = xmalloc(users + 1);
	gid_t *group_copy = xmalloc(groups + 1);

	if (users) {
		memcpy(user_copy, peers->users, users);
	}
	if (groups) {
		memcpy(group_copy, peers->groups, groups);
	}
	return (struct rpc_peers){user_copy, peers->user_count, group_copy, peers->group_count};
}

int rpc_server_add_socket(struct rpc_server *s, int fd, unsigned rights,
			  const struct rpc_peers *peers, struct error *err)
{
	bool checks = peers && peers->user_count + peers->group_count > 0;
	struct server_door *door = NULL;
	int rc = 0;

	/* Who accepts must not wait for a connection that has gone again meanwhile. */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
		return error_set_errno(err, errno, "cannot listen on descriptor %d", fd);
	}
	if (checks && !s->refusing) {
		rc = add_door(s, 0, &s->refusing, err);
	}
	if (rc == 0) {
		rc = add_door(s, rights, &door, err);
	}
	if (rc < 0) {
		return rc;
	}
	door->fd = fd;
	door->checks_peers = checks;
	if (checks) {
		door->peers = copy_peers(peers);
	}
	return 0;
}

/* NULL when they are of no use. */
static grpc_server_credentials *tls_credentials(const struct rpc_tls *tls)
{
	const struct grpc_library *lib = &grpc_library;
	const grpc_ssl_pem_key_cert_pair pair = {
		.private_key = (const char *)tls->key.ptr,
		.cert_chain = (const char *)tls->certificate.ptr,
	};
	bool mutual = tls->client_ca.len > 0;
	grpc_ssl_server_certificate_config *config =
		lib->grpc_ssl_server_certificate_config_create(
			mutual ? (const char *)tls->client_ca.ptr : NULL, &pair, 1);
	grpc_ssl_server_credentials_options *options =
		lib->grpc_ssl_server_credentials_create_options_using_config(
			mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
			       : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
			config);

	/* It takes over the options, which took over the configuration. */
	return lib->grpc_ssl_server_credentials_create_with_options(options);
}

/* The address, with the port that was chosen. */
static char *bound_address(const char *address, int port)
{
	int len = (int)(strrchr(address, ':') - address);

	return xasprintf("%.*s:%d", len, address, port);
}

int rpc_server_add_tls(struct rpc_server *s, const char *address, unsigned rights,
		       const struct rpc_tls *tls, unsigned *port, struct error *err)
{
	grpc_server_credentials *credentials = tls_credentials(tls);
	struct server_door *door = NULL;

	if (!credentials) {
		return error_set(err, ERROR_INVALID,
				 "the certificate or its key is of no use for TLS");
	}
	int rc = add_door(s, rights, &door, err);

	if (rc < 0) {
		grpc_library.grpc_server_credentials_release(credentials);
		return rc;
	}
	door->tls = credentials;
	int bound = grpc_library.grpc_server_add_http2_port(door->grpc, address, credentials);

	if (bound == 0) {
		return error_set(err, ERROR_IO,
				 "cannot listen on %s (or its certificate and key do not fit)",
				 address);
	}
	door->tls_address = bound_address(address, bound);
	*port = (unsigned)bound;
	return 0;
}

/* ---- The server ---- */

/* Connections leave half of the descriptors to the store. */
static size_t connection_limit(const struct rpc_server_options *o)
{
	size_t wanted = o->connections ? o->connections : RPC_SERVER_CONNECTIONS_DEFAULT;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
		return wanted;
	}
	return MAX(MIN(wanted, (size_t)limit.rlim_cur / 2), (size_t)1);
}

static void set_options(struct rpc_server *s, const struct rpc_server_options *o)
{
	s->options = *o;
	s->options.threads = o->threads ? o->threads : RPC_SERVER_THREADS_DEFAULT;
	s->options.memory_max = o->memory_max ? o->memory_max : RPC_SERVER_MEMORY_DEFAULT;
	s->options.message_max = MIN(o->message_max ? o->message_max : RPC_SERVER_MESSAGE_MAX,
				     (size_t)(s->options.memory_max / MESSAGES_IN_MEMORY));
	s->budget = rpc_budget_new(s->options.memory_max / MEMORY_SHARES);
	s->quota = grpc_library.grpc_resource_quota_create("cairn");
	grpc_library.grpc_resource_quota_resize(
		s->quota, (size_t)(s->options.memory_max / MEMORY_SHARES));
	s->connection_max = connection_limit(o);
	s->connections = xcalloc(s->connection_max, sizeof(*s->connections));
}

int rpc_server_new(const struct rpc_server_options *o, struct rpc_server **out,
		   struct error *err)
{
	int rc = grpc_library_load(err);

	if (rc < 0) {
		return rc;
	}
	int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (stop_fd < 0) {
		return error_set_errno(err, errno, "cannot make an eventfd");
	}
	struct rpc_server *s = xcalloc(1, sizeof(*s));

	set_options(s, o);
	s->stop_fd = stop_fd;
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->last = &s->first;
	s->failed_accepts = grpc_library_failed_accepts();
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->arrivals = grpc_library.grpc_completion_queue_create_for_next(NULL);
	*out = s;
	return 0;
}

/* Says to every door that it takes no more, and that its end is to be told. */
static void close_doors(struct rpc_server *s)
{
	for (size_t i = 0; i < s->door_count; i++) {
		grpc_library.grpc_server_shutdown_and_notify(s->doors[i].grpc, s->arrivals,
							     &s->doors[i].closed);
	}
}

void rpc_server_free(struct rpc_server *s)
{
	if (!s) {
		return;
	}
	if (!s->started) {
		close_doors(s);
	}
	grpc_library.grpc_completion_queue_shutdown(s->arrivals);
	rpc_workers_end(s);
	while (grpc_library
		       .grpc_completion_queue_next(s->arrivals, grpc_library_deadline(0), NULL)
		       .type != GRPC_QUEUE_SHUTDOWN) {
	}
	for (size_t i = 0; i < s->door_count; i++) {
		grpc_library.grpc_server_destroy(s->doors[i].grpc);
		free((void *)(uintptr_t)s->doors[i].peers.users);
		free((void *)(uintptr_t)s->doors[i].peers.groups);
		free(s->doors[i].tls_address);
		if (s->doors[i].tls) {
			grpc_library.grpc_server_credentials_release(s->doors[i].tls);
		}
	}
	grpc_library.grpc_completion_queue_destroy(s->arrivals);
	grpc_library.grpc_resource_quota_unref(s->quota);
	rpc_budget_free(s->budget);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s->connections);
	cleanup_close(&s->spare_fd);
	cleanup_close(&s->stop_fd);
	free(s);
}

int rpc_server_start(struct rpc_server *s, struct error *err)
{
	for (size_t i = 0; i < s->door_count; i++) {
		grpc_library.grpc_server_start(s->doors[i].grpc);
	}
	return rpc_workers_start(s, err);
}

void rpc_server_stop(struct rpc_server *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->stop_fd, &one, sizeof(one));

	/* It is full: then it was written to before. */
	(void)n;
}

static void wake_watching(struct rpc_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	for (struct server_call *c = s->watching; c; c = c->next) {
		c->woken = true;
		server_call_wake(c);
	}
	pthread_mutex_unlock(&s->lock);
}

/*
 * Calls may end until then. A connection without calls is not waited for: its peer was asked to
 * close it, and may be somebody who never does.
 */
static void let_calls_end(struct rpc_server *s)
{
	const struct timespec until = moment_after(s->options.drain);
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	while (s->closed_doors < s->door_count && s->running && rc == 0) {
		rc = pthread_cond_timedwait(&s->changed, &s->lock, &until);
	}
	if (s->running) {
		log_info("%zu calls that have not ended are given up", s->running);
	}
	pthread_mutex_unlock(&s->lock);
}

static void drain(struct rpc_server *s)
{
	close_doors(s);
	wake_watching(s);
	let_calls_end(s);
	for (size_t i = 0; i < s->door_count; i++) {
		grpc_library.grpc_server_cancel_all_calls(s->doors[i].grpc);
	}
	pthread_mutex_lock(&s->lock);
	for (const struct retired_server *r = s->retired; r; r = r->next) {
		grpc_library.grpc_server_cancel_all_calls(r->grpc);
	}
	while (s->closed_doors < s->door_count || s->retired_count) {
		pthread_cond_wait(&s->changed, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
}

int rpc_server_run(struct rpc_server *s, struct error *err)
{
	int rc = rpc_connections_accept(s, err);

	drain(s);
	return rc;
}

void rpc_server_count(struct rpc_server *s, struct rpc_server_counts *out)
{
	pthread_mutex_lock(&s->lock);
	size_t running = s->running;

	pthread_mutex_unlock(&s->lock);
	*out = (struct rpc_server_counts){
		.calls = s->calls,
		.failed_calls = s->failed_calls,
		.received_bytes = s->received_bytes,
		.sent_bytes = s->sent_bytes,
		.running_calls = running,
		.connections = s->connection_count,
	};
}

/* ---- Calls that wait for the end ---- */

static int begin_watching(struct rpc_server *s, struct server_call *c, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->stopping) {
		rc = error_set(err, ERROR_UNAVAILABLE, "this daemon ends");
	} else if (s->watching_count == WATCHING_MAX) {
		rc = error_set(err, ERROR_LIMIT, "%d calls wait here already", WATCHING_MAX);
	} else {
		c->pending[CALL_WOKEN] = true;
		c->woken = false;
		c->next = s->watching;
		s->watching = c;
		s->watching_count++;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void end_watching(struct rpc_server *s, struct server_call *c)
{
	struct server_call **p = &s->watching;

	pthread_mutex_lock(&s->lock);
	while (*p != c) {
		p = &(*p)->next;
	}
	*p = c->next;
	s->watching_count--;
	if (!c->woken) {
		c->pending[CALL_WOKEN] = false;
	}
	pthread_mutex_unlock(&s->lock);
}

int server_call_wait(struct server_call *c, struct error *err)
{
	struct rpc_server *s = c->door->server;
	int rc = begin_watching(s, c, err);

	if (rc == 0) {
		server_call_wait_woken(c);
		end_watching(s, c);
	}
	return rc;
}
