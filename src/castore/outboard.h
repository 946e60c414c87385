#pragma once

/*
 * Outboards: what makes any range of a large blob verifiable against its digest alone.
 *
 * BLAKE3 is a binary tree over chunks of 1 KiB. An outboard keeps the chaining values of two of
 * its levels: every complete-or-last subtree of 16 KiB (a group) and of 1 MiB (a span). From
 * the span values the root follows (checked once, when a blob is opened); a span's value
 * follows from its 64 group values, and a group's from its 16 KiB of content. So a read of 4
 * KiB touches 16 KiB of content and 2 KiB of outboard, whatever the size of the blob, and
 * memory per open blob is 32 bytes per MiB.
 *
 * Encoding, as stored: the span values, then the group values, 32 bytes each, in order. Their
 * counts follow from the size of the blob. A blob of at most one group has no outboard: it is
 * hashed whole.
 */

#include "castore/digest.h"

#define OUTBOARD_GROUP ((uint64_t)16384)
#define OUTBOARD_SPAN ((uint64_t)1048576)

static inline uint64_t outboard_group_count(uint64_t size)
{
	return (size + OUTBOARD_GROUP - 1) / OUTBOARD_GROUP;
}

static inline uint64_t outboard_span_count(uint64_t size)
{
	return (size + OUTBOARD_SPAN - 1) / OUTBOARD_SPAN;
}

/* Bytes of the encoding for a blob of this size; 0 for at most one group. */
static inline uint64_t outboard_encoded_size(uint64_t size)
{
	return size <= OUTBOARD_GROUP
		       ? 0
		       : (outboard_span_count(size) + outboard_group_count(size)) * DIGEST_SIZE;
}

/* Hashes a blob and makes its outboard on the way. Belongs to one thread. */
struct outboard_builder;

struct outboard_builder *outboard_builder_new(void);
void outboard_builder_free(struct outboard_builder *b);
void outboard_builder_reset(struct outboard_builder *b);
/* Any pieces; whole groups are hashed without copying where a piece begins at one. */
void outboard_builder_update(struct outboard_builder *b, struct bytes data);
/*
 * The digest, and the encoding appended to out (nothing for at most one group; out may be
 * NULL). The builder must be reset before it is used again.
 */
void outboard_builder_finish(struct outboard_builder *b, struct digest *out_digest,
			     struct buffer *out);

/* True when the span values (outboard_span_count(size) * 32 bytes) give this digest. */
bool outboard_verify_spans(const struct digest *digest, uint64_t size, const uint8_t *spans);

/* True when the group values of span number `span` give span_value. */
bool outboard_verify_span(uint64_t size, uint64_t span, const uint8_t *span_value,
			  const uint8_t *groups);

/*
 * True when data is the content of the groups from number `first` on, whose values these are:
 * whole groups, but the last of the blob, and at most a span of them. Faster than one by one.
 */
bool outboard_verify_groups(uint64_t size, uint64_t first, const uint8_t *values,
			    struct bytes data);

/*
 * True when data is the content of group number `group` (its full length: OUTBOARD_GROUP, or
 * what is left for the last).
 */
bool outboard_verify_group(uint64_t size, uint64_t group, const uint8_t *group_value,
			   struct bytes data);
