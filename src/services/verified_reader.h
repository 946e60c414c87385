#pragma once

/* Readers that give checked bytes only, over readers of back ends that check nothing. */

#include "services/blob_proof.h"

/* Up to this size a blob is read and checked at once, and held in memory. */
#define VERIFIED_READER_WHOLE_MAX ((uint64_t)1048576)

/*
 * Checks the blob as a whole, and each range again when it is read. Takes over the unchecked
 * reader, also on failure.
 */
int verified_reader_open(struct blob_reader *unchecked, const struct digest *digest,
			 struct blob_reader **out, struct error *err);
/* The same for a blob that was checked as a whole before. Takes over the reader; refs proof. */
struct blob_reader *verified_reader_new(struct blob_reader *unchecked,
					struct blob_proof *proof);
/* Over bytes that are known to be right; takes over a malloc'd buffer (NULL when empty). */
struct blob_reader *verified_reader_of_memory(uint8_t *content, size_t len);
