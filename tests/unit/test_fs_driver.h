#pragma once

/* For tests of the file system: a small store, and requests made by hand. */

#include "fs/fs.h"
#include "services/memory.h"

#define MANY_FILES 300u
#define BIG_SIZE (300u << 10)

/*
 * The root has: file (hello), lost (a directory without its object), lostfile (without its
 * blob), lies (a directory that says a blob is longer than it is), link (-> tree/a), many
 * (MANY_FILES empty files), tree.
 * tree has: a (hello), b (hello, executable), big, c (hello), link (-> a), link2 (-> a),
 * sub, sub2 (equal directories, with in/deep in them).
 */
struct driver {
	struct store store;
	struct fs_options options;
	struct fs *fs;
	struct fs_reply reply;
	enum fs_outcome outcome;
	unsigned flags;
	uint64_t unique;
	struct digest hello;
	struct digest tree;
	struct digest lost;
	struct node big;
};

/* A store and a file system with list_root and show_xattr, INIT done. */
struct driver *driver_new(void);
/* The same with changed options: a new file system over the same store. */
void driver_remount(struct driver *d);
void driver_free(struct driver *d);

/* INIT with these flags; returns as request() does. */
int driver_init(struct driver *d, uint64_t flags);

/*
 * Sends one request. 0, or the negative errno of the reply. Fails the test when the reply is
 * badly made. With no reply: 1.
 */
int request(struct driver *d, uint32_t opcode, uint64_t nodeid, const void *arg, size_t len);

/* 0 or a negative errno; the entry is zeroed without success. */
int lookup(struct driver *d, uint64_t parent, const char *name, struct fuse_entry_out *out);
/* Fails the test when there is no such name. A path below the root. */
struct fuse_entry_out walk(struct driver *d, const char *path);
int getattr(struct driver *d, uint64_t nodeid, struct fuse_attr *out);
void forget(struct driver *d, uint64_t nodeid, uint64_t count);
/* Data of the reply is in d->reply. */
int read_at(struct driver *d, uint32_t opcode, uint64_t nodeid, uint64_t offset, uint32_t size);

/* Adds a blob, a name in the root. */
struct node put_blob(struct driver *d, const void *content, size_t len, bool executable);
struct node put_directory(struct driver *d, struct directory_builder *b);
void put_root(struct driver *d, const char *name, struct node node);
void add_entry(struct directory_builder *b, const char *name, struct node node);
struct node symlink_node(const char *target);

/* Paths of all kinds. */
#define KNOWN_PATHS 13u
extern const char *const known_paths[KNOWN_PATHS];

/* What the kernel knows of them. */
struct known {
	uint64_t ids[KNOWN_PATHS];
	struct fuse_attr attributes[KNOWN_PATHS];
};

void know_paths(struct driver *d, struct known *out);
/* They are what they were, also when they are looked up again. */
void check_known(struct driver *d, const struct known *k);
