#pragma once

/*
 * BlobService: byte strings named by their BLAKE3 digest.
 *
 * Shared and thread-safe; a reader or writer belongs to one thread at a time. The empty blob
 * exists in every service. Every byte that a caller gets has been checked against the digest:
 * by the back end where it says so (verifies_ranges), else by the functions here. So back ends
 * may be dumb, and none is trusted.
 *
 * Visibility: a blob is there for others once commit or put returned and sync was called. A
 * service may hold committed blobs back (to make many durable with few syncs); asking this
 * service for one of those gives the right answer at any time.
 */

#include "castore/digest.h"

struct blob_service;
struct blob_reader;
struct blob_writer;

struct chunk {
	struct digest digest;
	uint64_t size;
};

struct chunk_list {
	struct chunk *chunks;
	size_t count;
};

void chunk_list_done(struct chunk_list *l);

struct blob_service *blob_service_ref(struct blob_service *s);
void blob_service_unref(struct blob_service *s);
DEFINE_CLEANUP(cleanup_blob_service, struct blob_service *, blob_service_unref)

/* Asker. */
int blob_service_has(struct blob_service *s, const struct digest *digest, struct error *err);
/* Asker: the size of the blob. */
int blob_service_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err);
/* Asker: a reader for the caller. */
int blob_service_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err);
int blob_service_create(struct blob_service *s, struct blob_writer **out, struct error *err);
/* A whole blob at once, for what fits in memory. out may be NULL. */
int blob_service_put(struct blob_service *s, struct bytes content, struct digest *out,
		     struct error *err);
/*
 * The same when the caller has the digest already and vouches for it (it hashed these bytes
 * itself, or received them verified): not hashed a second time.
 */
int blob_service_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err);

/* Told while a file is read; called by the thread that reads. */
struct blob_watch {
	/* So many bytes more were read (0: the same again). False: give up, ERROR_CANCELED. */
	bool (*advance)(struct blob_watch *w, uint64_t bytes);
};

/*
 * The content of an open regular file, from its start, which must have this size: ERROR_CHANGED
 * when it turns out shorter. A back end may do better than reading it through: reflink it, or
 * not write what it has. The caller checks afterwards that the file did not change meanwhile.
 * watch may be NULL.
 */
int blob_service_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err);

enum blob_read_flags {
	BLOB_READ_NOWAIT = 1, /* ERROR_WOULD_BLOCK rather than wait for a disk or a peer */
	BLOB_READ_LOCAL = 2,  /* the same, but a disk may be waited for */
};

/*
 * One range, without a reader: what a file system does. Asker: 0 when the blob is absent. Reads
 * up to len bytes at offset, fewer only at the end of the blob; the count goes to *got.
 */
int blob_service_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err);

/* ---- Many at once: for a peer, a few round trips instead of one for each ---- */

/* Says for each digest whether the blob is missing. */
int blob_service_find_missing(struct blob_service *s, const struct digest *digests,
			      size_t count, bool *missing, struct error *err);

/* Of what is got many at a time. */
#define BLOB_MANY_SIZE_MAX ((uint64_t)1 << 20)

/* A blob by the size that whoever refers to it says. */
struct blob_want {
	struct digest digest;
	uint64_t size;
};

/* Content of number i, borrowed for the call. Nonzero ends it, and is what comes of it. */
typedef int (*blob_take)(void *context, size_t i, struct bytes content, struct error *err);

/*
 * Gives these blobs whole, in any order, by the thread that calls. ERROR_NOT_FOUND when one is
 * absent, ERROR_CORRUPT when it has another size, ERROR_LIMIT when that is above the maximum.
 */
int blob_service_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err);

/*
 * False where each range costs as much as the whole blob, which has to be fetched to be
 * checked: then a reader serves several ranges better.
 */
bool blob_service_reads_ranges(const struct blob_service *s);

/*
 * Asker: the finer chunks that the blob is known to consist of; an empty list when the blob is
 * there but no finer chunks are known. has and open work for the digests of chunks too.
 */
