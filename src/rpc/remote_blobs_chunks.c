/* The chunks that a peer says a blob consists of. */

#include "rpc/answer.h"
#include "rpc/remote_blobs_internal.h"

/* Asker. */
static int stat_blob(struct remote *r, const struct digest *digest, struct chunk_list *out,
		     struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct stat_blob_request m = {.digest = digest_bytes(digest), .send_chunks = true};

	message_encode(&stat_blob_request_type, &m, &request);
	int rc = peer_lookup(r->peer, PEER_METHOD(PEER_BLOBS, "Stat"), buffer_bytes(&request),
			     &reply, err);

	if (rc > 0) {
		rc = answer_chunks(buffer_bytes(&reply), out, err);
		rc = rc < 0 ? rc : 1;
	}
	return rc;
}

static int check_chunk(struct blob_reader *r, uint64_t offset, const struct chunk *chunk,
		       struct hasher *hasher, uint8_t *buf, size_t size, struct error *err)
{
	struct digest found;
	size_t got;
	int rc = 0;

	hasher_reset(hasher);
	for (uint64_t done = 0; rc == 0 && done < chunk->size; done += got) {
		size_t n = (size_t)MIN(size, chunk->size - done);

		rc = blob_reader_pread(r, buf, n, offset + done, &got, err);
		if (rc == 0 && got < n) {
			return error_set(err, ERROR_CORRUPT, "chunks of more than the blob");
		}
		hasher_update(hasher, bytes_of(buf, rc == 0 ? got : 0));
	}
	hasher_finish(hasher, &found);
	if (rc == 0 && !digest_equal(&found, &chunk->digest)) {
		rc = error_set(err, ERROR_CORRUPT, "a chunk of other bytes");
	}
	return rc;
}

#define CHECK_PIECE ((size_t)1 << 20)

static int check_all_chunks(struct blob_reader *r, const struct chunk_list *list,
			    struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(CHECK_PIECE);
	struct hasher *hasher = hasher_new();
	uint64_t offset = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < list->count; i++) {
		rc = check_chunk(r, offset, &list->chunks[i], hasher, buf, CHECK_PIECE, err);
		offset += list->chunks[i].size;
	}
	hasher_free(hasher);
	if (rc == 0 && offset != blob_reader_size(r)) {
		rc = error_set(err, ERROR_CORRUPT, "chunks of less than the blob");
	}
	return rc;
}

/*
 * Digests of chunks do not give the digest of the blob, so a list can only be checked against
 * the whole, which is read for it.
 */
static int check_chunks(struct remote *remote, struct blob_service *s,
			const struct digest *digest, const struct chunk_list *list,
			struct error *err)
{
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;
	int rc = blob_service_open(s, digest, &r, err);

	if (rc > 0) {
		rc = check_all_chunks(r, list, err);
		rc = rc < 0 ? error_wrap(err, "%s: blob %s", peer_address(remote->peer),
					 digest_text(digest))
			    : 1;
	}
	return rc;
}

int remote_blobs_chunks(struct remote *r, struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err)
{
	struct object *o cleanup(cleanup_object) = outbox_find(r->outbox, OUTBOX_BLOBS, digest);
	struct chunk_list list = {0};
	int rc = o ? 1 : stat_blob(r, digest, &list, err);

	if (rc > 0 && list.count) {
		rc = check_chunks(r, s, digest, &list, err);
	}
	if (rc > 0) {
		*out = list;
	} else {
		chunk_list_done(&list);
	}
	return rc;
}
