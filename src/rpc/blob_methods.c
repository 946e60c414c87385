/* BlobService. */

#include "base/pipeline.h"
#include "rpc/store_methods_internal.h"

/* Bytes of a blob in one message. */
#define PIECE ((size_t)512 << 10)

/* ---- Stat ---- */

static void put_chunks(struct buffer *out, const struct chunk_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct chunk_message m = {.digest = digest_bytes(&list->chunks[i].digest),
					  .size = list->chunks[i].size};

		message_put_typed(out, 2, &chunk_message_type, &m);
	}
}

static int stat_blob(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct buffer answer cleanup(buffer_done) = {0};
	struct stat_blob_request m;
	struct chunk_list list = {0};
	struct digest digest;
	int rc = request_receive(c, &stat_blob_request_type, &r, &m, err);

	if (rc == 0) {
		rc = message_digest(m.digest, &digest, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = m.send_chunks ? blob_service_chunks(s->store->blobs, &digest, &list, err)
			   : blob_service_has(s->store->blobs, &digest, err);
	if (rc <= 0) {
		return rc < 0 ? rc : not_found("blob", &digest, err);
	}
	put_chunks(&answer, &list);
	chunk_list_done(&list);
	server_call_reply_bytes(c, buffer_bytes(&answer));
	return 0;
}

/* ---- Read ---- */

static int send_piece(struct server_call *c, uint8_t *piece, size_t len, struct error *err)
{
	struct rpc_message m = {0};
	struct buffer head cleanup(buffer_done) = {0};

	message_put_element_head(&head, 1, len);
	rpc_message_set_parts(&m, buffer_bytes(&head), bytes_of(piece, len), free, piece);
	return server_call_send(c, &m, err);
}

static int send_blob(struct server_call *c, struct blob_reader *r, struct error *err)
{
	uint64_t size = blob_reader_size(r);
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size;) {
		size_t len = (size_t)MIN(size - at, (uint64_t)PIECE), got = 0;
		uint8_t *piece = malloc(len);

		if (!piece) {
			return error_set(err, ERROR_LIMIT, "no memory for a piece of a blob");
		}
		rc = blob_reader_pread(r, piece, len, at, &got, err);
		if (rc < 0) {
			free(piece);
			return rc;
		}
		rc = send_piece(c, piece, got, err);
		at += got;
	}
	return rc;
}

static int read_blob(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct blob_reader *reader cleanup(cleanup_blob_reader) = NULL;
	struct digest digest;
	int rc = request_digest(c, &digest, err);

	if (rc == 0) {
		rc = blob_service_open(s->store->blobs, &digest, &reader, err);
		rc = rc == 0 ? not_found("blob", &digest, err) : MIN(rc, 0);
	}
	if (rc == 0) {
		rc = send_blob(c, reader, err);
	}
	if (rc == 0) {
		server_call_reply(c, &(struct rpc_message){0});
	}
	return rc;
}

/* ---- Put ---- */

static int write_whole(struct blob_writer *w, const struct rpc_message *m, struct error *err)
{
	struct buffer storage cleanup(buffer_done) = {0};
	struct blob_chunk chunk;
	int rc = message_decode(&blob_chunk_type, rpc_message_bytes(m, &storage), &chunk, err);

	return rc == 0 && chunk.data.len ? blob_writer_write(w, chunk.data, err) : rc;
}

/* Piece by piece, as they came, where nothing but the data is in the message. */
static int write_chunk(struct blob_writer *w, const struct rpc_message *m, struct error *err)
{
	size_t count = rpc_message_piece_count(m);
	size_t skip =
		count ? message_blob_chunk_head(rpc_message_piece(m, 0), rpc_message_size(m))
		      : 0;
	int rc = 0;

	if (skip == 0) {
		return write_whole(w, m, err);
	}
	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct bytes piece = rpc_message_piece(m, i);

		if (piece.len > skip) {
			rc = blob_writer_write(w, bytes_of(piece.ptr + skip, piece.len - skip),
					       err);
		}
		skip = 0;
	}
	return rc;
}

/* Messages of one upload: some are written while the next ones come in. */
#define SLOTS 4

struct reception {
	struct blob_writer *writer;
	struct rpc_message messages[SLOTS];
};

static int write_slot(void *context, size_t slot, struct error *err)
{
	struct reception *r = context;
	int rc = write_chunk(r->writer, &r->messages[slot], err);

	rpc_message_done(&r->messages[slot]);
	return rc;
}

/* What is more than a few pieces long does not wait together with others. */
static int receive_messages(struct server_call *c, struct reception *r, struct pipeline *p,
			    struct error *err)
{
	size_t slot;
	int rc;

	while ((rc = pipeline_claim(p, &slot, err)) == 0) {
		rc = server_call_receive(c, &r->messages[slot], err);
		if (rc <= 0) {
			break;
		}
		bool large = rpc_message_size(&r->messages[slot]) > 2 * PIECE;

		pipeline_publish(p);
		rc = large ? pipeline_finish(p, err) : 0;
		if (rc < 0) {
			break;
		}
	}
	return rc < 0 ? rc : pipeline_finish(p, err);
}

static int receive_blob(struct server_call *c, struct blob_writer *w, struct error *err)
{
	struct reception r = {.writer = w};
	const struct pipeline_plan plan = {
		.stages = {{.run = write_slot, .ordered = true}},
		.stage_count = 1,
		.slot_count = SLOTS,
		.threads = 2,
		.context = &r,
	};
	struct pipeline *p = pipeline_new(&plan);
	int rc = receive_messages(c, &r, p, err);

	pipeline_free(p);
	for (size_t i = 0; i < SLOTS; i++) {
		rpc_message_done(&r.messages[i]);
	}
	return rc;
}

static int create_writer(struct store_methods *s, struct blob_writer **out, struct error *err)
{
	int rc = write_turn_begin(&s->turns, err);

	if (rc == 0) {
		rc = blob_service_create(s->store->blobs, out, err);
		write_turn_end(&s->turns, rc);
	}
	return rc;
}

/* Ends the writer. */
static int commit_blob(struct store_methods *s, struct blob_writer *w, struct digest *digest,
		       struct error *err)
{
	int rc = write_turn_begin(&s->turns, err);

	if (rc < 0) {
		blob_writer_free(w);
		return rc;
	}
	rc = blob_writer_commit(w, digest, NULL, err);
	if (rc == 0) {
		rc = blob_service_sync(s->store->blobs, err);
	}
	write_turn_end(&s->turns, rc);
	return rc;
}

static int put_blob_method(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct blob_writer *w = NULL;
	struct digest digest;
	int rc = create_writer(s, &w, err);

	if (rc < 0) {
		return rc;
	}
	rc = receive_blob(c, w, err);
	if (rc < 0) {
		blob_writer_free(w);
		return rc;
	}
	rc = commit_blob(s, w, &digest, err);
	if (rc == 0) {
		reply_digest(c, &digest);
	}
	return rc;
}

static const struct rpc_method methods[] = {
	{"Stat", RPC_MAY_READ, stat_blob},
	{"Read", RPC_MAY_READ, read_blob},
	{"Put", RPC_MAY_WRITE, put_blob_method},
};

const struct rpc_service blob_methods_service = {
	.names = {"tvix.castore.v1.BlobService", "snix.castore.v1.BlobService"},
	.methods = methods,
	.method_count = ARRAY_SIZE(methods),
};
