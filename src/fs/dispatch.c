#include "fs/fs_internal.h"

/* What the kernel must not ask again for: it remembers most of these per connection. */
static int handle_unsupported(struct request *r unused)
{
	return ENOSYS;
}

static int handle_read_only(struct request *r unused)
{
	return EROFS;
}

static int handle_nothing(struct request *r unused)
{
	return 0;
}

/* Everything is answered in full in the end; nobody is waiting for the interruption. */
static int handle_silently(struct request *r unused)
{
	return HANDLED_SILENTLY;
}

static int handle_statfs(struct request *r)
{
	/* A view of a store has no size of its own, and nothing is free in it. */
	const struct fuse_statfs_out out = {
		.st = {.bsize = 4096, .frsize = 4096, .namelen = NODE_NAME_MAX}};

	request_reply(r, &out, sizeof(out));
	return 0;
}

struct opcode {
	fs_handler handler;
	size_t arg_min; /* bytes of arguments without which the request is malformed */
};

/* Opcodes that are missing here are answered ENOSYS. */
static const struct opcode opcodes[] = {
	[FUSE_LOOKUP] = {handle_lookup, 2},
	[FUSE_FORGET] = {handle_forget, sizeof(struct fuse_forget_in)},
	[FUSE_GETATTR] = {handle_getattr, 0},
	[FUSE_SETATTR] = {handle_read_only, 0},
	[FUSE_READLINK] = {handle_readlink, 0},
	[FUSE_SYMLINK] = {handle_read_only, 0},
	[FUSE_MKNOD] = {handle_read_only, 0},
	[FUSE_MKDIR] = {handle_read_only, 0},
	[FUSE_UNLINK] = {handle_read_only, 0},
	[FUSE_RMDIR] = {handle_read_only, 0},
	[FUSE_RENAME] = {handle_read_only, 0},
	[FUSE_LINK] = {handle_read_only, 0},
	[FUSE_OPEN] = {handle_open, sizeof(struct fuse_open_in)},
	[FUSE_READ] = {handle_read, sizeof(struct fuse_read_in)},
	[FUSE_WRITE] = {handle_read_only, 0},
	[FUSE_STATFS] = {handle_statfs, 0},
	[FUSE_RELEASE] = {handle_release, sizeof(struct fuse_release_in)},
	[FUSE_SETXATTR] = {handle_read_only, 0},
	[FUSE_GETXATTR] = {handle_getxattr, sizeof(struct fuse_getxattr_in)},
	[FUSE_LISTXATTR] = {handle_listxattr, sizeof(struct fuse_getxattr_in)},
	[FUSE_REMOVEXATTR] = {handle_read_only, 0},
	[FUSE_INIT] = {handle_init, 2 * sizeof(uint32_t)},
	[FUSE_OPENDIR] = {handle_opendir, sizeof(struct fuse_open_in)},
	[FUSE_READDIR] = {handle_readdir, sizeof(struct fuse_read_in)},
	[FUSE_RELEASEDIR] = {handle_nothing, 0},
	[FUSE_CREATE] = {handle_read_only, 0},
	[FUSE_INTERRUPT] = {handle_silently, 0},
	[FUSE_DESTROY] = {handle_destroy, 0},
	[FUSE_NOTIFY_REPLY] = {handle_silently, 0},
	[FUSE_BATCH_FORGET] = {handle_batch_forget, sizeof(struct fuse_batch_forget_in)},
	[FUSE_FALLOCATE] = {handle_read_only, 0},
	[FUSE_READDIRPLUS] = {handle_readdirplus, sizeof(struct fuse_read_in)},
	[FUSE_RENAME2] = {handle_read_only, 0},
	[FUSE_COPY_FILE_RANGE] = {handle_read_only, 0},
	[FUSE_TMPFILE] = {handle_read_only, 0},
};

static bool is_silent(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET ||
	       opcode == FUSE_INTERRUPT || opcode == FUSE_NOTIFY_REPLY;
}

void request_reply(struct request *r, const void *fixed, size_t len)
{
	memcpy(r->reply->fixed, fixed, len);
	r->reply->fixed_len = len;
}

void request_reply_data(struct request *r, size_t len)
{
	r->reply->data_len = len;
}

int request_reply_bytes(struct request *r, struct bytes b)
{
	if (b.len > r->reply->data_capacity) {
		return ERANGE;
	}
	if (b.len > 0) {
		memcpy(r->reply->data, b.ptr, b.len);
	}
	request_reply_data(r, b.len);
	return 0;
}

int request_object(struct request *r, struct object *out)
{
	return node_table_get(r->fs->nodes, r->header.nodeid, out) > 0 ? 0 : ESTALE;
}

/* Copies the header and finds the arguments. False: there is no request in these bytes. */
static bool request_parse(struct request *r, struct bytes bytes)
{
	if (bytes.len < sizeof(r->header)) {
		return false;
	}
	memcpy(&r->header, bytes.ptr, sizeof(r->header));
	return true;
}

/* The arguments: what follows the header, without extensions. */
static int request_find_arg(struct request *r, struct bytes bytes)
{
	size_t extensions = (size_t)r->header.total_extlen * 8;

	if (r->header.len > bytes.len || r->header.len < sizeof(r->header) + extensions) {
		return EINVAL;
	}
	r->arg = bytes_of(bytes.ptr + sizeof(r->header),
			  r->header.len - sizeof(r->header) - extensions);
	return 0;
}

static int request_handle(struct request *r, struct bytes bytes)
{
	static const struct opcode unknown = {handle_unsupported, 0};
	const struct opcode *op = &unknown;

	if (r->header.opcode < ARRAY_SIZE(opcodes) && opcodes[r->header.opcode].handler) {
		op = &opcodes[r->header.opcode];
	}
	int rc = request_find_arg(r, bytes);

	if (rc == 0 && r->arg.len < op->arg_min) {
		rc = EINVAL;
	}
	if (rc == 0 && r->header.opcode != FUSE_INIT && !atomic_load(&r->fs->session)) {
		rc = EIO;
	}
	if (rc == 0) {
		rc = op->handler(r);
	}
	return rc > 0 && is_silent(r->header.opcode) ? HANDLED_SILENTLY : rc;
}

void fs_reply_error(uint64_t unique, int errnum, struct fs_reply *reply)
{
	reply->fixed_len = 0;
	reply->data_len = 0;
	reply->invalidate_root = false;
	reply->header = (struct fuse_out_header){
		.len = sizeof(reply->header), .error = -errnum, .unique = unique};
}

enum fs_outcome fs_handle(struct fs *fs, struct bytes request, unsigned flags,
			  struct fs_reply *reply)
{
	struct request r = {.fs = fs, .flags = flags, .reply = reply};

	reply->fixed_len = 0;
	reply->data_len = 0;
	reply->invalidate_root = false;
	if (!request_parse(&r, request)) {
		return FS_NO_REPLY;
	}
	int rc = request_handle(&r, request);

	if (rc == HANDLED_BLOCKED) {
		return FS_BLOCKED;
	}
	request_count(fs, r.header.opcode);
	if (rc == HANDLED_SILENTLY) {
		return FS_NO_REPLY;
	}
	if (rc != 0) {
		fs_reply_error(r.header.unique, rc, reply);
		return FS_REPLY;
	}
	reply->header = (struct fuse_out_header){
		.len = (uint32_t)(sizeof(reply->header) + reply->fixed_len + reply->data_len),
		/* As it came, also where the kernel marked it as sent again. */
		.unique = r.header.unique,
	};
	return FS_REPLY;
}
