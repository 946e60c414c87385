#pragma once

/*
 * Ranges of blobs that a cairn has, checked against the digest without reading the rest
 * (castore/outboard.h). What it takes to check a large blob is remembered for the blobs used
 * last. Shared and thread-safe.
 */

#include "castore/digest.h"
#include "rpc/peer.h"

struct range_source;

/* The peer outlives it. */
struct range_source *range_source_new(struct peer *peer);
void range_source_free(struct range_source *s);

/*
 * Up to len bytes at offset, fewer only at the end. Asker. ERROR_CORRUPT when the peer gives
 * anything else than the blob, or less of it. *size is the one the peer claims; it is right
 * when the range reaches it. stop, or NULL: what another thread ends it by.
 */
int range_source_read(struct range_source *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, size_t *got, uint64_t *size,
		      struct client_stop *stop, struct error *err);
/* Asker: the size, proved. */
int range_source_size(struct range_source *s, const struct digest *digest, uint64_t *size,
		      struct error *err);
/*
 * Whether one more reader may fetch ahead of what it is asked for, which takes memory: only so
 * many at the same time may. Who got true gives the place back.
 */
bool range_source_take_place(struct range_source *s);
void range_source_give_place(struct range_source *s);
/* For messages. */
const char *range_source_address(const struct range_source *s);
