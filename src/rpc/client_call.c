#include "rpc/client_call.h"

#include "rpc/client_exchange.h"

/* Tags of what may be under way at once. */
enum { TAG_SEND = 1, TAG_RECEIVE, TAG_STATUS, TAG_COUNT };

struct client_call {
	struct client_channel *channel;
	grpc_completion_queue *queue;
	grpc_call *call;
	struct client_exchange exchange;
	struct rpc_message message; /* what the caller looks at */
	struct buffer storage;      /* of the same, when it came in pieces */
	bool under_way[TAG_COUNT];
	bool began;     /* the metadata are on their way */
	bool sent_last; /* nothing more may be sent */
	bool ended;     /* the status is there */
	gpr_timespec until;
	size_t progress; /* bytes since `until` was set */
	struct client_stop *stop;
	struct client_call *next_of_stop;
};

static void *tag_of(unsigned tag)
{
	return (void *)(uintptr_t)tag;
}

static void start_batch(struct client_call *call, struct client_ops *ops, unsigned tag)
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
	struct client_ops ops = {.count = 0};
	int rc = client_channel_enter(c, true, err);

	if (rc < 0) {
		return rc;
	}
	struct client_call *call = xcalloc(1, sizeof(*call));

	call->channel = c;
	call->queue = client_channel_take_queue(c);
	client_exchange_init(&call->exchange);
	call->call =
		client_channel_create_call(c, call->queue, method, grpc_library_deadline(0));
	/* The status of a call that the peer ends early comes only after the peer's metadata.
	 */
	client_exchange_receive_metadata(&ops, &call->exchange);
	client_exchange_receive_status(&ops, &call->exchange);
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
		return client_channel_timed_out(call->channel, err);
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
	return client_exchange_status(call->channel, &call->exchange, err);
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

/* Takes over the message; NULL: none. */
static int send_ops(struct client_call *call, struct rpc_message *message, bool last,
		    struct error *err)
{
	struct client_ops ops = {.count = 0};
	int rc = wait_sent(call, err);

	if (rc < 0) {
		return rc;
	}
	if (!call->began) {
		call->began = true;
		client_exchange_send_metadata(&ops, call->channel, &call->exchange);
	}
	if (message) {
		note_progress(call, rpc_message_size(message));
		client_exchange_send(&ops, &call->exchange, message);
	}
	if (last) {
		call->sent_last = true;
		client_ops_add(&ops, GRPC_OP_SEND_CLOSE_FROM_CLIENT);
		more_time(call);
	}
	start_batch(call, &ops, TAG_SEND);
	return 0;
}

int client_call_send(struct client_call *call, struct bytes message, bool last,
		     struct error *err)
{
	struct rpc_message m cleanup(rpc_message_done) = {0};

	rpc_message_set(&m, message);
	return send_ops(call, &m, last, err);
}

int client_call_send_parts(struct client_call *call, struct bytes head, struct bytes body,
			   bool last, void (*release)(void *context), void *context,
			   struct error *err)
{
	struct rpc_message m cleanup(rpc_message_done) = {0};

	rpc_message_set_parts(&m, head, body, release, context);
	return send_ops(call, &m, last, err);
}

int client_call_send_end(struct client_call *call, struct error *err)
{
	return send_ops(call, NULL, true, err);
}

static void take_message(struct client_call *call)
{
	rpc_message_done(&call->message);
	call->message = call->exchange.received;
	call->exchange.received = (struct rpc_message){0};
	note_progress(call, rpc_message_size(&call->message));
}

int client_call_receive_pieces(struct client_call *call, const struct rpc_message **message,
			       struct error *err)
{
	struct client_ops ops = {.count = 0};

	if (!call->ended) {
		client_exchange_receive(&ops, &call->exchange);
		start_batch(call, &ops, TAG_RECEIVE);
		int rc = wait_for(call, TAG_RECEIVE, err);

		if (rc < 0) {
			return rc;
		}
	}
	if (!rpc_message_present(&call->exchange.received)) {
		return wait_status(call, err);
	}
	take_message(call);
	*message = &call->message;
	return 1;
}

int client_call_receive(struct client_call *call, struct bytes *message, struct error *err)
{
	const struct rpc_message *m = NULL;
	int rc = client_call_receive_pieces(call, &m, err);

	if (rc > 0 && m) {
		*message = rpc_message_bytes(m, &call->storage);
	}
	return rc;
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

/* ---- Stopping ---- */

struct client_stop {
	pthread_mutex_t lock; /* guards the rest */
	bool stopped;
	struct client_call *calls;
};

struct client_stop *client_stop_new(void)
{
	struct client_stop *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void client_stop_free(struct client_stop *s)
{
	if (s) {
		pthread_mutex_destroy(&s->lock);
		free(s);
	}
}

void client_stop_all(struct client_stop *s)
{
	pthread_mutex_lock(&s->lock);
	s->stopped = true;
	for (struct client_call *c = s->calls; c; c = c->next_of_stop) {
		grpc_library.grpc_call_cancel(c->call, NULL);
	}
	pthread_mutex_unlock(&s->lock);
}

int client_call_obey(struct client_call *call, struct client_stop *stop, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&stop->lock);
	if (stop->stopped) {
		rc = error_set(err, ERROR_CANCELED, "%s: stopped", call->channel->address);
	} else {
		call->stop = stop;
		call->next_of_stop = stop->calls;
		stop->calls = call;
	}
	pthread_mutex_unlock(&stop->lock);
	return rc;
}

static void leave_stop(struct client_call *call)
{
	struct client_call **at = &call->stop->calls;

	pthread_mutex_lock(&call->stop->lock);
	while (*at != call) {
		at = &(*at)->next_of_stop;
	}
	*at = call->next_of_stop;
	pthread_mutex_unlock(&call->stop->lock);
}

void client_call_free(struct client_call *call)
{
	if (!call) {
		return;
	}
	if (call->stop) {
		leave_stop(call);
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
	client_exchange_done(&call->exchange);
	grpc_library.grpc_call_unref(call->call);
	client_channel_give_queue(call->channel, call->queue);
	client_channel_leave(call->channel);
	free(call);
}
