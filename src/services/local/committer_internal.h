#pragma once

/*
 * The pack that a committer writes to (committer_pack.c), for the committer alone. All of this
 * with its lock held; what writes gives it away meanwhile, and fails the committer when it
 * fails.
 */

#include "services/local/committer.h"

/* Nothing that was not committed will be: whoever waits or comes later is told why. */
int committer_fail_locked(struct committer *c, const struct error *why);
/* The error that it was told, if it was. */
int committer_failure_locked(struct committer *c, struct error *err);

/* Has a pack, and buffers for it. */
int committer_claim_locked(struct committer *c, struct error *err);
void committer_release_pack_locked(struct committer *c);
/* Puts a record into the buffer, where there must be room. */
void committer_buffer_locked(struct committer *c, const uint8_t *header, struct bytes payload);
/*
 * Sends the buffer to the pack, as a write of the batch. Asker: 0 when it had to wait for a
 * spare buffer first, so that the caller looks at the state again.
 */
int committer_write_buffer_locked(struct committer *c, struct batch *b, struct error *err);
/* Sets aside room behind everything else; the buffer must be empty. */
uint64_t committer_reserve_locked(struct committer *c, uint64_t total);
/*
 * Writes there, without the buffer: head is what begins the payload, which may be empty; one
 * header, or whole records.
 */
int committer_write_locked(struct committer *c, struct batch *b, struct bytes head,
			   struct bytes payload, uint64_t offset, struct error *err);
