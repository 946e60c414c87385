#pragma once

/*
 * The bytes of a NAR in blocks, for a reader that does not copy: below nar_reader.h, for who
 * wants the blocks too.
 */

#include "nix/nar_reader.h"

struct nar_blocks {
	/* Asker: the next bytes, at least one, borrowed until the next call; 0 at the end. */
	int (*next)(struct nar_blocks *b, struct bytes *block, struct error *err);
};

/* blocks must outlive the reader. */
struct nar_reader *nar_reader_new_of_blocks(struct nar_blocks *blocks);
/* Reads until the buffer is full or the source at its end. */
int nar_source_fill(struct nar_source *source, uint8_t *buf, size_t len, size_t *got,
		    struct error *err);
