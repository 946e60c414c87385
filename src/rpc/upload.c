#include "rpc/upload.h"

#include "castore/closure.h"
#include "castore/digest_map.h"
#include "rpc/answer.h"
#include "rpc/find_missing.h"
#include "rpc/remote_directory.h"

/* Of one message; a single object may be larger. */
#define MESSAGE_BYTES ((size_t)512 << 10)
/* ---- To a cairn ---- */

static struct digest *list_digests(const struct upload *list, size_t count)
{
	struct digest *digests = xcalloc(count, sizeof(*digests));

	for (size_t i = 0; i < count; i++) {
		digests[i] = list[i].digest;
	}
	return digests;
}

static void add_object(struct buffer *message, enum find_missing_kind kind,
		       const struct upload *u)
{
	struct bytes content = bytes_of(u->object->content, u->object->len);
	struct put_blob m = {.digest = digest_bytes(&u->digest), .content = content};

	if (kind == FIND_MISSING_DIRECTORY) {
		message_put_element(message, 1, content);
	} else {
		message_put_typed(message, 1, &put_blob_type, &m);
	}
}

static int send_objects(struct client_call *call, enum find_missing_kind kind,
			const struct upload *list, const bool *missing, size_t count,
			struct error *err)
{
	struct buffer message cleanup(buffer_done) = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (!missing[i]) {
			continue;
		}
		if (message.len && message.len + list[i].object->len > MESSAGE_BYTES) {
			rc = client_call_send(call, buffer_bytes(&message), false, err);
			message.len = 0;
		}
		if (rc == 0) {
			add_object(&message, kind, &list[i]);
		}
	}
	return rc < 0 ? rc : client_call_send(call, buffer_bytes(&message), true, err);
}

static int send_missing(struct peer *p, enum find_missing_kind kind, const struct upload *list,
			const bool *missing, size_t count, struct error *err)
{
	struct client_call *call cleanup(cleanup_client_call) = NULL;
	struct buffer reply cleanup(buffer_done) = {0};
	int rc = peer_upload(p,
			     kind == FIND_MISSING_BLOB ? PEER_CAIRN("Objects/PutBlobs")
						       : PEER_CAIRN("Objects/PutDirectories"),
			     &call, err);

	if (rc == 0) {
		rc = send_objects(call, kind, list, missing, count, err);
	}
	return rc < 0 ? rc : client_call_receive_one(call, &reply, err);
}

static bool any(const bool *list, size_t count)
{
	return memchr(list, true, count) != NULL;
}

/* All of it again after a failure: what arrived is not missing any more. */
static int put_to_cairn(struct peer *p, enum find_missing_kind kind, const struct upload *list,
			size_t count, struct error *err)
{
	struct digest *digests cleanup(cleanup_free) = list_digests(list, count);
	bool *missing cleanup(cleanup_free) = xcalloc(count, sizeof(*missing));
	struct peer_retry retry = {.peer = p};
	int rc;

	do {
		rc = find_missing(p, kind, digests, count, missing, err);
		if (rc == 0 && any(missing, count)) {
			rc = send_missing(p, kind, list, missing, count, err);
		}
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc;
}

/* ---- Blobs, to others ---- */

static void free_questions(struct client_question *questions, struct buffer *requests,
			   size_t count)
{
	for (size_t i = 0; i < count; i++) {
		buffer_done(&questions[i].reply);
		buffer_done(&requests[i]);
	}
	free(questions);
	free(requests);
}

static int check_answers(const struct upload *list, const struct client_question *questions,
			 size_t count, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = answer_check_digest(buffer_bytes(&questions[i].reply), "blob",
					 &list[i].digest, err);
	}
	return rc;
}

/* The only message of a stream can be sent like a question. */
static int put_some(struct peer *p, const struct upload *list, size_t count, struct error *err)
{
	struct client_question *questions = xcalloc(count, sizeof(*questions));
	struct buffer *requests = xcalloc(count, sizeof(*requests));

	for (size_t i = 0; i < count; i++) {
		struct object *o = list[i].object;
		struct blob_chunk m = {.data = bytes_of(o->content, o->len)};

		message_encode(&blob_chunk_type, &m, &requests[i]);
		questions[i].request = buffer_bytes(&requests[i]);
	}
	int rc = peer_ask_many(p, PEER_METHOD(PEER_BLOBS, "Put"), questions, count, err);

	if (rc == 0) {
		rc = check_answers(list, questions, count, err);
	}
	free_questions(questions, requests, count);
	return rc;
}

/* Requests made at once are copies of what they send. */
#define PUT_COUNT ((size_t)64)

