/* The tables of the index: their names, their checks, and how those of older stores get them.
 */

#include <string.h>

#include "base/bytes.h"
#include "base/endian.h"
#include "castore/digest.h"
#include "services/local/index_internal.h"

/*
 * Objects are checked against their digests, wherever the index says that they are. What no
 * digest protects has a check of its own: a name with another's tree, or a committed length
 * that is too small, would be believed otherwise.
 */
#define CHECK_SIZE 8

struct table_kind {
	const char *name;
	const char *before; /* its name in older stores, without checks; NULL: the same */
};

static const struct table_kind kinds[INDEX_TABLE_COUNT] = {
	[INDEX_BLOBS] = {"blobs", NULL},
	[INDEX_DIRECTORIES] = {"directories", NULL},
	[INDEX_LARGE_SIZES] = {"large-sizes", NULL},
	[INDEX_ROOTS] = {"checked-roots", "roots"},
	[INDEX_PACKS] = {"checked-packs", "packs"},
	[INDEX_SEEN] = {"seen", NULL},
	[INDEX_META] = {"checked-meta", "meta"},
	[INDEX_PATH_INFOS] = {"checked-path-infos", "path-infos"},
};

const char *index_table_name(enum index_table table)
{
	return kinds[table].name;
}

bool index_table_checked(enum index_table table)
{
	return kinds[table].before != NULL;
}

/* ---- checks ---- */

static void compute_check(uint8_t out[CHECK_SIZE], enum index_table table, struct bytes key,
			  struct bytes value)
{
	struct hasher *h = hasher_new();
	struct digest d;
	uint8_t len[2] = {(uint8_t)key.len, (uint8_t)(key.len >> 8)};

	hasher_update(h, bytes_of(kinds[table].name, strlen(kinds[table].name) + 1));
	hasher_update(h, bytes_of(len, sizeof(len)));
	hasher_update(h, key);
	hasher_update(h, value);
	hasher_finish(h, &d);
	hasher_free(h);
	memcpy(out, d.bytes, CHECK_SIZE);
}

int index_put_value(struct index *ix, MDB_txn *txn, enum index_table table, struct bytes key,
		    struct bytes value, unsigned flags)
{
	uint8_t check[CHECK_SIZE];
	MDB_val k = val_of(key), v = val_of(value);

	if (!index_table_checked(table)) {
		return mdb_put(txn, ix->tables[table], &k, &v, flags);
	}
	struct buffer stored cleanup(buffer_done) = {0};

	compute_check(check, table, key, value);
	buffer_append(&stored, value.ptr, value.len);
	buffer_append(&stored, check, sizeof(check));
	v = val_of(buffer_bytes(&stored));
	return mdb_put(txn, ix->tables[table], &k, &v, flags);
}

int index_check_value(enum index_table table, enum table_state state, struct bytes key,
		      struct bytes stored, struct bytes *value, struct error *err)
{
	uint8_t check[CHECK_SIZE];

	if (!index_table_checked(table) || state == TABLE_BEFORE) {
		*value = stored;
		return 0;
	}
	bool right = stored.len >= CHECK_SIZE;
	struct bytes content = bytes_of(stored.ptr, right ? stored.len - CHECK_SIZE : 0);

	if (right) {
		compute_check(check, table, key, content);
		right = memcmp(check, stored.ptr + content.len, CHECK_SIZE) == 0;
	}
	if (!right) {
		return error_set(err, ERROR_CORRUPT,
				 "the index of the store is damaged (table %s: the value of "
				 "\"%s\" does not check); see `cairn fsck`",
				 kinds[table].name, bytes_printable(key));
	}
	*value = content;
	return 0;
}

/* ---- opening ---- */

/* Asker: opens one table by its name. */
static int open_named(MDB_txn *txn, const char *name, bool create, MDB_dbi *out,
		      struct error *err)
{
	int rc = mdb_dbi_open(txn, name, create ? MDB_CREATE : 0, out);

	if (rc == MDB_NOTFOUND) {
		return 0;
	}
	return rc ? index_lmdb_error(err, rc, "open table") : 1;
}

static int copy_entries(struct index *ix, MDB_txn *txn, enum index_table table, MDB_dbi from,
			struct error *err)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = mdb_cursor_open(txn, from, &cursor);

	if (rc) {
		return index_lmdb_error(err, rc, "open cursor");
	}
	rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
	while (rc == 0) {
		rc = index_put_value(ix, txn, table, bytes_of_val(k), bytes_of_val(v), 0);
		rc = rc ? rc : mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : index_lmdb_error(err, rc, "give values their checks");
}

/* Path infos came later than the rest: to older stores that lack them, they are empty. */
static bool may_lack(enum index_table table)
{
	return table == INDEX_PATH_INFOS;
}

static int lacks_table(enum index_table table, struct error *err)
{
	return error_set(err, ERROR_CORRUPT,
			 "the index of the store is damaged (there is no table \"%s\"); "
			 "`cairn reindex` makes a new one",
			 kinds[table].name);
}

