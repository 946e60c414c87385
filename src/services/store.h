#pragma once

/*
 * A store: the services that one address stands for. Addresses:
 *   memory://        lives as long as the process
 *   file:///path     the local store (services/local); with ?compression=none, small blobs
 *                    that are put are not compressed (compression=zstd: they are, as usual);
 *                    with ?durability=batch or none, less is synced (full: all, as usual)
 *   cache://?near=ADDRESS&far=ADDRESS and others composed of stores (compose.h)
 * A plain absolute or relative path (one with a '/' or starting with '.') is short for file://.
 * A bare name stands for a store of the configuration (store_config.h).
 */

#include <limits.h>

#include "services/blob_service.h"
#include "services/directory_service.h"
#include "services/record_table.h"
#include "services/root_nodes.h"
#include "services/seen_cache.h"
#include "services/stage.h"

struct store {
	struct blob_service *blobs;
	struct directory_service *directories;
	struct root_nodes *roots;
	struct record_table *path_infos; /* NULL in a staged store */
	struct seen_cache *seen;         /* NULL when the store keeps none */
	struct stager *stager;           /* NULL when nothing can be staged above it */
	struct stage *stage;             /* of a staged store; else NULL */
};

enum store_open_flags {
	STORE_CREATE = 1,        /* make the store when there is none */
	STORE_READ_ONLY = 2,     /* writing is ERROR_DENIED; works on a read-only disk */
	STORE_UNCOMPRESSED = 4,  /* what is put is stored as it is */
	STORE_INCOMPLETE = 8,    /* names may be put of trees that are not all there */
	STORE_LONG_LIVED = 16,   /* stays open for others who write: see store_collect() */
	STORE_SYNCED_LATER = 32, /* durable are names, and all else when it is closed */
	STORE_NEVER_SYNCED = 64, /* for stores that a crash of the machine may ruin */
};

/* The flags for "full", "batch" or "none"; an address may say otherwise. -1: none of these. */
int store_durability_flags(const char *level);

/*
 * Opens what an address stands for. Unknown schemes and parameters are ERROR_INVALID, listing
 * the valid ones. store_close() ends it.
 */
int store_open(struct store *out, const char *address, unsigned flags, struct error *err);
/* What an open store will use, for a process that confines itself. Zeroed is nothing. */
struct store_needs {
	char **folders; /* to read in */
	size_t folder_count;
	bool writes; /* in some of these */
	bool peers;  /* speaks to others over sockets */
};

void store_needs_done(struct store_needs *n);
void store_needs_add_folder(struct store_needs *n, const char *folder);
/*
 * Adds what the store that an address stands for will need when it is opened for reading, the
 * folder that is written to first.
 * Nothing is opened: this also tells whether an address makes sense, and all that it consists
 * of.
 */
int store_needs(const char *address, struct store_needs *out, struct error *err);

/* A store with references of its own to the services of one that is not staged. */
void store_ref(struct store *out, const struct store *s);
/*
 * Drops the references; the services live on where others hold them. A staged store that was
 * not committed is given up. Zeroed stores are allowed.
 */
void store_close(struct store *s);

/* Everything put before is durable and visible to all when this returns. */
int store_sync(struct store *s, struct error *err);

/*
 * Staging: all of it or nothing, for input whose worth shows only at its end.
 *
 * A staged store lies above another. Reading finds what the store below has and what was put
 * into the staged store itself. What is put (unless the store below has it) goes where the
 * store below keeps its objects, once, but nobody else sees it before store_stage_commit(). A
 * sync of a staged store makes nothing durable: it only says whether a put failed. There may be
 * many staged stores above one, in any threads and processes; they do not see each other's
 * objects, and the store below goes on as ever. Of a store on disk, however much is put, only a
 * bounded part is held in memory.
 *
 * A staged store has no roots, no path infos and no seen cache (all NULL), and none can be
 * staged above it. ERROR_UNSUPPORTED where the back end cannot do it, ERROR_DENIED above a
 * read-only store.
 */
int store_stage(struct store *s, struct store *staged, struct error *err);
/*
 * Gives all that was put to the store below, durably and visibly to all, and closes the staged
 * store, whatever it returns. After a failure, or when the process dies on the way, the store
 * below may have some of the objects, which nothing refers to: names are put after this.
 *
 * The alternative is store_close(): then nothing is left of what was put, on the disk either.
 * (Of a process that died, the next writers of the store clear it away.) For both, nobody may
 * be using the staged services and their readers and writers; who holds them longer can put no
 * more (ERROR_INVALID).
 */
int store_stage_commit(struct store *staged, struct error *err);

