#pragma once

#include "services/fallback.h"

/* Asker, or doer: the same question or order to member number i. */
typedef int (*fallback_call)(void *context, size_t i, struct error *err);

/* Asker: the first that has it. */
int fallback_ask(size_t count, fallback_call call, void *context, struct error *err);
/* The first that does not refuse to write, which it is then (may be NULL). */
int fallback_write(size_t count, fallback_call call, void *context, size_t *who,
		   struct error *err);

struct root_nodes *fallback_roots_new(const struct store *stores, size_t count);
struct record_table *fallback_records_new(const struct store *stores, size_t count);
