#pragma once

/* The index of the store at store_path (test_local_driver.h), which nobody has open, as LMDB
 * has it. */

#include <lmdb.h>

#include "base/bytes.h"

MDB_txn *raw_index_begin(MDB_env **env);
/* Commits. */
void raw_index_end(MDB_env *env, MDB_txn *txn);
/* Changes one byte of the value of a key. */
void raw_index_damage(const char *table, struct bytes key, size_t at);
/* Removes a key. */
void raw_index_delete(const char *table, struct bytes key);
/* Copies the value of one key to another, which replaces what that had. */
void raw_index_copy(const char *table, struct bytes from, struct bytes to);
