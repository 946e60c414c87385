#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "services/local/index_internal.h"
#include "services/local/index_pages.h"

/* One fault maps up to 64 KiB, so this is at most 16 MiB more than what is allowed. */
#define ACCESSES_PER_CHECK 256u
#define RESIDENT_MAX ((size_t)24 << 20)

struct index_write {
	struct index *ix;
	MDB_txn *txn;
};

int index_lmdb_error(struct error *err, int rc, const char *what)
{
	switch (rc) {
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return error_set(err, ERROR_CORRUPT,
				 "the index of the store is damaged (%s: %s)", what,
				 mdb_strerror(rc));
	case MDB_MAP_FULL:
	case MDB_READERS_FULL:
	case MDB_TXN_FULL:
	case MDB_DBS_FULL:
		return error_set(err, ERROR_LIMIT,
				 "the index of the store is at a limit (%s: %s)", what,
				 mdb_strerror(rc));
	default:
		if (rc > 0) {
			return error_set_errno(err, rc, "index of the store: %s", what);
		}
		return error_set(err, ERROR_IO, "index of the store: %s: %s", what,
				 mdb_strerror(rc));
	}
}

/* LMDB does not tell where it maps its file. */
static void *map_of(MDB_env *env)
{
	int fd;

	return mdb_env_get_fd(env, &fd) == 0 ? proc_mapping_of(fd) : NULL;
}

/* Also when it could not be opened: then there may be one of the two. */
static void remove_private(const char *path)
{
	char *lock cleanup(cleanup_free) = xasprintf("%s-lock", path);

	unlink(path);
	unlink(lock);
}

static int open_env(struct index *ix, const char *path, unsigned how, struct error *err)
{
	int dead;
	bool read_only = how & INDEX_READ_ONLY;
	/* Lookups by digest are random: reading ahead would only fill memory. */
	unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (read_only ? MDB_RDONLY : 0) |
			 (how & INDEX_PRIVATE ? MDB_NOSUBDIR | MDB_NOSYNC : 0);
	int rc = mdb_env_create(&ix->env);

	if (rc) {
		return index_lmdb_error(err, rc, "create environment");
	}
	mdb_env_set_maxdbs(ix->env, INDEX_TABLES_MAX);
	mdb_env_set_maxreaders(ix->env, INDEX_READERS_MAX);
	mdb_env_set_mapsize(ix->env, INDEX_MAP_SIZE);
	rc = mdb_env_open(ix->env, path, flags, 0644);
	if (rc && read_only && (rc == EROFS || rc == EACCES)) {
		/* A disk that cannot be written has no writer either: no lock file is needed.
		 */
		mdb_env_close(ix->env);
		ix->env = NULL;
		rc = mdb_env_create(&ix->env);
		if (rc) {
			return index_lmdb_error(err, rc, "create environment");
		}
		mdb_env_set_maxdbs(ix->env, INDEX_TABLES_MAX);
		mdb_env_set_mapsize(ix->env, INDEX_MAP_SIZE);
		rc = mdb_env_open(ix->env, path, flags | MDB_NOLOCK, 0644);
	}
	if (rc == EACCES) {
		return error_set(
			err, ERROR_DENIED,
			"%s: reading the index needs permission to write to its lock file, "
			"lock.mdb",
			path);
	}
	if (rc) {
		index_lmdb_error(err, rc, "open");
		return error_wrap(err, "%s", path);
	}
	/* Slots of readers that were killed would keep old pages from being used again. */
	mdb_reader_check(ix->env, &dead);
	return 0;
}

int index_open(struct index **out, const char *path, unsigned flags, struct error *err)
{
	struct index *ix = xcalloc(1, sizeof(*ix));
	bool read_only = flags & INDEX_READ_ONLY;

	ix->memory_fd = proc_open_memory();
	pthread_mutex_init(&ix->opening, NULL);
	pthread_mutex_init(&ix->lock, NULL);
	int rc = open_env(ix, path, flags, err);

	if (flags & INDEX_PRIVATE) {
		remove_private(path);
	}
	if (rc == 0) {
		ix->map = map_of(ix->env);
		rc = index_open_tables(ix, flags & (INDEX_CREATE | INDEX_PRIVATE), read_only,
				       err);
	}
	if (rc) {
		index_close(ix);
		return rc;
	}
	*out = ix;
	return 0;
}

void index_close(struct index *ix)
{
	if (!ix) {
		return;
	}
	for (unsigned i = 0; i < ix->idle_count; i++) {
		mdb_txn_abort(ix->idle[i]);
	}
	if (ix->env) {
		mdb_env_close(ix->env);
	}
	cleanup_close(&ix->memory_fd);
	pthread_mutex_destroy(&ix->opening);
	pthread_mutex_destroy(&ix->lock);
	free(ix);
}

