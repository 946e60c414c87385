/*
 * Of libgrpc's C core, the client's part. Each call has a completion queue to itself, and
 * whoever waits for an operation is the one who moves bytes: there are no threads of our own.
 * Queues are kept for the next call, since making one costs more than a small call.
 */

#include "rpc/client_channel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "rpc/grpc_library.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_status.h"

#define IDLE_QUEUES_MAX 64
/* Questions of one client_channel_ask_many() that are under way together. */
#define QUESTIONS_MAX 64

struct client_channel {
	struct client_channel_config config; /* with copies of the strings */
	const char *address;
	char *authorization;        /* the header's value; NULL: none */
	grpc_channel **connections; /* NULL before the first call */
	unsigned connection_count;
	_Atomic unsigned turn;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t call_ended;
	unsigned calls;
	grpc_completion_queue *idle[IDLE_QUEUES_MAX];
	unsigned idle_count;
};

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
	grpc_library_add_number(a, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
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

/* Asker: whether one more call may begin. Waits for others to end only when told to. */
static int enter(struct client_channel *c, bool wait, struct error *err)
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

static void leave(struct client_channel *c)
{
	pthread_mutex_lock(&c->lock);
	c->calls--;
	pthread_cond_signal(&c->call_ended);
	pthread_mutex_unlock(&c->lock);
}

static grpc_completion_queue *take_queue(struct client_channel *c)
{
	grpc_completion_queue *q = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->idle_count > 0) {
		q = c->idle[--c->idle_count];
	}
	pthread_mutex_unlock(&c->lock);
	return q ? q : grpc_library.grpc_completion_queue_create_for_pluck(NULL);
}

/* The queue is empty: all that was started has been waited for. */
static void give_queue(struct client_channel *c, grpc_completion_queue *q)
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

