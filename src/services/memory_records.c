#include "services/memory_records.h"

#include <pthread.h>

#include "services/byte_map.h"

struct memory_records {
	struct record_table base;
	pthread_mutex_t lock; /* guards records */
	struct byte_map records;
};

static struct memory_records *records_of(struct record_table *t)
{
	return container_of(t, struct memory_records, base);
}

static void memory_records_destroy(struct record_table *t)
{
	struct memory_records *m = records_of(t);

	byte_map_done(&m->records);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static void set_buffer(struct buffer *out, struct bytes b)
{
	out->len = 0;
	buffer_append(out, b.ptr, b.len);
}

static int memory_records_get(struct record_table *t, struct bytes key, struct buffer *out,
			      struct error *err unused)
{
	struct memory_records *m = records_of(t);
	size_t at;

	pthread_mutex_lock(&m->lock);
	bool found = byte_map_find(&m->records, key, &at);

	if (found) {
		set_buffer(out, m->records.entries[at].value);
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static int memory_records_put(struct record_table *t, const struct record_entry *entries,
			      size_t count, struct error *err)
{
	struct memory_records *m = records_of(t);
	struct byte_map added cleanup(byte_map_done) = {0};

	for (size_t i = 0; i < count; i++) {
		if (!byte_map_put(&added, entries[i].key, entries[i].value)) {
			return error_set(err, ERROR_LIMIT, "no memory for %zu bytes",
					 entries[i].value.len);
		}
	}
	pthread_mutex_lock(&m->lock);
	byte_map_merge(&m->records, &added);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int memory_records_remove(struct record_table *t, const struct bytes *keys, size_t count,
				 size_t *removed, struct error *err unused)
{
	struct memory_records *m = records_of(t);

	*removed = 0;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < count; i++) {
		*removed += byte_map_remove(&m->records, keys[i]);
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* A copy of the first entry after a key, so that it can be shown without the lock. */
static bool copy_next(struct memory_records *m, struct buffer *key, struct buffer *value)
{
	pthread_mutex_lock(&m->lock);
	const struct byte_map_entry *e = byte_map_after(&m->records, buffer_bytes(key));

	if (e) {
		set_buffer(key, e->key);
		set_buffer(value, e->value);
	}
	pthread_mutex_unlock(&m->lock);
	return e;
}

static int memory_records_list(struct record_table *t, struct bytes after, record_visit visit,
			       void *context, struct error *err unused)
{
	struct buffer key cleanup(buffer_done) = {0}, value cleanup(buffer_done) = {0};

	set_buffer(&key, after);
	while (copy_next(records_of(t), &key, &value)) {
		if (!visit(context, buffer_bytes(&key), buffer_bytes(&value))) {
			break;
		}
	}
	return 0;
}

static const struct record_table_ops memory_records_ops = {
	.name = "memory",
	.destroy = memory_records_destroy,
	.get = memory_records_get,
	.put = memory_records_put,
	.remove = memory_records_remove,
	.list = memory_records_list,
};

struct record_table *memory_records_new(void)
{
	struct memory_records *m = xcalloc(1, sizeof(*m));

	record_table_init(&m->base, &memory_records_ops);
	m->base.is_local = true;
	pthread_mutex_init(&m->lock, NULL);
	return &m->base;
}
