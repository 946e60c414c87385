/* Blobs that are put by their content, and not by a writer. */

#include <errno.h>

#include "base/io.h"
#include "rpc/remote_blobs_internal.h"

/* Of a file, read at once. */
#define PIECE ((size_t)1 << 20)

static int put_large(struct remote *r, struct bytes content, const struct digest *digest,
		     struct error *err)
{
	struct blob_writer *w = remote_writer_new(r);
	struct digest found;
	int rc = blob_writer_write(w, content, err);

	if (rc < 0) {
		blob_writer_free(w);
		return rc;
	}
	rc = blob_writer_commit(w, &found, NULL, err);
	if (rc == 0 && !digest_equal(&found, digest)) {
		rc = error_set(err, ERROR_INVALID, "%s is not the digest of %zu bytes",
			       digest_text(digest), content.len);
	}
	return rc;
}

int remote_blobs_put(struct remote *r, struct blob_service *s, struct bytes content,
		     const struct digest *digest, struct error *err)
{
	struct peer_retry retry = {0};
	int rc = remote_check_writable(r, err);

	if (rc < 0) {
		return rc;
	}
	if (content.len <= OUTBOX_OBJECT_MAX) {
		return outbox_put(r->outbox, OUTBOX_BLOBS, digest, content, err);
	}
	do {
		rc = blob_service_has(s, digest, err);
		if (rc == 0) {
			rc = put_large(r, content, digest, err);
		}
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc < 0 ? rc : 0;
}

static int hash_file(int fd, uint64_t size, struct blob_watch *watch, struct digest *out,
		     struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(PIECE);
	struct hasher *hasher = hasher_new();
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size;) {
		size_t want = (size_t)MIN(size - at, PIECE);
		ssize_t n = pread_full(fd, buf, want, (off_t)at);

		if (n < 0) {
			rc = error_set_errno(err, errno, "cannot read");
		} else if ((size_t)n < want) {
			rc = error_set(err, ERROR_CHANGED, "the file became shorter");
		} else {
			hasher_update(hasher, bytes_of(buf, want));
			rc = blob_watch_advance(watch, 0, err);
		}
		at += want;
	}
	hasher_finish(hasher, out);
	hasher_free(hasher);
	return rc;
}

/* A large file is read twice rather than sent in vain. */
int remote_blobs_put_file(struct remote *r, struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	struct digest digest;
	int rc = remote_check_writable(r, err);

	if (rc < 0) {
		return rc;
	}
	if (size <= OUTBOX_OBJECT_MAX) {
		return blob_service_put_file_by_writer(s, fd, size, watch, out, err);
	}
	rc = hash_file(fd, size, watch, &digest, err);
	if (rc == 0) {
		rc = blob_service_has(s, &digest, err);
	}
	if (rc == 0) {
		return blob_service_put_file_by_writer(s, fd, size, watch, out, err);
	}
	if (rc > 0) {
		*out = digest;
		rc = blob_watch_advance(watch, size, err);
	}
	return rc;
}
