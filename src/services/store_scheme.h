#pragma once

/*
 * For back ends: what stands behind the schemes of addresses (store.h). memory:// and file://
 * are always there; schemes of rooms above this one are added when the program starts.
 */

#include "base/url.h"
#include "services/store.h"

struct store_check_options;
struct store_check_report;
struct store_repair_options;

struct store_scheme {
	const char *name;
	const char *form;              /* an example, for messages: "file:///path" */
	const char *const *parameters; /* names, NULL behind the last; NULL: none */
	/* Whether an address makes sense; its parameters have known names. */
	int (*check)(const struct url *address, struct error *err);
	int (*open)(struct store *out, const struct url *address, unsigned flags,
		    struct error *err);
	/* Adds what this store needs, see store_needs(). NULL: it speaks to peers. */
	int (*needs)(const struct url *address, struct store_needs *out, struct error *err);
	/* See store_take_stock(); NULL: unsupported. */
	int (*take_stock)(const struct url *address, struct store_figures *out,
			  struct error *err);
	/* See store_rebuild(); NULL where there is no index. */
	int (*rebuild)(const struct url *address, struct store_rebuilt *out, struct error *err);
	/* See store_check(); NULL where there is nothing on a disk. */
	int (*check_store)(const struct url *address, const struct store_check_options *o,
			   struct store_check_report *out, struct error *err);
	/* See store_repair(); likewise. */
	int (*repair)(const struct url *address, const struct store_repair_options *o,
		      struct store_check_report *before, struct store_check_report *after,
		      struct error *err);
	/* See store_collect(); NULL where the garbage is somebody else's. */
	int (*collect)(const struct url *address, const struct store_collect_options *options,
		       struct store_collected *out, struct error *err);
};

#define STORE_SCHEMES_MAX 16

/* NULL when there is none of this name. */
const struct store_scheme *store_scheme_find(const char *name);
/* Before the first address is looked at, and before there are threads. scheme is borrowed. */
void store_scheme_add(const struct store_scheme *scheme);
