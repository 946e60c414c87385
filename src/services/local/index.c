#include "services/local/index.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"

#define READ_TXNS_KEPT 32
/* One fault maps up to 64 KiB, so this is at most 16 MiB more than what is allowed. */
#define ACCESSES_PER_CHECK 256u
#define RESIDENT_MAX ((size_t)24 << 20)

struct index {
	MDB_env *env;
	MDB_dbi tables[INDEX_TABLE_COUNT];
	_Atomic bool present[INDEX_TABLE_COUNT]; /* tables of others are not open */
	pthread_mutex_t opening;                 /* held while a table is opened late */
	pthread_mutex_t lock;                    /* guards idle and idle_count */
	MDB_txn *idle[READ_TXNS_KEPT];
	unsigned idle_count;
	_Atomic unsigned accesses;
	void *map;     /* where LMDB has its file; NULL: not known */
	int memory_fd; /* for proc_resident_file_bytes() */
};

struct index_write {
	struct index *ix;
	MDB_txn *txn;
};

static const char *const table_names[INDEX_TABLE_COUNT] = {
	[INDEX_BLOBS] = "blobs",
	[INDEX_DIRECTORIES] = "directories",
	[INDEX_LARGE_SIZES] = "large-sizes",
	[INDEX_ROOTS] = "roots",
	[INDEX_PACKS] = "packs",
	[INDEX_SEEN] = "seen",
	[INDEX_META] = "meta",
	[INDEX_PATH_INFOS] = "path-infos",
};

static int lmdb_error(struct error *err, int rc, const char *what)
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

static MDB_val val_of(struct bytes b)
{
	return (MDB_val){.mv_size = b.len, .mv_data = (void *)(uintptr_t)b.ptr};
}

static struct bytes bytes_of_val(MDB_val v)
{
	return bytes_of(v.mv_data, v.mv_size);
}

/* Stores that were made before this program knew of path infos have no table for them. */
static bool came_later(int table)
{
	return table == INDEX_PATH_INFOS;
}

/* Asker: opens one table. */
static int open_table(struct index *ix, MDB_txn *txn, int table, bool create, struct error *err)
{
	int rc = mdb_dbi_open(txn, table_names[table], create ? MDB_CREATE : 0,
			      &ix->tables[table]);

	if (rc == MDB_NOTFOUND) {
		return 0;
	}
	return rc ? lmdb_error(err, rc, "open table") : 1;
}

static int open_tables(struct index *ix, bool create, bool read_only, struct error *err)
{
	bool found[INDEX_TABLE_COUNT];
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, read_only ? MDB_RDONLY : 0, &txn);

	if (rc) {
		return lmdb_error(err, rc, "begin");
	}
	for (int i = 0; i < INDEX_TABLE_COUNT; i++) {
		rc = open_table(ix, txn, i, create || (came_later(i) && !read_only), err);
		if (rc == 0 && !came_later(i)) {
			rc = error_set(err, ERROR_CORRUPT,
				       "the index of the store has no table \"%s\"",
				       table_names[i]);
		}
		if (rc < 0) {
			mdb_txn_abort(txn);
			return rc;
		}
		found[i] = rc > 0;
	}
	rc = mdb_txn_commit(txn);
	for (int i = 0; i < INDEX_TABLE_COUNT; i++) {
		atomic_store(&ix->present[i], rc == 0 && found[i]);
	}
	return rc ? lmdb_error(err, rc, "commit") : 0;
}

/* Asker: for a reader, another process may have made the table meanwhile. */
static int find_table_late(struct index *ix, int table, struct error *err)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &txn);

	if (rc) {
		return lmdb_error(err, rc, "begin reading");
	}
	int found = open_table(ix, txn, table, false, err);

	rc = mdb_txn_commit(txn);
	if (rc && found >= 0) {
		return lmdb_error(err, rc, "commit");
	}
	return found;
}

/* Asker. */
static int find_table(struct index *ix, int table, struct error *err)
{
	if (atomic_load_explicit(&ix->present[table], memory_order_acquire)) {
		return 1;
	}
	pthread_mutex_lock(&ix->opening);
	int rc = 1;

	if (!atomic_load(&ix->present[table])) {
		rc = find_table_late(ix, table, err);
		atomic_store(&ix->present[table], rc > 0);
	}
	pthread_mutex_unlock(&ix->opening);
	return rc;
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
		return lmdb_error(err, rc, "create environment");
	}
	mdb_env_set_maxdbs(ix->env, INDEX_TABLE_COUNT);
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
			return lmdb_error(err, rc, "create environment");
		}
		mdb_env_set_maxdbs(ix->env, INDEX_TABLE_COUNT);
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
		lmdb_error(err, rc, "open");
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
		rc = open_tables(ix, flags & (INDEX_CREATE | INDEX_PRIVATE), read_only, err);
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
		return lmdb_error(err, rc, "begin reading");
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

/* Asker: 1 with the value and the read that it is borrowed from, which the caller ends. */
static int find(struct index *ix, enum index_table table, struct bytes key, MDB_txn **txn,
		MDB_val *value, struct error *err)
{
	MDB_val k = val_of(key);
	int rc = find_table(ix, (int)table, err);

	if (rc <= 0) {
		return rc;
	}
	rc = read_begin(ix, txn, err);
	if (rc) {
		return rc;
	}
	rc = mdb_get(*txn, ix->tables[table], &k, value);
	if (rc == 0) {
		return 1;
	}
	read_end(ix, *txn);
	return rc == MDB_NOTFOUND ? 0 : lmdb_error(err, rc, "get");
}

