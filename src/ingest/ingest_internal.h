#pragma once

/* What the files of the import share. */

#include <pthread.h>

#include "castore/directory.h"
#include "ingest/ingest.h"
#include "ingest/work.h"

/* Files up to this size are read whole; larger ones by the store, each as work of its own. */
#define INGEST_WHOLE_MAX ((size_t)4 << 20)

struct ingest {
	struct store *store;
	struct ingest_options options;
	struct ingest_stats *stats;
	const char *path;
	dev_t device; /* of the root */
	struct root_node *out;
};

/* Sixteen bytes, because there may be millions. */
struct ingest_entry {
	uint64_t prefix; /* of the name, big-endian: decides most comparisons */
	uint32_t name;   /* in the directory's names, followed by a NUL */
	uint8_t name_len;
	uint8_t type; /* DT_REG, DT_LNK or DT_DIR */
};

struct ingest_dir {
	struct work_dir work; /* items: entries */
	int fd;
	unsigned depth;
	struct ingest_entry *entries; /* those that are no directories first, each in order */
	struct buffer names;
	pthread_mutex_t lock; /* guards builder */
	struct directory_builder *builder;
	char name[];
};

/* Of one thread. */
struct ingest_worker {
	struct ingest *ingest;
	struct work *work;                /* NULL outside of work_run */
	uint8_t *buffer;                  /* INGEST_WHOLE_MAX + 1 bytes */
	char target[NODE_TARGET_MAX + 2]; /* of the symlink read last */
	struct ingest_known *known;       /* INGEST_KNOWN_MAX: of the piece being worked on */
	bool atime_denied;                /* O_NOATIME was refused once */
	bool device_known;
	bool device_trusted; /* its times can be relied on for seen files */
	dev_t device;
};

/* True when the import is to be given up; work_stop() is the error then. */
bool ingest_stopping(const struct ingest_worker *w);

/* openat without following a symlink, without waiting, and if possible without touching atime.
 */
int ingest_open(struct ingest_worker *w, int dirfd, const char *name, int flags);
/* For a failed system call on something that a listing has shown before. */
int ingest_entry_errno(struct error *err, int errnum, const char *what);

static inline const char *ingest_entry_name(const struct ingest_dir *d,
					    const struct ingest_entry *e)
{
	return (const char *)d->names.ptr + e->name;
}

/* Path of an entry, for messages: as bytes_printable. name may be NULL: the directory itself.
 */
const char *ingest_path_text(const struct ingest *in, const struct ingest_dir *d,
			     const char *name);

/*
 * Opens and lists a directory. parent is NULL for the root, dirfd and name are where it is. The
 * message of an error begins with the path.
 */
int ingest_scan(struct ingest_worker *w, struct ingest_dir *parent, int dirfd, const char *name,
		struct ingest_dir **out, struct error *err);
void ingest_dir_free(struct ingest_dir *d);

/* A file by its name, and what an earlier import left known of it. */
struct ingest_known {
	const char *name;
	bool seen; /* it did not change since: the node is set */
	struct node node;
};

#define INGEST_KNOWN_MAX WORK_PIECE

/*
 * Looks at up to INGEST_KNOWN_MAX files of one directory at once, and counts those that did not
 * change. `seen` of the others stays false; they are to be read.
 */
void ingest_find_seen(struct ingest_worker *w, int dirfd, struct ingest_known *known,
		      size_t count);
/*
 * Reads a regular file in. Unless alone, a large one is left to a later call: asker, 0 then.
 * The message has no path.
 */
int ingest_read_file(struct ingest_worker *w, int dirfd, const char *name, bool alone,
		     struct node *out, struct error *err);
/* Reads a symlink; the target is in w->target. The message has no path. */
int ingest_symlink(struct ingest_worker *w, int dirfd, const char *name, struct node *out,
		   struct error *err);
