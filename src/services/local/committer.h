#pragma once

/*
 * The writing side of a local store: many objects, few syncs.
 *
 * Threads add objects to the open batch: records go through a buffer into this process's pack
 * (a pack has one writing process, held by flock), those of Directories when the batch ends, so
 * that they lie together; large blobs are files under tmp/ until their batch commits. When a
 * batch is large enough, or somebody syncs, one thread of the store's commits it: rename the
 * large files into place, sync packs and files, and only then one transaction of the index. So
 * a reader, in any process, sees only what a crash cannot take back, and puts go on into the
 * next batch meanwhile.
 *
 * A failed commit (a full disk) drops everything that was not committed, and every later put
 * and sync of this open store fails with the same error, until committer_recover(); what was
 * committed before stays.
 *
 * A stage has a committer of its own, with a pack of its own, whose batches it keeps (see
 * local_stage.h) until all of them are committed or none.
 */

#include <pthread.h>

#include "castore/digest_map.h"
#include "services/local/index.h"
#include "services/local/record.h"

struct blob_counts;
struct local_store;
struct local_stage;
struct batch;

/* Each object may dirty a page of 4 KiB of the index, which a commit holds in memory. */
#define COMMIT_OBJECTS ((size_t)8192)
#define COMMIT_BYTES ((uint64_t)256 << 20)
#define COMMIT_FILES ((size_t)1024)
#define PACK_BUFFER_SIZE ((size_t)2 << 20)
#define PACK_BUFFERS 3

struct pack_buffer {
	uint8_t *data;
	size_t len;
	uint64_t offset; /* in the pack */
};

struct committer {
	struct local_store *store;
	struct local_stage *stage; /* keeps the closed batches; NULL: they are committed */
	pthread_mutex_t lock;      /* guards everything below */
	pthread_cond_t changed;
	pthread_t thread;
	bool started, stopping;

	uint64_t put_bytes, put_stored; /* see struct blob_counts */

	struct batch *open;    /* takes new objects */
	struct batch *closing; /* being committed */
	uint64_t next_batch;   /* number of the next batch to open */
	uint64_t wanted;       /* commit batches up to this number now */
	uint64_t committed;    /* batches up to this number are durable */
	struct error *failure; /* why this store takes no more; NULL: it does */

	int pack_fd; /* -1: none claimed */
	uint64_t pack_number;
	uint64_t pack_end; /* where the next record goes, buffer included */
	struct pack_buffer buffer;
	uint8_t *spare[PACK_BUFFERS];
	unsigned spare_count;
	unsigned writes; /* buffers on their way to the pack */
};

/* stage: whose committer it is, or NULL for the store's own. */
void committer_init(struct committer *c, struct local_store *s, struct local_stage *stage);
/*
 * Ends the thread and gives the pack back; what no sync asked for is dropped. From then on
 * every put fails with `why`.
 */
void committer_end(struct committer *c, const struct error *why);
void committer_done(struct committer *c);
/* Begins anew: what was not committed is dropped. Nobody may be adding anything. */
void committer_recover(struct committer *c);

/*
 * Adds a packed object unless the open or closing batch has it (the caller has looked in the
 * index). Of kind RECORD_BLOB or RECORD_DIRECTORY; payload: as it is to be stored.
 */
int committer_add(struct committer *c, const struct record *r, struct bytes payload,
		  struct error *err);
/*
 * Adds a large blob: its outboard, and the name of its file below tmp/, which is renamed or,
 * when a batch has the blob already or on failure, removed.
 */
int committer_add_file(struct committer *c, const struct digest *digest, uint64_t size,
		       struct bytes outboard, const char *temporary, struct error *err);
/* Notes a key and value of INDEX_SEEN for the open batch. */
int committer_add_seen(struct committer *c, struct bytes key, struct bytes value,
		       struct error *err);
/* Asker: the size of an object that is not committed yet. */
int committer_pending(struct committer *c, enum index_table table, const struct digest *digest,
		      uint64_t *size);
/* How much was added: the last two of struct blob_counts. */
void committer_count(struct committer *c, struct blob_counts *out);
/* Asker: is a large blob of this size waiting? */
int committer_pending_size(struct committer *c, uint64_t size);
/* Commits all that was added before (or, of a stage: has it kept). */
int committer_sync(struct committer *c, struct error *err);
/* The failure, if there was one. */
int committer_check(struct committer *c, struct error *err);
/*
 * For a stage: closes the open batch, of which the caller takes care, and nobody adds any more.
 * NULL: nothing was held back. The batch stays the committer's.
 */
int committer_close(struct committer *c, struct batch **out, struct error *err);

/* Records in a pack that this committer writes to. */
struct appended {
	uint64_t pack, offset, len;
};

/*
 * Appends whole records at once, durably, inside a write of the index that the caller commits:
 * for changes of tables, whose order between processes the write lock gives. Nothing may be
 * pending that they depend on (sync first). out says where they are, also after a failure, when
 * something of them may be there (len 0: nothing is).
 */
int committer_append_now(struct committer *c, struct index_write *w, struct bytes records,
			 struct appended *out, struct error *err);
/*
 * Wipes out what was appended in a write that is not committed: what comes behind it may be,
 * and then whoever makes the index again would find it inside of the pack.
 */
void committer_take_back(struct committer *c, const struct appended *a);
