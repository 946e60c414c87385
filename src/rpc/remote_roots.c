/* Names of trees, which only a cairn has. One that is no cairn has no names. */

#include "rpc/answer.h"
#include "rpc/remote.h"

struct remote_roots {
	struct root_nodes base;
	struct remote *remote; /* a reference */
};

static struct remote *remote_of(struct root_nodes *r)
{
	return container_of(r, struct remote_roots, base)->remote;
}

static void roots_destroy(struct root_nodes *r)
{
	struct remote_roots *n = container_of(r, struct remote_roots, base);

	remote_unref(n->remote);
	free(n);
}

/* ERROR_CORRUPT unless it is a node with a name, and with this one where one is expected. */
static int decode_node(struct remote *r, struct bytes message, const struct bytes *expected,
		       struct bytes *name, struct node *node, struct error *err)
{
	struct error why;

	if (node_decode(message, name, node, &why) < 0) {
		return error_set(err, ERROR_CORRUPT, "%s: %s", peer_address(r->peer), why.text);
	}
	if (name->len == 0 || (expected && !bytes_equal(*name, *expected))) {
		return error_set(err, ERROR_CORRUPT, "%s: a root with the name \"%s\"",
				 peer_address(r->peer), bytes_printable(*name));
	}
	return 0;
}

static int roots_lookup(struct root_nodes *n, struct bytes name, struct root_node *out,
			struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct bytes_message m = {.value = name};
	struct remote *r = remote_of(n);
	struct bytes found;
	struct node node;
	int rc = peer_is_cairn(r->peer, err);

	if (rc <= 0) {
		return rc;
	}
	message_encode(&bytes_message_type, &m, &request);
	rc = peer_lookup(r->peer, PEER_CAIRN("Roots/Lookup"), buffer_bytes(&request), &reply,
			 err);
	if (rc <= 0) {
		return rc;
	}
	rc = decode_node(r, buffer_bytes(&reply), &name, &found, &node, err);
	if (rc < 0) {
		return rc;
	}
	root_node_set(out, &node);
	return 1;
}

struct listing {
	struct remote *remote;
	root_nodes_visit visit;
	void *context;
	struct buffer last; /* the name before */
};

static int take_root(void *context, struct bytes message, struct error *err)
{
	struct listing *l = context;
	struct bytes name;
	struct node node;
	int rc = decode_node(l->remote, message, NULL, &name, &node, err);

	if (rc < 0) {
		return rc;
	}
	if (bytes_compare(name, buffer_bytes(&l->last)) <= 0) {
		return error_set(err, ERROR_CORRUPT, "%s: roots that are not in order",
				 peer_address(l->remote->peer));
	}
	l->last.len = 0;
	buffer_append(&l->last, name.ptr, name.len);
	return !l->visit(l->context, name, &node);
}

static int roots_list(struct root_nodes *n, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct bytes_message m = {.value = after};
	struct listing l = {.remote = remote_of(n), .visit = visit, .context = context};
	int rc = remote_check_cairn(l.remote, "names of trees", err);

	if (rc < 0) {
		return rc;
	}
	message_encode(&bytes_message_type, &m, &request);
	buffer_append(&l.last, after.ptr, after.len);
	rc = peer_stream(l.remote->peer, PEER_CAIRN("Roots/List"), buffer_bytes(&request),
			 take_root, &l, err);
	buffer_done(&l.last);
	return rc < 0 ? rc : 0;
}

/* What it refers to is there before the name is. */
static int roots_put(struct root_nodes *n, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	struct buffer encoding cleanup(buffer_done) = {0};
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct remote *r = remote_of(n);
	int rc = remote_check_writable(r, err);

	if (rc == 0) {
		rc = outbox_sync(r->outbox, err);
	}
	if (rc == 0) {
		rc = remote_check_cairn(r, "names of trees", err);
	}
	if (rc < 0) {
		return rc;
	}
	node_encode(&encoding, name, node);
	struct put_root_request m = {.node = buffer_bytes(&encoding), .replace = replace};

	message_encode(&put_root_request_type, &m, &request);
	return peer_ask(r->peer, PEER_CAIRN("Roots/Put"), buffer_bytes(&request), &reply, err);
}

static int roots_remove(struct root_nodes *n, struct bytes name, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct bytes_message m = {.value = name};
	struct remote *r = remote_of(n);
	int rc = remote_check_writable(r, err);

	if (rc == 0) {
		rc = remote_check_cairn(r, "names of trees", err);
	}
	if (rc < 0) {
		return rc;
	}
	message_encode(&bytes_message_type, &m, &request);
	return peer_lookup(r->peer, PEER_CAIRN("Roots/Remove"), buffer_bytes(&request), &reply,
			   err);
}

static const struct root_nodes_ops roots_ops = {
	.name = "remote",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *remote_roots_new(struct remote *r)
{
	struct remote_roots *n = xcalloc(1, sizeof(*n));

	root_nodes_init(&n->base, &roots_ops);
	n->remote = remote_ref(r);
	return &n->base;
}
