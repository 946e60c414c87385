/* Reading the index. */

#include "base/fault_guard.h"
#include "services/local/index_internal.h"
#include "services/local/index_pages.h"

/* Values up to here cost no allocation. */
#define LOOKUP_SMALL 96

/* A reset transaction keeps its reader slot: renewing it costs no lock between processes. */
static int read_begin(struct index *ix, MDB_txn **out, struct error *err)
{
	MDB_txn *txn = NULL;
	int rc;

	pthread_mutex_lock(&ix->lock);
	if (ix->idle_count) {
		txn = ix->idle[--ix->idle_count];
	}
	pthread_mutex_unlock(&ix->lock);
	if (txn) {
		rc = mdb_txn_renew(txn);
		if (rc) {
			mdb_txn_abort(txn);
		}
	} else {
		rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &txn);
	}
	if (rc || !txn) {
		return index_lmdb_error(err, rc, "begin reading");
	}
	index_count_access(ix);
	*out = txn;
	return 0;
}

static void read_end(struct index *ix, MDB_txn *txn)
{
	mdb_txn_reset(txn);
	pthread_mutex_lock(&ix->lock);
	if (ix->idle_count < READ_TXNS_KEPT) {
		ix->idle[ix->idle_count++] = txn;
		txn = NULL;
	}
	pthread_mutex_unlock(&ix->lock);
	if (txn) {
		mdb_txn_abort(txn);
	}
}

/* A read of one table. */
struct table_read {
	MDB_txn *txn;
	MDB_dbi dbi;
	enum table_state state;
};

/* Asker: 0 when there is no such table. */
static int table_read_begin(struct index *ix, enum index_table table, struct table_read *r,
			    struct error *err)
{
	int rc = index_find_table(ix, table, &r->state, err);

	if (rc <= 0) {
		return rc;
	}
	r->dbi = r->state == TABLE_BEFORE ? ix->before[table] : ix->tables[table];
	rc = read_begin(ix, &r->txn, err);
	return rc ? rc : 1;
}

/*
 * Asker, where a read found nothing: is that because a writer has given the values their checks
 * since, so that they are in another table?
 */
static int was_converted(struct index *ix, enum index_table table, const struct table_read *r,
			 struct error *err)
{
	enum table_state state = r->state;
	int rc = state == TABLE_BEFORE ? index_find_table(ix, table, &state, err) : 0;

	return rc < 0 ? rc : state != r->state;
}

/* One entry that LMDB is asked for, and a copy of what it has. */
struct lookup {
	const struct table_read *read;
	MDB_cursor *cursor; /* NULL: by the key alone */
	MDB_cursor_op op;
	MDB_val key;
	uint8_t found[INDEX_KEY_MAX]; /* with a cursor: the key that was found */
	size_t found_len;
	struct bytes value; /* as it is stored, in one of these two */
	uint8_t small[LOOKUP_SMALL];
	struct buffer large;
	int rc; /* of LMDB */
};

static void run_lookup(void *context)
{
	struct lookup *l = context;
	MDB_val v = {0};

	l->rc = l->cursor ? mdb_cursor_get(l->cursor, &l->key, &v, l->op)
			  : mdb_get(l->read->txn, l->read->dbi, &l->key, &v);
	if (l->rc) {
		return;
	}
	if (v.mv_size > INDEX_VALUE_MAX || l->key.mv_size > INDEX_KEY_MAX) {
		l->rc = MDB_CORRUPTED;
		return;
	}
	if (v.mv_size <= sizeof(l->small)) {
		memcpy(l->small, v.mv_data, v.mv_size);
		l->value = bytes_of(l->small, v.mv_size);
	} else {
		l->large.len = 0;
		buffer_append(&l->large, v.mv_data, v.mv_size);
		l->value = buffer_bytes(&l->large);
	}
	if (l->cursor) {
		memcpy(l->found, l->key.mv_data, l->key.mv_size);
		l->found_len = l->key.mv_size;
	}
}

