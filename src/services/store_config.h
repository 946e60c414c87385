#pragma once

/*
 * A configuration: names for stores, as cairn.conf(5) describes it. What a name stands for is
 * an address like any other, so nothing of a store is known here.
 */

#include "base/bytes.h"
#include "base/error.h"

struct store_config;

struct store_definition {
	char *name;
	char *address;
	unsigned line; /* where its section begins */
};

/* file: for messages. Stores are not looked at: what an address says is found on opening. */
int store_config_parse(const char *file, struct bytes text, struct store_config **out,
		       struct error *err);
/* Asker: 0 when there is no such file. */
int store_config_load(const char *file, struct store_config **out, struct error *err);
void store_config_free(struct store_config *c);

const char *store_config_file(const struct store_config *c);
/* The name of the store to use when none is given; NULL when the configuration says none. */
const char *store_config_default(const struct store_config *c);
size_t store_config_count(const struct store_config *c);
const struct store_definition *store_config_at(const struct store_config *c, size_t i);
/* NULL when there is none of this name. */
const struct store_definition *store_config_find(const struct store_config *c,
						 const char *name);
/*
 * From now on the names stand for stores wherever an address is expected; NULL ends that.
 * Borrowed. Before there are threads.
 */
void store_config_use(const struct store_config *c);
/* What store_config_use() was given last. */
const struct store_config *store_config_used(void);
