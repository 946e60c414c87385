#pragma once

/*
 * The index of a local store: ordered tables of small keys and values in one LMDB environment.
 * Only index.c, index_read.c and index_tables.c know LMDB.
 *
 * Any thread may read; each read sees one committed state. There is one writer at a time over
 * all processes: index_write_begin waits for it. A write belongs to the thread that began it.
 * What a commit returned for is durable.
 *
 * Values that no digest protects (roots, path infos, packs, meta) carry a check, which is added
 * and looked at below this interface: one that is wrong is ERROR_CORRUPT.
 */

#include "base/bytes.h"
#include "base/error.h"

enum index_table {
	INDEX_BLOBS,       /* digest -> location (record.h) */
	INDEX_DIRECTORIES, /* digest -> location */
	INDEX_LARGE_SIZES, /* size as be64, digest -> nothing: which large blobs have a size */
	INDEX_ROOTS,       /* name -> message Node without a name */
	INDEX_PACKS,       /* pack number as be64 -> committed length as le64 */
	INDEX_SEEN,        /* device as be64, inode as be64 -> see seen.c */
	INDEX_META,        /* "root-sequence", "path-info-sequence" -> le64 */
	INDEX_PATH_INFOS,  /* see records.c */
	INDEX_TABLE_COUNT
};

/* Address space set aside for the index: enough for two billion objects. */
#define INDEX_MAP_SIZE ((size_t)256 << 30)
#define INDEX_KEY_MAX 511
#define INDEX_VALUE_MAX ((size_t)33 << 20)
#define INDEX_READERS_MAX 2048

struct index;
struct index_write;

enum index_open_flags {
	INDEX_CREATE = 1,
	INDEX_READ_ONLY = 2,
	/*
	 * A new one in a file of its own, for nobody else: the file has no name any more when
	 * this returns, and nothing is ever synced.
	 */
	INDEX_PRIVATE = 4,
};

/*
 * path: an existing directory; of a private index, a file that does not exist. A table that
 * older stores do not have is made by the first writer, and empty for readers until then.
 */
int index_open(struct index **out, const char *path, unsigned flags, struct error *err);
void index_close(struct index *ix);

/* Asker. Copies the value, which must have exactly this size (ERROR_CORRUPT otherwise). */
int index_get(struct index *ix, enum index_table table, struct bytes key, void *value,
	      size_t size, struct error *err);
/*
 * Looks up many keys in one read; cheapest in their order. The keys and the values, all of one
 * size (ERROR_CORRUPT otherwise), lie behind each other. found[i] says whether there is an i-th
 * value.
 */
int index_get_many(struct index *ix, enum index_table table, const uint8_t *keys,
		   size_t key_size, size_t count, uint8_t *values, size_t value_size,
		   bool *found, struct error *err);
/* Asker, for values of any size: appends to out. */
int index_get_append(struct index *ix, enum index_table table, struct bytes key,
		     struct buffer *out, struct error *err);
/*
 * Visits entries in key order from the first key >= from until visit returns false. Key and
 * value are borrowed for the call.
 */
typedef bool (*index_visit)(void *context, struct bytes key, struct bytes value);
int index_scan(struct index *ix, enum index_table table, struct bytes from, index_visit visit,
	       void *context, struct error *err);

/*
 * The same of all entries for who wants to know what is damaged: a value whose check is wrong
 * goes to `damaged`, with the error that others get, and the scan goes on.
 */
typedef void (*index_visit_damaged)(void *context, struct bytes key, const struct error *why);
int index_scan_damaged(struct index *ix, enum index_table table, index_visit visit,
		       index_visit_damaged damaged, void *context, struct error *err);

/* A number that grows with every commit, of whatever process: which state is read now. */
int index_state(struct index *ix, uint64_t *out, struct error *err);

/* The number of entries, without looking at them. */
int index_count(struct index *ix, enum index_table table, uint64_t *out, struct error *err);

/* How long the file is, and how much of it is free for what is written next. */
int index_space(struct index *ix, uint64_t *bytes, uint64_t *free_bytes, struct error *err);

int index_write_begin(struct index *ix, struct index_write **out, struct error *err);
/* What a commit waits for. In any case what it made comes after what is before it. */
enum index_sync {
	INDEX_SYNC_NOW,
	/* All but the last step: a crash may take the commit back. */
	INDEX_SYNC_LATER,
	INDEX_SYNC_NEVER, /* a crash of the machine may ruin the index */
};
int index_write_begin_as(struct index *ix, enum index_sync sync, struct index_write **out,
			 struct error *err);
/* Commits of this process that were to be synced later are durable then. */
int index_settle(struct index *ix, struct error *err);
/* Without replace an existing value stays as it is. */
int index_write_put(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes value, bool replace, struct error *err);
/* Asker: the value as this write sees it, borrowed until the next change. */
int index_write_get(struct index_write *w, enum index_table table, struct bytes key,
		    struct bytes *value, struct error *err);
/* Asker: 0 when there was no such key. */
int index_write_delete(struct index_write *w, enum index_table table, struct bytes key,
		       struct error *err);
/* Ends the write, whatever it returns. */
int index_write_commit(struct index_write *w, struct error *err);
/* Gives the write up; NULL is allowed. */
void index_write_abort(struct index_write *w);

/*
 * Checks the pages of one committed state of the index (index_pages.h), which stays meanwhile,
 * whoever writes.
 */
struct index_pages_watch;
struct index_pages_counts;
int index_check_pages(struct index *ix, const struct index_pages_watch *watch,
		      struct index_pages_counts *out, struct error *err);