/*
 * Lets go of the pages of the index when this process holds many: they stay in the page cache
 * of the system, which may use their memory, and come back at the cost of a minor fault.
 * Otherwise an import into a store of millions of objects would hold all of its index.
 */
static void release_pages(struct index *ix)
{
	MDB_envinfo info;

	if (ix->map && mdb_env_info(ix->env, &info) == 0 &&
	    info.me_last_pgno * (size_t)sysconf(_SC_PAGESIZE) > RESIDENT_MAX &&
	    proc_resident_file_bytes(ix->memory_fd) > RESIDENT_MAX) {
		/* A shared mapping of a file: nothing is lost, and readers may be at it. */
		madvise(ix->map, (info.me_last_pgno + 1) * (size_t)sysconf(_SC_PAGESIZE),
			MADV_DONTNEED);
	}
}

static void count_access(struct index *ix)
{
	if (atomic_fetch_add_explicit(&ix->accesses, 1, memory_order_relaxed) %
		    ACCESSES_PER_CHECK ==
	    ACCESSES_PER_CHECK - 1) {
		release_pages(ix);
	}
}

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
	count_access(ix);
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

/* Asker: 1 with the value and the read that it is borrowed from, which the caller ends. */
static int find(struct index *ix, enum index_table table, struct bytes key,
		struct table_read *r, struct bytes *value, struct error *err)
{
	int rc;

	do {
		MDB_val k = val_of(key), v;

		rc = table_read_begin(ix, table, r, err);
		if (rc <= 0) {
			return rc;
		}
		rc = mdb_get(r->txn, r->dbi, &k, &v);
		if (rc == 0) {
			rc = index_check_value(table, r->state, key, bytes_of_val(v), value,
					       err);
			if (rc == 0) {
				return 1;
			}
			read_end(ix, r->txn);
			return rc;
		}
		read_end(ix, r->txn);
		rc = rc == MDB_NOTFOUND ? was_converted(ix, table, r, err)
					: index_lmdb_error(err, rc, "get");
	} while (rc > 0);
	return rc;
}

/* Asker, of a value that was found. */
static int copy_value(enum index_table table, struct bytes v, void *value, size_t size,
		      struct error *err)
{
	if (!v.ptr || v.len != size) {
		return error_set(
			err, ERROR_CORRUPT,
			"the index of the store is damaged (table %s: a value of %zu bytes)",
			index_table_name(table), v.len);
	}
	memcpy(value, v.ptr, size);
	return 1;
}

int index_get(struct index *ix, enum index_table table, struct bytes key, void *value,
	      size_t size, struct error *err)
{
	struct table_read r;
	struct bytes v;
	int rc = find(ix, table, key, &r, &v, err);

	if (rc > 0) {
		rc = copy_value(table, v, value, size, err);
		read_end(ix, r.txn);
	}
	return rc;
}

/* Asker. A cursor looks first at the page where it found the key before. */
static int get_at_cursor(MDB_cursor *cursor, enum index_table table, struct bytes key,
			 void *value, size_t size, struct error *err)
{
	MDB_val k = val_of(key), v = {0};
	int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET);

	if (rc == MDB_NOTFOUND) {
		return 0;
	}
	return rc ? index_lmdb_error(err, rc, "get")
		  : copy_value(table, bytes_of_val(v), value, size, err);
}

int index_get_many(struct index *ix, enum index_table table, const uint8_t *keys,
		   size_t key_size, size_t count, uint8_t *values, size_t value_size,
		   bool *found, struct error *err)
{
	MDB_cursor *cursor = NULL;
	struct table_read r;
	int rc = table_read_begin(ix, table, &r, err);

	memset(found, 0, count * sizeof(*found));
	if (rc <= 0) {
		return rc;
	}
	rc = mdb_cursor_open(r.txn, r.dbi, &cursor);
	rc = rc ? index_lmdb_error(err, rc, "open cursor") : 0;
	for (size_t i = 0; rc >= 0 && i < count; i++) {
		rc = get_at_cursor(cursor, table, bytes_of(keys + i * key_size, key_size),
				   values + i * value_size, value_size, err);
		found[i] = rc > 0;
	}
	if (cursor) {
		mdb_cursor_close(cursor);
	}
	read_end(ix, r.txn);
	return MIN(rc, 0);
}

int index_get_append(struct index *ix, enum index_table table, struct bytes key,
		     struct buffer *out, struct error *err)
{
	struct table_read r;
	struct bytes v;
	int rc = find(ix, table, key, &r, &v, err);

	if (rc > 0) {
		buffer_append(out, v.ptr, v.len);
		read_end(ix, r.txn);
	}
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
static int visit_entry(struct scan *s, const struct table_read *r, MDB_val k, MDB_val v,
		       struct error *err)
{
	struct bytes key = bytes_of_val(k), value;

