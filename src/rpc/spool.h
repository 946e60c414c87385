#pragma once

/*
 * Blobs of a peer that cannot prove ranges: each is fetched whole, checked, and kept for a
 * while, in memory when it is small, else in a file without a name. Several threads that want
 * the same blob wait for one fetch. Shared and thread-safe.
 */

#include "rpc/peer.h"
#include "services/blob_service.h"

struct spool;

/* blob_max: larger blobs are ERROR_LIMIT. The peer outlives it; readers do not. */
struct spool *spool_new(struct peer *peer, uint64_t blob_max);
void spool_free(struct spool *s);

/*
 * Asker: a reader of checked bytes, which any number of threads may use at the same time. It is
 * the caller's until spool_close().
 */
struct spooled;
int spool_open(struct spool *s, const struct digest *digest, struct spooled **out,
	       struct error *err);
/* The same, only if it is kept; NULL otherwise. Asks nobody. */
struct spooled *spool_find(struct spool *s, const struct digest *digest);
struct blob_reader *spooled_reader(const struct spooled *b);
void spool_close(struct spool *s, struct spooled *b);

/* Askers: the size, and a range, as blob_service_read() has it. */
int spool_size(struct spool *s, const struct digest *digest, uint64_t *size, struct error *err);
int spool_read(struct spool *s, const struct digest *digest, uint64_t offset, void *buf,
	       size_t len, size_t *got, struct error *err);

/* Asker: the same, as a reader that closes itself. */
int spool_open_reader(struct spool *s, const struct digest *digest, struct blob_reader **out,
		      struct error *err);
