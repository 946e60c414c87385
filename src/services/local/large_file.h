#pragma once

/*
 * Large blobs: plain immutable files under files/, so that the kernel can read, map and reflink
 * them, each with an outboard (castore/outboard.h) in a pack, so that any range can be
 * verified.
 */

#include "services/local/local_internal.h"

struct large_writer;

/* A new file under tmp/. */
int large_writer_new(struct local_view *v, struct large_writer **out, struct error *err);
void large_writer_free(struct large_writer *w);
int large_writer_write(struct large_writer *w, struct bytes data, struct error *err);
/* Ends the writer: the blob is given to the committer, or dropped when the store has it. */
int large_writer_commit(struct large_writer *w, struct digest *digest, uint64_t *size,
			struct error *err);

/*
 * Stores the content of an open file, which must have this size (ERROR_CHANGED when it turns
 * out shorter): reflinked where the disk can, and written only when the store may not have it.
 */
int large_file_import(struct local_view *v, int fd, uint64_t size, struct blob_watch *watch,
		      struct digest *digest, struct error *err);

/* A file of the view's cache, to be released there. */
int large_file_open(struct local_view *v, const struct digest *digest, const struct location *l,
		    struct cached_file **out, struct error *err);
/*
 * Part of the outboard's encoding, which lies in it. Who gets it checks it: it is of no use to
 * others than those who check.
 */
int large_file_outboard(struct local_store *s, const struct location *l, uint64_t first,
			size_t count, uint8_t *values, struct error *err);
/* Verifies whole groups that were read, of which only the blob's last may be shorter. */
int large_file_verify(struct local_store *s, const struct cached_file *f,
		      const struct location *l, uint8_t *data, size_t len, uint64_t offset,
		      struct error *err);
/* Reads a range and verifies every group it touches. offset + len lies inside the blob. */
int large_file_read(struct local_store *s, struct cached_file *f, const struct location *l,
		    void *buf, size_t len, uint64_t offset, unsigned flags, struct error *err);