/* Asker. */
static int look_up(struct lookup *l, struct error *err)
{
	if (!index_guarded(run_lookup, l)) {
		return index_pages_lie(err);
	}
	if (l->rc == MDB_NOTFOUND) {
		return 0;
	}
	return l->rc ? index_lmdb_error(err, l->rc, "read") : 1;
}

struct cursor_opening {
	const struct table_read *read;
	MDB_cursor *cursor;
	int rc;
};

static void run_cursor_open(void *context)
{
	struct cursor_opening *o = context;

	o->rc = mdb_cursor_open(o->read->txn, o->read->dbi, &o->cursor);
}

static int open_cursor(const struct table_read *r, MDB_cursor **out, struct error *err)
{
	struct cursor_opening o = {.read = r};

	if (!index_guarded(run_cursor_open, &o)) {
		return index_pages_lie(err);
	}
	*out = o.cursor;
	return o.rc ? index_lmdb_error(err, o.rc, "open cursor") : 0;
}

/* Asker: 1 with the value, which lies in l, ended by the caller whatever this returns. */
static int find(struct index *ix, enum index_table table, struct bytes key, struct lookup *l,
		struct bytes *value, struct error *err)
{
	struct table_read r;
	int rc;

	l->cursor = NULL;
	l->large = (struct buffer){0};
	do {
		rc = table_read_begin(ix, table, &r, err);
		if (rc <= 0) {
			return rc;
		}
		l->read = &r;
		l->key = val_of(key);
		rc = look_up(l, err);
		read_end(ix, r.txn);
		if (rc > 0) {
			rc = index_check_value(table, r.state, key, l->value, value, err);
			return rc ? rc : 1;
		}
		rc = rc == 0 ? was_converted(ix, table, &r, err) : rc;
	} while (rc > 0);
	return rc;
}

/* Of a value that was found. */
static int check_size(enum index_table table, size_t found, size_t size, struct error *err)
{
	return found == size ? 0
			     : error_set(err, ERROR_CORRUPT,
					 "the index of the store is damaged (table %s: a value "
					 "of %zu bytes)",
					 index_table_name(table), found);
}

int index_get(struct index *ix, enum index_table table, struct bytes key, void *value,
	      size_t size, struct error *err)
{
	struct lookup l;
	struct bytes v;
	int rc = find(ix, table, key, &l, &v, err);

	if (rc > 0) {
		rc = check_size(table, v.len, size, err);
		if (rc == 0) {
			memcpy(value, v.ptr, size);
			rc = 1;
		}
	}
	buffer_done(&l.large);
	return rc;
}

/* Keys of one size that LMDB is asked for one after the other, and copies of what it has. */
struct lookups {
	const struct table_read *read;
	MDB_cursor *cursor;
	const uint8_t *keys;
	size_t key_size;
	size_t count;
	uint8_t *values;
	size_t value_size;
	bool *found;
	size_t found_size; /* of the value that was found last; a wrong one ends it */
	int rc;            /* of LMDB */
};

static void look_up_one(struct lookups *l, size_t i)
{
	MDB_val k = val_of(bytes_of(l->keys + i * l->key_size, l->key_size)), v;
	int rc = mdb_cursor_get(l->cursor, &k, &v, MDB_SET);

	if (rc) {
		l->rc = rc == MDB_NOTFOUND ? 0 : rc;
		return;
	}
	l->found_size = v.mv_size;
	if (v.mv_size == l->value_size) {
		memcpy(l->values + i * l->value_size, v.mv_data, l->value_size);
		l->found[i] = true;
	}
}

/* A cursor looks first at the page where it found the key before. */
static void run_lookups(void *context)
{
	struct lookups *l = context;

	l->rc = mdb_cursor_open(l->read->txn, l->read->dbi, &l->cursor);
	for (size_t i = 0; l->rc == 0 && l->found_size == l->value_size && i < l->count; i++) {
		look_up_one(l, i);
	}
}

