#pragma once

/* What the files of the export share. */

#include "castore/directory.h"
#include "ingest/export.h"
#include "ingest/work.h"

/* Files up to this size are read whole; larger ones are streamed, each as work of its own. */
#define EXPORT_WHOLE_MAX ((size_t)4 << 20)

struct exporting {
	struct store *store;
	struct export_options options;
	struct export_stats *stats;
	const char *dest;
	bool far;         /* asking for many blobs at once saves round trips */
	size_t dirs_held; /* that a thread may keep open for files it has put off */
};

struct export_dir {
	struct work_dir work; /* items: places in order */
	int fd;
	unsigned depth;
	struct directory *directory;
	uint32_t *order; /* entries: small files and symlinks, large files, directories */
	char name[];
};

/* Of one thread. */
struct export_worker {
	struct exporting *exporting;
	struct work *work;          /* NULL outside of work_run */
	uint8_t *buffer;            /* EXPORT_WHOLE_MAX + 1 bytes */
	struct export_batch *batch; /* NULL unless the store is far */
};

/* True when the export is to be given up; work_stop() is the error then. */
bool export_stopping(const struct export_worker *w);

/* An entry of the directory, its name ended by a NUL. */
struct export_entry {
	struct node node; /* borrows from the directory */
	char name[NODE_NAME_MAX + 1];
};

void export_entry_at(const struct export_dir *d, size_t i, struct export_entry *out);

/*
 * Makes a file or symlink that must not exist. content: what is in the file, checked; NULL: it
 * is read from the store. The message has no path.
 */
int export_leaf(struct export_worker *w, int dirfd, const char *name, const struct node *node,
		const struct bytes *content, struct error *err);

/* ---- Files that are asked for together (export_batch.c) ---- */

struct export_batch *export_batch_new(void);
void export_batch_free(struct export_batch *b);
bool export_batch_wants(const struct export_worker *w, const struct node *node);
/* Puts off an entry of a directory; makes files when there are enough. Messages have the path.
 */
int export_batch_add(struct export_worker *w, struct export_dir *d, size_t i,
		     struct error *err);
/* Makes all files that were put off. */
int export_batch_flush(struct export_worker *w, struct error *err);
