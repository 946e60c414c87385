#pragma once

/*
 * file://: the local store. One directory, readable and writable by many processes at once.
 * docs/store-format.md has the exact bytes.
 */

#include "services/store.h"

int local_store_open(struct store *out, const char *path, unsigned flags, struct error *err);

/* See store_hold() and store_hold_nothing_yet(), for which node is NULL. */
bool local_stores_hold(const struct node *node);

/* Asker: was anything collected from one of them since it was opened? */
int local_stores_collected(struct error *err);
/* See store_written(). */
int local_stores_written(const struct node *node, uint64_t *seconds);

/* See store_take_stock(). */
int local_store_take_stock(const char *path, struct store_figures *out, struct error *err);
/* See store_rebuild(). */
int local_store_rebuild(const char *path, struct store_rebuilt *out, struct error *err);

struct store_check_options;
struct store_check_report;
struct store_repair_options;

/* See store_check(). */
int local_store_check(const char *path, const struct store_check_options *o,
		      struct store_check_report *out, struct error *err);
/* See store_repair(). */
int local_store_repair(const char *path, const struct store_repair_options *o,
		       struct store_check_report *before, struct store_check_report *after,
		       struct error *err);

/* See store_collect(). */
int local_store_collect(const char *path, const struct store_collect_options *options,
			struct store_collected *out, struct error *err);