/* Asker, of a value that was found. */
static int copy_value(enum index_table table, MDB_val v, void *value, size_t size,
		      struct error *err)
{
	if (!v.mv_data || v.mv_size != size) {
		return error_set(
			err, ERROR_CORRUPT,
			"the index of the store is damaged (table %s: a value of %zu bytes)",
			table_names[table], v.mv_size);
	}
	memcpy(value, v.mv_data, size);
	return 1;
}

int index_get(struct index *ix, enum index_table table, struct bytes key, void *value,
	      size_t size, struct error *err)
{
	MDB_txn *txn = NULL;
	MDB_val v = {0};
	int rc = find(ix, table, key, &txn, &v, err);

	if (rc > 0) {
		rc = copy_value(table, v, value, size, err);
		read_end(ix, txn);
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
	return rc ? lmdb_error(err, rc, "get") : copy_value(table, v, value, size, err);
}

int index_get_many(struct index *ix, enum index_table table, const uint8_t *keys,
		   size_t key_size, size_t count, uint8_t *values, size_t value_size,
		   bool *found, struct error *err)
{
	MDB_cursor *cursor = NULL;
	MDB_txn *txn = NULL;
	int rc = find_table(ix, (int)table, err);

	memset(found, 0, count * sizeof(*found));
	if (rc > 0) {
		rc = read_begin(ix, &txn, err);
	}
	if (rc || !txn) {
		return rc;
	}
	rc = mdb_cursor_open(txn, ix->tables[table], &cursor);
	rc = rc ? lmdb_error(err, rc, "open cursor") : 0;
	for (size_t i = 0; rc >= 0 && i < count; i++) {
		rc = get_at_cursor(cursor, table, bytes_of(keys + i * key_size, key_size),
				   values + i * value_size, value_size, err);
		found[i] = rc > 0;
	}
	if (cursor) {
		mdb_cursor_close(cursor);
	}
	read_end(ix, txn);
	return MIN(rc, 0);
}

int index_get_append(struct index *ix, enum index_table table, struct bytes key,
		     struct buffer *out, struct error *err)
{
	MDB_txn *txn = NULL;
	MDB_val v = {0};
	int rc = find(ix, table, key, &txn, &v, err);

	if (rc > 0) {
		buffer_append(out, v.mv_data, v.mv_size);
		read_end(ix, txn);
	}
	return rc;
}

int index_scan(struct index *ix, enum index_table table, struct bytes from, index_visit visit,
	       void *context, struct error *err)
{
	MDB_cursor *cursor;
	MDB_txn *txn = NULL;
	int rc = find_table(ix, (int)table, err);

	if (rc <= 0) {
		return rc;
	}
	rc = read_begin(ix, &txn, err);
	if (rc) {
		return rc;
	}
	rc = mdb_cursor_open(txn, ix->tables[table], &cursor);
	if (rc == 0) {
		MDB_val k = val_of(from), v;

		rc = mdb_cursor_get(cursor, &k, &v, from.len ? MDB_SET_RANGE : MDB_FIRST);
		while (rc == 0 && visit(context, bytes_of_val(k), bytes_of_val(v))) {
			count_access(ix);
			rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		}
		mdb_cursor_close(cursor);
	}
	read_end(ix, txn);
	return rc == 0 || rc == MDB_NOTFOUND ? 0 : lmdb_error(err, rc, "scan");
}

int index_count(struct index *ix, enum index_table table, uint64_t *out, struct error *err)
{
	MDB_stat stat;
	MDB_txn *txn = NULL;
	int rc = read_begin(ix, &txn, err);

	if (rc) {
		return rc;
	}
	rc = mdb_stat(txn, ix->tables[table], &stat);
	read_end(ix, txn);
	if (rc) {
		return lmdb_error(err, rc, "count");
	}
	*out = stat.ms_entries;
	return 0;
}

int index_write_begin(struct index *ix, struct index_write **out, struct error *err)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, 0, &txn);

	if (rc) {
		return lmdb_error(err, rc, "begin writing");
	}
	*out = xmalloc(sizeof(**out));
	**out = (struct index_write){.ix = ix, .txn = txn};
	return 0;
}

int index_write_put(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes value, bool replace, struct error *err)
{
	MDB_val k = val_of(key), v = val_of(value);
	int rc = mdb_put(w->txn, w->ix->tables[table], &k, &v, replace ? 0 : MDB_NOOVERWRITE);

	count_access(w->ix);

	return rc == 0 || rc == MDB_KEYEXIST ? 0 : lmdb_error(err, rc, "put");
}

int index_write_get(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes *value, struct error *err)
{
	MDB_val k = val_of(key), v;
	int rc = mdb_get(w->txn, w->ix->tables[table], &k, &v);

	if (rc == 0) {
		*value = bytes_of_val(v);
		return 1;
	}
	return rc == MDB_NOTFOUND ? 0 : lmdb_error(err, rc, "get");
}

int index_write_delete(struct index_write *w, enum index_table table, struct bytes key,
		       struct error *err)
{
	MDB_val k = val_of(key);
	int rc = mdb_del(w->txn, w->ix->tables[table], &k, NULL);

	if (rc == 0) {
		return 1;
	}
	return rc == MDB_NOTFOUND ? 0 : lmdb_error(err, rc, "delete");
}

int index_write_commit(struct index_write *w, struct error *err)
{
	int rc = mdb_txn_commit(w->txn);

	release_pages(w->ix);
	free(w);
	return rc ? lmdb_error(err, rc, "commit") : 0;
}

void index_write_abort(struct index_write *w)
{
	if (w) {
		mdb_txn_abort(w->txn);
		free(w);
	}
}
