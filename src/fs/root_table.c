#include "fs/root_table.h"

#include <pthread.h>

#include "castore/digest_map.h"
#include "fs/root_log.h"

struct root_table {
	pthread_mutex_t lock; /* guards everything below; entries themselves do not change */
	struct root_entry **entries;
	uint32_t count;
	uint32_t capacity;
	struct digest_map numbers; /* digest of a name -> its newest number */
	struct root_log log;
};

struct root_table *root_table_new(void)
{
	struct root_table *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void root_table_free(struct root_table *t)
{
	if (!t) {
		return;
	}
	for (uint32_t i = 0; i < t->count; i++) {
		free(t->entries[i]);
	}
	free(t->entries);
	digest_map_done(&t->numbers);
	root_log_done(&t->log);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* One allocation: the entry, the name, the target. */
static struct root_entry *entry_new(struct bytes name, const struct node *node)
{
	size_t target_len = node->kind == NODE_SYMLINK ? node->target.len : 0;
	struct root_entry *e = xmalloc(sizeof(*e) + name.len + target_len);
	uint8_t *text = (uint8_t *)(e + 1);

	memcpy(text, name.ptr, name.len);
	if (target_len > 0) {
		memcpy(text + name.len, node->target.ptr, target_len);
	}
	e->name = bytes_of(text, name.len);
	e->node = *node;
	e->node.target = bytes_of(text + name.len, target_len);
	return e;
}

static int entry_append(struct root_table *t, struct bytes name, const struct node *node,
			uint32_t *number, struct error *err)
{
	if (t->count >= ROOT_ENTRIES_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %u names in the root",
				 ROOT_ENTRIES_MAX);
	}
	int rc = root_log_append(&t->log, name, node, err);

	if (rc != 0) {
		return rc;
	}
	if (t->count == t->capacity) {
		t->capacity = t->capacity == 0 ? 64 : t->capacity * 2;
		t->entries = xrealloc(t->entries, t->capacity * sizeof(struct root_entry *));
	}
	t->entries[t->count] = entry_new(name, node);
	*number = t->count++;
	return 0;
}

static int intern_locked(struct root_table *t, struct bytes name, const struct node *node,
			 uint32_t *number, struct error *err)
{
	struct digest key;

	digest_of(&key, name);
	uint64_t *newest = digest_map_get(&t->numbers, &key);

	if (newest && node_equal(&t->entries[*newest]->node, node)) {
		*number = (uint32_t)*newest;
		return 0;
	}
	int rc = entry_append(t, name, node, number, err);

	if (rc == 0 && newest) {
		*newest = *number;
	} else if (rc == 0) {
		digest_map_put(&t->numbers, &key, *number);
	}
	return rc;
}

int root_table_intern(struct root_table *t, struct bytes name, const struct node *node,
		      uint32_t *number, struct error *err)
{
	pthread_mutex_lock(&t->lock);
	int rc = intern_locked(t, name, node, number, err);

	pthread_mutex_unlock(&t->lock);
	return rc;
}

static int take_in(void *context, struct bytes name, const struct node *node, struct error *err)
{
	struct root_table *t = context;
	uint32_t expected = t->count;
	uint32_t number;
	int rc = root_table_intern(t, name, node, &number, err);

	return rc != 0 || number == expected
		       ? rc
		       : error_set(err, ERROR_INVALID, "a name of the root is kept twice");
}

int root_table_keep(struct root_table *t, const struct keep *k, struct error *err)
{
	struct root_log log;

	root_log_init(&log, k);
	int rc = root_log_read(&log, take_in, t, err);

	if (rc == 0) {
		t->log = log;
	} else {
		root_log_done(&log);
	}
	return rc;
}

const struct root_entry *root_table_get(struct root_table *t, uint32_t number)
{
	const struct root_entry *e = NULL;

	pthread_mutex_lock(&t->lock);
	if (number < t->count) {
		e = t->entries[number];
	}
	pthread_mutex_unlock(&t->lock);
	return e;
}
