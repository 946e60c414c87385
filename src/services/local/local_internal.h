#pragma once

/* The parts of one local store, shared by the files of this folder. */

#include "services/local/codec.h"
#include "services/local/committer.h"
#include "services/local/durability.h"
#include "services/local/file_cache.h"
#include "services/local/index.h"
#include "services/local/lease.h"
#include "services/local/local_store.h"
#include "services/local/presence.h"
#include "services/local/record.h"
#include "services/local/scratch.h"

/*
 * Blobs of at least this size are plain files, smaller ones are packed. Measured: below it the
 * inode (its creation, its first open from a cold disk) costs more than the copy; above it the
 * kernel can read the file by itself at full speed.
 */
#define LARGE_BLOB_MIN ((size_t)256 << 10)
#define LARGE_BLOB_MAX ((uint64_t)1 << 40)
#define RECENT_BLOBS 8

/*
 * What a service reads and adds to: the objects in an index, and those that a committer holds
 * back. A store has one view of its own; a stage has one that lies above it (local_stage.h).
 */
struct local_view {
	struct local_store *store;
	struct local_view *below;      /* NULL: the store's own view */
	_Atomic(struct index *) index; /* NULL: of a stage that has not needed one yet */
	struct committer *committer;
	struct scratch *scratch;
	struct file_cache *files;
};

/* A packed blob that was read in part: its verified bytes, for the reads that follow. */
struct recent_blob {
	pthread_mutex_t lock; /* guards the rest */
	struct digest digest;
	uint8_t *content; /* NULL: empty */
};

struct local_store {
	_Atomic unsigned refs; /* one for each service in use */
	bool opened;
	struct seen_cache seen;

	char *path;
	int dirfd;
	int lockfd; /* shared flock while open: a rebuild wants to be alone */
	bool read_only;
	_Atomic int durability; /* enum durability: the strictest that anybody asked for */
	uint8_t id[STORE_ID_SIZE];
	uint64_t device, inode;    /* of the directory: its identity in this process */
	unsigned disk_reads_ahead; /* KiB; 0: not known */
	uint64_t epoch;            /* of the index, when it was opened; see name_guard.h */
	struct local_store *next_open;

	struct index *index;
	struct file_cache packs;
	struct file_cache files;
	struct committer committer;
	struct scratch scratch;
	struct lease lease;
	struct codec_pool codecs;
	struct presence presence;
	struct local_view view;
	struct direct_reader *direct;
	struct recent_blob recent[RECENT_BLOBS];
	_Atomic bool file_folders[256]; /* their names in files/ are durable */
};

/* A file of the store to read objects from: its descriptor, or -1 with errno. */
int local_open_to_read(const struct local_store *s, const char *name, int flags);

/* For local_store_rebuild: the store's folder, locked by nobody else, its index not opened. */
int local_store_open_alone(struct local_store **out, const char *path, struct error *err);
/* For the same: ends what local_store_open_alone gave. */
void local_store_free(struct local_store *s);

/* The store itself, shared with all who have it open in this process. */
int local_store_get(struct local_store **out, const char *path, unsigned flags,
		    struct error *err);
/*
 * Makes the index again, of a store that local_store_open_alone() gave. The old one goes, or
 * goes to `aside` below the store's folder.
 */
int local_index_rebuild(struct local_store *s, const char *aside, struct store_rebuilt *out,
			struct error *err);

struct local_store *local_store_ref(struct local_store *s);
void local_store_unref(struct local_store *s);

/* A reference to what the view is part of. */
struct local_view *local_view_ref(struct local_view *v);
void local_view_unref(struct local_view *v);

/* ---- layout: names below the store's directory ---- */

#define LOCAL_NAME_SIZE 96

void local_pack_name(char out[LOCAL_NAME_SIZE], uint64_t number);
void local_file_name(char out[LOCAL_NAME_SIZE], const struct digest *digest);
/* Opens a pack for reading and checks its header. */
int local_pack_open(struct local_store *s, uint64_t number, struct cached_file **out,
		    struct error *err);

/*
 * Gives a large file its name. A file that has the name already is replaced only by a synced
 * one: it may be another process's committed blob. sync: sync the file in any case, first.
 */
