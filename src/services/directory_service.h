#pragma once

/*
 * DirectoryService: Directory objects by digest. Shared and thread-safe; streams and batches
 * belong to one thread. What a caller gets has been checked: its bytes give the digest, and it
 * is a valid directory (one that is not is ERROR_CORRUPT, never absent).
 *
 * The visibility of what was put is that of blobs (blob_service.h).
 */

#include "castore/closure.h"

struct directory_service;
struct directory_batch;

struct directory_service *directory_service_ref(struct directory_service *s);
void directory_service_unref(struct directory_service *s);
DEFINE_CLEANUP(cleanup_directory_service, struct directory_service *, directory_service_unref)

/* Asker: a reference for the caller. */
int directory_service_get(struct directory_service *s, const struct digest *digest,
			  struct directory **out, struct error *err);
/*
 * The same, but ERROR_WOULD_BLOCK rather than wait for a peer. A disk may be waited for:
 * Directories are small, and read before they are asked for again.
 */
int directory_service_get_nowait(struct directory_service *s, const struct digest *digest,
				 struct directory **out, struct error *err);
/* Asker, without reading more than an index. */
int directory_service_has(struct directory_service *s, const struct digest *digest,
			  struct error *err);
/* Says for each digest whether the directory is missing. */
int directory_service_find_missing(struct directory_service *s, const struct digest *digests,
				   size_t count, bool *missing, struct error *err);
int directory_service_put(struct directory_service *s, struct directory *d, struct error *err);

/*
 * Asker: the closure below a root, root to leaves, as a stream; 0 when the root is absent. A
 * directory missing further down is an error of the stream (ERROR_UNAVAILABLE). A service whose
 * objects are far away fetches them together. The walk borrows the service.
 */
int directory_service_get_recursive(struct directory_service *s, const struct digest *root,
				    struct closure_walk **out, struct error *err);

/*
 * Asks for the closure below a root to be at hand soon: fetched in the background where it is
 * at a peer. Nothing is told of how it goes.
 */
void directory_service_prefetch(struct directory_service *s, const struct digest *root);
/* False where everything is at hand, and never fetched. */
bool directory_service_fetches(const struct directory_service *s);
/* See blob_service_stored(). */
int directory_service_stored(struct directory_service *s, const struct digest *digest,
			     uint64_t *stored, struct error *err);
/* See blob_service_discard(). */
int directory_service_discard(struct directory_service *s, const struct digest *digest,
			      struct error *err);

/* A closure that comes leaves to root. Nothing of it is visible before commit. */
int directory_service_put_batch(struct directory_service *s, struct directory_batch **out,
				struct error *err);
int directory_batch_add(struct directory_batch *b, struct directory *d, struct error *err);
/* Bytes that it takes so far. */
uint64_t directory_batch_memory(const struct directory_batch *b);
/* Ends the batch, whatever it returns: connected and complete, or nothing is kept. */
int directory_batch_commit(struct directory_batch *b, struct digest *root, struct error *err);
void directory_batch_free(struct directory_batch *b);

int directory_service_sync(struct directory_service *s, struct error *err);

/* ---- For back ends ---- */

struct directory_service_ops {
	const char *name;
	void (*destroy)(struct directory_service *s);
	/* The stored encoding, malloc'd for the caller; checked by the functions above. */
	int (*get)(struct directory_service *s, const struct digest *digest, uint8_t **encoding,
		   size_t *len, struct error *err);
	/* For directory_service_get_nowait(). NULL where get always asks a peer. */
	int (*get_nowait)(struct directory_service *s, const struct digest *digest,
			  uint8_t **encoding, size_t *len, struct error *err);
	int (*has)(struct directory_service *s, const struct digest *digest, struct error *err);
	/* NULL: asked one by one. */
	int (*find_missing)(struct directory_service *s, const struct digest *digests,
			    size_t count, bool *missing, struct error *err);
	int (*put)(struct directory_service *s, struct directory *d, struct error *err);
	/* NULL: nothing is ever fetched. */
	void (*prefetch)(struct directory_service *s, const struct digest *root);
	/* These two may be NULL: unsupported. */
	int (*stored)(struct directory_service *s, const struct digest *digest,
		      uint64_t *stored, struct error *err);
	int (*discard)(struct directory_service *s, const struct digest *digest,
		       struct error *err);
	/*
	 * Asker: all of the closure below this root is going to be asked for, by the caller and
	 * now; so whatever that saves may be done. NULL where there is nothing to save.
	 */
	int (*gather)(struct directory_service *s, const struct digest *root,
		      struct error *err);
	int (*sync)(struct directory_service *s, struct error *err);
};

struct directory_service {
	const struct directory_service_ops *ops;
	_Atomic unsigned refs;
	bool fetches; /* set from the table; what stands before another sets what that says */
};

void directory_service_init(struct directory_service *s,
			    const struct directory_service_ops *ops);

/*
 * For back ends above others: the bytes that have this digest, malloc'd, and not looked into.
 * Asker.
 */
int directory_service_get_encoding(struct directory_service *s, const struct digest *digest,
				   bool nowait, uint8_t **encoding, size_t *len,
				   struct error *err);
