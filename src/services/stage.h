#pragma once

/*
 * For back ends: what stands behind store_stage() (store.h), which has the contract. A store
 * that can hold puts back brings a stager; a staged store has a stage. Each has one owner, the
 * struct store that it came in.
 */

#include "base/error.h"

struct store;
struct stager;
struct stage;

struct stager_ops {
	/* Fills in services and stage of a staged store. */
	int (*begin)(struct stager *g, struct store *staged, struct error *err);
	void (*free)(struct stager *g);
};

struct stager {
	const struct stager_ops *ops;
};

struct stage_ops {
	/* Called once, or not at all. */
	int (*commit)(struct stage *g, struct error *err);
	/* Gives up what was not committed; services that somebody still holds take no more. */
	void (*free)(struct stage *g);
};

struct stage {
	const struct stage_ops *ops;
};
