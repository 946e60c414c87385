#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault_guard.h"
#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "services/local/index_internal.h"

/* One fault maps up to 64 KiB, so this is at most 16 MiB more than what is allowed. */
#define ACCESSES_PER_CHECK 256u
#define RESIDENT_MAX ((size_t)64 << 20)
/* Who asks so often will ask for more. */
#define ACCESSES_BEFORE_READ_AHEAD 64u
#define READ_AHEAD_MAX ((size_t)64 << 20)

struct index_write {
	struct index *ix;
	MDB_txn *txn;
	enum index_sync sync;
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

/* Instead of giving up the process, where the call can be left. */
static void on_assertion(MDB_env *env unused, const char *text unused)
{
	fault_guard_leave();
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
	mdb_env_set_assert(ix->env, on_assertion);
	/* Slots of readers that were killed would keep old pages from being used again. */
	mdb_reader_check(ix->env, &dead);
	return 0;
}

int index_pages_lie(struct error *err)
{
	return error_set(err, ERROR_CORRUPT,
			 "the index of the store is damaged (its pages lead nowhere); see "
			 "`cairn fsck`");
}

bool index_guarded(void (*run)(void *context), void *context)
{
	return fault_guard_run(run, context);
}

struct tables_opening {
	struct index *ix;
	bool create, read_only;
	int rc;
	struct error *err;
};

static void run_open_tables(void *context)
{
	struct tables_opening *o = context;

	o->rc = index_open_tables(o->ix, o->create, o->read_only, o->err);
}

static int open_tables(struct index *ix, bool create, bool read_only, struct error *err)
{
	struct tables_opening o = {
		.ix = ix, .create = create, .read_only = read_only, .err = err};

	if (!index_guarded(run_open_tables, &o)) {
		index_open_tables_abort(ix);
		return index_pages_lie(err);
	}
	return o.rc;
}

int index_open(struct index **out, const char *path, unsigned flags, struct error *err)
{
	struct index *ix = xcalloc(1, sizeof(*ix));
	bool read_only = flags & INDEX_READ_ONLY;

	ix->memory_fd = proc_open_memory();
	pthread_mutex_init(&ix->opening, NULL);
	pthread_mutex_init(&ix->lock, NULL);
	int rc = fault_guard_install(err);

	rc = rc ? rc : open_env(ix, path, flags, err);

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
	struct error err;

	if (!ix) {
		return;
	}
	for (unsigned i = 0; i < ix->idle_count; i++) {
		mdb_txn_abort(ix->idle[i]);
	}
	if (ix->env) {
		if (index_settle(ix, &err) != 0) {
			log_warning("%s", err.text);
		}
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

/*
 * Lookups by digest are random, so each of the first ones would wait for the disk for a page.
 * An index that is small beside any memory comes as one instead; nobody waits for that.
 */
static void read_ahead(struct index *ix)
{
	MDB_envinfo info;

	if (ix->map && mdb_env_info(ix->env, &info) == 0) {
		size_t size = (info.me_last_pgno + 1) * (size_t)sysconf(_SC_PAGESIZE);

		if (size <= READ_AHEAD_MAX) {
			madvise(ix->map, size, MADV_WILLNEED);
		}
	}
}

void index_count_access(struct index *ix)
{
	unsigned before = atomic_fetch_add_explicit(&ix->accesses, 1, memory_order_relaxed);

	if (before == ACCESSES_BEFORE_READ_AHEAD) {
		read_ahead(ix);
	}
	if (before % ACCESSES_PER_CHECK == ACCESSES_PER_CHECK - 1) {
		release_pages(ix);
	}
}

int index_write_begin(struct index *ix, struct index_write **out, struct error *err)
{
	return index_write_begin_as(ix, INDEX_SYNC_NOW, out, err);
}

/*
 * LMDB looks at these flags when it commits, which one thread does at a time: the one that has
 * begun to write.
 */
static void set_sync(struct index *ix, enum index_sync sync)
{
	if (ix->sync != sync) {
		mdb_env_set_flags(ix->env, MDB_NOMETASYNC, sync == INDEX_SYNC_LATER);
		mdb_env_set_flags(ix->env, MDB_NOSYNC, sync == INDEX_SYNC_NEVER);
		ix->sync = sync;
	}
}

int index_write_begin_as(struct index *ix, enum index_sync sync, struct index_write **out,
			 struct error *err)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, 0, &txn);

	if (rc) {
		return index_lmdb_error(err, rc, "begin writing");
	}
	set_sync(ix, sync);
	*out = xmalloc(sizeof(**out));
	**out = (struct index_write){.ix = ix, .txn = txn, .sync = sync};
	return 0;
}

int index_write_put(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes value, bool replace, struct error *err)
{
	int rc = index_put_value(w->ix, w->txn, table, key, value,
				 replace ? 0 : MDB_NOOVERWRITE);

	index_count_access(w->ix);

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

	if (rc == 0 && w->sync != INDEX_SYNC_NEVER) {
		atomic_store(&w->ix->behind, w->sync == INDEX_SYNC_LATER);
	}
	release_pages(w->ix);
	free(w);
	return rc ? index_lmdb_error(err, rc, "commit") : 0;
}

int index_settle(struct index *ix, struct error *err)
{
	int rc = atomic_exchange(&ix->behind, false) ? mdb_env_sync(ix->env, 1) : 0;

	return rc ? index_lmdb_error(err, rc, "sync") : 0;
}

void index_write_abort(struct index_write *w)
{
	if (w) {
		mdb_txn_abort(w->txn);
		free(w);
	}
}