	/* A damaged page can lead back to where the scan was: it must come to an end. */
	if (key.len > INDEX_KEY_MAX ||
	    (s->visited && bytes_compare(key, bytes_of(s->last, s->last_len)) <= 0)) {
		return error_set(err, ERROR_CORRUPT,
				 "the index of the store is damaged (table %s: keys out of "
				 "order); see `cairn fsck`",
				 index_table_name(s->table));
	}
	memcpy(s->last, key.ptr, key.len);
	s->last_len = key.len;
	s->visited++;
	count_access(s->ix);
	int rc = index_check_value(s->table, r->state, key, bytes_of_val(v), &value, err);

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
	MDB_val k = val_of(from), v;
	MDB_cursor *cursor;
	int more = 1, rc = mdb_cursor_open(r->txn, r->dbi, &cursor);

	if (rc) {
		return index_lmdb_error(err, rc, "open cursor");
	}
	rc = mdb_cursor_get(cursor, &k, &v, from.len ? MDB_SET_RANGE : MDB_FIRST);
	while (rc == 0 && more > 0) {
		more = visit_entry(s, r, k, v, err);
		if (more > 0) {
			rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		}
	}
	mdb_cursor_close(cursor);
	if (more < 0) {
		return more;
	}
	return rc == 0 || rc == MDB_NOTFOUND ? 0 : index_lmdb_error(err, rc, "scan");
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

int index_count(struct index *ix, enum index_table table, uint64_t *out, struct error *err)
{
	MDB_stat stat = {0};
	struct table_read r;
	int rc = table_read_begin(ix, table, &r, err);

	if (rc > 0) {
		rc = mdb_stat(r.txn, r.dbi, &stat);
		read_end(ix, r.txn);
		rc = rc ? index_lmdb_error(err, rc, "count") : 0;
	}
	if (rc == 0) {
		*out = stat.ms_entries;
	}
	return rc;
}

/* LMDB keeps lists of free pages in a table of its own: their number, then the pages. */
static int count_free_pages(MDB_txn *txn, uint64_t *out)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	size_t n;
	int rc = mdb_cursor_open(txn, 0, &cursor);

	if (rc) {
		return rc;
	}
	*out = 0;
	while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
		if (v.mv_size >= sizeof(n)) {
			memcpy(&n, v.mv_data, sizeof(n));
			*out += n;
		}
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

int index_space(struct index *ix, uint64_t *bytes, uint64_t *free_bytes, struct error *err)
{
	uint64_t pages = 0;
	MDB_envinfo info;
	MDB_stat stat;
	MDB_txn *txn = NULL;
	int rc = read_begin(ix, &txn, err);

	if (rc) {
		return rc;
	}
	rc = count_free_pages(txn, &pages);
	read_end(ix, txn);
	if (rc == 0) {
		rc = mdb_env_info(ix->env, &info);
	}
	if (rc == 0) {
		rc = mdb_env_stat(ix->env, &stat);
	}
	if (rc) {
		return index_lmdb_error(err, rc, "count pages");
	}
	*bytes = (info.me_last_pgno + 1) * stat.ms_psize;
	*free_bytes = pages * stat.ms_psize;
	return 0;
}

int index_write_begin(struct index *ix, struct index_write **out, struct error *err)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, 0, &txn);

	if (rc) {
		return index_lmdb_error(err, rc, "begin writing");
	}
	*out = xmalloc(sizeof(**out));
	**out = (struct index_write){.ix = ix, .txn = txn};
	return 0;
}

int index_write_put(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes value, bool replace, struct error *err)
{
	int rc = index_put_value(w->ix, w->txn, table, key, value,
				 replace ? 0 : MDB_NOOVERWRITE);

	count_access(w->ix);

	return rc == 0 || rc == MDB_KEYEXIST ? 0 : index_lmdb_error(err, rc, "put");
}

int index_write_get(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes *value, struct error *err)
{
	MDB_val k = val_of(key), v;
	int rc = mdb_get(w->txn, w->ix->tables[table], &k, &v);

	if (rc == 0) {
		rc = index_check_value(table, TABLE_PRESENT, key, bytes_of_val(v), value, err);
		return rc ? rc : 1;
	}
	return rc == MDB_NOTFOUND ? 0 : index_lmdb_error(err, rc, "get");
}

int index_write_delete(struct index_write *w, enum index_table table, struct bytes key,
		       struct error *err)
{
	MDB_val k = val_of(key);
	int rc = mdb_del(w->txn, w->ix->tables[table], &k, NULL);

	if (rc == 0) {
		return 1;
	}
	return rc == MDB_NOTFOUND ? 0 : index_lmdb_error(err, rc, "delete");
}

int index_write_commit(struct index_write *w, struct error *err)
{
	int rc = mdb_txn_commit(w->txn);

	release_pages(w->ix);
	free(w);
	return rc ? index_lmdb_error(err, rc, "commit") : 0;
}

void index_write_abort(struct index_write *w)
{
	if (w) {
		mdb_txn_abort(w->txn);
		free(w);
	}
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
