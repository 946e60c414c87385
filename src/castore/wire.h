#pragma once

/*
 * The little of protobuf's wire format that castore messages need. The codec is our own because
 * a digest is over exact bytes: one encoding is right, and all others must be told from it.
 */

#include "castore/node.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

#define WIRE_TAG(field, type) ((uint8_t)((field) << 3 | (type)))
#define WIRE_VARINT_MAX 10

/* What is left to read. */
struct wire {
	const uint8_t *ptr;
	const uint8_t *end;
};

static inline struct wire wire_of(struct bytes b)
{
	/* No arithmetic on NULL, which is what nothing may be. */
	return (struct wire){.ptr = b.ptr, .end = b.len ? b.ptr + b.len : b.ptr};
}

static inline bool wire_at_end(const struct wire *w)
{
	return w->ptr == w->end;
}

/* Takes the next byte when it is this tag. */
static inline bool wire_tag(struct wire *w, uint8_t tag)
{
	if (w->ptr == w->end || *w->ptr != tag) {
		return false;
	}
	w->ptr++;
	return true;
}

/* wire_varint() for what is longer than a byte, or nothing. */
bool wire_long_varint(struct wire *w, uint64_t *out, bool minimal);

/* False when cut off or more than 64 bits; with minimal, also when it could be shorter. */
static inline bool wire_varint(struct wire *w, uint64_t *out, bool minimal)
{
	if (w->ptr != w->end && *w->ptr < 0x80) {
		*out = *w->ptr++;
		return true;
	}
	return wire_long_varint(w, out, minimal);
}

/* A length and that many bytes. */
static inline bool wire_bytes(struct wire *w, struct bytes *out, bool minimal)
{
	uint64_t len;

	if (!wire_varint(w, &len, minimal) || len > (uint64_t)(w->end - w->ptr)) {
		return false;
	}
	*out = bytes_of(w->ptr, (size_t)len);
	w->ptr += len;
	return true;
}

size_t wire_varint_size(uint64_t v);
uint8_t *wire_put_varint(uint8_t *at, uint64_t v);

/*
 * The messages DirectoryNode, FileNode and SymlinkNode, which are a name and a node of one
 * kind.
 */
size_t wire_entry_size(struct bytes name, const struct node *node);
uint8_t *wire_put_entry(uint8_t *at, struct bytes name, const struct node *node);
/*
 * Strict: only what wire_put_entry writes. Checks digests and targets, not the name, which is
 * empty when it is left out. NULL, or what is wrong.
 */
const char *wire_entry(struct bytes message, enum node_kind kind, struct bytes *name,
		       struct node *node);
/* Any encoding of the message; unknown fields are refused. The same checks. */
const char *wire_entry_lenient(struct bytes message, enum node_kind kind, struct bytes *name,
			       struct node *node);
