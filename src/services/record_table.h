#pragma once

/*
 * A store's table of small values by key, for what rooms above keep beside the trees: path
 * infos. The values are opaque here. Shared and thread-safe.
 */

#include "base/bytes.h"
#include "base/error.h"
#include "castore/node.h"

#define RECORD_KEY_MAX ((size_t)255)
#define RECORD_VALUE_MAX ((size_t)32 << 20)

struct record_table;

/* Borrowed. A key has 1 to RECORD_KEY_MAX bytes, a value 1 to RECORD_VALUE_MAX. */
struct record_entry {
	struct bytes key;
	struct bytes value;
	const struct node *tree; /* which the record stands for, as a name would; or NULL */
};

struct record_table *record_table_ref(struct record_table *t);
void record_table_unref(struct record_table *t);
DEFINE_CLEANUP(cleanup_record_table, struct record_table *, record_table_unref)

/* Asker: replaces what out holds by the value. */
int record_table_get(struct record_table *t, struct bytes key, struct buffer *out,
		     struct error *err);
/*
 * Puts all of these or none, each replacing what its key had; of one key given twice the last
 * one counts. What was put into the store before is durable first; these are durable and
 * visible to all when it returns, at the cost of one sync, however many they are.
 * ERROR_COLLECTED: see root_nodes_put().
 */
int record_table_put(struct record_table *t, const struct record_entry *entries, size_t count,
		     struct error *err);
/* Asker: 0 when there is no such key. Durable when it returns. */
int record_table_remove(struct record_table *t, struct bytes key, struct error *err);
/* The same for all of these or, when it fails, none, with one sync. How many there were. */
int record_table_remove_many(struct record_table *t, const struct bytes *keys, size_t count,
			     size_t *removed, struct error *err);
/*
 * Visits keys in byte order, beginning with the first one greater than `after` (empty: from the
 * start), until visit returns false. Key and value are borrowed for the call. visit must not
 * call back into this table.
 */
typedef bool (*record_visit)(void *context, struct bytes key, struct bytes value);
int record_table_list(struct record_table *t, struct bytes after, record_visit visit,
		      void *context, struct error *err);
/* True when getting and listing never wait for a peer. */
bool record_table_is_local(const struct record_table *t);

/* ---- For back ends ---- */

struct record_table_ops {
	const char *name;
	void (*destroy)(struct record_table *t);
	int (*get)(struct record_table *t, struct bytes key, struct buffer *out,
		   struct error *err);
	int (*put)(struct record_table *t, const struct record_entry *entries, size_t count,
		   struct error *err);
	int (*remove)(struct record_table *t, const struct bytes *keys, size_t count,
		      size_t *removed, struct error *err);
	int (*list)(struct record_table *t, struct bytes after, record_visit visit,
		    void *context, struct error *err);
};

struct record_table {
	const struct record_table_ops *ops;
	_Atomic unsigned refs;
	bool is_local; /* false, the careful answer, unless the back end sets it */
};

void record_table_init(struct record_table *t, const struct record_table_ops *ops);
