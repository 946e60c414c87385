#pragma once

/*
 * The file system: answers FUSE requests from the castore, whatever carries them.
 *
 * One struct fs serves one kernel (one mount, one guest): INIT begins a session, and node ids
 * mean something within it. Any number of threads may handle requests at once.
 */

#include "fs/fuse_protocol.h"
#include "services/blob_service.h"
#include "services/directory_service.h"
#include "services/root_nodes.h"

struct fs_options {
	struct blob_service *blobs; /* a reference is taken of each */
	struct directory_service *directories;
	struct root_nodes *roots;
	bool list_root;      /* otherwise opening the root for listing is EPERM */
	bool show_xattr;     /* digests as extended attributes */
	bool inodes_by_path; /* st_ino of directories differs by path, not by content */
	/*
	 * Told of each directory of the root that somebody looks into, before it is read, maybe
	 * more than once. Any thread; must not wait. NULL: nobody wants to know.
	 */
	void (*touched)(void *context, const struct digest *directory);
	void *touched_context;
};

struct fs;

/*
 * FUSE passthrough: the kernel reads a plain file by itself, once it is registered. What the
 * transport offers; any thread may call.
 */
struct fs_backing {
	void *context;
	/* Registers an open plain file (borrowed) and gives the id to name it by in replies. */
	int (*open)(void *context, int fd, uint32_t *id, struct error *err);
	/* The id is of no more use. Files that are open with it stay so. */
	void (*close)(void *context, uint32_t id);
};

int fs_new(const struct fs_options *options, struct fs **out, struct error *err);
/* No request may be in the handler, and none may come. NULL is allowed. */
void fs_free(struct fs *fs);

/*
 * From the next session on, large files are passed through, where the kernel can. Each blob is
 * verified whole before its file is handed to the kernel for the first time; what the kernel
 * reads from the disk after that is not. With passthrough every file is opened and closed by
 * messages of its own, which the kernel can otherwise do without. NULL ends it. No request may
 * be in the handler.
 */
void fs_set_backing(struct fs *fs, const struct fs_backing *backing);
/* True when the session that has begun passes files through. */
bool fs_passes_through(const struct fs *fs);

/* Bytes of the longest request that is of use; what is longer, a transport may refuse. */
#define FS_REQUEST_MAX ((size_t)(64 + 8) << 10)
/* Bytes of data of the longest reply: room for this much keeps every reply whole. */
#define FS_DATA_MAX ((size_t)1 << 20)
/* Room for every reply that is a structure. */
#define FS_FIXED_MAX 128

/*
 * A reply, made in memory that the transport lends. On the wire it is header, then fixed_len
 * bytes of fixed, then data_len bytes of data. data must be memory that nobody else can change
 * meanwhile: blobs are read into it and checked there.
 */
struct fs_reply {
	void *data;             /* lent */
	size_t data_capacity;   /* of it */
	struct fs_ahead *ahead; /* lent, of this thread (fs/ahead.h); or NULL */
	struct fuse_out_header header;
	uint8_t fixed[FS_FIXED_MAX] __attribute__((aligned(8)));
	size_t fixed_len;
	size_t data_len;
	/*
	 * Before this reply, the kernel must be told to drop what it has cached of the root's
	 * listing (FUSE_NOTIFY_INVAL_INODE). Only with FS_CAN_INVALIDATE.
	 */
	bool invalidate_root;
};

enum fs_handle_flags {
	FS_NOWAIT = 1,         /* rather FS_BLOCKED than wait for a disk or a peer */
	FS_CAN_INVALIDATE = 2, /* the transport can notify the kernel: always or never */
	FS_LOCAL = 4,          /* wait for a disk, but rather FS_BLOCKED than for a peer */
};

enum fs_outcome {
	FS_REPLY,    /* send the reply */
	FS_NO_REPLY, /* none is due */
	/* With FS_NOWAIT or FS_LOCAL: nothing was done; ask again without it, on any thread. */
	FS_BLOCKED,
};

/*
 * Handles one request: header and arguments in one piece, as they came. Nothing in it is
 * trusted. The transport sets data and data_capacity of the reply, the rest is filled in.
 */
enum fs_outcome fs_handle(struct fs *fs, struct bytes request, unsigned flags,
			  struct fs_reply *reply);

/* A reply to any request but those that have none: the header alone, with a positive errno. */
void fs_reply_error(uint64_t unique, int errnum, struct fs_reply *reply);
/*
 * The kernel will not see this reply, which fs_handle() made for this request: what it says
 * that the kernel holds from now on, it does not hold.
 */
void fs_take_back(struct fs *fs, struct bytes request, const struct fs_reply *reply);

/*
 * From now on, before INIT, the session lies in memory that outlives this process: an empty
 * memfd, or one of a server before this; borrowed as long as fs lives. Asker: 1, there is a
 * session to go on with, and fs_passes_through() tells of it; after fs_set_backing(), if so, it
 * begins with fs_resume(). ERROR_UNSUPPORTED: it is of another version.
 */
int fs_keep(struct fs *fs, int fd, struct error *err);
/*
 * Goes on with it. May take as long as reading all directories that are in use. The server
 * before must have ended. When it fails, the session is still there for another attempt.
 */
int fs_resume(struct fs *fs, struct error *err);
/* True while fs_keep() has memory for it. */
bool fs_is_kept(const struct fs *fs);
/* True when the kernel gives requests that a dead server had taken to the next one. */
bool fs_can_be_resumed(const struct fs *fs);

/* True between a successful INIT and the end of its session. */
bool fs_has_session(const struct fs *fs);
/* Ends the session, as DESTROY does: every node id is forgotten. */
void fs_reset(struct fs *fs);
/*
 * Goes on with a session that began with another server, unless there is one: the kernel will
 * not send INIT again. Node ids that it has from there are ESTALE, except for the root's.
 */
void fs_adopt(struct fs *fs);

/*
 * A session for another server of the same store to go on with, in bytes of its own format. No
 * request may be in the handler. Restoring is for a new struct fs, and may take as long as
 * reading all directories that are in use; when it fails, there is no session.
 */
#define FS_STATE_MAX ((size_t)256 << 20)
int fs_save(struct fs *fs, struct buffer *out, struct error *err);
int fs_restore(struct fs *fs, struct bytes state, struct error *err);

/*
 * What INIT agreed on, for people: a line for each feature of the kernel that is used, or
 * missed, and what follows from it.
 */
void fs_describe_session(const struct fs *fs, void (*line)(void *context, const char *text),
			 void *context);

struct fs_stats {
	uint64_t directories; /* known to the kernel */
	uint64_t contents;    /* Directory objects held */
	uint64_t memory;      /* bytes for both */
	uint64_t backings;    /* plain files that the kernel has by their ids */
};
void fs_get_stats(struct fs *fs, struct fs_stats *out);

/*
 * How many requests there were, for people: "12 requests: LOOKUP 9, READ 3". In out, whole
 * words as far as they fit; returns out.
 */
#define FS_REQUESTS_TEXT_SIZE 800
const char *fs_describe_requests(const struct fs *fs, char out[FS_REQUESTS_TEXT_SIZE]);
