#pragma once

/*
 * Several lists of keys and values, each in the order of its keys, shown as one: of a key that
 * several have, the first list's value. A bounded part of each is in memory.
 */

#include "services/record_table.h"

/* See record_table_list(): the entries of list number i. */
typedef int (*merged_list_source)(void *context, size_t i, struct bytes after,
				  record_visit visit, void *visit_context, struct error *err);

int merged_list_visit(size_t count, merged_list_source source, void *source_context,
		      struct bytes after, record_visit visit, void *context, struct error *err);
