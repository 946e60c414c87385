/* The tables of records of a local store: those of the index, logged in packs. */

#include "services/local/name_guard.h"

struct local_records {
	struct record_table base;
	const struct logged_table *table;
	struct local_store *store;
	bool read_only;
	bool incomplete;
};

static struct local_records *records_of(struct record_table *t)
{
	return container_of(t, struct local_records, base);
}

static void records_destroy(struct record_table *base)
{
	struct local_records *r = records_of(base);

	local_store_unref(r->store);
	free(r);
}

static int check_record(struct bytes key, struct bytes value, struct error *err)
{
	if (key.len < 1 || key.len > RECORD_KEY_MAX || value.len < 1 ||
	    value.len > RECORD_VALUE_MAX) {
		return error_set(err, ERROR_CORRUPT, "a record of %zu bytes is impossible",
				 value.len);
	}
	return 0;
}

static int records_get(struct record_table *base, struct bytes key, struct buffer *out,
		       struct error *err)
{
	struct local_records *r = records_of(base);
	size_t before = out->len;

	out->len = 0;
	int rc = index_get_append(r->store->index, r->table->table, key, out, err);

	if (rc <= 0) {
		out->len = before;
	}
	return rc;
}

static int records_put(struct record_table *base, const struct record_entry *entries,
		       size_t count, struct error *err)
{
	struct local_records *r = records_of(base);
	const struct node **trees cleanup(cleanup_free) = xcalloc(count + 1, sizeof(*trees));
	struct logged_write w;

	for (size_t i = 0; i < count && !r->incomplete; i++) {
		trees[i] = entries[i].tree;
	}
	int rc =
		logged_write_begin_for(&w, r->table, r->store, r->read_only, trees, count, err);

	if (rc) {
		return rc;
	}
	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = logged_write_put(&w, entries[i].key, entries[i].value, err);
	}
	return logged_write_end(&w, rc, err);
}

static int records_remove(struct record_table *base, const struct bytes *keys, size_t count,
			  size_t *removed, struct error *err)
{
	struct local_records *r = records_of(base);
	struct logged_write w;
	size_t found = 0;
	int rc = logged_write_begin(&w, r->table, r->store, r->read_only, err);

	if (rc) {
		return rc;
	}
	for (size_t i = 0; rc >= 0 && i < count; i++) {
		rc = logged_write_remove(&w, keys[i], err);
		found += rc > 0;
	}
	rc = logged_write_end(&w, MIN(rc, 0), err);
	if (rc == 0) {
		*removed = found;
	}
	return rc;
}

struct listing {
	struct bytes after;
	record_visit visit;
	void *context;
};

static bool visit_record(void *context, struct bytes key, struct bytes value)
{
	const struct listing *l = context;

	return (l->after.len && bytes_equal(key, l->after)) || l->visit(l->context, key, value);
}

static int records_list(struct record_table *base, struct bytes after, record_visit visit,
			void *context, struct error *err)
{
	struct local_records *r = records_of(base);
	struct listing l = {.after = after, .visit = visit, .context = context};

	return index_scan(r->store->index, r->table->table, after, visit_record, &l, err);
}

static const struct record_table_ops records_ops = {
	.name = "file",
	.destroy = records_destroy,
	.get = records_get,
	.put = records_put,
	.remove = records_remove,
	.list = records_list,
};

const struct logged_table logged_path_infos = {
	.table = INDEX_PATH_INFOS,
	.record = RECORD_PATH_INFO,
	.sequence = "path-info-sequence",
	.check = check_record,
};

struct record_table *local_path_infos_new(struct local_store *s, unsigned flags)
{
	struct local_records *r = xcalloc(1, sizeof(*r));

	record_table_init(&r->base, &records_ops);
	r->base.is_local = true;
	r->table = &logged_path_infos;
	r->store = local_store_ref(s);
	r->read_only = flags & STORE_READ_ONLY;
	r->incomplete = flags & STORE_INCOMPLETE;
	return &r->base;
}
