#pragma once

/* What the files share that know LMDB: index.c, index_read.c and index_tables.c. */

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "services/local/index.h"

#define READ_TXNS_KEPT 32

enum table_state {
	TABLE_ABSENT, /* not there, or not opened yet */
	TABLE_BEFORE, /* of a store that only older programs wrote to: no checks */
	TABLE_PRESENT,
};

struct index {
	MDB_env *env;
	MDB_dbi tables[INDEX_TABLE_COUNT];
	MDB_dbi before[INDEX_TABLE_COUNT];     /* those of TABLE_BEFORE */
	_Atomic int states[INDEX_TABLE_COUNT]; /* enum table_state */
	pthread_mutex_t opening;               /* held while a table is opened late */
	MDB_txn *opening_txn;                  /* while the tables are opened */
	pthread_mutex_t lock;                  /* guards idle and idle_count */
	MDB_txn *idle[READ_TXNS_KEPT];
	unsigned idle_count;
	_Atomic unsigned accesses;
	_Atomic bool behind;  /* a commit is to be synced later */
	enum index_sync sync; /* as LMDB was told; for who writes */
	void *map;            /* where LMDB has its file; NULL: not known */
	int memory_fd;        /* for proc_resident_file_bytes() */
};

/* Tables, and those that older programs made. */
#define INDEX_TABLES_MAX (2 * INDEX_TABLE_COUNT)

/*
 * LMDB believes its pages: damaged ones can lead past the end of the file, or to where it gives
 * the process up. Here the call is left then, and this is false. What is read is copied inside
 * as well. For calls that only read.
 */
bool index_guarded(void (*run)(void *context), void *context);
/* The error for that. */
int index_pages_lie(struct error *err);
/* Lets go of pages from time to time. */
void index_count_access(struct index *ix);
int index_lmdb_error(struct error *err, int rc, const char *what);

static inline MDB_val val_of(struct bytes b)
{
	return (MDB_val){.mv_size = b.len, .mv_data = (void *)(uintptr_t)b.ptr};
}

static inline struct bytes bytes_of_val(MDB_val v)
{
	return bytes_of(v.mv_data, v.mv_size);
}

/* ---- tables: index_tables.c ---- */

const char *index_table_name(enum index_table table);

/*
 * Opens all tables in one transaction. create: makes those that are not there. A writer gives
 * the values of older stores their checks.
 */
int index_open_tables(struct index *ix, bool create, bool read_only, struct error *err);
/* Ends what a call to that left behind which was left itself, with the lock of writers. */
void index_open_tables_abort(struct index *ix);
/*
 * Asker: for a reader, another process may have made the table since. What the state is goes to
 * *state.
 */
int index_find_table(struct index *ix, enum index_table table, enum table_state *state,
		     struct error *err);

/* Do the values of this table carry checks? */
bool index_table_checked(enum index_table table);
/* Stores a value, with its check where the table has any. An LMDB result. */
int index_put_value(struct index *ix, MDB_txn *txn, enum index_table table, struct bytes key,
		    struct bytes value, unsigned flags);
/*
 * What was stored without its check, which is looked at: ERROR_CORRUPT when it is wrong.
 * *value borrows from what was stored.
 */
int index_check_value(enum index_table table, enum table_state state, struct bytes key,
		      struct bytes stored, struct bytes *value, struct error *err);
