/* Files and symlinks of an export. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "ingest/export_internal.h"

#define STREAM_PIECE ((size_t)1 << 20)

struct output {
	int fd;
	uint64_t size;
};

/* Writes a piece of a file that begins at a multiple of a hole's size. */
static int write_piece(const struct output *out, const uint8_t *data, size_t len,
		       uint64_t offset, struct error *err)
{
	if (pwrite_sparse(out->fd, data, len, (off_t)offset) != 0) {
		return error_set_errno(err, errno, "cannot write");
	}
	return 0;
}

static int set_absent(struct error *err)
{
	return error_set(err, ERROR_UNAVAILABLE, "the blob is not in the store");
}

static int set_wrong_size(struct error *err, uint64_t expected)
{
	return error_set(err, ERROR_CORRUPT,
			 "the blob does not have the %llu bytes that its directory says",
			 (unsigned long long)expected);
}

static int write_whole(struct export_worker *w, const struct output *out,
		       const struct digest *digest, struct error *err)
{
	size_t got, size = (size_t)out->size;
	/* One byte more than there should be, to see that there is no more. */
	int r = blob_service_read(w->exporting->store->blobs, digest, 0, w->buffer, size + 1, 0,
				  &got, err);

	if (r <= 0) {
		return r < 0 ? r : set_absent(err);
	}
	if (got != size) {
		return set_wrong_size(err, out->size);
	}
	return write_piece(out, w->buffer, size, 0, err);
}

static int copy_content(struct export_worker *w, struct blob_reader *in,
			const struct output *out, struct error *err)
{
	for (uint64_t at = 0; at < out->size;) {
		size_t want = (size_t)MIN(out->size - at, STREAM_PIECE), got;

		if (export_stopping(w)) {
			return work_stop(err);
		}
		int r = blob_reader_pread(in, w->buffer, want, at, &got, err);

		if (r < 0) {
			return r;
		}
		if (got != want) {
			return set_wrong_size(err, out->size);
		}
		r = write_piece(out, w->buffer, got, at, err);
		if (r < 0) {
			return r;
		}
		at += got;
	}
	return 0;
}

static int write_streamed(struct export_worker *w, const struct output *out,
			  const struct digest *digest, struct error *err)
{
	struct blob_reader *in cleanup(cleanup_blob_reader) = NULL;
	int r = blob_service_open(w->exporting->store->blobs, digest, &in, err);

	if (r <= 0) {
		return r < 0 ? r : set_absent(err);
	}
	if (blob_reader_size(in) != out->size) {
		return set_wrong_size(err, out->size);
	}
	return copy_content(w, in, out, err);
}

static int write_content(struct export_worker *w, const struct output *out,
			 const struct digest *digest, const struct bytes *content,
			 struct error *err)
{
	int r;

	if (out->size == 0) {
		return digest_equal(digest, &digest_empty) ? 0 : set_wrong_size(err, 0);
	}
	if (content) {
		r = write_piece(out, content->ptr, content->len, 0, err);
	} else if (out->size <= EXPORT_WHOLE_MAX) {
		r = write_whole(w, out, digest, err);
	} else {
		r = write_streamed(w, out, digest, err);
	}
	/* A hole at the end needs the size told. */
	if (r == 0 && out->size >= HOLE_SIZE_MIN && ftruncate(out->fd, (off_t)out->size) != 0) {
		r = error_set_errno(err, errno, "cannot set the size");
	}
	return r;
}

static int make_file(struct export_worker *w, int dirfd, const char *name,
		     const struct node *node, const struct bytes *content, struct error *err)
{
	struct output out = {
		.fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			     node->executable ? 0755 : 0644),
		.size = node->size,
	};

	if (out.fd < 0) {
		return error_set_errno(err, errno, "cannot create");
	}
	int r = node->size > INT64_MAX ? error_set(err, ERROR_LIMIT, "too large for a file")
				       : write_content(w, &out, &node->digest, content, err);

	/* Some file systems tell of a full disk or quota only now. */
	if (close(out.fd) != 0 && r == 0) {
		r = error_set_errno(err, errno, "cannot write");
	}
	if (r < 0) {
		/* Better no file than one that looks complete. */
		unlinkat(dirfd, name, 0);
		return error_wrap(err, "%s", digest_text(&node->digest));
	}
	atomic_fetch_add_explicit(&w->exporting->stats->files, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->exporting->stats->bytes, node->size,
				  memory_order_relaxed);
	return 0;
}

static int make_symlink(struct export_worker *w, int dirfd, const char *name,
			const struct node *node, struct error *err)
{
	char target[NODE_TARGET_MAX + 1];

	if (!node_target_valid(node->target)) {
		return error_set(err, ERROR_CORRUPT, "the symlink's target is not valid");
	}
	memcpy(target, node->target.ptr, node->target.len);
	target[node->target.len] = '\0';
	if (symlinkat(target, dirfd, name) != 0) {
		return error_set_errno(err, errno, "cannot create the symlink");
	}
	atomic_fetch_add_explicit(&w->exporting->stats->symlinks, 1, memory_order_relaxed);
	return 0;
}

int export_leaf(struct export_worker *w, int dirfd, const char *name, const struct node *node,
		const struct bytes *content, struct error *err)
{
	return node->kind == NODE_FILE ? make_file(w, dirfd, name, node, content, err)
				       : make_symlink(w, dirfd, name, node, err);
}
