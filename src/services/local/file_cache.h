#pragma once

/*
 * Open files of a store, by digest (large blobs) or number (packs), each open once and shared
 * by all threads. At most a fixed number stay open, whatever the size of the store; the one
 * unused for longest goes first.
 */

#include <pthread.h>

#include "castore/digest.h"

struct cached_file {
	struct digest key;
	int fd;
	uint64_t size;
	uint8_t *spans; /* of large blobs: checked span values (castore/outboard.h), or NULL */
	unsigned refs;  /* guarded by the cache's lock */
	uint64_t used;  /* likewise */
	bool forgotten; /* likewise; nobody finds it any more */
	/* Of large blobs: how many bytes were read in order, and up to where; guarded by the
	 * lock of the direct reader. */
	uint64_t run, run_end;
	struct cached_file *next;
};

#define FILE_CACHE_BUCKETS 1024

struct file_cache {
	pthread_mutex_t lock; /* guards everything below */
	struct cached_file *buckets[FILE_CACHE_BUCKETS];
	size_t count;
	size_t capacity;
	uint64_t clock;
};

void file_cache_init(struct file_cache *c, size_t capacity);
/* Closes everything; no file may be in use. */
void file_cache_done(struct file_cache *c);

/* The file if it is open, with a reference, else NULL. */
struct cached_file *file_cache_get(struct file_cache *c, const struct digest *key);
/*
 * Adds an open file (the descriptor and spans, malloc'd, become the cache's) and returns it
 * with a reference; when another thread was faster, theirs, and what was given is freed.
 */
struct cached_file *file_cache_add(struct file_cache *c, const struct digest *key, int fd,
				   uint64_t size, uint8_t *spans);
/* One more reference, for who has one. */
struct cached_file *file_cache_ref(struct file_cache *c, struct cached_file *f);
void file_cache_release(struct file_cache *c, struct cached_file *f);
/* From now on this key has no file; who uses it goes on. */
void file_cache_forget(struct file_cache *c, const struct digest *key);
/* The same, if the file has no name any more. True when it was so. */
bool file_cache_forget_removed(struct file_cache *c, const struct digest *key);
/* Forgets all that is unused. */
void file_cache_clear(struct file_cache *c);
