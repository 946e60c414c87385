#include "services/record_table.h"

#include <stdatomic.h>

void record_table_init(struct record_table *t, const struct record_table_ops *ops)
{
	t->ops = ops;
	t->is_local = false;
	atomic_init(&t->refs, 1);
}

struct record_table *record_table_ref(struct record_table *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void record_table_unref(struct record_table *t)
{
	if (t && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
		t->ops->destroy(t);
	}
}

static int check_key(struct bytes key, struct error *err)
{
	if (key.len < 1 || key.len > RECORD_KEY_MAX) {
		return error_set(err, ERROR_INVALID, "a key must have 1 to %zu bytes, not %zu",
				 RECORD_KEY_MAX, key.len);
	}
	return 0;
}

static int check_entry(const struct record_entry *e, struct error *err)
{
	int rc = check_key(e->key, err);

	if (rc == 0 && (e->value.len < 1 || e->value.len > RECORD_VALUE_MAX)) {
		rc = error_set(err, ERROR_INVALID, "a value must have 1 to %zu bytes, not %zu",
			       RECORD_VALUE_MAX, e->value.len);
	}
	return rc;
}

int record_table_get(struct record_table *t, struct bytes key, struct buffer *out,
		     struct error *err)
{
	int rc = check_key(key, err);

	return rc < 0 ? rc : t->ops->get(t, key, out, err);
}

int record_table_put(struct record_table *t, const struct record_entry *entries, size_t count,
		     struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		int rc = check_entry(&entries[i], err);

		if (rc < 0) {
			return rc;
		}
	}
	return count ? t->ops->put(t, entries, count, err) : 0;
}

int record_table_remove(struct record_table *t, struct bytes key, struct error *err)
{
	size_t removed;
	int rc = record_table_remove_many(t, &key, 1, &removed, err);

	return rc < 0 ? rc : removed > 0;
}

int record_table_remove_many(struct record_table *t, const struct bytes *keys, size_t count,
			     size_t *removed, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		int rc = check_key(keys[i], err);

		if (rc < 0) {
			return rc;
		}
	}
	return t->ops->remove(t, keys, count, removed, err);
}

int record_table_list(struct record_table *t, struct bytes after, record_visit visit,
		      void *context, struct error *err)
{
	int rc = after.len ? check_key(after, err) : 0;

	return rc < 0 ? rc : t->ops->list(t, after, visit, context, err);
}

bool record_table_is_local(const struct record_table *t)
{
	return t->is_local;
}