int local_file_place(struct local_store *s, const char *temporary, const struct digest *digest,
		     bool sync, struct error *err);
/* Removes the folder of an index, if it is there. Nobody may be using it. */
void local_index_remove(struct local_store *s, const char *name);
/* False: of what is made durable here, nothing is. */
bool local_syncs(const struct local_store *s);
/* The disk starts at once: little is left to do when a commit syncs. */
void local_start_writing(const struct local_store *s, int fd, uint64_t offset, uint64_t len);
/* Makes the names in a folder of the store durable. */
int local_folder_sync(struct local_store *s, const char *name, struct error *err);
/*
 * In a write of the index, before it says that there is this file: ERROR_COLLECTED when whoever
 * collects garbage has taken it since it got its name.
 */
int local_file_check_placed(struct local_store *s, const struct digest *digest,
			    struct error *err);
/* After local_file_place(): makes the name durable. */
int local_file_sync_name(struct local_store *s, const struct digest *digest, struct error *err);
int local_pack_sync(struct local_store *s, int fd, struct error *err);
/* Everything that was written, in one go. */
int local_sync_all(struct local_store *s, struct error *err);
/* Up to this many large files are synced one by one; beyond, everything at once. */
#define FILES_SYNCED_SINGLY 4

/* ---- reading ---- */

enum local_read_flags { LOCAL_READ_NOWAIT = 1 };

/* pread that honours NOWAIT (ERROR_WOULD_BLOCK) and fails on a short file (ERROR_CORRUPT). */
int local_pread(int fd, void *buf, size_t len, uint64_t offset, unsigned flags,
		const char *what, struct error *err);
/*
 * Reads what a located record holds, decompressed, into buf (l->size bytes), and checks its
 * header against what the index said. The content itself is the caller's to verify.
 */
int local_record_read(struct local_store *s, const struct location *l, enum record_kind kind,
		      const struct digest *digest, void *buf, unsigned flags,
		      struct error *err);
/* Whether the record's header is where and what the index says; nothing else is read. */
int local_record_check(struct local_store *s, const struct location *l, enum record_kind kind,
		       const struct digest *digest, struct error *err);
/*
 * Asker. What is held back is synced first, so that whatever is found can be read: its encoding
 * is one that local_record_read() knows.
 */
int local_locate(struct local_view *v, enum index_table table, const struct digest *digest,
		 struct location *out, struct error *err);
/*
 * What was to be read at *l, where local_locate() had found it, could not be: with this code,
 * and err says why. Asker: 1 when the object is somewhere else by now, since its pack was
 * compacted (then *l is changed, and the caller tries again), 0 when it was collected;
 * otherwise the failure is returned as it was.
 */
int local_relocate(struct local_view *v, enum index_table table, const struct digest *digest,
		   struct location *l, int failure, struct error *err);
/* Asker: the size, pending objects included. */
int local_object_size(struct local_view *v, enum index_table table, const struct digest *digest,
		      uint64_t *size, struct error *err);
/* Asker: the room that it takes, see blob_service_stored(). */
int local_object_stored(struct local_view *v, enum index_table table,
			const struct digest *digest, uint64_t *stored, struct error *err);

/* Takes a damaged object out of the index; what is on the disk stays until it is replaced. */
int local_object_discard(struct local_view *v, enum index_table table,
			 const struct digest *digest, struct error *err);

/* Commits what was put; a stage does that at its end, so here it only reports a failure. */
int local_view_sync(struct local_view *v, struct error *err);

/* ---- services ---- */

/* Each holds a reference to its view or store; read-only ones refuse to write. */
/* flags: enum store_open_flags. */
struct blob_service *local_blobs_new(struct local_view *v, unsigned flags);
struct directory_service *local_directories_new(struct local_view *v, bool read_only);
struct root_nodes *local_roots_new(struct local_store *s, unsigned flags);
struct record_table *local_path_infos_new(struct local_store *s, unsigned flags);
extern const struct seen_cache_ops local_seen_ops;
int local_check_writable(const struct local_store *s, bool read_only, struct error *err);
