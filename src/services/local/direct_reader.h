#pragma once

/*
 * Large files that are read from their beginning while the page cache has nothing of them: read
 * past it (O_DIRECT), a span at a time, checked, and ahead of who reads. Going by the page
 * cache costs a copy, and memory for bytes that the kernel keeps a second time as those of the
 * mount; checking takes its turn with the disk there.
 *
 * What is cached, small, or read here and there is left to large_file_read(). So is everything
 * where the kernel cannot tell what it has cached (before Linux 6.5), has no huge pages, or the
 * disk's file system cannot do it: into single pages, disks of virtual machines are slower than
 * with the page cache.
 */

#include "services/local/local_internal.h"

/* How many files may be read so at the same time; each takes 8 MiB meanwhile. */
#define DIRECT_READER_STREAMS 2u

struct direct_reader;

/* The store is borrowed. No thread runs before there is something to read. */
struct direct_reader *direct_reader_new(struct local_store *s);
/* Nobody reads any more. NULL is allowed. */
void direct_reader_free(struct direct_reader *d);

/*
 * Any thread. f is of the store's own files, [offset, offset + len) lies inside the blob. 1
 * when buf has the verified range, 0 when it is to be read in the ordinary way; with
 * LOCAL_READ_NOWAIT also ERROR_WOULD_BLOCK.
 */
int direct_reader_read(struct direct_reader *d, struct cached_file *f, const struct location *l,
		       void *buf, size_t len, uint64_t offset, unsigned flags,
		       struct error *err);
