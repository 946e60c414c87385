/* Calls with one request and one reply each, of client_channel.h. */

#include "rpc/client_exchange.h"

/* Questions of one client_channel_ask_many() that are under way together. */
#define QUESTIONS_MAX 64

struct pending {
	struct client_question *question;
	grpc_call *call;
	struct client_exchange exchange;
};

static void start_question(struct client_channel *c, grpc_completion_queue *queue,
			   struct pending *p, struct client_question *q)
{
	struct client_ops ops = {.count = 0};
	struct rpc_message request = {0};

	p->question = q;
	client_exchange_init(&p->exchange);
	p->call = client_channel_create_call(c, queue, q->method,
					     grpc_library_deadline(c->config.timeout_ms));
	client_exchange_send_metadata(&ops, c, &p->exchange);
	rpc_message_set(&request, q->request);
	client_exchange_send(&ops, &p->exchange, &request);
	client_ops_add(&ops, GRPC_OP_SEND_CLOSE_FROM_CLIENT);
	client_exchange_receive_metadata(&ops, &p->exchange);
	client_exchange_receive(&ops, &p->exchange);
	client_exchange_receive_status(&ops, &p->exchange);
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
	int rc = client_exchange_status(c, &p->exchange, err);

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
		rc = client_channel_timed_out(c, err);
	}
	p->question->rc = rc;
	client_exchange_done(&p->exchange);
	grpc_library.grpc_call_unref(p->call);
	client_channel_leave(c);
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
	return client_channel_enter(c, under_way == 0, err);
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
	grpc_completion_queue *queue = client_channel_take_queue(c);
	int first = 0;

	while (w->finished < count) {
		int rc = ask_next(c, queue, w, questions, count, first ? NULL : err);

		first = first ? first : rc;
	}
	client_channel_give_queue(c, queue);
	free(w);
	return first;
}

int client_channel_ask(struct client_channel *c, const char *method, struct bytes request,
		       struct buffer *reply, struct error *err)
{
	struct client_question question = {.method = method, .request = request};
	struct pending pending;
	int rc = client_channel_enter(c, true, err);

	if (rc < 0) {
		return rc;
	}
	grpc_completion_queue *queue = client_channel_take_queue(c);

	question.reply = *reply;
	start_question(c, queue, &pending, &question);
	rc = finish_question(c, queue, &pending, err);
	*reply = question.reply;
	client_channel_give_queue(c, queue);
	return rc;
}
