/*
 * RootNodes of a local store: a table of the index. Every change is also a record in a pack,
 * from which the table can be made again: le64 sequence | u8 1 put or 2 removal | u8 length of
 * the name | name | message Node without a name (nothing for a removal). The highest sequence
 * counts.
 */

#include "base/endian.h"
#include "services/local/local_internal.h"

#define ROOT_PUT 1
#define ROOT_REMOVAL 2
#define ROOT_HEAD_SIZE 10

struct local_roots {
	struct root_nodes base;
	struct local_store *store;
	bool read_only;
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

static void encode_root_record(struct buffer *out, uint64_t sequence, uint8_t what,
			       struct bytes name, struct bytes node)
{
	uint8_t head[ROOT_HEAD_SIZE];

	put_le64(head, sequence);
	head[8] = what;
	head[9] = (uint8_t)name.len;
	buffer_append(out, head, sizeof(head));
	buffer_append(out, name.ptr, name.len);
	buffer_append(out, node.ptr, node.len);
}

int root_record_decode(struct bytes payload, struct root_record *out, struct error *err)
{
	if (payload.len < ROOT_HEAD_SIZE || payload.len - ROOT_HEAD_SIZE < payload.ptr[9] ||
	    (payload.ptr[8] != ROOT_PUT && payload.ptr[8] != ROOT_REMOVAL)) {
		return error_set(err, ERROR_CORRUPT, "a record of a root is damaged");
	}
	size_t name_len = payload.ptr[9];
	struct node node;

	*out = (struct root_record){
		.sequence = get_le64(payload.ptr),
		.removal = payload.ptr[8] == ROOT_REMOVAL,
		.name = bytes_of(payload.ptr + ROOT_HEAD_SIZE, name_len),
		.node = bytes_of(payload.ptr + ROOT_HEAD_SIZE + name_len,
				 payload.len - ROOT_HEAD_SIZE - name_len),
	};
	if (out->removal) {
		return node_name_check(out->name, err);
	}
	return decode_node(out->name, out->node, &node, err);
}

/* The record that says what this write does, with the next sequence number. */
static int log_change(struct local_store *s, struct index_write *w, uint8_t what,
		      struct bytes name, struct bytes node, struct error *err)
{
	struct buffer payload cleanup(buffer_done) = {0};
	struct bytes key = bytes_of_string("root-sequence"), old;
	uint8_t value[8];
	int rc = index_write_get(w, INDEX_META, key, &old, err);

	if (rc < 0) {
		return rc;
	}
	uint64_t sequence = (rc > 0 && old.len == 8 ? get_le64(old.ptr) : 0) + 1;

	put_le64(value, sequence);
	rc = index_write_put(w, INDEX_META, key, bytes_of(value, 8), true, err);
	if (rc) {
		return rc;
	}
	encode_root_record(&payload, sequence, what, name, node);
	return committer_append_now(&s->committer, w, RECORD_ROOT, buffer_bytes(&payload), err);
}

/* Asker: 0 when the name has this very node already. */
static int check_existing(struct index_write *w, struct bytes name, struct bytes node,
			  bool replace, struct error *err)
{
	struct bytes old;
	int rc = index_write_get(w, INDEX_ROOTS, name, &old, err);

	if (rc <= 0) {
		return rc < 0 ? rc : 1;
	}
	if (bytes_equal(old, node)) {
		return 0;
	}
	if (!replace) {
		return error_set(err, ERROR_EXISTS, "there is another root named \"%s\"",
				 bytes_printable(name));
	}
	return 1;
}

static int put_in_write(struct local_store *s, struct index_write *w, struct bytes name,
			struct bytes node, bool replace, struct error *err)
{
	int rc = check_existing(w, name, node, replace, err);

	if (rc <= 0) {
		return rc;
	}
	rc = log_change(s, w, ROOT_PUT, name, node, err);
	if (rc == 0) {
		rc = index_write_put(w, INDEX_ROOTS, name, node, true, err);
	}
	return rc ? rc : 1;
}

/* Asker. */
static int remove_in_write(struct local_store *s, struct index_write *w, struct bytes name,
			   struct error *err)
{
	int rc = index_write_delete(w, INDEX_ROOTS, name, err);

	if (rc <= 0) {
		return rc;
	}
	rc = log_change(s, w, ROOT_REMOVAL, name, bytes_of(NULL, 0), err);
	return rc ? rc : 1;
}

/* rc > 0: something changed. Keeps rc when the commit succeeds. */
static int end_write(struct index_write *w, int rc, struct error *err)
{
	if (rc <= 0) {
		index_write_abort(w);
		return rc;
	}
	int committed = index_write_commit(w, err);

	return committed ? committed : rc;
}

static int begin_change(struct local_roots *r, struct index_write **w, struct error *err)
{
	int rc = local_check_writable(r->store, r->read_only, err);

	/* All that the root will stand for is durable before its name is. */
	if (rc == 0) {
		rc = committer_sync(&r->store->committer, err);
	}
	return rc ? rc : index_write_begin(r->store->index, w, err);
}

static int roots_put(struct root_nodes *base, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	struct local_roots *r = roots_of(base);
	struct buffer encoding cleanup(buffer_done) = {0};
	struct index_write *w;
	int rc = begin_change(r, &w, err);

	if (rc) {
		return rc;
	}
	node_encode(&encoding, bytes_of(NULL, 0), node);
	rc = put_in_write(r->store, w, name, buffer_bytes(&encoding), replace, err);
	rc = end_write(w, rc, err);
	return rc < 0 ? rc : 0;
}

static int roots_remove(struct root_nodes *base, struct bytes name, struct error *err)
{
	struct local_roots *r = roots_of(base);
	struct index_write *w;
	int rc = begin_change(r, &w, err);

	return rc ? rc : end_write(w, remove_in_write(r->store, w, name, err), err);
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

struct root_nodes *local_roots_new(struct local_store *s, bool read_only)
{
	struct local_roots *r = xcalloc(1, sizeof(*r));

	root_nodes_init(&r->base, &root_ops);
	r->store = local_store_ref(s);
	r->read_only = read_only;
	return &r->base;
}
