#include "rpc/server_call.h"

#include "base/moment.h"
#include "rpc/rpc_budget.h"
#include "rpc/rpc_status.h"
#include "rpc/server_call_internal.h"

/* Costs are counted in steps of this. */
#define HOLD_STEP ((uint64_t)1 << 20)

struct server_call *server_call_new(struct server_door *door, uint64_t timeout,
				    struct rpc_budget *budget)
{
	const struct grpc_library *lib = &grpc_library;
	struct server_call *c = xcalloc(1, sizeof(*c));

	for (enum server_call_event e = 0; e < CALL_EVENT_COUNT; e++) {
		c->tags[e] = (struct server_tag){.call = c, .event = e};
	}
	c->door = door;
	c->timeout = timeout;
	c->budget = budget;
	c->queue = lib->grpc_completion_queue_create_for_next(NULL);
	lib->grpc_call_details_init(&c->details);
	lib->grpc_metadata_array_init(&c->metadata);
	return c;
}

void server_call_free(struct server_call *c)
{
	const struct grpc_library *lib = &grpc_library;
	grpc_event event;

	lib->grpc_completion_queue_shutdown(c->queue);
	do {
		event = lib->grpc_completion_queue_next(
			c->queue, lib->gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	} while (event.type != GRPC_QUEUE_SHUTDOWN);
	lib->grpc_completion_queue_destroy(c->queue);
	lib->grpc_metadata_array_destroy(&c->metadata);
	lib->grpc_call_details_destroy(&c->details);
	free(c);
}

void server_call_arm(struct server_call *c, grpc_server *server,
		     grpc_completion_queue *arrivals)
{
	/* It fails on wrong use only; a server that stops answers through the queue. */
	(void)grpc_library.grpc_server_request_call(server, &c->call, &c->details, &c->metadata,
						    c->queue, arrivals, &c->tags[CALL_ARRIVED]);
}

/* ---- Operations and their ends ---- */

static void start(struct server_call *c, enum server_call_event event, const grpc_op *ops,
		  size_t count)
{
	grpc_call_error rc =
		grpc_library.grpc_call_start_batch(c->call, ops, count, &c->tags[event], NULL);

	c->pending[event] = rc == GRPC_CALL_OK;
	c->succeeded[event] = false;
}

/* The client hears of it; everything that is pending ends soon. */
static void time_out(struct server_call *c)
{
	char reason[80];

	snprintf(reason, sizeof(reason), "hardly any progress for %ju ms",
		 (uintmax_t)c->timeout);
	c->timed_out = true;
	(void)grpc_library.grpc_call_cancel_with_status(c->call, GRPC_STATUS_DEADLINE_EXCEEDED,
							reason, NULL);
}

/* Waits for the end of an operation; whatever ends meanwhile is noted. */
static void wait_within(struct server_call *c, enum server_call_event event, uint64_t timeout)
{
	const struct grpc_library *lib = &grpc_library;
	gpr_timespec deadline = grpc_library_deadline(c->timed_out ? 0 : timeout);

	while (c->pending[event]) {
		grpc_event e = lib->grpc_completion_queue_next(c->queue, deadline, NULL);

		if (e.type == GRPC_OP_COMPLETE) {
			const struct server_tag *tag = e.tag;

			c->pending[tag->event] = false;
			c->succeeded[tag->event] = e.success;
		} else {
			time_out(c);
			deadline = grpc_library_deadline(0);
		}
	}
}

static bool wait_for(struct server_call *c, enum server_call_event event)
{
	if (c->pending[event]) {
		uint64_t begin = moment_now();

		wait_within(c, event, c->timeout);
		c->waited += moment_now() - begin;
	}
	return c->succeeded[event];
}

/*
 * A byte now and then is no progress: somebody who is waited for must send or take one in each
 * millisecond, on the average of a timeout. False when the call was ended for that.
 */
static bool keeps_pace(struct server_call *c)
{
	uint64_t moved = c->received_bytes + c->sent_bytes - c->counted;

	if (c->timeout == 0 || c->waited < c->timeout) {
		return true;
	}
	if (moved < c->waited) {
		time_out(c);
		return false;
	}
	c->counted += moved;
	c->waited = 0;
	return true;
}

static int broken(const struct server_call *c, struct error *err)
{
	if (c->timed_out) {
		return error_set(err, ERROR_TIMEOUT,
				 "the peer made hardly any progress for %ju ms",
				 (uintmax_t)c->timeout);
	}
	return error_set(err, ERROR_CANCELED, "the peer has given up the call");
}

void server_call_begin(struct server_call *c)
{
	grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
		      .data.recv_close_on_server.cancelled = &c->cancelled};

	start(c, CALL_CLOSED, &op, 1);
}

