/* RootNodes of a local store: a table of the index, from names to messages Node without one. */

#include "services/local/name_guard.h"

struct local_roots {
	struct root_nodes base;
	struct local_store *store;
	bool read_only;
	bool incomplete;
};

static struct local_roots *roots_of(struct root_nodes *r)
{
	return container_of(r, struct local_roots, base);
}

static void roots_destroy(struct root_nodes *base)
{
	struct local_roots *r = roots_of(base);

	local_store_unref(r->store);
	free(r);
}

static int decode_node(struct bytes name, struct bytes encoding, struct node *node,
		       struct error *err)
{
	struct bytes none;

	if (!node_name_valid(name) || node_decode(encoding, &none, node, err) != 0 ||
	    none.len) {
		return error_set(err, ERROR_CORRUPT, "the index is damaged at root \"%s\"",
				 bytes_printable(name));
	}
	return 0;
}

static int roots_lookup(struct root_nodes *base, struct bytes name, struct root_node *out,
			struct error *err)
{
	struct buffer encoding cleanup(buffer_done) = {0};
	struct node node;
	int rc = index_get_append(roots_of(base)->store->index, INDEX_ROOTS, name, &encoding,
				  err);

	if (rc > 0) {
		rc = decode_node(name, buffer_bytes(&encoding), &node, err);
		if (rc) {
			return rc;
		}
		root_node_set(out, &node);
		return 1;
	}
	return rc;
}

struct listing {
	struct bytes after;
	root_nodes_visit visit;
	void *context;
	struct error *err;
	int rc;
};

static bool visit_root(void *context, struct bytes key, struct bytes value)
{
	struct listing *l = context;
	struct node node;

	if (l->after.len && bytes_equal(key, l->after)) {
		return true;
	}
	l->rc = decode_node(key, value, &node, l->err);
	return l->rc == 0 && l->visit(l->context, key, &node);
}

static int roots_list(struct root_nodes *base, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	struct listing l = {.after = after, .visit = visit, .context = context, .err = err};
	int rc = index_scan(roots_of(base)->store->index, INDEX_ROOTS, after, visit_root, &l,
			    err);

	return rc ? rc : l.rc;
}

/* ---- changing ---- */

static int check_root(struct bytes name, struct bytes value, struct error *err)
{
	struct node node;

	return decode_node(name, value, &node, err);
}

const struct logged_table logged_roots = {
	.table = INDEX_ROOTS,
	.record = RECORD_ROOT,
	.sequence = "root-sequence",
	.check = check_root,
};

static int put_in_write(struct logged_write *w, struct bytes name, struct bytes node,
			bool replace, struct error *err)
{
	struct bytes old;
	int rc = index_write_get(w->index, INDEX_ROOTS, name, &old, err);

	if (rc > 0 && !replace && !bytes_equal(old, node)) {
		return error_set(err, ERROR_EXISTS, "there is another root named \"%s\"",
				 bytes_printable(name));
	}
	return rc < 0 ? rc : logged_write_put(w, name, node, err);
}

static int roots_put(struct root_nodes *base, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	struct buffer encoding cleanup(buffer_done) = {0};
	struct local_roots *r = roots_of(base);
	const struct node *tree = r->incomplete ? NULL : node;
	struct logged_write w;
	int rc = logged_write_begin_for(&w, &logged_roots, r->store, r->read_only, &tree, 1,
					err);

	if (rc) {
		return rc;
	}
	node_encode(&encoding, bytes_of(NULL, 0), node);
	rc = put_in_write(&w, name, buffer_bytes(&encoding), replace, err);
	return logged_write_end(&w, rc, err);
}

static int roots_remove(struct root_nodes *base, struct bytes name, struct error *err)
{
	struct local_roots *r = roots_of(base);
	struct logged_write w;
	int rc = logged_write_begin(&w, &logged_roots, r->store, r->read_only, err);

	return rc ? rc : logged_write_end(&w, logged_write_remove(&w, name, err), err);
}

static const struct root_nodes_ops root_ops = {
	.name = "file",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *local_roots_new(struct local_store *s, unsigned flags)
{
	struct local_roots *r = xcalloc(1, sizeof(*r));

	root_nodes_init(&r->base, &root_ops);
	r->base.is_local = true;
	r->store = local_store_ref(s);
	r->read_only = flags & STORE_READ_ONLY;
	r->incomplete = flags & STORE_INCOMPLETE;
	return &r->base;
}