static grpc_call *create_call(struct client_channel *c, grpc_completion_queue *queue,
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

/* ---- Operations ---- */

#define OPS_MAX 6

struct ops {
	grpc_op list[OPS_MAX];
	size_t count;
};

static grpc_op *add_op(struct ops *ops, grpc_op_type type)
{
	grpc_op *op = &ops->list[ops->count++];

	*op = (grpc_op){.op = type};
	return op;
}

/* Where the library puts what it receives, and what it sends, until that is done. */
struct exchange {
	grpc_metadata authorization;
	struct rpc_message sent;
	struct rpc_message received;
	grpc_metadata_array initial;
	grpc_metadata_array trailing;
	grpc_status_code status;
	grpc_slice details;
};

static void exchange_init(struct exchange *x)
{
	*x = (struct exchange){.details = grpc_library_static_slice("")};
	grpc_library.grpc_metadata_array_init(&x->initial);
	grpc_library.grpc_metadata_array_init(&x->trailing);
}

static void exchange_done(struct exchange *x)
{
	rpc_message_done(&x->sent);
	rpc_message_done(&x->received);
	grpc_library.grpc_metadata_array_destroy(&x->initial);
	grpc_library.grpc_metadata_array_destroy(&x->trailing);
	grpc_library.grpc_slice_unref(x->details);
}

static void add_metadata(struct ops *ops, const struct client_channel *c, struct exchange *x)
{
	grpc_op *op = add_op(ops, GRPC_OP_SEND_INITIAL_METADATA);

	if (c->authorization) {
		x->authorization.key = grpc_library_static_slice("authorization");
		x->authorization.value = grpc_library_static_slice(c->authorization);
		op->data.send_initial_metadata.count = 1;
		op->data.send_initial_metadata.metadata = &x->authorization;
	}
}

static void add_message(struct ops *ops, struct exchange *x, struct bytes message)
{
	rpc_message_set(&x->sent, message);
	add_op(ops, GRPC_OP_SEND_MESSAGE)->data.send_message.send_message = x->sent.buffer;
}

static void add_status(struct ops *ops, struct exchange *x)
{
	grpc_op *op = add_op(ops, GRPC_OP_RECV_STATUS_ON_CLIENT);

	op->data.recv_status_on_client.trailing_metadata = &x->trailing;
	op->data.recv_status_on_client.status = &x->status;
	op->data.recv_status_on_client.status_details = &x->details;
}

static void add_receive_metadata(struct ops *ops, struct exchange *x)
{
	add_op(ops, GRPC_OP_RECV_INITIAL_METADATA)
		->data.recv_initial_metadata.recv_initial_metadata = &x->initial;
}

static void add_receive(struct ops *ops, struct exchange *x)
{
	add_op(ops, GRPC_OP_RECV_MESSAGE)->data.recv_message.recv_message = &x->received.buffer;
}

/* What a cairn says more exactly than by the status. */
static struct bytes code_name(const struct exchange *x)
{
	struct bytes key = bytes_of_string(RPC_STATUS_KEY);

	for (size_t i = 0; i < x->trailing.count; i++) {
		const grpc_metadata *m = &x->trailing.metadata[i];

		if (bytes_equal(grpc_library_slice_bytes(&m->key), key)) {
			return grpc_library_slice_bytes(&m->value);
		}
	}
	return bytes_of(NULL, 0);
}

/* 0, or what the peer (or the library in its place) says. */
static int check_status(const struct client_channel *c, const struct exchange *x,
			struct error *err)
{
	if (x->status == GRPC_STATUS_OK) {
		return 0;
	}
	struct bytes details = grpc_library_slice_bytes(&x->details);
	enum error_code code = rpc_status_code((int)x->status, code_name(x));

	return error_set(err, code, "%s: %s", c->address,
			 details.len ? bytes_printable(details)
				     : rpc_status_name((int)x->status));
}

static int timed_out(const struct client_channel *c, struct error *err)
{
	return error_set(err, ERROR_TIMEOUT, "%s: no answer in %u ms", c->address,
			 c->config.timeout_ms);
}

/* ---- Questions ---- */

struct pending {
	struct client_question *question;
	grpc_call *call;
	struct exchange exchange;
};

static void start_question(struct client_channel *c, grpc_completion_queue *queue,
			   struct pending *p, struct client_question *q)
{
	struct ops ops = {.count = 0};

	p->question = q;
	exchange_init(&p->exchange);
	p->call = create_call(c, queue, q->method, grpc_library_deadline(c->config.timeout_ms));
	add_metadata(&ops, c, &p->exchange);
	add_message(&ops, &p->exchange, q->request);
	add_op(&ops, GRPC_OP_SEND_CLOSE_FROM_CLIENT);
	add_receive_metadata(&ops, &p->exchange);
	add_receive(&ops, &p->exchange);
	add_status(&ops, &p->exchange);
	grpc_library.grpc_call_start_batch(p->call, ops.list, ops.count, p, NULL);
}

static void append_message(struct buffer *out, const struct rpc_message *message)
{
	buffer_reserve(out, rpc_message_size(message));
	for (size_t i = 0; i < rpc_message_piece_count(message); i++) {
		struct bytes piece = rpc_message_piece(message, i);

		buffer_append(out, piece.ptr, piece.len);
	}
}

static int take_answer(const struct client_channel *c, struct pending *p, struct error *err)
{
	int rc = check_status(c, &p->exchange, err);

	if (rc == 0 && !rpc_message_present(&p->exchange.received)) {
		rc = error_set(err, ERROR_CORRUPT, "%s: an answer without a message",
			       c->address);
	}
	if (rc == 0) {
		append_message(&p->question->reply, &p->exchange.received);
	}
	return rc;
}

/* The deadline of the call ends the wait; a little later we do, should the library not. */
static int finish_question(struct client_channel *c, grpc_completion_queue *queue,
			   struct pending *p, struct error *err)
{
	grpc_event e = grpc_library.grpc_completion_queue_pluck(
		queue, p, grpc_library_deadline(c->config.timeout_ms + 1000), NULL);
	int rc;

	if (e.type == GRPC_OP_COMPLETE) {
		rc = take_answer(c, p, err);
	} else {
		grpc_library.grpc_call_cancel(p->call, NULL);
		grpc_library.grpc_completion_queue_pluck(queue, p, grpc_library_deadline(0),
							 NULL);
		rc = timed_out(c, err);
	}
	p->question->rc = rc;
	exchange_done(&p->exchange);
	grpc_library.grpc_call_unref(p->call);
	leave(c);
	return rc;
}

struct window {
	struct pending pending[QUESTIONS_MAX];
	size_t started;
	size_t finished;
};

/* Asker: whether there is room for one more; those that wait for a place of others get none. */
static int may_start(struct client_channel *c, const struct window *w, size_t count,
		     struct error *err)
{
	size_t under_way = w->started - w->finished;

	if (w->started == count || under_way == QUESTIONS_MAX) {
		return 0;
	}
	return enter(c, under_way == 0, err);
}

static int ask_next(struct client_channel *c, grpc_completion_queue *queue, struct window *w,
		    struct client_question *questions, size_t count, struct error *err)
{
	int rc = may_start(c, w, count, err);

	if (rc < 0) {
		/* Nothing is under way; the rest is not asked. */
		while (w->started < count) {
			questions[w->started++].rc = rc;
		}
		w->finished = count;
		return rc;
	}
	if (rc > 0) {
		start_question(c, queue, &w->pending[w->started % QUESTIONS_MAX],
			       &questions[w->started]);
		w->started++;
		return 0;
	}
	rc = finish_question(c, queue, &w->pending[w->finished % QUESTIONS_MAX], err);
	w->finished++;
	return rc;
}

int client_channel_ask_many(struct client_channel *c, struct client_question *questions,
			    size_t count, struct error *err)
{
	struct window *w = xcalloc(1, sizeof(*w));
	grpc_completion_queue *queue = take_queue(c);
	int first = 0;

	while (w->finished < count) {
		int rc = ask_next(c, queue, w, questions, count, first ? NULL : err);

		first = first ? first : rc;
	}
	give_queue(c, queue);
	free(w);
	return first;
}

int client_channel_ask(struct client_channel *c, const char *method, struct bytes request,
		       struct buffer *reply, struct error *err)
{
	struct client_question question = {.method = method, .request = request};
	struct pending pending;
	int rc = enter(c, true, err);

	if (rc < 0) {
		return rc;
	}
	grpc_completion_queue *queue = take_queue(c);

	question.reply = *reply;
	start_question(c, queue, &pending, &question);
	rc = finish_question(c, queue, &pending, err);
	*reply = question.reply;
	give_queue(c, queue);
	return rc;
}

/* ---- Streams ---- */

/* Tags of what may be under way at once. */
enum { TAG_SEND = 1, TAG_RECEIVE, TAG_STATUS, TAG_COUNT };

struct client_call {
	struct client_channel *channel;
	grpc_completion_queue *queue;
	grpc_call *call;
	struct exchange exchange;
	struct rpc_message message; /* what the caller looks at */
	struct buffer storage;      /* of the same, when it came in pieces */
	bool under_way[TAG_COUNT];
	bool began;     /* the metadata are on their way */
	bool sent_last; /* nothing more may be sent */
	bool ended;     /* the status is there */
	gpr_timespec until;
	size_t progress; /* bytes since `until` was set */
};

static void *tag_of(unsigned tag)
{
	return (void *)(uintptr_t)tag;
}

static void start_batch(struct client_call *call, struct ops *ops, unsigned tag)
{
	grpc_library.grpc_call_start_batch(call->call, ops->list, ops->count, tag_of(tag),
					   NULL);
	call->under_way[tag] = true;
}

static void more_time(struct client_call *call)
{
	call->until = grpc_library_deadline(call->channel->config.timeout_ms);
	call->progress = 0;
}

static void note_progress(struct client_call *call, size_t bytes)
{
	call->progress += bytes;
	if (call->progress >= CLIENT_PROGRESS_BYTES) {
		more_time(call);
	}
}

int client_call_start(struct client_channel *c, const char *method, struct client_call **out,
		      struct error *err)
{
	struct ops ops = {.count = 0};
	int rc = enter(c, true, err);

	if (rc < 0) {
		return rc;
	}
	struct client_call *call = xcalloc(1, sizeof(*call));

	call->channel = c;
	call->queue = take_queue(c);
	exchange_init(&call->exchange);
	call->call = create_call(c, call->queue, method, grpc_library_deadline(0));
	/* The status of a call that the peer ends early comes only after the peer's metadata.
	 */
	add_receive_metadata(&ops, &call->exchange);
	add_status(&ops, &call->exchange);
	start_batch(call, &ops, TAG_STATUS);
	more_time(call);
	*out = call;
	return 0;
}

/* Waits for one operation. Asker: 0 when it came to nothing, since the call has ended. */
static int wait_for(struct client_call *call, unsigned tag, struct error *err)
{
	grpc_event e = grpc_library.grpc_completion_queue_pluck(call->queue, tag_of(tag),
								call->until, NULL);

	if (e.type != GRPC_OP_COMPLETE) {
		grpc_library.grpc_call_cancel(call->call, NULL);
		return timed_out(call->channel, err);
	}
	call->under_way[tag] = false;
	return e.success != 0;
}

/* The call is over, at once or when its last message was taken: how it went. */
static int wait_status(struct client_call *call, struct error *err)
{
	if (!call->ended) {
		int rc = wait_for(call, TAG_STATUS, err);

		if (rc < 0) {
			return rc;
		}
		call->ended = true;
	}
	return check_status(call->channel, &call->exchange, err);
}

static int ended_early(struct client_call *call, struct error *err)
{
	int rc = wait_status(call, err);

	return rc < 0 ? rc
		      : error_set(err, ERROR_CORRUPT,
				  "%s: the call was ended before all was sent",
				  call->channel->address);
}

static int wait_sent(struct client_call *call, struct error *err)
{
	if (!call->under_way[TAG_SEND]) {
		return 0;
	}
	int rc = wait_for(call, TAG_SEND, err);

	if (rc < 0) {
		return rc;
	}
	rpc_message_done(&call->exchange.sent);
	return rc > 0 ? 0 : ended_early(call, err);
}

static int send_ops(struct client_call *call, const struct bytes *message, bool last,
		    struct error *err)
{
	struct ops ops = {.count = 0};
	int rc = wait_sent(call, err);

	if (rc < 0) {
		return rc;
	}
	if (!call->began) {
		call->began = true;
		add_metadata(&ops, call->channel, &call->exchange);
	}
	if (message) {
		add_message(&ops, &call->exchange, *message);
		note_progress(call, message->len);
	}
	if (last) {
		call->sent_last = true;
		add_op(&ops, GRPC_OP_SEND_CLOSE_FROM_CLIENT);
		more_time(call);
	}
	start_batch(call, &ops, TAG_SEND);
	return 0;
}

int client_call_send(struct client_call *call, struct bytes message, bool last,
		     struct error *err)
{
	return send_ops(call, &message, last, err);
}

int client_call_send_end(struct client_call *call, struct error *err)
{
	return send_ops(call, NULL, true, err);
}

static void take_message(struct client_call *call, struct bytes *message)
{
	rpc_message_done(&call->message);
	call->message = call->exchange.received;
	call->exchange.received = (struct rpc_message){0};
	*message = rpc_message_bytes(&call->message, &call->storage);
	note_progress(call, message->len);
}

int client_call_receive(struct client_call *call, struct bytes *message, struct error *err)
{
	struct ops ops = {.count = 0};

	if (!call->ended) {
		add_receive(&ops, &call->exchange);
		start_batch(call, &ops, TAG_RECEIVE);
		int rc = wait_for(call, TAG_RECEIVE, err);

		if (rc < 0) {
			return rc;
		}
	}
	if (!rpc_message_present(&call->exchange.received)) {
		return wait_status(call, err);
	}
	take_message(call, message);
	return 1;
}

int client_call_receive_one(struct client_call *call, struct buffer *reply, struct error *err)
{
	struct bytes message = bytes_of(NULL, 0);
	int rc = client_call_receive(call, &message, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_CORRUPT, "%s: an answer without a message",
					  call->channel->address);
	}
	buffer_append(reply, message.ptr, message.len);
	rc = client_call_receive(call, &message, err);
	return rc <= 0 ? rc
		       : error_set(err, ERROR_CORRUPT, "%s: more than one answer",
				   call->channel->address);
}

void client_call_free(struct client_call *call)
{
	if (!call) {
		return;
	}
	if (!call->ended) {
		grpc_library.grpc_call_cancel(call->call, NULL);
	}
	for (unsigned tag = TAG_SEND; tag < TAG_COUNT; tag++) {
		if (call->under_way[tag]) {
			grpc_library.grpc_completion_queue_pluck(
				call->queue, tag_of(tag), grpc_library_deadline(0), NULL);
		}
	}
	rpc_message_done(&call->message);
	buffer_done(&call->storage);
	exchange_done(&call->exchange);
	grpc_library.grpc_call_unref(call->call);
	give_queue(call->channel, call->queue);
	leave(call->channel);
	free(call);
}
