/* Blobs that are put by their content, and not by a writer. */

#include "rpc/file_upload.h"
#include "rpc/remote_blobs_internal.h"

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
	struct peer_retry retry = {.peer = r->peer};
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

int remote_blobs_put_file(struct remote *r, struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	const struct file_upload_plan plan = {
		.remote = r, .fd = fd, .size = size, .watch = watch, .blobs = s};
	int rc = remote_check_writable(r, err);

	if (rc < 0) {
		return rc;
	}
	return size <= OUTBOX_OBJECT_MAX
		       ? blob_service_put_file_by_writer(s, fd, size, watch, out, err)
		       : file_upload(&plan, out, err);
}
