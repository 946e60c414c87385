#include "raw_index.h"

#include <stdio.h>

#include "test_local_driver.h"

MDB_txn *raw_index_begin(MDB_env **env)
{
	char path[300];
	MDB_txn *txn;

	snprintf(path, sizeof(path), "%s/index", store_path);
	assert_int_equal(mdb_env_create(env), 0);
	mdb_env_set_maxdbs(*env, 32);
	assert_int_equal(mdb_env_open(*env, path, 0, 0644), 0);
	assert_int_equal(mdb_txn_begin(*env, NULL, 0, &txn), 0);
	return txn;
}

void raw_index_end(MDB_env *env, MDB_txn *txn)
{
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static MDB_val val_of(struct bytes b)
{
	return (MDB_val){.mv_size = b.len, .mv_data = (void *)(uintptr_t)b.ptr};
}

void raw_index_damage(const char *table, struct bytes key, size_t at)
{
	MDB_env *env;
	MDB_txn *txn = raw_index_begin(&env);
	MDB_dbi dbi;
	MDB_val k = val_of(key), v;
	uint8_t copy[400];

	assert_int_equal(mdb_dbi_open(txn, table, 0, &dbi), 0);
	assert_int_equal(mdb_get(txn, dbi, &k, &v), 0);
	assert_true(v.mv_size <= sizeof(copy) && at < v.mv_size);
	memcpy(copy, v.mv_data, v.mv_size);
	copy[at] ^= 1;
	v.mv_data = copy;
	assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
	raw_index_end(env, txn);
}

void raw_index_delete(const char *table, struct bytes key)
{
	MDB_env *env;
	MDB_txn *txn = raw_index_begin(&env);
	MDB_dbi dbi;
	MDB_val k = val_of(key);

	assert_int_equal(mdb_dbi_open(txn, table, 0, &dbi), 0);
	assert_int_equal(mdb_del(txn, dbi, &k, NULL), 0);
	raw_index_end(env, txn);
}

void raw_index_copy(const char *table, struct bytes from, struct bytes to)
{
	MDB_env *env;
	MDB_txn *txn = raw_index_begin(&env);
	MDB_dbi dbi;
	MDB_val k = val_of(from), v;
	uint8_t copy[400];

	assert_int_equal(mdb_dbi_open(txn, table, 0, &dbi), 0);
	assert_int_equal(mdb_get(txn, dbi, &k, &v), 0);
	assert_true(v.mv_size <= sizeof(copy));
	memcpy(copy, v.mv_data, v.mv_size);
	v.mv_data = copy;
	k = val_of(to);
	assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
	raw_index_end(env, txn);
}