static int look_up_all(struct lookups *l, enum index_table table, struct error *err)
{
	if (!index_guarded(run_lookups, l)) {
		return index_pages_lie(err);
	}
	if (l->rc) {
		return index_lmdb_error(err, l->rc, "read");
	}
	return check_size(table, l->found_size, l->value_size, err);
}

int index_get_many(struct index *ix, enum index_table table, const uint8_t *keys,
		   size_t key_size, size_t count, uint8_t *values, size_t value_size,
		   bool *found, struct error *err)
{
	struct table_read r;
	struct lookups l = {
		.read = &r,
		.keys = keys,
		.key_size = key_size,
		.count = count,
		.values = values,
		.value_size = value_size,
		.found = found,
		.found_size = value_size,
	};
	int rc = table_read_begin(ix, table, &r, err);

	memset(found, 0, count * sizeof(*found));
	if (rc <= 0) {
		return rc;
	}
	rc = look_up_all(&l, table, err);
	if (l.cursor) {
		mdb_cursor_close(l.cursor);
	}
	read_end(ix, r.txn);
	return rc;
}

int index_get_append(struct index *ix, enum index_table table, struct bytes key,
		     struct buffer *out, struct error *err)
{
	struct lookup l;
	struct bytes v;
	int rc = find(ix, table, key, &l, &v, err);

	if (rc > 0) {
		buffer_append(out, v.ptr, v.len);
	}
	buffer_done(&l.large);
	return rc;
}

struct scan {
	struct index *ix;
	enum index_table table;
	index_visit visit;
	index_visit_damaged damaged; /* NULL: what is damaged ends the scan */
	void *context;
	uint64_t visited;
	uint8_t last[INDEX_KEY_MAX]; /* the key visited last */
	size_t last_len;
};

/* Asker: 0 when visit wants no more. */
static int visit_entry(struct scan *s, const struct lookup *l, struct error *err)
{
	struct bytes key = bytes_of(l->found, l->found_len), value;

	/* A damaged page can lead back to where the scan was: it must come to an end. */
	if (s->visited && bytes_compare(key, bytes_of(s->last, s->last_len)) <= 0) {
		return error_set(err, ERROR_CORRUPT,
				 "the index of the store is damaged (table %s: keys out of "
				 "order); see `cairn fsck`",
				 index_table_name(s->table));
	}
	memcpy(s->last, key.ptr, key.len);
	s->last_len = key.len;
	s->visited++;
	index_count_access(s->ix);
	int rc = index_check_value(s->table, l->read->state, key, l->value, &value, err);

	if (rc && s->damaged) {
		s->damaged(s->context, key, err);
		return 1;
	}
	if (rc) {
		return rc;
	}
	return s->visit(s->context, key, value);
}

static int scan_table(struct scan *s, const struct table_read *r, struct bytes from,
		      struct error *err)
{
	struct lookup l = {
		.read = r, .op = from.len ? MDB_SET_RANGE : MDB_FIRST, .key = val_of(from)};
	int rc = open_cursor(r, &l.cursor, err);

	if (rc) {
		return rc;
	}
	do {
		rc = look_up(&l, err);
		l.op = MDB_NEXT;
		rc = rc > 0 ? visit_entry(s, &l, err) : rc;
	} while (rc > 0);
	mdb_cursor_close(l.cursor);
	buffer_done(&l.large);
	return rc;
}

static int run_scan(struct scan *s, struct bytes from, struct error *err)
{
	struct table_read r;
	int rc;

	do {
		rc = table_read_begin(s->ix, s->table, &r, err);
		if (rc <= 0) {
			return rc;
		}
		rc = scan_table(s, &r, from, err);
		read_end(s->ix, r.txn);
		if (rc == 0 && s->visited == 0) {
			rc = was_converted(s->ix, s->table, &r, err);
		}
	} while (rc > 0);
	return rc;
}