int blob_service_chunks(struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err);
struct blob_counts {
	uint64_t blobs;
	uint64_t plain_files; /* of those, what has a descriptor (blob_reader_fd()) */
	/* Of what this process put since it opened the store and the store did not have: */
	uint64_t put_bytes;  /* how long the blobs are together */
	uint64_t put_stored; /* and how much room that takes, large ones counted in full */
};

/*
 * How many blobs there are, as an index knows without looking at them: for choosing a way to
 * work, not for accounting. Zeros where there is no such index.
 */
int blob_service_count(struct blob_service *s, struct blob_counts *out, struct error *err);
/*
 * Asker: how much room the blob takes in the store, as it is kept there, with all that is kept
 * for it alone (what it is compressed to, a header, an outboard). ERROR_UNSUPPORTED where that
 * is not known.
 */
int blob_service_stored(struct blob_service *s, const struct digest *digest, uint64_t *stored,
			struct error *err);
/*
 * Forgets a blob whose bytes turned out to be damaged, so that it can be put again: for stores
 * that hold copies of what is elsewhere, since whoever refers to the blob loses it. 0 also when
 * it is not there. ERROR_UNSUPPORTED where that cannot be.
 */
int blob_service_discard(struct blob_service *s, const struct digest *digest,
			 struct error *err);
/* Returns when all that was committed before is durable and visible to every other user. */
int blob_service_sync(struct blob_service *s, struct error *err);
/*
 * After a failure to write, such as a full disk, a service may take no more writes, so that
 * nobody relies on what was lost. This makes it take them again: what was put and not synced is
 * dropped. Nobody may be putting anything into the store meanwhile, whatever kind it is.
 */
int blob_service_recover(struct blob_service *s, struct error *err);

/*
 * Reads up to len bytes at offset, fewer only at the end of the blob. The count goes to *got; 0
 * at and past the end.
 */
int blob_reader_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
		      size_t *got, struct error *err);
uint64_t blob_reader_size(const struct blob_reader *r);
/*
 * A descriptor of a plain file that holds exactly this blob from offset 0, for the kernel to
 * read by itself; -1 when there is none. Borrowed from the reader. What is read through it is
 * not checked here.
 */
int blob_reader_fd(const struct blob_reader *r);
/*
 * Part of the encoding of the blob's outboard (castore/outboard.h): `count` values of
 * DIGEST_SIZE bytes, from number `first`, all of which it has. With these, somebody else can
 * check ranges of the blob. ERROR_UNSUPPORTED where the whole blob would have to be read for
 * it.
 */
int blob_reader_outboard(struct blob_reader *r, uint64_t first, size_t count, uint8_t *values,
			 struct error *err);
void blob_reader_free(struct blob_reader *r);
DEFINE_CLEANUP(cleanup_blob_reader, struct blob_reader *, blob_reader_free)

int blob_writer_write(struct blob_writer *w, struct bytes data, struct error *err);
/*
 * Ends the writer, whatever it returns. size_out may be NULL. Nothing of the blob is visible
 * before this succeeds.
 */
int blob_writer_commit(struct blob_writer *w, struct digest *digest_out, uint64_t *size_out,
		       struct error *err);
/* Gives the blob up: an alternative to commit. NULL is allowed. */
void blob_writer_free(struct blob_writer *w);

/* ---- For back ends ---- */

