/* cairn.v1.Objects: many small objects at once, and ranges of large ones. */

#include "rpc/rpc_status.h"
#include "rpc/store_methods_internal.h"

static void key_at(struct bytes keys, size_t i, struct digest *out)
{
	memcpy(out->bytes, keys.ptr + i * DIGEST_SIZE, DIGEST_SIZE);
}

/* ---- FindMissing ---- */

static int look_for(struct store *store, const struct find_missing_request *m, bool *missing,
		    size_t count, struct error *err)
{
	/* Bytes, and nothing else. */
	const struct digest *digests = (const struct digest *)(const void *)m->digests.ptr;

	switch (m->kind) {
	case FIND_MISSING_BLOB:
		return blob_service_find_missing(store->blobs, digests, count, missing, err);
	case FIND_MISSING_DIRECTORY:
		return directory_service_find_missing(store->directories, digests, count,
						      missing, err);
	default:
		return error_set(err, ERROR_INVALID, "objects of kind %ju", (uintmax_t)m->kind);
	}
}

static int find_missing(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct find_missing_request m = {0};
	size_t count = 0;
	int rc = request_receive(c, &find_missing_request_type, &r, &m, err);

	if (rc == 0) {
		rc = message_key_count(m.digests, DIGEST_SIZE, &count, err);
	}
	if (rc < 0) {
		return rc;
	}
	bool *missing cleanup(cleanup_free) = xcalloc(count + 1, sizeof(*missing));

	rc = look_for(s->store, &m, missing, count, err);
	if (rc == 0) {
		struct buffer answer cleanup(buffer_done) = {0};

		message_put_missing(&answer, missing, count);
		server_call_reply_bytes(c, buffer_bytes(&answer));
	}
	return rc;
}

/* ---- GetBlobs ---- */

/* Asker: what is small enough goes into content. */
static int read_small(struct store *store, const struct digest *digest, struct buffer *content,
		      bool *large, struct error *err)
{
	size_t got = 0;
	uint64_t size;
	int rc = blob_service_size(store->blobs, digest, &size, err);

	content->len = 0;
	*large = rc > 0 && size > MESSAGE_SMALL_BLOB_MAX;
	if (rc <= 0 || *large || size == 0) {
		return rc;
	}
	rc = blob_service_read(store->blobs, digest, 0, buffer_reserve(content, (size_t)size),
			       (size_t)size, 0, &got, err);
	content->len = got;
	if (rc > 0 && got != size) {
		return error_set(err, ERROR_CORRUPT, "blob %s: %zu bytes where %ju must be",
				 digest_text(digest), got, (uintmax_t)size);
	}
	return rc;
}

/* One that cannot be read does not keep the others from being had. */
static void put_answer(struct store *store, const struct digest *digest, struct buffer *content,
		       struct buffer *answers)
{
	struct error err;
	bool large;
	int rc = read_small(store, digest, content, &large, &err);
	struct blob_answer m = {.state = BLOB_ANSWER_PRESENT};

	if (rc < 0) {
		m.state = BLOB_ANSWER_FAILED;
		m.code = rpc_status_of(err.code);
		m.reason = bytes_of_string(err.text);
	} else if (rc == 0) {
		m.state = BLOB_ANSWER_ABSENT;
	} else if (large) {
		m.state = BLOB_ANSWER_LARGE;
	} else {
		m.content = buffer_bytes(content);
	}
	message_put_typed(answers, 1, &blob_answer_type, &m);
}

static int send_answers(struct store *store, struct server_call *c, struct bytes digests,
			size_t count, struct error *err)
{
	struct buffer answers cleanup(buffer_done) = {0}, content cleanup(buffer_done) = {0};
	struct digest digest;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		key_at(digests, i, &digest);
		put_answer(store, &digest, &content, &answers);
		if (answers.len >= METHODS_BATCH_SIZE) {
			rc = send_buffer(c, &answers, err);
		}
	}
	if (rc == 0) {
		struct rpc_message last = {0};

		if (answers.len) {
			rpc_message_set(&last, buffer_bytes(&answers));
		}
		server_call_reply(c, &last);
	}
	return rc;
}

