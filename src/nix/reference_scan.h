#pragma once

/*
 * Finds which of a set of store paths a stream of bytes refers to: any occurrence of a path's
 * 32 characters of hash, wherever the pieces of the stream are cut. Nix scans the NAR, so file
 * names and symlink targets count like contents.
 */

#include "nix/nar.h"
#include "nix/store_path.h"

struct reference_scan; /* one thread at a time */

/* Borrows nothing. Takes about 1 KiB a candidate; those of one hash are one. */
struct reference_scan *reference_scan_new(const struct store_path *candidates, size_t count);
void reference_scan_update(struct reference_scan *s, struct bytes data);
/* What is written to it is scanned. Borrowed. */
struct nar_sink *reference_scan_sink(struct reference_scan *s);
/* True when candidate i was found so far. */
bool reference_scan_found(const struct reference_scan *s, size_t i);
void reference_scan_free(struct reference_scan *s);
DEFINE_CLEANUP(cleanup_reference_scan, struct reference_scan *, reference_scan_free)
