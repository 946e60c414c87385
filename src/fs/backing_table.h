#pragma once

/*
 * Blobs whose plain files the kernel has by an id (FUSE passthrough), and what open files use
 * them.
 *
 * The kernel refuses to open a file in two ways at once, or by two ids. So an entry decides how
 * a blob is opened and stays as it is while any file is open with it; unused ones are kept for
 * the next open, up to a limit, the one unused for longest goes first. Any thread.
 */

#include "castore/digest.h"
#include "fs/fs.h"
#include "fs/keep.h"

#define BACKING_IDLE_MAX 4096u

struct backing_table;

/* How a blob is opened. */
struct backing {
	uint64_t handle; /* for backing_table_release(); never 0 */
	bool passed;     /* by the id; else through requests to this program */
	uint32_t id;
};

/* Borrows what the context points to. k: where its entries are kept, or NULL. */
struct backing_table *backing_table_new(const struct fs_backing *ops, const struct keep *k);
/* Ends the ids, unless they are kept. */
void backing_table_free(struct backing_table *t);
/* Bytes of an entry, as it is kept. */
size_t backing_table_item_size(void);
/* Takes over what is kept: ids of the same connection, and what is open with them. */
int backing_table_adopt(struct backing_table *t, struct error *err);

/* Asker. An entry that is found counts as opened once more. */
int backing_table_find(struct backing_table *t, const struct digest *digest,
		       struct backing *out);
/*
 * Adds an entry that is opened once: fd is registered, or, when it is negative or the kernel
 * will not have it, the blob is read through this program. Where another thread was faster,
 * theirs counts. ERROR_LIMIT.
 */
int backing_table_add(struct backing_table *t, const struct digest *digest, int fd,
		      struct backing *out, struct error *err);
/* An opened file was closed. A handle that is none is ignored. */
void backing_table_release(struct backing_table *t, uint64_t handle);
/* Forgets everything, whatever is open. */
void backing_table_clear(struct backing_table *t);
/* Of ids that the kernel has. */
uint64_t backing_table_count(struct backing_table *t);