static int put_to_others(struct peer *p, const struct upload *list, size_t count,
			 struct error *err)
{
	struct digest *digests cleanup(cleanup_free) = list_digests(list, count);
	bool *missing cleanup(cleanup_free) = xcalloc(count, sizeof(*missing));
	struct upload rest[PUT_COUNT];
	size_t kept = 0;
	int rc = find_missing_blobs(p, digests, count, missing, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (missing[i]) {
			rest[kept++] = list[i];
		}
		if (kept == PUT_COUNT || (kept && i + 1 == count)) {
			rc = put_some(p, rest, kept, err);
			kept = 0;
		}
	}
	return rc;
}

int upload_blobs(struct peer *p, const struct upload *list, size_t count, struct error *err)
{
	int rc = peer_is_cairn(p, err);

	if (rc < 0) {
		return rc;
	}
	return rc ? put_to_cairn(p, FIND_MISSING_BLOB, list, count, err)
		  : put_to_others(p, list, count, err);
}

/* ---- Directories, to others ---- */

struct graph {
	struct peer *peer;
	const struct upload *list;
	struct digest_map places; /* index into list + 1 */
	struct digest_map below;  /* digests that one of the list refers to */
};

/* For the walk: what is to be sent is at hand, what was sent before is with the peer. */
static int get_directory(void *context, const struct digest *digest, struct directory **out,
			 struct error *err)
{
	struct graph *g = context;
	uint64_t *place = digest_map_get(&g->places, digest);

	if (!place) {
		return remote_directory_get(g->peer, digest, out, err);
	}
	struct object *o = g->list[*place - 1].object;
	int rc = directory_decode(bytes_of(o->content, o->len), out, err);

	return rc < 0 ? rc : 1;
}

static int note_children(struct graph *g, const struct upload *u, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct directory_entry e;
	int rc = directory_decode(bytes_of(u->object->content, u->object->len), &d, err);

	for (size_t i = 0; rc == 0 && i < directory_count(d); i++) {
		directory_entry(d, i, &e);
		if (e.node.kind == NODE_DIRECTORY) {
			digest_map_put(&g->below, &e.node.digest, 1);
		}
	}
	return rc;
}

static int send_closure(struct graph *g, struct client_call *call, const struct digest *root,
			struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) =
		closure_walk_new(CLOSURE_LEAVES_TO_ROOT, root, get_directory, g);
	struct directory *d;
	int rc;

	while ((rc = closure_walk_next(walk, &d, err)) > 0) {
		rc = client_call_send(call, directory_encoding(d), false, err);
		directory_unref(d);
		if (rc < 0) {
			return rc;
		}
	}
	return rc < 0 ? rc : client_call_send_end(call, err);
}

static int put_closure(struct graph *g, const struct digest *root, struct error *err)
{
	struct client_call *call cleanup(cleanup_client_call) = NULL;
	struct buffer reply cleanup(buffer_done) = {0};
	int rc = peer_upload(g->peer, PEER_METHOD(PEER_DIRECTORIES, "Put"), &call, err);

	if (rc == 0) {
		rc = send_closure(g, call, root, err);
	}
	if (rc == 0) {
		rc = client_call_receive_one(call, &reply, err);
	}
	if (rc == 0) {
		rc = answer_check_digest(buffer_bytes(&reply), "directory", root, err);
	}
	return rc;
}

static int put_root(struct graph *g, const struct digest *root, struct error *err)
{
	struct directory *known cleanup(cleanup_directory) = NULL;
	struct peer_retry retry = {.peer = g->peer};
	int rc = remote_directory_get(g->peer, root, &known, err);

	if (rc != 0) {
		return rc < 0 ? rc : 0;
	}
	do {
		rc = put_closure(g, root, err);
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc;
}

static int put_graph(struct graph *g, const struct upload *list, size_t count,
		     struct error *err)
{
	int rc = 0;

	g->list = list;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		digest_map_put(&g->places, &list[i].digest, i + 1);
		rc = note_children(g, &list[i], err);
	}
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (!digest_map_get(&g->below, &list[i].digest)) {
			rc = put_root(g, &list[i].digest, err);
		}
	}
	return rc;
}

int upload_directories(struct peer *p, const struct upload *list, size_t count,
		       struct error *err)
{
	struct graph g = {.peer = p};
	int rc = peer_is_cairn(p, err);

	if (rc > 0) {
		return put_to_cairn(p, FIND_MISSING_DIRECTORY, list, count, err);
	}
	if (rc == 0) {
		rc = put_graph(&g, list, count, err);
	}
	digest_map_done(&g.places);
	digest_map_done(&g.below);
	return rc;
}
