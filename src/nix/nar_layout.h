#pragma once

/*
 * Lays a tree out as the pieces of its NAR: all that Directories tell is there, and the
 * contents of blobs are noted as holes, which others fill in. Reads Directories only; memory is
 * that of the Directories on the way down.
 */

#include "nix/nar.h"
#include "services/store.h"

/*
 * The content that a piece may hold: of a large blob a span of its outboard, so that what
 * checks it is read once too.
 */
#define NAR_PIECE_CONTENT ((size_t)1 << 20)

/* A hole in a piece, for bytes of a blob. */
struct nar_hole {
	struct digest digest;
	uint64_t offset; /* in the blob */
	size_t at, len;  /* in the piece */
	bool last;       /* the blob must end there; the piece does not */
};

struct nar_piece {
	uint8_t *data;
	size_t len;
	struct nar_hole *holes;
	size_t hole_count, hole_capacity;
};

void nar_piece_done(struct nar_piece *p);

struct nar_layout; /* one thread at a time */

/* The store and stats must outlive it. */
int nar_layout_new(struct store *store, const struct node *node, struct nar_stats *stats,
		   struct nar_layout **out, struct error *err);
/* Asker: replaces piece (zeroed, or an earlier one) by the next one; 0 when there is none. */
int nar_layout_next(struct nar_layout *l, struct nar_piece *piece, struct error *err);
void nar_layout_free(struct nar_layout *l);
DEFINE_CLEANUP(cleanup_nar_layout, struct nar_layout *, nar_layout_free)
