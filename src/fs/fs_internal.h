#pragma once

/* Shared by the handlers of requests; see dispatch.c for the table. */

#include <errno.h>
#include <stdatomic.h>

#include "fs/ahead.h"
#include "fs/backing_table.h"
#include "fs/fs.h"
#include "fs/keep.h"
#include "fs/node_id.h"
#include "fs/node_table.h"
#include "fs/root_table.h"

#define FS_COMPLAINTS 256u
/* Beyond the highest opcode that is known; what lies there is counted as 0. */
#define FS_OPCODES 64u

struct fs {
	struct blob_service *blobs;
	struct directory_service *directories;
	struct root_nodes *roots;
	bool list_root;
	bool show_xattr;
	bool inodes_by_path;
	bool roots_may_grow;
	void (*touched)(void *context, const struct digest *directory);
	void *touched_context;
	/* What INIT settled. */
	atomic_bool session;
	atomic_bool no_open;
	atomic_bool no_opendir;
	/* The root's time changes, so that the kernel reads its listing again: see init.c. */
	atomic_bool root_is_dated;
	atomic_bool passthrough;
	_Atomic uint32_t kernel_minor; /* for people: see negotiation.c */
	_Atomic uint64_t offered;
	_Atomic uint64_t agreed;
	struct backing_table *backings; /* NULL: the transport has no passthrough */
	struct keep keep; /* without a header: tables are in memory of this process */
	struct root_table *root_table;
	struct node_table *nodes;
	/* Digests that were complained about, by their hash: each is logged once or so. */
	_Atomic uint64_t complaints[FS_COMPLAINTS];
	_Atomic uint64_t requests[FS_OPCODES];
};

struct request {
	struct fs *fs;
	struct fuse_in_header header; /* a copy: what was checked stays as it is */
	struct bytes arg;             /* at least the size that the table asks for */
	unsigned flags;
	struct fs_reply *reply;
};

/* Beside 0 (answered) and a positive errno, what a handler may return. */
#define HANDLED_SILENTLY (-1) /* no reply is due */
#define HANDLED_BLOCKED (-2)  /* only with FS_NOWAIT or FS_LOCAL */

typedef int (*fs_handler)(struct request *r);

/* True when the request is not to wait for a peer. */
bool request_avoids_peers(const struct request *r);

/* Copies a structure out of the arguments, whose length the table has checked. */
#define request_arg(r, out) memcpy((out), (r)->arg.ptr, sizeof(*(out)))

/* Makes a structure the reply. */
void request_reply(struct request *r, const void *fixed, size_t len);
/* The reply is the first len bytes of the data area. */
void request_reply_data(struct request *r, size_t len);
/* Copies into the data area; ERANGE when it is too small. */
int request_reply_bytes(struct request *r, struct bytes b);

/* The object of the request's node id: 0 or ESTALE. Ended with object_done. */
int request_object(struct request *r, struct object *out);
/*
 * The directory that the request is about, its content loaded: 0, ESTALE, ENOTDIR, EIO (and a
 * line in the log that names the digest), or HANDLED_BLOCKED. Not for the root. Ended with
 * folder_done.
 */
int request_folder(struct request *r, struct folder *out);

/*
 * Logs a fault, unless this digest has been complained about before: whoever asks again and
 * again does not fill the log.
 */
void fs_complain(struct fs *fs, const struct digest *digest, const char *fmt, ...)
	printf_like(3, 4);

/* ahead.c */
/* The range of the file becomes the reply's data, if it is at hand. */
bool ahead_take(struct fs_ahead *a, const struct node *file, uint64_t offset, size_t len,
		struct fs_reply *reply);
/* A whole file has been read, by its node id. */
void ahead_note(struct fs_ahead *a, uint64_t id);

/* request_count.c */
void request_count(struct fs *fs, uint32_t opcode);

/* init.c */
int handle_init(struct request *r);
int handle_destroy(struct request *r);
/* state.c */
/* Bits of what INIT settled, as other servers are told. */
enum state_flags {
	STATE_SESSION = 1,
	STATE_NO_OPEN = 2,
	STATE_NO_OPENDIR = 4,
	STATE_ROOT_IS_DATED = 8,
	STATE_FLAGS = 15,
	STATE_PASSTHROUGH = 16, /* for the same connection only */
};
/* All but passthrough. */
uint32_t state_flags(const struct fs *fs);
void state_take_flags(struct fs *fs, uint32_t flags);
/* resume.c */
/* Notes what INIT has settled, for whoever goes on with the session. */
void session_keep(struct fs *fs);
/* negotiation.c */
void negotiation_note(struct fs *fs, uint32_t minor, uint64_t offered, uint64_t agreed);
/* lookup.c */
int handle_lookup(struct request *r);
int handle_getattr(struct request *r);
int handle_forget(struct request *r);
int handle_batch_forget(struct request *r);
/* st_ino of an entry of the directory whose st_ino is parent_ino. */
uint64_t entry_ino(const struct fs *fs, uint64_t parent_ino, const struct directory_entry *e);
/* The entry as the kernel takes it, with one lookup counted: 0 or an errno. */
int entry_enter(struct fs *fs, uint64_t parent, uint64_t parent_ino, uint32_t index,
		const struct directory_entry *e, struct fuse_entry_out *out);
/* listing.c */
int handle_opendir(struct request *r);
int handle_readdir(struct request *r);
int handle_readdirplus(struct request *r);
/* file.c */
int handle_open(struct request *r);
int handle_release(struct request *r);
int handle_read(struct request *r);
int handle_readlink(struct request *r);
/* Logs that a blob cannot be read, with rc and err of the service; EIO. */
int file_fault(struct fs *fs, const struct node *file, int rc, const struct error *err);
/* passthrough.c */
/*
 * Opens a file that may be passed through: 0 and the reply, a positive errno, or
 * HANDLED_BLOCKED.
 */
int passthrough_open(struct request *r, const struct node *file, struct fuse_open_out *out);
/* True for files that passthrough_open() is for: always the same answer for a node. */
bool passthrough_wanted(const struct fs *fs, const struct node *file);
/* xattr.c */
int handle_getxattr(struct request *r);
int handle_listxattr(struct request *r);