/*
 * From now on no collection of garbage takes anything of this tree from a local store that this
 * process has open, alone or as a part of others, until it is closed. For what is going to be
 * read: names may go meanwhile. True when it was not held before; then the caller looks once
 * more for what he found, a name or a digest, because it may have gone by then. Where a store
 * cannot be written to, as on a read-only disk, nothing is held.
 */
bool store_hold(const struct node *node);
/*
 * The same for a tree that was put into a store, which is synced, and that has no name yet, so
 * that it can be read. ERROR_COLLECTED: parts of it had been there before, and were collected;
 * put it once more, as it was put before, and call this again.
 */
int store_hold_put(struct store *s, const struct node *node, struct error *err);
/* For a process that may soon not make files any more: store_hold() will work all the same. */
void store_hold_nothing_yet(void);
/*
 * Asker: when the file or Directory of a node was written at the latest, in seconds since 1970:
 * the time of the file that it is in. 0 when no local store that this process has open has it.
 */
int store_written(const struct node *node, uint64_t *seconds);
/* Puts itself before roots (a reference, taken over): what is looked up or listed is held. */
struct root_nodes *store_hold_roots(struct root_nodes *roots);

struct store_rebuilt {
	uint64_t blobs;
	uint64_t directories;
	uint64_t roots;
	uint64_t path_infos;
	uint64_t damaged_bytes; /* passed over: what a crash left, and what no longer checks */
};

/* Objects of one kind. */
struct store_part {
	uint64_t objects;
	uint64_t content; /* how long they are together, not compressed */
	uint64_t stored;  /* the room they take: see blob_service_stored() */
};

/* Files in one of the store's folders; how long they are, not how many blocks they take. */
struct store_folder {
	uint64_t files;
	uint64_t bytes;
};

/* What a local store consists of. */
struct store_figures {
	struct store_part small_blobs; /* in packs */
	struct store_part large_blobs; /* in files, with their outboards in packs */
	struct store_part directories;
	uint64_t roots;
	uint64_t path_infos;
	uint64_t seen; /* files that importers remember */
	struct store_folder packs;
	uint64_t pack_live; /* bytes of packs that something refers to, and headers */
	struct store_folder files;
	uint64_t index_bytes;
	uint64_t index_free; /* of these, what the next writes use first */
	struct store_folder tmp, quarantine, leases;
};

/*
 * Takes stock of a local store, from its index and its folders; its packs are not read. What
 * changes meanwhile may be counted or not. ERROR_UNSUPPORTED for other stores.
 */
int store_take_stock(const char *address, struct store_figures *out, struct error *err);

/*
 * Makes the index of a local store again, from its packs and files alone; the old one, if there
 * is one, is replaced when the new one is complete. ERROR_UNAVAILABLE while anybody uses the
 * store.
 */
int store_rebuild(const char *address, struct store_rebuilt *out, struct error *err);

/* ---- Garbage ---- */

/* Counted while it runs; any thread may read them for a display. */
struct store_collect_stats {
	_Atomic uint64_t objects; /* looked at */
	_Atomic uint64_t freed;   /* bytes */
};

struct store_collect_options {
	bool dry_run;        /* only say what would go */
	uint64_t max_freed;  /* stop when so many bytes are freed; 0: no bound */
	uint64_t older_than; /* seconds: what was written later stays */
	/*
	 * Asker: the tree that a path info keeps; 0 where it keeps none. NULL: none keeps any.
	 * May be called from within a read of the index: it must not use the store.
	 */
	int (*tree_of)(void *context, struct bytes key, struct bytes value,
		       struct root_node *out, struct error *err);
	void *context;
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
	struct store_collect_stats *stats;
};

struct store_collected {
	uint64_t live;         /* objects that names, path infos and leases stand for */
	uint64_t absent;       /* Directories of those that are not there */
	uint64_t blobs;        /* that were taken */
	uint64_t directories;  /* likewise */
	uint64_t object_bytes; /* of both, as they were read */
	uint64_t files;        /* large blobs among them, and files without a blob */
	uint64_t packs;        /* that are gone */
	uint64_t packs_in_use; /* that would have been, but somebody writes to them */
	uint64_t copied_bytes; /* of what had to stay, to other packs */
	uint64_t freed_bytes;  /* disk space, less what copies took */
};

/*
 * Takes from a local store what nothing refers to: neither a name, nor a path info, nor what a
 * living process reads (store_hold()) or has written itself. Of a process that serves others
 * (STORE_LONG_LIVED), this is what it wrote within the last hour. Runs beside all of them, and
 * can be killed at any point.
 *
 * Where Directories of a tree are absent, as in stores near to caches, what is only below them
 * goes. Where one is damaged, nothing goes: ERROR_CORRUPT. ERROR_UNAVAILABLE while another
 * collection runs. *out is set also after a failure: some of it was done.
 */
int store_collect(const char *address, const struct store_collect_options *options,
		  struct store_collected *out, struct error *err);
