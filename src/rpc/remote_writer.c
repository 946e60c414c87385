#include "rpc/answer.h"
#include "rpc/remote.h"

/* Of one message. */
#define PIECE ((size_t)1 << 20)

struct remote_writer {
	struct blob_writer base;
	struct remote *remote; /* a reference */
	struct hasher *hasher;
	struct client_call *call; /* NULL as long as all is in `pending` */
	struct buffer pending;    /* not sent yet: less than a piece */
	struct buffer message;
	uint64_t size;
};

static int send_piece(struct remote_writer *w, struct bytes data, bool last, struct error *err)
{
	struct blob_chunk chunk = {.data = data};

	w->message.len = 0;
	message_encode(&blob_chunk_type, &chunk, &w->message);
	return client_call_send(w->call, buffer_bytes(&w->message), last, err);
}

/* Fills a piece and sends it, or keeps what does not fill one. */
static int send_some(struct remote_writer *w, struct bytes *data, struct error *err)
{
	size_t n = MIN(data->len, PIECE - w->pending.len);
	struct bytes piece = bytes_of(data->ptr, n);
	int rc = 0;

	if (w->pending.len > 0 || n < PIECE) {
		buffer_append(&w->pending, data->ptr, n);
		piece = buffer_bytes(&w->pending);
	}
	if (piece.len == PIECE) {
		rc = send_piece(w, piece, false, err);
		w->pending.len = 0;
	}
	*data = bytes_of(data->ptr + n, data->len - n);
	return rc;
}

static int writer_write(struct blob_writer *base, struct bytes data, struct error *err)
{
	struct remote_writer *w = container_of(base, struct remote_writer, base);
	int rc = 0;

	w->size += data.len;
	if (!w->call && w->size > OUTBOX_OBJECT_MAX) {
		rc = peer_upload(w->remote->peer, PEER_METHOD(PEER_BLOBS, "Put"), &w->call,
				 err);
	}
	if (rc == 0 && !w->call) {
		buffer_append(&w->pending, data.ptr, data.len);
	}
	for (struct bytes rest = data; rc == 0 && w->call && rest.len;) {
		rc = send_some(w, &rest, err);
	}
	/* While what was sent is on its way. */
	hasher_update(w->hasher, data);
	return rc;
}

static void writer_free(struct blob_writer *base)
{
	struct remote_writer *w = container_of(base, struct remote_writer, base);

	client_call_free(w->call);
	hasher_free(w->hasher);
	buffer_done(&w->pending);
	buffer_done(&w->message);
	remote_unref(w->remote);
	free(w);
}

static int finish_call(struct remote_writer *w, const struct digest *digest, struct error *err)
{
	struct buffer reply cleanup(buffer_done) = {0};
	int rc = send_piece(w, buffer_bytes(&w->pending), true, err);

	if (rc == 0) {
		rc = client_call_receive_one(w->call, &reply, err);
	}
	if (rc == 0) {
		rc = answer_check_digest(buffer_bytes(&reply), "blob", digest, err);
	}
	return rc;
}

static int writer_commit(struct blob_writer *base, struct digest *digest_out,
			 uint64_t *size_out, struct error *err)
{
	struct remote_writer *w = container_of(base, struct remote_writer, base);
	struct digest digest;
	int rc = 0;

	hasher_finish(w->hasher, &digest);
	if (w->call) {
		rc = finish_call(w, &digest, err);
	} else if (w->size) {
		rc = outbox_put(w->remote->outbox, OUTBOX_BLOBS, &digest,
				buffer_bytes(&w->pending), err);
	}
	if (rc == 0) {
		*digest_out = digest;
		*size_out = w->size;
	}
	writer_free(base);
	return rc;
}

static const struct blob_writer_ops writer_ops = {
	.write = writer_write,
	.commit = writer_commit,
	.free = writer_free,
};

struct blob_writer *remote_writer_new(struct remote *r)
{
	struct remote_writer *w = xcalloc(1, sizeof(*w));

	w->base.ops = &writer_ops;
	w->remote = remote_ref(r);
	w->hasher = hasher_new();
	return &w->base;
}