static int get_blobs(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct bytes_message m;
	size_t count;
	int rc = request_receive(c, &bytes_message_type, &r, &m, err);

	if (rc == 0) {
		rc = message_key_count(m.value, DIGEST_SIZE, &count, err);
	}
	return rc == 0 ? send_answers(s->store, c, m.value, count, err) : rc;
}

/* ---- PutBlobs and PutDirectories ---- */

static int put_blob(struct store *store, struct bytes element, struct error *err)
{
	struct digest claimed, found;
	struct put_blob m;
	int rc = message_decode(&put_blob_type, element, &m, err);

	if (rc == 0) {
		rc = message_digest(m.digest, &claimed, err);
	}
	if (rc < 0) {
		return rc;
	}
	digest_of(&found, m.content);
	if (!digest_equal(&found, &claimed)) {
		return error_set(err, ERROR_INVALID, "what came as blob %s has the digest %s",
				 digest_text(&claimed), digest_text(&found));
	}
	return blob_service_put_hashed(store->blobs, m.content, &found, err);
}

static int put_one_directory(struct store *store, struct bytes element, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	int rc = directory_normalize(element, &d, err);

	return rc == 0 ? directory_service_put(store->directories, d, err) : rc;
}

typedef int (*put_element)(struct store *store, struct bytes element, struct error *err);

static int put_list(struct store *store, struct bytes message, put_element put, uint64_t *count,
		    struct error *err)
{
	struct wire list = wire_of(message);
	struct bytes element;
	int rc;

	while ((rc = message_next_element(&list, 1, &element, err)) > 0) {
		rc = put(store, element, err);
		if (rc < 0) {
			break;
		}
		++*count;
	}
	return rc;
}

/* All that come in one call share a sync, also with other calls. */
static int receive_objects(struct store_methods *s, struct server_call *c, put_element put,
			   uint64_t *count, struct error *err)
{
	struct request r cleanup(request_done) = {0};
	struct bytes message;
	int rc;

	while ((rc = request_next(c, &r, &message, err)) > 0) {
		rc = put_list(s->store, message, put, count, err);
		if (rc < 0) {
			break;
		}
	}
	return rc == 0 ? store_sync(s->store, err) : rc;
}

static int put_objects(struct store_methods *s, struct server_call *c, put_element put,
		       struct error *err)
{
	uint64_t count = 0;
	int rc = write_turn_begin(&s->turns, err);

	if (rc < 0) {
		return rc;
	}
	rc = receive_objects(s, c, put, &count, err);
	write_turn_end(&s->turns, rc);
	if (rc == 0) {
		reply_number(c, count);
	}
	return rc;
}

static int put_blobs(void *context, struct server_call *c, struct error *err)
{
	return put_objects(context, c, put_blob, err);
}

static int put_directories(void *context, struct server_call *c, struct error *err)
{
	return put_objects(context, c, put_one_directory, err);
}

/* ---- BlobSize and Sync ---- */

static int blob_size(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct digest digest;
	uint64_t size;
	int rc = request_digest(c, &digest, err);

	if (rc < 0) {
		return rc;
	}
	rc = blob_service_size(s->store->blobs, &digest, &size, err);
	if (rc > 0) {
		reply_number(c, size);
	}
	return rc == 0 ? not_found("blob", &digest, err) : MIN(rc, 0);
}

static int sync_store(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	int rc = store_sync(s->store, err);

	if (rc == 0) {
		reply_empty(c);
	}
	return rc;
}

static const struct rpc_method methods[] = {
	{"FindMissing", RPC_MAY_READ, find_missing},
	{"GetBlobs", RPC_MAY_READ, get_blobs},
	{"PutBlobs", RPC_MAY_WRITE, put_blobs},
	{"PutDirectories", RPC_MAY_WRITE, put_directories},
	{"BlobSize", RPC_MAY_READ, blob_size},
	{"ReadRange", RPC_MAY_READ, range_method},
	{"Sync", RPC_MAY_READ, sync_store},
};

const struct rpc_service object_methods_service = {
	.names = {"cairn.v1.Objects"},
	.methods = methods,
	.method_count = ARRAY_SIZE(methods),
};
