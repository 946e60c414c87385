#pragma once

/*
 * Bearer tokens and what each allows, from a file: one on each line, "TOKEN" or "TOKEN RIGHTS",
 * where RIGHTS is "read" or "write" (which includes reading; the default). Empty lines and
 * those that begin with '#' are passed over. Only hashes of tokens are kept, and they are
 * compared in constant time.
 */

#include "base/bytes.h"
#include "base/error.h"

/* Of printable ASCII without spaces. */
#define TOKEN_LENGTH_MIN 16
#define TOKEN_LENGTH_MAX 1024

struct rpc_token_table;

/*
 * ERROR_INVALID naming the line, ERROR_DENIED when others than owner and group may read the
 * file, ERROR_NOT_FOUND.
 */
int token_table_read(const char *path, struct rpc_token_table **out, struct error *err);
void token_table_free(struct rpc_token_table *t);
/* Rights (rpc_server.h) of who sends this under "authorization"; 0 when it is none of these. */
unsigned token_table_rights(const struct rpc_token_table *t, struct bytes authorization);
