#pragma once

/* One batch of the committer: what it will put into the index. Guarded by the committer's lock.
 */

#include "services/local/committer.h"

struct pending {
	enum index_table table;
	struct digest digest;
	struct location location; /* while it is held: its offset is that in batch.held */
	bool held;
};

struct pending_file {
	struct digest digest;
	char *temporary; /* below the store's directory */
};

struct batch {
	uint64_t number;
	struct digest_map blobs, directories; /* digest -> index in entries */
	struct pending *entries;
	size_t count, capacity;
	struct pending_file *files;
	size_t file_count, file_capacity;
	struct buffer held; /* records of directories, to go into the pack together */
	size_t held_from;   /* no entry before this one is held */
	struct buffer seen; /* keys and values of INDEX_SEEN, of fixed sizes */
	uint64_t bytes;
	unsigned writes; /* pack writes under way that this batch must wait for */

	/* Set when the batch is closed: */
	int pack_fd; /* -1: nothing went into a pack */
	bool close_pack;
	uint64_t pack_number, pack_end;
};

#define SEEN_KEY_SIZE 16
#define SEEN_VALUE_SIZE 56 /* size, two times, digest */

struct batch *batch_new(uint64_t number);
/* Removes temporary files that were not renamed. */
void batch_free(struct batch *b, int store_dirfd);
/* Index of the entry, or -1. */
ssize_t batch_find(const struct batch *b, enum index_table table, const struct digest *digest);
void batch_add(struct batch *b, enum index_table table, const struct digest *digest,
	       const struct location *location);
void batch_add_file(struct batch *b, const struct digest *digest, const char *temporary);
bool batch_full(const struct batch *b);

/*
 * Makes a closed batch durable and visible, as committer.h says. Runs without the lock: nobody
 * else changes a closed batch.
 */
int batch_commit(struct batch *b, struct local_store *s, struct error *err);
/* The same in parts: puts what the batch has into a write. */
int batch_write(const struct batch *b, struct index_write *w, struct error *err);
/* In a write: an object is there; nothing changes when it is already. */
int index_write_object(struct index_write *w, enum index_table table,
		       const struct digest *digest, const struct location *l,
		       struct error *err);
/* In a write: this pack is committed up to end at least. */
int index_write_pack_end(struct index_write *w, uint64_t number, uint64_t end,
			 struct error *err);
