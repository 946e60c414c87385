#pragma once

/*
 * What makes every range of one blob checkable against its digest: the chaining values of its
 * groups (castore/outboard.h), found by reading the blob once. Immutable and shared; 32 bytes
 * of memory per 16 KiB of blob.
 */

#include "services/blob_service.h"

/* Bounds the memory of a proof: 2 GiB for a blob of this size. */
#define BLOB_PROOF_SIZE_MAX ((uint64_t)1 << 40)

struct blob_proof;

/*
 * Reads everything that an unchecked reader gives. ERROR_CORRUPT, naming the digest, when that
 * is not the blob; ERROR_LIMIT above BLOB_PROOF_SIZE_MAX.
 */
int blob_proof_make(struct blob_reader *unchecked, const struct digest *digest,
		    struct blob_proof **out, struct error *err);
/*
 * For a blob that fits in memory: its bytes, checked, malloc'd for the caller. As large as the
 * reader says; the caller limits that.
 */
int blob_proof_read_whole(struct blob_reader *unchecked, const struct digest *digest,
			  uint8_t **content, struct error *err);

struct blob_proof *blob_proof_ref(struct blob_proof *p);
void blob_proof_unref(struct blob_proof *p);
DEFINE_CLEANUP(cleanup_blob_proof, struct blob_proof *, blob_proof_unref)

uint64_t blob_proof_size(const struct blob_proof *p);
/* The encoding of the blob's outboard (castore/outboard.h), borrowed. */
struct bytes blob_proof_outboard(const struct blob_proof *p);

/* Reads a range through an unchecked reader and checks it. The range must lie in the blob. */
int blob_proof_pread(const struct blob_proof *p, struct blob_reader *unchecked, void *buf,
		     size_t len, uint64_t offset, struct error *err);
