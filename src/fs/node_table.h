#pragma once

/*
 * What node ids stand for.
 *
 * Directories have a node each, unique per path: its place (parent node and entry there), the
 * kernel's lookups, its content once somebody looked inside. A node keeps its parent's node,
 * whatever order the kernel forgets them in; so its digest and size need no memory, they are
 * read from the parent's content. Files and symlinks have no memory at all: their id names a
 * content and an entry in it.
 *
 * Any thread. Nothing here waits: loading Directory objects is the caller's part. A node id is
 * outside input: one that stands for nothing (or no more) is an answer, 0.
 */

#include "castore/directory.h"
#include "fs/fuse_protocol.h"
#include "fs/root_table.h"

/* Directories that may be known to the kernel at one time: bounds memory (about 4 GiB). */
#define NODE_TABLE_MAX ((uint32_t)1 << 26)

struct node_table;

/* roots is borrowed and outlives the table. */
struct node_table *node_table_new(struct root_table *roots);
void node_table_free(struct node_table *t);
/* Forgets everything: all ids are stale then. */
void node_table_clear(struct node_table *t);

struct object {
	struct node node; /* the root: a directory with an empty digest and size 0 */
	uint64_t ino;     /* directories only; others follow from the node */
	bool is_root;
	struct directory *holder; /* what node.target borrows from: a reference, or NULL */
};

/* Asker. object_done() ends it. */
int node_table_get(struct node_table *t, uint64_t id, struct object *out);
void object_done(struct object *o);

/* A directory to look into. */
struct folder {
	struct digest digest;
	struct directory *directory; /* a reference; NULL: not loaded yet */
	uint64_t ino;
	uint64_t parent_ino;
};

/* Asker, for ids of directories other than the root. folder_done() ends it. */
int node_table_folder(struct node_table *t, uint64_t id, struct folder *out);
void folder_done(struct folder *f);

/*
 * Makes a loaded directory known as the content of a node. Asker; ERROR_LIMIT when there is no
 * more room.
 */
int node_table_load(struct node_table *t, uint64_t id, struct directory *d, struct error *err);

struct entered {
	uint64_t id;
	uint64_t generation;
};

/*
 * Counts one lookup of an entry of a directory whose folder was loaded, or of the root (entry:
 * number in the root table). ino is kept for directories. Asker; ERROR_LIMIT when there is no
 * more room.
 */
int node_table_enter(struct node_table *t, uint64_t parent, uint32_t entry, enum node_kind kind,
		     uint64_t ino, struct entered *out, struct error *err);

/*
 * Takes lookups back. More than were counted, and ids that stand for nothing, do no harm. Large
 * amounts of freed memory are given back to the system.
 */
void node_table_forget(struct node_table *t, const struct fuse_forget_one *items, size_t count);

struct node_table_stats {
	uint64_t directories; /* nodes alive */
	uint64_t contents;    /* Directory objects held */
	uint64_t memory;      /* bytes of nodes and contents */
};
void node_table_stats(struct node_table *t, struct node_table_stats *out);
