/* Names and records of several stores in an order. */

#include "services/fallback_internal.h"
#include "services/merged_list.h"

/* ---- Names ---- */

struct fallback_roots {
	struct root_nodes base;
	size_t count;
	struct root_nodes *members[FALLBACK_STORES_MAX]; /* references */
};

struct root_call {
	struct fallback_roots *roots;
	struct bytes name;
	struct root_node *out;
	const struct node *node;
	bool replace;
};

static struct fallback_roots *roots_of(struct root_nodes *r)
{
	return container_of(r, struct fallback_roots, base);
}

static void roots_destroy(struct root_nodes *r)
{
	struct fallback_roots *f = roots_of(r);

	for (size_t i = 0; i < f->count; i++) {
		root_nodes_unref(f->members[i]);
	}
	free(f);
}

static int call_lookup(void *context, size_t i, struct error *err)
{
	const struct root_call *c = context;

	return root_nodes_lookup(c->roots->members[i], c->name, c->out, err);
}

static int roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err)
{
	struct root_call c = {.roots = roots_of(r), .name = name, .out = out};

	return fallback_ask(c.roots->count, call_lookup, &c, err);
}

/* Nodes travel through a merged list as messages Node. */
struct root_visit {
	record_visit visit;
	void *context;
};

static bool encode_visit(void *context, struct bytes name, const struct node *node)
{
	const struct root_visit *v = context;
	struct buffer encoding cleanup(buffer_done) = {0};

	node_encode(&encoding, bytes_of(NULL, 0), node);
	return v->visit(v->context, name, buffer_bytes(&encoding));
}

static int root_source(void *context, size_t i, struct bytes after, record_visit visit,
		       void *visit_context, struct error *err)
{
	const struct fallback_roots *f = context;
	struct root_visit v = {.visit = visit, .context = visit_context};

	return root_nodes_list(f->members[i], after, encode_visit, &v, err);
}

struct root_list {
	root_nodes_visit visit;
	void *context;
	int rc;
	struct error *err;
};

static bool decode_visit(void *context, struct bytes name, struct bytes encoding)
{
	struct root_list *l = context;
	struct bytes none;
	struct node node;

	l->rc = node_decode(encoding, &none, &node, l->err);
	return l->rc == 0 && l->visit(l->context, name, &node);
}

static int roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	struct fallback_roots *f = roots_of(r);
	struct root_list l = {.visit = visit, .context = context, .err = err};
	int rc = merged_list_visit(f->count, root_source, f, after, decode_visit, &l, err);

	return rc ? rc : l.rc;
}

/* A name that a later store has would be hidden: as good as replaced. */
static int check_free(struct root_call *c, struct error *err)
{
	struct root_node found cleanup(root_node_done) = {.node.size = 0};

	c->out = &found;
	int rc = fallback_ask(c->roots->count, call_lookup, c, err);

	c->out = NULL;
	if (rc > 0 && !root_node_same(&found.node, c->node)) {
		return error_set(err, ERROR_EXISTS, "root '%s' stands for something else",
				 bytes_printable(c->name));
	}
	return rc < 0 ? rc : 0;
}

static int call_put(void *context, size_t i, struct error *err)
{
	const struct root_call *c = context;

	return root_nodes_put(c->roots->members[i], c->name, c->node, c->replace, err);
}

static int roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	struct root_call c = {
		.roots = roots_of(r), .name = name, .node = node, .replace = replace};
	int rc = replace ? 0 : check_free(&c, err);

	return rc < 0 ? rc : fallback_write(c.roots->count, call_put, &c, NULL, err);
}

static int roots_remove(struct root_nodes *r, struct bytes name, struct error *err)
{
	struct fallback_roots *f = roots_of(r);
	struct root_node left cleanup(root_node_done) = {.node.size = 0};
	int removed = 0;

	for (size_t i = 0; i < f->count; i++) {
		int rc = root_nodes_remove(f->members[i], name, err);

		if (rc < 0 && rc != -ERROR_DENIED && rc != -ERROR_UNSUPPORTED) {
			return rc;
		}
		removed |= rc > 0;
	}
	int rc = roots_lookup(r, name, &left, err);

	if (rc > 0) {
		return error_set(err, ERROR_DENIED,
				 "root '%s' is in a store that cannot be written to",
				 bytes_printable(name));
	}
	return rc < 0 ? rc : removed;
}

