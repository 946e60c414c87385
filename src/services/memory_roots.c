#include "services/memory_roots.h"

#include <pthread.h>

#include "services/byte_map.h"

struct memory_roots {
	struct root_nodes base;
	pthread_mutex_t lock;  /* guards nodes */
	struct byte_map nodes; /* name -> message Node without a name */
};

static void memory_roots_destroy(struct root_nodes *r)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);

	byte_map_done(&m->nodes);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* Our own encoding: it decodes. */
static int set_node(struct root_node *out, struct bytes encoding, struct error *err)
{
	struct bytes none;
	struct node node;
	int rc = node_decode(encoding, &none, &node, err);

	if (rc == 0) {
		root_node_set(out, &node);
	}
	return rc;
}

static int memory_roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			       struct error *err)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);
	size_t at;

	pthread_mutex_lock(&m->lock);
	int rc = byte_map_find(&m->nodes, name, &at);

	if (rc) {
		int failed = set_node(out, m->nodes.entries[at].value, err);

		rc = failed ? failed : 1;
	}
	pthread_mutex_unlock(&m->lock);
	return rc;
}

/* Asker: a copy of the first entry after a name, so that it can be shown without the lock. */
static int copy_next(struct memory_roots *m, struct buffer *name, struct root_node *root,
		     struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	const struct byte_map_entry *e = byte_map_after(&m->nodes, buffer_bytes(name));

	if (e) {
		name->len = 0;
		buffer_append(name, e->key.ptr, e->key.len);
		rc = set_node(root, e->value, err);
		rc = rc ? rc : 1;
	}
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int memory_roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
			     void *context, struct error *err)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);
	struct buffer name = {0};
	struct root_node root = {0};
	int rc;

	buffer_append(&name, after.ptr, after.len);
	while ((rc = copy_next(m, &name, &root, err)) > 0) {
		if (!visit(context, buffer_bytes(&name), &root.node)) {
			rc = 0;
			break;
		}
	}
	buffer_done(&name);
	root_node_done(&root);
	return rc;
}

static int put_locked(struct memory_roots *m, struct bytes name, struct bytes encoding,
		      bool replace, struct error *err)
{
	size_t at;
	bool known = byte_map_find(&m->nodes, name, &at);

	if (known && bytes_equal(m->nodes.entries[at].value, encoding)) {
		return 0;
	}
	if (known && !replace) {
		return error_set(err, ERROR_EXISTS, "root '%s' stands for something else",
				 bytes_printable(name));
	}
	return byte_map_put(&m->nodes, name, encoding)
		       ? 0
		       : error_set(err, ERROR_LIMIT, "no memory for a root");
}

static int memory_roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
			    bool replace, struct error *err)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);
	struct buffer encoding cleanup(buffer_done) = {0};

	node_encode(&encoding, bytes_of(NULL, 0), node);
	pthread_mutex_lock(&m->lock);
	int rc = put_locked(m, name, buffer_bytes(&encoding), replace, err);

	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int memory_roots_remove(struct root_nodes *r, struct bytes name,
			       struct error *err unused)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);

	pthread_mutex_lock(&m->lock);
	bool found = byte_map_remove(&m->nodes, name);

	pthread_mutex_unlock(&m->lock);
	return found;
}

static const struct root_nodes_ops memory_roots_ops = {
	.name = "memory",
	.may_grow = true,
	.destroy = memory_roots_destroy,
	.lookup = memory_roots_lookup,
	.list = memory_roots_list,
	.put = memory_roots_put,
	.remove = memory_roots_remove,
};

struct root_nodes *memory_roots_new(void)
{
	struct memory_roots *m = xcalloc(1, sizeof(*m));

	root_nodes_init(&m->base, &memory_roots_ops);
	m->base.is_local = true;
	pthread_mutex_init(&m->lock, NULL);
	return &m->base;
}