struct blob_service_ops {
	const char *name;
	/*
	 * True when readers and read() check every range they hand out themselves. Otherwise
	 * the functions above check a blob whole when it is opened and each range again when it
	 * is read.
	 */
	bool verifies_ranges;
	void (*destroy)(struct blob_service *s);
	/* NULL where size() is as cheap. */
	int (*has)(struct blob_service *s, const struct digest *digest, struct error *err);
	int (*size)(struct blob_service *s, const struct digest *digest, uint64_t *size,
		    struct error *err);
	int (*open)(struct blob_service *s, const struct digest *digest,
		    struct blob_reader **out, struct error *err);
	int (*create)(struct blob_service *s, struct blob_writer **out, struct error *err);
	int (*put_hashed)(struct blob_service *s, struct bytes content,
			  const struct digest *digest, struct error *err);
	int (*put_file)(struct blob_service *s, int fd, uint64_t size, struct blob_watch *watch,
			struct digest *out, struct error *err);
	int (*read)(struct blob_service *s, const struct digest *digest, uint64_t offset,
		    void *buf, size_t len, unsigned flags, size_t *got, struct error *err);
	int (*chunks)(struct blob_service *s, const struct digest *digest,
		      struct chunk_list *out, struct error *err);
	/* These two may be NULL: then blobs are asked for one by one. */
	int (*find_missing)(struct blob_service *s, const struct digest *digests, size_t count,
			    bool *missing, struct error *err);
	/* Sizes, and digests unless verifies_ranges is set, are checked by the functions above.
	 */
	int (*get_many)(struct blob_service *s, const struct blob_want *wants, size_t count,
			blob_take take, void *context, struct error *err);
	int (*count)(struct blob_service *s, struct blob_counts *out, struct error *err);
	/* These two may be NULL: unsupported. */
	int (*stored)(struct blob_service *s, const struct digest *digest, uint64_t *stored,
		      struct error *err);
	int (*discard)(struct blob_service *s, const struct digest *digest, struct error *err);
	int (*sync)(struct blob_service *s, struct error *err);
	/* NULL: a failure has no consequences. */
	int (*recover)(struct blob_service *s, struct error *err);
};

struct blob_service {
	const struct blob_service_ops *ops;
	_Atomic unsigned refs;
};

struct blob_reader_ops {
	int (*pread)(struct blob_reader *r, void *buf, size_t len, uint64_t offset, size_t *got,
		     struct error *err);
	int (*fd)(const struct blob_reader *r);
	/* count is not 0. NULL: it has nothing better than to read the blob. */
	int (*outboard)(struct blob_reader *r, uint64_t first, size_t count, uint8_t *values,
			struct error *err);
	void (*free)(struct blob_reader *r);
};

struct blob_reader {
	const struct blob_reader_ops *ops;
	uint64_t size;
};

struct blob_writer_ops {
	int (*write)(struct blob_writer *w, struct bytes data, struct error *err);
	int (*commit)(struct blob_writer *w, struct digest *digest_out, uint64_t *size_out,
		      struct error *err);
	void (*free)(struct blob_writer *w);
};

struct blob_writer {
	const struct blob_writer_ops *ops;
};

/* Sets the table and one reference. */
void blob_service_init(struct blob_service *s, const struct blob_service_ops *ops);

/* For tables whose back end has nothing better: the blob, which is small, is read through. */
int blob_reader_outboard_by_reading(struct blob_reader *r, uint64_t first, size_t count,
				    uint8_t *values, struct error *err);
/* For tables whose back end has nothing better: through open and a reader. */
int blob_service_read_by_open(struct blob_service *s, const struct digest *digest,
			      uint64_t offset, void *buf, size_t len, unsigned flags,
			      size_t *got, struct error *err);
/* For tables whose back end has nothing better: read in pieces, through a writer. */
int blob_service_put_file_by_writer(struct blob_service *s, int fd, uint64_t size,
				    struct blob_watch *watch, struct digest *out,
				    struct error *err);
/* For back ends: 0, or ERROR_CANCELED. watch may be NULL. */
int blob_watch_advance(struct blob_watch *watch, uint64_t bytes, struct error *err);
/* For tables without an index: zeros. */
int blob_service_no_counts(struct blob_service *s, struct blob_counts *out, struct error *err);
/* For tables without chunks: absent, or an empty list. */
int blob_service_no_chunks(struct blob_service *s, const struct digest *digest,
			   struct chunk_list *out, struct error *err);
