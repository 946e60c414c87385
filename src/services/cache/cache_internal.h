#pragma once

/* The parts of one cache, shared by the files of this folder. */

#include "services/cache/background.h"
#include "services/cache/cache.h"
#include "services/cache/range_store.h"
#include "services/object_lru.h"
#include "services/single_flight.h"

struct cache {
	_Atomic unsigned refs; /* one for each service */
	struct store near, far;
	uint64_t whole_max;
	struct single_flight flights;
	/*
	 * What came in last. What near has not synced yet is among it: a local store would sync
	 * at once to read that.
	 */
	struct object_lru *recent;
	struct range_store *ranges;
	struct background *keeper;     /* for near: syncs, complete blobs, records and names */
	struct background *fetcher;    /* closures to come */
	_Atomic uint64_t unsynced;     /* bytes put to near since it was synced */
	_Atomic bool near_failed;      /* that was said */
	_Atomic int64_t far_failed_at; /* CLOCK_MONOTONIC, in ns; 0: it did not, last time */
	/*
	 * Guards changes, and orders changes of near's names and records: held while near works
	 * on one, so that nothing older comes after it. Readers do not need it.
	 */
	pthread_mutex_t names_lock;
	uint64_t changes;           /* what far gave before one must not go to near */
	pthread_mutex_t roots_lock; /* guards roots */
	struct digest_map roots;    /* those that were prefetched; the value says how it went */
};

struct cache *cache_ref(struct cache *c);
void cache_unref(struct cache *c);

enum cache_key_kind {
	CACHE_BLOB,
	CACHE_SIZE,
	CACHE_SPAN,
	CACHE_DIRECTORY,
	CACHE_RECORD,
	CACHE_RECORD_FLIGHT,
};

#define CACHE_KEY_MAX (1 + 8 + RECORD_KEY_MAX)

struct cache_key {
	uint8_t bytes[CACHE_KEY_MAX];
	size_t len;
};

struct cache_key cache_key_of(enum cache_key_kind kind, struct bytes name);

static inline struct bytes cache_key_bytes(const struct cache_key *key)
{
	return bytes_of(key->bytes, key->len);
}

/* Something was put to near: it is synced when there is enough of it. */
void cache_near_has(struct cache *c, uint64_t bytes);
/* Near failed to do something, which is done without. Said once, until near works again. */
void cache_near_failed(struct cache *c, const struct error *err);
/* Near gave no answer on an object: said, unless it is only not to be waited for. */
void cache_near_unread(struct cache *c, const struct error *err);

int cache_writer_new(struct cache *c, struct blob_writer **out, struct error *err);
/* See blob_service_put_file(). */
int cache_put_file(struct cache *c, int fd, uint64_t size, struct blob_watch *watch,
		   struct digest *out, struct error *err);

/* The two ways to ask whether objects are there. */
struct cache_questions {
	bool (*near_has)(struct cache *c, const struct digest *digest);
	int (*far_missing)(struct cache *c, const struct digest *digests, size_t count,
			   bool *missing, struct error *err);
};

/* Far is asked once, for those that near has not. */
int cache_find_missing(struct cache *c, const struct cache_questions *q,
		       const struct digest *digests, size_t count, bool *missing,
		       struct error *err);

struct blob_service *cache_blobs_new(struct cache *c);
struct directory_service *cache_directories_new(struct cache *c);
struct root_nodes *cache_roots_new(struct cache *c);
struct record_table *cache_records_new(struct cache *c);
