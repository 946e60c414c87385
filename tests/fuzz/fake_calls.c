#include "fake_calls.h"

/* ---- messages ---- */

void rpc_message_done(struct rpc_message *m)
{
	if (m->buffer) {
		buffer_done(&m->buffer->bytes);
		free(m->buffer);
		m->buffer = NULL;
	}
}

void rpc_message_set(struct rpc_message *m, struct bytes content)
{
	rpc_message_done(m);
	m->buffer = xcalloc(1, sizeof(*m->buffer));
	buffer_append(&m->buffer->bytes, content.ptr, content.len);
	m->buffer->first = content.len / 3;
}

void rpc_message_set_parts(struct rpc_message *m, struct bytes head, struct bytes body,
			   void (*release)(void *context), void *context)
{
	rpc_message_set(m, head);
	buffer_append(&m->buffer->bytes, body.ptr, body.len);
	release(context);
}

size_t rpc_message_size(const struct rpc_message *m)
{
	return m->buffer->bytes.len;
}

size_t rpc_message_piece_count(const struct rpc_message *m)
{
	return m->buffer->first ? 2 : 1;
}

struct bytes rpc_message_piece(const struct rpc_message *m, size_t i)
{
	struct bytes all = buffer_bytes(&m->buffer->bytes);
	/* Who damages messages may have cut it off. */
	size_t first = m->buffer->first ? MIN(m->buffer->first, all.len) : all.len;

	return i == 0 ? bytes_of(all.ptr, first) : bytes_of(all.ptr + first, all.len - first);
}

struct bytes rpc_message_bytes(const struct rpc_message *m, struct buffer *storage)
{
	struct bytes all = buffer_bytes(&m->buffer->bytes);

	/* Exactly as long as it is, for the sanitizer. */
	buffer_done(storage);
	storage->ptr = xmalloc(all.len);
	storage->len = storage->capacity = all.len;
	if (all.len) {
		memcpy(storage->ptr, all.ptr, all.len);
	}
	return buffer_bytes(storage);
}

static void add(struct fake_messages *l, struct rpc_message *m)
{
	if (l->count == l->capacity) {
		l->capacity = MAX(l->capacity * 2, (size_t)4);
		l->list = xrealloc(l->list, l->capacity * sizeof(*l->list));
	}
	l->list[l->count++] = *m;
	*m = (struct rpc_message){0};
}

void fake_messages_add(struct fake_messages *l, struct bytes content)
{
	struct rpc_message m = {0};

	rpc_message_set(&m, content);
	add(l, &m);
}

void fake_messages_done(struct fake_messages *l)
{
	for (size_t i = 0; i < l->count; i++) {
		rpc_message_done(&l->list[i]);
	}
	free(l->list);
	*l = (struct fake_messages){0};
}

/* ---- calls ---- */

int server_call_receive(struct server_call *c, struct rpc_message *m, struct error *err unused)
{
	check(!c->ended);
	rpc_message_done(m);
	if (c->taken == c->requests.count) {
		return 0;
	}
	*m = c->requests.list[c->taken];
	c->requests.list[c->taken++] = (struct rpc_message){0};
	return 1;
}

int server_call_receive_only(struct server_call *c, struct rpc_message *m, struct error *err)
{
	int rc = server_call_receive(c, m, err);

	return rc == 0 ? error_set(err, ERROR_INVALID, "no request") : MIN(rc, 0);
}

int server_call_send(struct server_call *c, struct rpc_message *m, struct error *err unused)
{
	check(!c->ended && m->buffer);
	add(&c->answers, m);
	return 0;
}

void server_call_reply(struct server_call *c, struct rpc_message *m)
{
	check(!c->ended);
	if (m->buffer) {
		add(&c->answers, m);
	}
	c->ended = true;
}

void server_call_reply_bytes(struct server_call *c, struct bytes answer)
{
	check(!c->ended);
	fake_messages_add(&c->answers, answer);
	c->ended = true;
}

unsigned server_call_rights(const struct server_call *c unused)
{
	return RPC_MAY_READ | RPC_MAY_WRITE;
}

struct rpc_server *server_call_server(const struct server_call *c unused)
{
	return NULL;
}

int server_call_hold(struct server_call *c unused, uint64_t bytes unused,
		     struct error *err unused)
{
	return 0;
}

int server_call_wait(struct server_call *c unused, struct error *err unused)
{
	return 0;
}

void rpc_server_count(struct rpc_server *s unused, struct rpc_server_counts *out)
{
	*out = (struct rpc_server_counts){.calls = 1};
}

void fake_call_done(struct server_call *c)
{
	fake_messages_done(&c->requests);
	fake_messages_done(&c->answers);
}

int fake_call_run(struct server_call *c, const struct rpc_method *method,
		  struct store_methods *context, struct error *err)
{
	int rc = result(method->handle(context, c, err), err);

	check(rc <= 0 && (rc < 0) == !c->ended);
	return rc;
}
