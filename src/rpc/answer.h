#pragma once

/*
 * Answers of a peer, decoded and checked: what rpc/messages.h calls invalid is ERROR_CORRUPT
 * when it came as an answer. Borrowed from the message, as there.
 */

#include "rpc/messages.h"
#include "services/blob_service.h"

int answer_decode(const struct message_type *type, struct bytes message, void *out,
		  struct error *err);
/* A message that is one digest. */
int answer_digest(struct bytes message, struct digest *out, struct error *err);
/* The same, which must be this one: what was sent has arrived. `what`: for the message. */
int answer_check_digest(struct bytes message, const char *what, const struct digest *expected,
			struct error *err);
/* FindMissingResponse to a question of `count` digests. */
int answer_missing(struct bytes message, bool *missing, size_t count, struct error *err);

/* A longer list is ERROR_LIMIT. */
#define ANSWER_CHUNKS_MAX ((size_t)1 << 22)

/* StatBlobResponse: each chunk has a size, and the sum is less than 2^63. */
int answer_chunks(struct bytes message, struct chunk_list *out, struct error *err);