void server_call_end(struct server_call *c)
{
	const struct grpc_library *lib = &grpc_library;

	for (enum server_call_event e = CALL_RECEIVED; e < CALL_EVENT_COUNT; e++) {
		wait_for(c, e);
	}
	rpc_message_done(&c->received);
	lib->grpc_call_unref(c->call);
	lib->grpc_metadata_array_destroy(&c->metadata);
	lib->grpc_call_details_destroy(&c->details);
	lib->grpc_call_details_init(&c->details);
	lib->grpc_metadata_array_init(&c->metadata);
	c->call = NULL;
	c->opened = c->finished = c->timed_out = c->unauthenticated = false;
	c->succeeded[CALL_RECEIVED] = false;
	c->rights = 0;
	c->cancelled = 0;
	c->received_bytes = c->sent_bytes = c->waited = c->counted = 0;
	rpc_budget_give(c->budget, c->held);
	c->message_cost = c->other_cost = c->held = 0;
}

void server_call_wake(struct server_call *c)
{
	(void)grpc_library.grpc_call_start_batch(c->call, NULL, 0, &c->tags[CALL_WOKEN], NULL);
}

void server_call_wait_woken(struct server_call *c)
{
	while (c->pending[CALL_WOKEN] && c->pending[CALL_CLOSED]) {
		const grpc_event e = grpc_library.grpc_completion_queue_next(
			c->queue, grpc_library_deadline(0), NULL);
		const struct server_tag *tag = e.tag;

		c->pending[tag->event] = false;
	}
}

/* ---- What the client sent with the call ---- */

struct bytes server_call_method(const struct server_call *c)
{
	return grpc_library_slice_bytes(&c->details.method);
}

bool server_call_metadata(const struct server_call *c, const char *key, struct bytes *value)
{
	for (size_t i = 0; i < c->metadata.count; i++) {
		const grpc_metadata *m = &c->metadata.metadata[i];

		if (bytes_equal(grpc_library_slice_bytes(&m->key), bytes_of_string(key))) {
			*value = grpc_library_slice_bytes(&m->value);
			return true;
		}
	}
	return false;
}

char *server_call_peer(const struct server_call *c)
{
	char *peer = grpc_library.grpc_call_get_peer(c->call);
	char *copy = xstrdup(peer ? peer : "?");

	grpc_library.gpr_free(peer);
	return copy;
}

/* ---- Memory ---- */

static int hold(struct server_call *c, struct error *err)
{
	uint64_t cost = c->message_cost + c->other_cost;
	int rc = cost > c->held
			 ? rpc_budget_take(c->budget, cost - c->held, c->held, c->timeout, err)
			 : 0;

	c->held = rc == 0 ? MAX(c->held, cost) : c->held;
	return rc;
}

static uint64_t cost_of(uint64_t bytes)
{
	return bytes <= SERVER_MESSAGE_FREE ? 0
					    : (bytes + HOLD_STEP - 1) / HOLD_STEP * HOLD_STEP;
}

/* Up to its end: what was made for a large one is used again. */
static int hold_message(struct server_call *c, uint64_t size, struct error *err)
{
	c->message_cost = MAX(c->message_cost, cost_of(size) * SERVER_MESSAGE_COST);
	return hold(c, err);
}

int server_call_hold(struct server_call *c, uint64_t bytes, struct error *err)
{
	uint64_t before = c->other_cost;

	c->other_cost = MAX(before, cost_of(bytes));
	int rc = hold(c, err);

	if (rc) {
		c->other_cost = before;
	}
	return rc;
}

/* ---- Messages ---- */

static void start_receiving(struct server_call *c)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE,
		      .data.recv_message.recv_message = &c->received.buffer};

	start(c, CALL_RECEIVED, &op, 1);
}

