#pragma once

/* memory://: a store in the memory of the process, for tests and for short-lived mounts. */

#include "services/store.h"

/* Fills in a new, empty store. */
void memory_store_open(struct store *out);

/*
 * For tests of what lies above: replaces the bytes that are stored under a digest, or removes
 * them, without regard to what the digest says. False when there is no such object.
 */
bool memory_blob_corrupt(struct blob_service *s, const struct digest *digest,
			 struct bytes content);
bool memory_blob_remove(struct blob_service *s, const struct digest *digest);
bool memory_directory_corrupt(struct directory_service *s, const struct digest *digest,
			      struct bytes encoding);
bool memory_directory_remove(struct directory_service *s, const struct digest *digest);
