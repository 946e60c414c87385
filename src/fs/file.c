#include <fcntl.h>

#include "fs/fs_internal.h"

/* What may be opened, and how. */
static int check_open(const struct node *node, const struct fuse_open_in *in)
{
	if (node->kind == NODE_DIRECTORY) {
		return EISDIR;
	}
	if (node->kind == NODE_SYMLINK) {
		return ELOOP;
	}
	return (in->flags & O_ACCMODE) != O_RDONLY || (in->flags & O_TRUNC) ? EROFS : 0;
}

int handle_open(struct request *r)
{
	/* Nothing is flushed on close, and pages of an earlier open are as good as new ones. */
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
	struct object o cleanup(object_done);
	struct fuse_open_in in;
	int rc = request_object(r, &o);

	request_arg(r, &in);
	rc = rc ? rc : check_open(&o.node, &in);
	if (rc != 0) {
		return rc;
	}
	if (atomic_load(&r->fs->no_open)) {
		return ENOSYS;
	}
	if (passthrough_wanted(r->fs, &o.node)) {
		rc = passthrough_open(r, &o.node, &out);
	}
	if (rc == 0) {
		request_reply(r, &out, sizeof(out));
	}
	return rc;
}

/*
 * A server that dies between counting a RELEASE and answering it gets it again, or its
 * successor does. Counted twice, an id could go with which a file is still open.
 */
static bool is_counted(const struct request *r)
{
	struct keep_header *h = r->fs->keep.header;
	uint64_t unique = r->header.unique & ~FUSE_UNIQUE_RESEND;

	if (!h) {
		return false;
	}
	if ((r->header.unique & FUSE_UNIQUE_RESEND) && h->released == unique) {
		return true;
	}
	h->released = unique;
	keep_order();
	return false;
}

/* By one thread at a time, as it never waits. */
int handle_release(struct request *r)
{
	struct fuse_release_in in;

	request_arg(r, &in);
	if (in.fh && r->fs->backings && !is_counted(r)) {
		backing_table_release(r->fs->backings, in.fh);
	}
	return 0;
}

int file_fault(struct fs *fs, const struct node *file, int rc, const struct error *err)
{
	const char *text = digest_text(&file->digest);

	if (rc == 0) {
		fs_complain(fs, &file->digest, "blob %s is absent", text);
	} else if (rc < 0) {
		fs_complain(fs, &file->digest, "cannot read blob %s: %s", text, err->text);
	} else {
		fs_complain(fs, &file->digest,
			    "blob %s is shorter than the %llu bytes that a "
			    "directory says",
			    text, (unsigned long long)file->size);
	}
	return EIO;
}

static int read_blob(struct request *r, const struct node *file, uint64_t offset, size_t len)
{
	unsigned flags = (r->flags & FS_NOWAIT ? BLOB_READ_NOWAIT : 0) |
			 (r->flags & FS_LOCAL ? BLOB_READ_LOCAL : 0);
	struct error err = {.code = ERROR_NONE};
	size_t got = 0;
	int rc = blob_service_read(r->fs->blobs, &file->digest, offset, r->reply->data, len,
				   flags, &got, &err);

	if (rc == -ERROR_WOULD_BLOCK && flags != 0) {
		return HANDLED_BLOCKED;
	}
	/* A short reply would be the end of the file to the kernel, and so wrong content. */
	if (rc <= 0 || got < len) {
		return file_fault(r->fs, file, rc, &err);
	}
	request_reply_data(r, len);
	return 0;
}

static int read_file(struct request *r, const struct node *file, uint64_t offset, size_t len)
{
	struct fs_ahead *ahead = r->reply->ahead;
	int rc = 0;

	if (ahead && ahead_take(ahead, file, offset, len, r->reply)) {
		request_reply_data(r, len);
	} else {
		rc = read_blob(r, file, offset, len);
	}
	if (rc == 0 && ahead && len == file->size) {
		ahead_note(ahead, r->header.nodeid);
	}
	return rc;
}

int handle_read(struct request *r)
{
	struct object o cleanup(object_done);
	struct fuse_read_in in;
	int rc = request_object(r, &o);

	if (rc != 0) {
		return rc;
	}
	if (o.node.kind != NODE_FILE) {
		return o.node.kind == NODE_DIRECTORY ? EISDIR : EINVAL;
	}
	request_arg(r, &in);
	if (in.offset >= o.node.size || in.size == 0) {
		return 0;
	}
	uint64_t len = MIN((uint64_t)in.size, o.node.size - in.offset);

	if (len > r->reply->data_capacity) {
		return EINVAL;
	}
	return read_file(r, &o.node, in.offset, (size_t)len);
}

int handle_readlink(struct request *r)
{
	struct object o cleanup(object_done);
	int rc = request_object(r, &o);

	if (rc != 0) {
		return rc;
	}
	if (o.node.kind != NODE_SYMLINK) {
		return EINVAL;
	}
	return request_reply_bytes(r, o.node.target);
}