int index_scan(struct index *ix, enum index_table table, struct bytes from, index_visit visit,
	       void *context, struct error *err)
{
	struct scan s = {.ix = ix, .table = table, .visit = visit, .context = context};

	return run_scan(&s, from, err);
}

int index_scan_damaged(struct index *ix, enum index_table table, index_visit visit,
		       index_visit_damaged damaged, void *context, struct error *err)
{
	struct scan s = {.ix = ix,
			 .table = table,
			 .visit = visit,
			 .damaged = damaged,
			 .context = context};

	return run_scan(&s, bytes_of(NULL, 0), err);
}

int index_state(struct index *ix, uint64_t *out, struct error *err)
{
	MDB_txn *txn = NULL;
	int rc = read_begin(ix, &txn, err);

	if (rc == 0) {
		*out = mdb_txn_id(txn);
		read_end(ix, txn);
	}
	return rc;
}

struct counting {
	struct table_read read;
	MDB_stat stat;
	int rc;
};

static void run_count(void *context)
{
	struct counting *c = context;

	c->rc = mdb_stat(c->read.txn, c->read.dbi, &c->stat);
}

int index_count(struct index *ix, enum index_table table, uint64_t *out, struct error *err)
{
	struct counting c = {0};
	int rc = table_read_begin(ix, table, &c.read, err);

	if (rc > 0) {
		bool done = index_guarded(run_count, &c);

		read_end(ix, c.read.txn);
		rc = !done  ? index_pages_lie(err)
		     : c.rc ? index_lmdb_error(err, c.rc, "count")
			    : 0;
	}
	if (rc == 0) {
		*out = c.stat.ms_entries;
	}
	return rc;
}

struct space_counting {
	MDB_env *env;
	MDB_txn *txn;
	uint64_t free_pages;
	MDB_stat stat;
	int rc;
};

/* LMDB keeps lists of free pages in a table of its own: their number, then the pages. */
static void run_space_count(void *context)
{
	struct space_counting *c = context;
	MDB_cursor *cursor;
	MDB_val k, v;
	size_t n;

	c->rc = mdb_env_stat(c->env, &c->stat);
	if (c->rc == 0) {
		c->rc = mdb_cursor_open(c->txn, 0, &cursor);
	}
	if (c->rc) {
		return;
	}
	while ((c->rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
		if (v.mv_size >= sizeof(n)) {
			memcpy(&n, v.mv_data, sizeof(n));
			c->free_pages += n;
		}
	}
	mdb_cursor_close(cursor);
	c->rc = c->rc == MDB_NOTFOUND ? 0 : c->rc;
}

int index_space(struct index *ix, uint64_t *bytes, uint64_t *free_bytes, struct error *err)
{
	struct space_counting c = {.env = ix->env};
	MDB_envinfo info;
	int rc = read_begin(ix, &c.txn, err);

	if (rc) {
		return rc;
	}
	bool done = index_guarded(run_space_count, &c);

	read_end(ix, c.txn);
	if (!done) {
		return index_pages_lie(err);
	}
	rc = c.rc ? c.rc : mdb_env_info(ix->env, &info);
	if (rc) {
		return index_lmdb_error(err, rc, "count pages");
	}
	*bytes = (info.me_last_pgno + 1) * c.stat.ms_psize;
	*free_bytes = c.free_pages * c.stat.ms_psize;
	return 0;
}

int index_check_pages(struct index *ix, const struct index_pages_watch *watch,
		      struct index_pages_counts *out, struct error *err)
{
	MDB_txn *txn = NULL;
	int fd, rc = mdb_env_get_fd(ix->env, &fd);

	if (rc) {
		return index_lmdb_error(err, rc, "its file");
	}
	rc = read_begin(ix, &txn, err);
	if (rc) {
		return rc;
	}
	rc = index_pages_check(fd, mdb_txn_id(txn), watch, out, err);
	read_end(ix, txn);
	return rc;
}