/* Asker. */
static int take_received(struct server_call *c, struct rpc_message *m, struct error *err)
{
	if (!c->pending[CALL_RECEIVED] && !c->succeeded[CALL_RECEIVED]) {
		start_receiving(c);
	}
	bool succeeded = wait_for(c, CALL_RECEIVED);
	int rc;

	c->succeeded[CALL_RECEIVED] = false;
	if (!succeeded || grpc_library.grpc_call_failed_before_recv_message(c->call)) {
		return broken(c, err);
	}
	rpc_message_done(m);
	if (!rpc_message_present(&c->received)) {
		return 0;
	}
	*m = c->received;
	c->received = (struct rpc_message){0};
	c->received_bytes += rpc_message_size(m);
	if (!keeps_pace(c)) {
		return broken(c, err);
	}
	rc = hold_message(c, rpc_message_size(m), err);
	return rc < 0 ? rc : 1;
}

int server_call_receive(struct server_call *c, struct rpc_message *m, struct error *err)
{
	int rc = take_received(c, m, err);

	/* The next one comes in while this one is worked on. */
	if (rc > 0) {
		start_receiving(c);
	}
	return rc;
}

int server_call_receive_only(struct server_call *c, struct rpc_message *m, struct error *err)
{
	int rc = take_received(c, m, err);

	return rc == 0 ? error_set(err, ERROR_INVALID, "the call came without a request")
		       : MIN(rc, 0);
}

#define SEND_OPS_MAX 3

static void add_opening(struct server_call *c, grpc_op *ops, size_t *count)
{
	if (!c->opened) {
		ops[(*count)++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
		c->opened = true;
	}
}

static void add_message(struct server_call *c, const struct rpc_message *m, grpc_op *ops,
			size_t *count)
{
	ops[(*count)++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE,
				    .data.send_message.send_message = m->buffer};
	c->sent_bytes += rpc_message_size(m);
}

int server_call_send(struct server_call *c, struct rpc_message *m, struct error *err)
{
	struct rpc_message message cleanup(rpc_message_done) = *m;
	grpc_op ops[SEND_OPS_MAX];
	size_t count = 0;

	*m = (struct rpc_message){0};
	if (c->opened && (!wait_for(c, CALL_SENT) || !keeps_pace(c))) {
		return broken(c, err);
	}
	add_opening(c, ops, &count);
	add_message(c, &message, ops, &count);
	start(c, CALL_SENT, ops, count);
	return c->pending[CALL_SENT] ? 0 : broken(c, err);
}

void server_call_reply(struct server_call *c, struct rpc_message *m)
{
	struct rpc_message message cleanup(rpc_message_done) = *m;
	grpc_op ops[SEND_OPS_MAX];
	size_t count = 0;

	*m = (struct rpc_message){0};
	c->finished = true;
	wait_for(c, CALL_SENT);
	add_opening(c, ops, &count);
	if (rpc_message_present(&message)) {
		add_message(c, &message, ops, &count);
	}
	ops[count++] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
				 .data.send_status_from_server.status = GRPC_STATUS_OK};
	start(c, CALL_STATUS_SENT, ops, count);
}

void server_call_reply_bytes(struct server_call *c, struct bytes answer)
{
	struct rpc_message m = {0};

	rpc_message_set(&m, answer);
	server_call_reply(c, &m);
}

/* Metadata has printable ASCII only. */
static void make_printable(char *text)
{
	for (; *text; text++) {
		if (*text < ' ' || *text > '~') {
			*text = '?';
		}
	}
}

void server_call_fail(struct server_call *c, const struct error *err)
{
	struct error shown = *err;
	grpc_metadata code = {.key = grpc_library_static_slice(RPC_STATUS_KEY),
			      .value = grpc_library_static_slice(error_code_name(err->code))};
	grpc_op ops[SEND_OPS_MAX];
	size_t count = 0;

	if (c->finished) {
		return;
	}
	c->finished = true;
	wait_for(c, CALL_SENT);
	make_printable(shown.text);
	grpc_slice text =
		grpc_library.grpc_slice_from_copied_buffer(shown.text, strlen(shown.text));

	add_opening(c, ops, &count);
	ops[count++] = (grpc_op){
		.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
		.data.send_status_from_server =
			{
				.trailing_metadata_count = 1,
				.trailing_metadata = &code,
				.status = c->unauthenticated
						  ? GRPC_STATUS_UNAUTHENTICATED
						  : (grpc_status_code)rpc_status_of(err->code),
				.status_details = &text,
			},
	};
	start(c, CALL_STATUS_SENT, ops, count);
	grpc_library.grpc_slice_unref(text);
}
