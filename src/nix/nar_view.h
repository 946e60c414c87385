#pragma once

/*
 * Any range of a node's NAR, as if the NAR were a file: its size is known from the Directories
 * alone, and only the contents that a range touches are read.
 *
 * Memory: about 80 bytes for each distinct Directory of the tree, and of those on the way down
 * to the place read last their encoding and 12 bytes an entry. Belongs to one thread at a time.
 */

#include "nix/nar.h"
#include "services/store.h"

struct nar_view;

/*
 * Reads the Directories of the tree, not its contents. ERROR_UNAVAILABLE when one is not in the
 * store, ERROR_LIMIT above NAR_DEPTH_MAX and NAR_SIZE_MAX. The store must outlive the view.
 */
int nar_view_new(struct store *store, const struct node *node, struct nar_view **out,
		 struct error *err);
void nar_view_free(struct nar_view *v);
DEFINE_CLEANUP(cleanup_nar_view, struct nar_view *, nar_view_free)

uint64_t nar_view_size(const struct nar_view *v);
/* Reads up to len bytes at offset, fewer only at the end; the count goes to *got. */
int nar_view_pread(struct nar_view *v, void *buf, size_t len, uint64_t offset, size_t *got,
		   struct error *err);
