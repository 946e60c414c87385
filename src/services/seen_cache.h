#pragma once

/*
 * What an importer saw before: files by device and inode, with size and times in nanoseconds,
 * and the digest they had. Only a cache: losing it costs time, never correctness. Shared and
 * thread-safe. What is found has its blob in the store.
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

#define SEEN_KEYS_MAX 64

struct seen_cache_ops {
	/* See seen_cache_lookup(). */
	int (*lookup)(struct seen_cache *c, const struct seen_key *keys, size_t count,
		      struct seen_value *out, bool *found, struct error *err);
	/* Remembers; becomes durable with the next sync of the store. */
	int (*remember)(struct seen_cache *c, const struct seen_key *key,
			const struct seen_value *value, struct error *err);
};

/* Part of a store, lives as long as it. */
struct seen_cache {
	const struct seen_cache_ops *ops;
};

/* Looks up at most SEEN_KEYS_MAX keys at once: found[i] says whether out[i] was set. */
static inline int seen_cache_lookup(struct seen_cache *c, const struct seen_key *keys,
				    size_t count, struct seen_value *out, bool *found,
				    struct error *err)
{
	return c->ops->lookup(c, keys, count, out, found, err);
}

static inline int seen_cache_remember(struct seen_cache *c, const struct seen_key *key,
				      const struct seen_value *value, struct error *err)
{
	return c->ops->remember(c, key, value, err);
}
