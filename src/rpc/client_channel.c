#include "rpc/client_channel.h"

#include <stdatomic.h>
#include <time.h>

#include "rpc/client_channel_internal.h"

/* ---- Channels ---- */

#define OWN_ARGUMENTS_MAX 16

static void set_arguments(grpc_channel_args *a, const struct client_channel_config *config)
{
	grpc_library_tune(a);
	/* After the general one, which is without limit. */
	grpc_library_add_number(a, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, CLIENT_MESSAGE_MAX);
	/* Repeating calls is for us: the library does not know which ones are safe. */
	grpc_library_add_number(a, GRPC_ARG_ENABLE_RETRIES, 0);
	grpc_library_add_number(a, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
	grpc_library_add_number(a, "grpc.enable_http_proxy", 0);
	/* Else all channels to one address would share one connection. */
	grpc_library_add_number(a, "grpc.use_local_subchannel_pool", 1);
	grpc_library_add_number(a, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
	grpc_library_add_number(a, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
	/* So long one attempt may take. */
	grpc_library_add_number(a, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
				(int)config->connect_timeout_ms);
}

static grpc_channel_credentials *make_credentials(const struct client_channel_config *config)
{
	grpc_ssl_pem_key_cert_pair pair = {
		.private_key = config->key,
		.cert_chain = config->certificate,
	};

	if (!config->tls) {
		return grpc_library.grpc_insecure_credentials_create();
	}
	return grpc_library.grpc_ssl_credentials_create_ex(
		config->ca, config->key ? &pair : NULL, NULL, NULL);
}

/*
 * The library is not touched before the first call: it has threads, which a process that goes
 * into the background after opening a store would lose.
 */
static int open_connections(struct client_channel *c, struct error *err)
{
	const struct client_channel_config *config = &c->config;
	int rc = c->connections ? 0 : grpc_library_load(err);

	if (rc < 0 || c->connections) {
		return rc;
	}
	grpc_channel_credentials *credentials = make_credentials(config);
	grpc_arg list[GRPC_LIBRARY_TUNING_MAX + OWN_ARGUMENTS_MAX];
	grpc_channel_args args = {.args = list};

	set_arguments(&args, config);

	c->connections = xcalloc(config->connections, sizeof(grpc_channel *));
	c->connection_count = config->connections;
	for (unsigned i = 0; i < c->connection_count; i++) {
		c->connections[i] =
			grpc_library.grpc_channel_create(config->target, credentials, &args);
	}
	grpc_library.grpc_channel_credentials_release(credentials);
	return 0;
}

static const char *copy(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

static void free_copy(const char *text)
{
	free((void *)(uintptr_t)text);
}

struct client_channel *client_channel_new(const struct client_channel_config *config)
{
	struct client_channel *c = xcalloc(1, sizeof(*c));
	pthread_condattr_t attr;

	c->config = *config;
	c->config.address = c->address = copy(config->address);
	c->config.target = copy(config->target);
	c->config.ca = copy(config->ca);
	c->config.certificate = copy(config->certificate);
	c->config.key = copy(config->key);
	c->config.token = NULL;
	c->authorization = config->token ? xasprintf("Bearer %s", config->token) : NULL;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->call_ended, &attr);
	pthread_condattr_destroy(&attr);
	return c;
}

static void destroy_queue(grpc_completion_queue *q)
{
	grpc_library.grpc_completion_queue_shutdown(q);
	grpc_library.grpc_completion_queue_destroy(q);
}

void client_channel_free(struct client_channel *c)
{
	if (!c) {
		return;
	}
	for (unsigned i = 0; i < c->connection_count; i++) {
		grpc_library.grpc_channel_destroy(c->connections[i]);
	}
	for (unsigned i = 0; i < c->idle_count; i++) {
		destroy_queue(c->idle[i]);
	}
	pthread_cond_destroy(&c->call_ended);
	pthread_mutex_destroy(&c->lock);
	free(c->connections);
	free_copy(c->config.address);
	free_copy(c->config.target);
	free_copy(c->config.ca);
	free_copy(c->config.certificate);
	free_copy(c->config.key);
	free(c->authorization);
	free(c);
}

const char *client_channel_address(const struct client_channel *c)
{
	return c->address;
}

/* ---- What a call takes: one of calls_max, and a queue ---- */

static struct timespec time_in(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

int client_channel_enter(struct client_channel *c, bool wait, struct error *err)
{
	struct timespec until = time_in(c->config.timeout_ms);

	pthread_mutex_lock(&c->lock);
	int rc = open_connections(c, err);

	rc = rc < 0 ? rc : 1;
	while (c->calls >= c->config.calls_max && rc == 1) {
		if (!wait) {
			rc = 0;
		} else if (pthread_cond_timedwait(&c->call_ended, &c->lock, &until) != 0) {
			rc = error_set(err, ERROR_TIMEOUT,
				       "%s: %u other calls have not ended in %u ms", c->address,
				       c->calls, c->config.timeout_ms);
		}
	}
	c->calls += rc == 1;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

void client_channel_leave(struct client_channel *c)
{
	pthread_mutex_lock(&c->lock);
	c->calls--;
	pthread_cond_signal(&c->call_ended);
	pthread_mutex_unlock(&c->lock);
}

grpc_completion_queue *client_channel_take_queue(struct client_channel *c)
{
	grpc_completion_queue *q = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->idle_count > 0) {
		q = c->idle[--c->idle_count];
	}
	pthread_mutex_unlock(&c->lock);
	return q ? q : grpc_library.grpc_completion_queue_create_for_pluck(NULL);
}

void client_channel_give_queue(struct client_channel *c, grpc_completion_queue *q)
{
	pthread_mutex_lock(&c->lock);
	if (c->idle_count < IDLE_QUEUES_MAX) {
		c->idle[c->idle_count++] = q;
		q = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	if (q) {
		destroy_queue(q);
	}
}

grpc_call *client_channel_create_call(struct client_channel *c, grpc_completion_queue *queue,
				      const char *method, gpr_timespec deadline)
{
	unsigned turn = atomic_fetch_add_explicit(&c->turn, 1, memory_order_relaxed);
	grpc_slice path = grpc_library.grpc_slice_from_copied_buffer(method, strlen(method));
	grpc_call *call = grpc_library.grpc_channel_create_call(
		c->connections[turn % c->connection_count], NULL, GRPC_PROPAGATE_DEFAULTS,
		queue, path, NULL, deadline, NULL);

	grpc_library.grpc_slice_unref(path);
	return call;
}

int client_channel_timed_out(const struct client_channel *c, struct error *err)
{
	return error_set(err, ERROR_TIMEOUT, "%s: no answer in %u ms", c->address,
			 c->config.timeout_ms);
}

/* ---- Waiting ---- */

static void wait_connected(struct client_channel *c, gpr_timespec until)
{
	const struct grpc_library *lib = &grpc_library;
	/* Of the next call. */
	unsigned turn = atomic_load_explicit(&c->turn, memory_order_relaxed);
	grpc_channel *connection = c->connections[turn % c->connection_count];
	grpc_completion_queue *queue = client_channel_take_queue(c);
	bool changed = true;

	while (changed) {
		grpc_connectivity_state state =
			lib->grpc_channel_check_connectivity_state(connection, 1);

		if (state == GRPC_CHANNEL_READY) {
			break;
		}
		lib->grpc_channel_watch_connectivity_state(connection, state, until, queue, c);
		changed = lib->grpc_completion_queue_pluck(queue, c, grpc_library_deadline(0),
							   NULL)
				  .success;
	}
	client_channel_give_queue(c, queue);
}

void client_channel_wait(struct client_channel *c, unsigned ms, bool connection)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	if (connection && c->connections) {
		wait_connected(c, grpc_library_deadline(ms));
	} else {
		nanosleep(&t, NULL);
	}
}
