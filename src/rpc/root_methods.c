/* cairn.v1.Roots. */

#include "rpc/store_methods_internal.h"

static void reply_node(struct server_call *c, struct bytes name, const struct node *node)
{
	struct buffer b cleanup(buffer_done) = {0};

	node_encode(&b, name, node);
	server_call_reply_bytes(c, buffer_bytes(&b));
}

static int request_name(struct server_call *c, struct request *r, struct bytes *name,
			struct error *err)
{
	struct bytes_message m = {0};
	int rc = request_receive(c, &bytes_message_type, r, &m, err);

	*name = m.value;
	return rc;
}

static int no_such_root(struct bytes name, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "%s: no such root", bytes_printable(name));
}

static int lookup_root(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct root_node node cleanup(root_node_done) = {0};
	struct bytes name;
	int rc = request_name(c, &r, &name, err);

	if (rc == 0) {
		rc = node_name_check(name, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = root_nodes_lookup(s->store->roots, name, &node, err);
	if (rc > 0) {
		reply_node(c, name, &node.node);
	}
	return rc == 0 ? no_such_root(name, err) : MIN(rc, 0);
}

/* Read in steps and sent between them, as path infos are. */
struct listing {
	struct buffer messages; /* each with its length, 32 bits, before it */
	struct buffer last;
	bool more;
};

static void listing_done(struct listing *l)
{
	buffer_done(&l->messages);
	buffer_done(&l->last);
}

static bool collect_root(void *context, struct bytes name, const struct node *node)
{
	struct listing *l = context;
	uint32_t len = 0;

	if (l->messages.len >= METHODS_BATCH_SIZE) {
		l->more = true;
		return false;
	}
	size_t start = l->messages.len;

	buffer_append(&l->messages, &len, sizeof(len));
	node_encode(&l->messages, name, node);
	len = (uint32_t)(l->messages.len - start - sizeof(len));
	memcpy(l->messages.ptr + start, &len, sizeof(len));
	l->last.len = 0;
	buffer_append(&l->last, name.ptr, name.len);
	return true;
}

static int send_roots(struct server_call *c, const struct listing *l, struct error *err)
{
	uint32_t len;

	for (size_t at = 0; at < l->messages.len; at += len) {
		struct rpc_message m = {0};

		memcpy(&len, l->messages.ptr + at, sizeof(len));
		at += sizeof(len);
		rpc_message_set(&m, bytes_of(l->messages.ptr + at, len));
		int rc = server_call_send(c, &m, err);

		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

static int list_roots(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct listing l cleanup(listing_done) = {0};
	struct bytes after;
	int rc = request_name(c, &r, &after, err);

	if (rc < 0) {
		return rc;
	}
	buffer_append(&l.last, after.ptr, after.len);
	do {
		struct buffer from cleanup(buffer_done) = {0};

		/* The visit writes to what it began from. */
		buffer_append(&from, l.last.ptr, l.last.len);
		l.messages.len = 0;
		l.more = false;
		rc = root_nodes_list(s->store->roots, buffer_bytes(&from), collect_root, &l,
				     err);
		if (rc == 0) {
			rc = send_roots(c, &l, err);
		}
	} while (rc == 0 && l.more);
	if (rc == 0) {
		server_call_reply(c, &(struct rpc_message){0});
	}
	return rc;
}

static int put_root(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct put_root_request m;
	struct bytes name = {0};
	struct node node;
	int rc = request_receive(c, &put_root_request_type, &r, &m, err);

	if (rc == 0) {
		rc = node_decode(m.node, &name, &node, err);
	}
	if (rc == 0) {
		rc = node_name_check(name, err);
	}
	if (rc == 0) {
		rc = write_turn_begin(&s->turns, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = root_nodes_put(s->store->roots, name, &node, m.replace, err);
	write_turn_end(&s->turns, rc);
	if (rc == 0) {
		reply_empty(c);
	}
	return rc;
}

static int remove_root(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct bytes name;
	int rc = request_name(c, &r, &name, err);

	if (rc == 0) {
		rc = node_name_check(name, err);
	}
	if (rc == 0) {
		rc = write_turn_begin(&s->turns, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = root_nodes_remove(s->store->roots, name, err);
	write_turn_end(&s->turns, rc);
	if (rc > 0) {
		reply_empty(c);
	}
	return rc == 0 ? no_such_root(name, err) : MIN(rc, 0);
}

static const struct rpc_method methods[] = {
	{"Lookup", RPC_MAY_READ, lookup_root},
	{"List", RPC_MAY_READ | RPC_MAY_LIST, list_roots},
	{"Put", RPC_MAY_WRITE, put_root},
	{"Remove", RPC_MAY_WRITE, remove_root},
};

const struct rpc_service root_methods_service = {
	.names = {"cairn.v1.Roots"},
	.methods = methods,
	.method_count = ARRAY_SIZE(methods),
};
