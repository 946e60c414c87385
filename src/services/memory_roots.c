#include "services/memory_roots.h"

#include <pthread.h>

struct named_root {
	uint8_t *name;
	size_t name_len;
	struct root_node root;
};

struct memory_roots {
	struct root_nodes base;
	pthread_mutex_t lock;       /* guards all below */
	struct named_root *entries; /* by name bytes */
	size_t count;
	size_t capacity;
};

static struct bytes entry_name(const struct named_root *e)
{
	return bytes_of(e->name, e->name_len);
}

static void entry_done(struct named_root *e)
{
	free(e->name);
	root_node_done(&e->root);
}

/* The first entry that is not before name. */
static size_t lower_bound(const struct memory_roots *m, struct bytes name)
{
	size_t low = 0;
	size_t high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (bytes_compare(entry_name(&m->entries[middle]), name) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

/* True and the index of a name, or where it would be. */
static bool find(const struct memory_roots *m, struct bytes name, size_t *at)
{
	*at = lower_bound(m, name);
	return *at < m->count && bytes_equal(entry_name(&m->entries[*at]), name);
}

static void insert(struct memory_roots *m, size_t at, struct bytes name,
		   const struct node *node)
{
	if (m->count == m->capacity) {
		m->capacity = MAX(m->capacity * 2, (size_t)16);
		m->entries = xrealloc(m->entries, m->capacity * sizeof(*m->entries));
	}
	struct named_root *e = &m->entries[at];

	memmove(e + 1, e, (m->count - at) * sizeof(*e));
	m->count++;
	*e = (struct named_root){.name = xmalloc(name.len), .name_len = name.len};
	memcpy(e->name, name.ptr, name.len);
	root_node_set(&e->root, node);
}

static void memory_roots_destroy(struct root_nodes *r)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);

	for (size_t i = 0; i < m->count; i++) {
		entry_done(&m->entries[i]);
	}
	free(m->entries);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static int memory_roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			       struct error *err unused)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);
	size_t at;

	pthread_mutex_lock(&m->lock);
	bool found = find(m, name, &at);

	if (found) {
		root_node_set(out, &m->entries[at].root.node);
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

/* A copy of the first entry after a name, so that it can be shown without the lock. */
static bool copy_next(struct memory_roots *m, struct bytes after, struct buffer *name,
		      struct root_node *root)
{
	size_t at;

	pthread_mutex_lock(&m->lock);
	if (find(m, after, &at)) {
		at++;
	}
	bool found = at < m->count;

	if (found) {
		name->len = 0;
		buffer_append(name, m->entries[at].name, m->entries[at].name_len);
		root_node_set(root, &m->entries[at].root.node);
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static int memory_roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
			     void *context, struct error *err unused)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);
	struct buffer name = {0};
	struct root_node root = {0};

	buffer_append(&name, after.ptr, after.len);
	while (copy_next(m, buffer_bytes(&name), &name, &root)) {
		if (!visit(context, buffer_bytes(&name), &root.node)) {
			break;
		}
	}
	buffer_done(&name);
	root_node_done(&root);
	return 0;
}

static int put_locked(struct memory_roots *m, struct bytes name, const struct node *node,
		      bool replace, struct error *err)
{
	size_t at;

	if (!find(m, name, &at)) {
		insert(m, at, name, node);
		return 0;
	}
	if (node_equal(&m->entries[at].root.node, node)) {
		return 0;
	}
	if (!replace) {
		return error_set(err, ERROR_EXISTS, "root '%s' stands for something else",
				 bytes_printable(name));
	}
	root_node_set(&m->entries[at].root, node);
	return 0;
}

static int memory_roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
			    bool replace, struct error *err)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);

	pthread_mutex_lock(&m->lock);
	int rc = put_locked(m, name, node, replace, err);

	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int memory_roots_remove(struct root_nodes *r, struct bytes name,
			       struct error *err unused)
{
	struct memory_roots *m = container_of(r, struct memory_roots, base);
	size_t at;

	pthread_mutex_lock(&m->lock);
	bool found = find(m, name, &at);

	if (found) {
		entry_done(&m->entries[at]);
		m->count--;
		memmove(&m->entries[at], &m->entries[at + 1],
			(m->count - at) * sizeof(*m->entries));
	}
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
	pthread_mutex_init(&m->lock, NULL);
	return &m->base;
}