/* Makes the table from the one without checks, if there is one, which is gone then. */
static int convert_table(struct index *ix, MDB_txn *txn, enum index_table table, bool create,
			 struct error *err)
{
	MDB_dbi before;
	int found = open_named(txn, kinds[table].before, false, &before, err);

	if (found == 0 && !create && !may_lack(table)) {
		return lacks_table(table, err);
	}
	int rc = found < 0 ? found
			   : open_named(txn, kinds[table].name, true, &ix->tables[table], err);

	if (rc < 0 || found == 0) {
		return MIN(rc, 0);
	}
	rc = copy_entries(ix, txn, table, before, err);
	if (rc == 0) {
		rc = mdb_drop(txn, before, 1);
		rc = rc ? index_lmdb_error(err, rc, "drop table") : 0;
	}
	return rc;
}

/*
 * Asker: do the values have checks? All tables get them at once, so that one that is not there
 * is damage, and not a store of old.
 */
static int has_checks(struct index *ix, MDB_txn *txn, struct error *err)
{
	int any = 0;

	for (int i = 0; i < INDEX_TABLE_COUNT; i++) {
		if (kinds[i].before) {
			int rc = open_named(txn, kinds[i].name, false, &ix->tables[i], err);

			if (rc < 0) {
				return rc;
			}
			any |= rc;
		}
	}
	return any;
}

static int open_plain(struct index *ix, MDB_txn *txn, enum index_table table, bool create,
		      enum table_state *state, struct error *err)
{
	int rc = open_named(txn, kinds[table].name, create, &ix->tables[table], err);

	*state = TABLE_PRESENT;
	return rc == 0 ? lacks_table(table, err) : MIN(rc, 0);
}

/* Of a table whose values would have checks in a store that is newer. */
static int open_before(struct index *ix, MDB_txn *txn, enum index_table table,
		       enum table_state *state, struct error *err)
{
	int rc = open_named(txn, kinds[table].before, false, &ix->before[table], err);

	*state = rc > 0 ? TABLE_BEFORE : TABLE_ABSENT;
	return rc == 0 && !may_lack(table) ? lacks_table(table, err) : MIN(rc, 0);
}

static int open_each(struct index *ix, MDB_txn *txn, bool create, bool read_only,
		     enum table_state states[INDEX_TABLE_COUNT], struct error *err)
{
	int checks = has_checks(ix, txn, err), rc = MIN(checks, 0);

	for (int i = 0; rc == 0 && i < INDEX_TABLE_COUNT; i++) {
		enum index_table table = (enum index_table)i;

		if (checks || !kinds[i].before) {
			rc = open_plain(ix, txn, table, create && !checks, &states[i], err);
		} else if (read_only) {
			rc = open_before(ix, txn, table, &states[i], err);
		} else {
			rc = convert_table(ix, txn, table, create, err);
			states[i] = TABLE_PRESENT;
		}
	}
	return rc;
}

void index_open_tables_abort(struct index *ix)
{
	mdb_txn_abort(ix->opening_txn);
	ix->opening_txn = NULL;
}

int index_open_tables(struct index *ix, bool create, bool read_only, struct error *err)
{
	enum table_state states[INDEX_TABLE_COUNT] = {TABLE_ABSENT};
	int rc = mdb_txn_begin(ix->env, NULL, read_only ? MDB_RDONLY : 0, &ix->opening_txn);

	if (rc) {
		return index_lmdb_error(err, rc, "begin");
	}
	rc = open_each(ix, ix->opening_txn, create, read_only, states, err);
	if (rc) {
		index_open_tables_abort(ix);
		return rc;
	}
	rc = mdb_txn_commit(ix->opening_txn);
	ix->opening_txn = NULL;
	if (rc) {
		return index_lmdb_error(err, rc, "commit");
	}
	for (int i = 0; i < INDEX_TABLE_COUNT; i++) {
		atomic_store(&ix->states[i], (int)states[i]);
	}
	return 0;
}

static int open_late(struct index *ix, enum index_table table, struct error *err)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &txn);

	if (rc) {
		return index_lmdb_error(err, rc, "begin reading");
	}
	int found = open_named(txn, kinds[table].name, false, &ix->tables[table], err);

	rc = mdb_txn_commit(txn);
	return rc && found >= 0 ? index_lmdb_error(err, rc, "commit") : found;
}

int index_find_table(struct index *ix, enum index_table table, enum table_state *state,
		     struct error *err)
{
	int rc = 0;

	*state = (enum table_state)atomic_load_explicit(&ix->states[table],
							memory_order_acquire);
	if (*state == TABLE_PRESENT) {
		return 1;
	}
	pthread_mutex_lock(&ix->opening);
	*state = (enum table_state)atomic_load(&ix->states[table]);
	if (*state != TABLE_PRESENT) {
		rc = open_late(ix, table, err);
		*state = rc > 0 ? TABLE_PRESENT : *state;
		atomic_store(&ix->states[table], (int)*state);
	}
	pthread_mutex_unlock(&ix->opening);
	return rc < 0 ? rc : *state != TABLE_ABSENT;
}
