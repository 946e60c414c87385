#include "services/root_nodes.h"

#include <stdatomic.h>

void root_node_done(struct root_node *n)
{
	buffer_done(&n->storage);
	n->node = (struct node){0};
}

void root_node_set(struct root_node *n, const struct node *node)
{
	struct node copy = *node;
	struct buffer storage = {0};

	if (node->kind == NODE_SYMLINK) {
		buffer_append(&storage, node->target.ptr, node->target.len);
		copy.target = buffer_bytes(&storage);
	} else {
		copy.target = bytes_of(NULL, 0);
	}
	root_node_done(n); /* last: node may be the one that n holds */
	n->node = copy;
	n->storage = storage;
}

bool root_node_same(const struct node *a, const struct node *b)
{
	struct buffer x cleanup(buffer_done) = {0}, y cleanup(buffer_done) = {0};

	node_encode(&x, bytes_of(NULL, 0), a);
	node_encode(&y, bytes_of(NULL, 0), b);
	return bytes_equal(buffer_bytes(&x), buffer_bytes(&y));
}

void root_nodes_init(struct root_nodes *r, const struct root_nodes_ops *ops)
{
	r->ops = ops;
	r->is_local = false;
	atomic_init(&r->refs, 1);
}

struct root_nodes *root_nodes_ref(struct root_nodes *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void root_nodes_unref(struct root_nodes *r)
{
	if (r && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) {
		r->ops->destroy(r);
	}
}

int root_nodes_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
		      struct error *err)
{
	int rc = node_name_check(name, err);

	return rc < 0 ? rc : r->ops->lookup(r, name, out, err);
}

int root_nodes_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		    void *context, struct error *err)
{
	int rc = after.len ? node_name_check(after, err) : 0;

	return rc < 0 ? rc : r->ops->list(r, after, visit, context, err);
}

static int check_node(const struct node *node, struct error *err)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
	case NODE_FILE:
		return 0;
	case NODE_SYMLINK:
		if (!node_target_valid(node->target)) {
			return error_set(err, ERROR_INVALID,
					 "a symlink's target must have 1 to %d bytes, no NUL",
					 NODE_TARGET_MAX);
		}
		return 0;
	}
	return error_set(err, ERROR_INVALID, "unknown kind of node: %d", (int)node->kind);
}

int root_nodes_put(struct root_nodes *r, struct bytes name, const struct node *node,
		   bool replace, struct error *err)
{
	int rc = node_name_check(name, err);

	if (rc == 0) {
		rc = check_node(node, err);
	}
	return rc < 0 ? rc : r->ops->put(r, name, node, replace, err);
}

int root_nodes_remove(struct root_nodes *r, struct bytes name, struct error *err)
{
	int rc = node_name_check(name, err);

	return rc < 0 ? rc : r->ops->remove(r, name, err);
}

bool root_nodes_may_grow(const struct root_nodes *r)
{
	return r->ops->may_grow;
}

bool root_nodes_is_local(const struct root_nodes *r)
{
	return r->is_local;
}
