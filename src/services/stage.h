#pragma once

/*
 * For back ends: what stands behind store_stage() (store.h), which has the contract. A store
 * that can hold puts back brings a stager, which compositions of stores share; a staged store
 * has a stage, with one owner, the struct store that it came in.
 */

#include <stdatomic.h>

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
	_Atomic unsigned refs;
};

static inline void stager_init(struct stager *g, const struct stager_ops *ops)
{
	g->ops = ops;
	atomic_init(&g->refs, 1);
}

static inline struct stager *stager_ref(struct stager *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

static inline void stager_unref(struct stager *g)
{
	if (g && atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) == 1) {
		g->ops->free(g);
	}
}

struct stage_ops {
	/* Called once, or not at all. */
	int (*commit)(struct stage *g, struct error *err);
	/* Gives up what was not committed; services that somebody still holds take no more. */
	void (*free)(struct stage *g);
};

struct stage {
	const struct stage_ops *ops;
};