static const struct root_nodes_ops roots_ops = {
	.name = "fallback",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *fallback_roots_new(const struct store *stores, size_t count)
{
	struct fallback_roots *f = xcalloc(1, sizeof(*f));

	root_nodes_init(&f->base, &roots_ops);
	f->base.is_local = true;
	f->count = count;
	for (size_t i = 0; i < count; i++) {
		f->members[i] = root_nodes_ref(stores[i].roots);
		f->base.is_local &= root_nodes_is_local(stores[i].roots);
	}
	return &f->base;
}

/* ---- Records ---- */

struct fallback_records {
	struct record_table base;
	size_t count;
	struct record_table *members[FALLBACK_STORES_MAX]; /* references */
};

struct record_call {
	struct fallback_records *records;
	struct bytes key;
	struct buffer *out;
	const struct record_entry *entries;
	const struct bytes *keys;
	size_t count;
	size_t *removed;
};

static struct fallback_records *records_of(struct record_table *t)
{
	return container_of(t, struct fallback_records, base);
}

static void records_destroy(struct record_table *t)
{
	struct fallback_records *f = records_of(t);

	for (size_t i = 0; i < f->count; i++) {
		record_table_unref(f->members[i]);
	}
	free(f);
}

static int call_get(void *context, size_t i, struct error *err)
{
	const struct record_call *c = context;

	return record_table_get(c->records->members[i], c->key, c->out, err);
}

static int records_get(struct record_table *t, struct bytes key, struct buffer *out,
		       struct error *err)
{
	struct record_call c = {.records = records_of(t), .key = key, .out = out};

	return fallback_ask(c.records->count, call_get, &c, err);
}

static int call_put_records(void *context, size_t i, struct error *err)
{
	const struct record_call *c = context;

	return record_table_put(c->records->members[i], c->entries, c->count, err);
}

static int records_put(struct record_table *t, const struct record_entry *entries, size_t count,
		       struct error *err)
{
	struct record_call c = {.records = records_of(t), .entries = entries, .count = count};

	return fallback_write(c.records->count, call_put_records, &c, NULL, err);
}

static int call_remove(void *context, size_t i, struct error *err)
{
	const struct record_call *c = context;

	return record_table_remove_many(c->records->members[i], c->keys, c->count, c->removed,
					err);
}

static int records_remove(struct record_table *t, const struct bytes *keys, size_t count,
			  size_t *removed, struct error *err)
{
	struct record_call c = {
		.records = records_of(t), .keys = keys, .count = count, .removed = removed};

	return fallback_write(c.records->count, call_remove, &c, NULL, err);
}

static int record_source(void *context, size_t i, struct bytes after, record_visit visit,
			 void *visit_context, struct error *err)
{
	const struct fallback_records *f = context;

	return record_table_list(f->members[i], after, visit, visit_context, err);
}

static int records_list(struct record_table *t, struct bytes after, record_visit visit,
			void *context, struct error *err)
{
	struct fallback_records *f = records_of(t);

	return merged_list_visit(f->count, record_source, f, after, visit, context, err);
}

static const struct record_table_ops records_ops = {
	.name = "fallback",
	.destroy = records_destroy,
	.get = records_get,
	.put = records_put,
	.remove = records_remove,
	.list = records_list,
};

struct record_table *fallback_records_new(const struct store *stores, size_t count)
{
	struct fallback_records *f = xcalloc(1, sizeof(*f));

	record_table_init(&f->base, &records_ops);
	f->base.is_local = true;
	f->count = count;
	for (size_t i = 0; i < count; i++) {
		f->members[i] = record_table_ref(stores[i].path_infos);
		f->base.is_local &= record_table_is_local(stores[i].path_infos);
	}
	return &f->base;
}
