#pragma once

/*
 * The stream of ReadRangeResponse that answers one question, checked message by message:
 * nothing that is not the blob's gets into the caller's buffer. No I/O.
 */

#include "castore/outboard.h"

/* What is known of a blob: enough to check any range of it. */
struct range_proof {
	struct digest digest;
	uint64_t size;       /* as the peer says; 0 as long as it has not */
	struct buffer spans; /* all of them, and right, or not complete yet */
};

void range_proof_done(struct range_proof *p);
bool range_proof_complete(const struct range_proof *p);

struct range_check {
	struct range_proof *proof;
	uint64_t offset; /* what is wanted, which may lie behind the end */
	uint8_t *buf;
	size_t len;
	bool known;      /* the proof was complete before */
	bool has_size;   /* the first message has come */
	bool has_groups; /* of the span `span` */
	bool saw_end;    /* the last group was checked: the size is right */
	uint64_t next;   /* where the next data must begin */
	uint64_t end;    /* where they end */
	uint64_t span;
	uint8_t groups[OUTBOARD_SPAN / OUTBOARD_GROUP * DIGEST_SIZE];
};

/* proof: complete, or with a digest only; then it is filled in. Both borrowed. */
void range_check_init(struct range_check *c, struct range_proof *proof, uint64_t offset,
		      void *buf, size_t len);
/*
 * The next message, in the pieces that it came in. ERROR_CORRUPT: then the check is of no more
 * use, nor is a proof that was not complete.
 */
int range_check_take(struct range_check *c, const struct bytes *pieces, size_t count,
		     struct error *err);
/* At the end of the stream: whether all has come. */
bool range_check_complete(const struct range_check *c);
