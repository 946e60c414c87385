#pragma once

/*
 * What an importer saw before: files by device and inode, with size and times in nanoseconds,
 * and the digest they had. Only a cache: losing it costs time, never correctness. Shared and
 * thread-safe. A hit must still be checked for the blob's presence by the caller.
 */

#include "castore/digest.h"

struct seen_key {
	uint64_t device;
	uint64_t inode;
};

struct seen_value {
	uint64_t size;
	int64_t mtime_ns;
	int64_t ctime_ns;
	struct digest digest;
};

struct seen_cache;

struct seen_cache_ops {
	/* Asker. */
	int (*lookup)(struct seen_cache *c, const struct seen_key *key, struct seen_value *out,
		      struct error *err);
	/* Remembers; becomes durable with the next sync of the store. */
	int (*remember)(struct seen_cache *c, const struct seen_key *key,
			const struct seen_value *value, struct error *err);
};

/* Part of a store, lives as long as it. */
struct seen_cache {
	const struct seen_cache_ops *ops;
};

static inline int seen_cache_lookup(struct seen_cache *c, const struct seen_key *key,
				    struct seen_value *out, struct error *err)
{
	return c->ops->lookup(c, key, out, err);
}

static inline int seen_cache_remember(struct seen_cache *c, const struct seen_key *key,
				      const struct seen_value *value, struct error *err)
{
	return c->ops->remember(c, key, value, err);
}
