#include "fs/fs_internal.h"

/*
 * Below this an open through the kernel gains nothing, and stores keep no plain files. A file
 * of more than the maximum would keep its first open waiting for seconds, until all of it is
 * verified.
 */
#define PASSTHROUGH_MIN ((uint64_t)256 << 10)
#define PASSTHROUGH_MAX ((uint64_t)8 << 30)

bool passthrough_wanted(const struct fs *fs, const struct node *file)
{
	return atomic_load(&fs->passthrough) && file->size >= PASSTHROUGH_MIN &&
	       file->size <= PASSTHROUGH_MAX;
}

/* Reads all of it, which verifies it; the bytes go into the reply's room and are of no use. */
static int verify(struct request *r, struct blob_reader *reader, struct error *err)
{
	uint64_t size = blob_reader_size(reader);
	size_t got;

	for (uint64_t at = 0; at < size; at += got) {
		int rc = blob_reader_pread(reader, r->reply->data, r->reply->data_capacity, at,
					   &got, err);

		if (rc < 0) {
			return rc;
		}
		if (got == 0) {
			return error_set(err, ERROR_CORRUPT, "it is shorter than %llu bytes",
					 (unsigned long long)size);
		}
	}
	return 0;
}

/* The first open of a blob. */
static int register_blob(struct request *r, const struct node *file, struct backing *out)
{
	struct blob_reader *reader cleanup(cleanup_blob_reader) = NULL;
	struct error err = {.code = ERROR_NONE};
	int rc = blob_service_open(r->fs->blobs, &file->digest, &reader, &err);

	if (rc <= 0) {
		return file_fault(r->fs, file, rc, &err);
	}
	int fd = blob_reader_fd(reader);

	/* The kernel would show the size of the plain file, whatever the directory says. */
	if (blob_reader_size(reader) != file->size) {
		fd = -1;
	}
	if (fd >= 0) {
		rc = verify(r, reader, &err);
		if (rc < 0) {
			return file_fault(r->fs, file, rc, &err);
		}
	}
	rc = backing_table_add(r->fs->backings, &file->digest, fd, out, &err);
	return rc < 0 ? error_to_errno(&err) : 0;
}

/* Opening a blob that a peer has would fetch it: a byte tells where it is. */
static bool is_at_peer(struct request *r, const struct node *file)
{
	struct error err = {.code = ERROR_NONE};
	size_t got;

	return blob_service_read(r->fs->blobs, &file->digest, 0, r->reply->data, 1,
				 BLOB_READ_LOCAL, &got, &err) == -ERROR_WOULD_BLOCK;
}

int passthrough_open(struct request *r, const struct node *file, struct fuse_open_out *out)
{
	struct backing backing;

	if (backing_table_find(r->fs->backings, &file->digest, &backing) == 0) {
		if ((r->flags & FS_NOWAIT) || ((r->flags & FS_LOCAL) && is_at_peer(r, file))) {
			return HANDLED_BLOCKED;
		}
		int rc = register_blob(r, file, &backing);

		if (rc != 0) {
			return rc;
		}
	}
	out->fh = backing.handle;
	if (backing.passed) {
		out->open_flags = FOPEN_PASSTHROUGH | FOPEN_NOFLUSH;
		fuse_open_out_set_backing(out, backing.id);
	}
	return 0;
}
