/* Many small blobs of a peer at once. */

#include "rpc/answer.h"
#include "rpc/remote_blobs_internal.h"
#include "rpc/rpc_status.h"

/* Blobs of one GetBlobs. */
#define GET_COUNT ((size_t)4096)

struct getting {
	struct remote *remote;
	const struct blob_want *wants;
	const size_t *places; /* in wants, of what this call asks for */
	size_t count;
	size_t next;
	blob_take take;
	void *context;
	int rc; /* what take came to */
};

static int answer_failure(const struct getting *g, const struct digest *digest,
			  const struct blob_answer *a, struct error *err)
{
	const char *address = peer_address(g->remote->peer);

	switch (a->state) {
	case BLOB_ANSWER_ABSENT:
		return error_set(err, ERROR_NOT_FOUND, "%s: there is no blob %s", address,
				 digest_text(digest));
	case BLOB_ANSWER_FAILED:
		return error_set(err, rpc_status_code((int)a->code, bytes_of(NULL, 0)),
				 "%s: blob %s: %s", address, digest_text(digest),
				 bytes_printable(a->reason));
	default:
		return error_set(err, ERROR_CORRUPT, "%s: blob %s is larger than it should be",
				 address, digest_text(digest));
	}
}

static int take_answer(struct getting *g, struct bytes element, struct error *err)
{
	struct blob_answer a;
	struct digest found;
	int rc = answer_decode(&blob_answer_type, element, &a, err);

	if (rc == 0 && g->next == g->count) {
		rc = error_set(err, ERROR_CORRUPT, "%s: more blobs than were asked for",
			       peer_address(g->remote->peer));
	}
	if (rc < 0) {
		return rc;
	}
	size_t place = g->places[g->next];
	const struct digest *digest = &g->wants[place].digest;

	if (a.state != BLOB_ANSWER_PRESENT) {
		return answer_failure(g, digest, &a, err);
	}
	digest_of(&found, a.content);
	if (!digest_equal(&found, digest)) {
		return error_set(err, ERROR_CORRUPT, "%s: blob %s came as %s",
				 peer_address(g->remote->peer), digest_text(digest),
				 digest_text(&found));
	}
	/* One that failed is asked for again, should the call be repeated. */
	g->next++;
	g->rc = g->take(g->context, place, a.content, err);
	return g->rc;
}

static int take_answers(void *context, struct bytes message, struct error *err)
{
	struct getting *g = context;
	struct wire list = wire_of(message);
	struct bytes element;
	int rc;

	while ((rc = message_next_element(&list, 1, &element, err)) > 0) {
		rc = take_answer(g, element, err);
		if (rc != 0) {
			return rc;
		}
	}
	return rc;
}

/* From where it stands: those that came are not asked for again. */
static int get_rest(struct getting *g, struct error *err)
{
	struct buffer digests cleanup(buffer_done) = {0};
	struct buffer request cleanup(buffer_done) = {0};

	for (size_t i = g->next; i < g->count; i++) {
		buffer_append(&digests, g->wants[g->places[i]].digest.bytes, DIGEST_SIZE);
	}
	struct bytes_message m = {.value = buffer_bytes(&digests)};

	message_encode(&bytes_message_type, &m, &request);
	int rc = peer_stream(g->remote->peer, PEER_CAIRN("Objects/GetBlobs"),
			     buffer_bytes(&request), take_answers, g, err);

	if (g->rc != 0) {
		return g->rc;
	}
	if (rc >= 0 && g->next < g->count) {
		rc = error_set(err, ERROR_CORRUPT, "%s: less blobs than were asked for",
			       peer_address(g->remote->peer));
	}
	return rc < 0 ? rc : 0;
}

static int get_from_cairn(struct getting *g, struct error *err)
{
	size_t count = g->count;
	int rc = 0;

	while (rc == 0 && g->next < count) {
		struct peer_retry retry = {.peer = g->remote->peer};

		g->count = MIN(g->next + GET_COUNT, count);
		do {
			rc = get_rest(g, err);
		} while (rc < 0 && g->rc == 0 && peer_retry(&retry, rc));
	}
	return rc;
}

static int take_from_spool(struct getting *g, size_t place, struct error *err)
{
	const struct blob_want *want = &g->wants[place];
	uint8_t *buf cleanup(cleanup_free) = xmalloc((size_t)want->size + 1);
	size_t got;
	int rc = spool_read(g->remote->spool, &want->digest, 0, buf, (size_t)want->size + 1,
			    &got, err);

	if (rc == 0) {
		return error_set(err, ERROR_NOT_FOUND, "%s: there is no blob %s",
				 peer_address(g->remote->peer), digest_text(&want->digest));
	}
	return rc < 0 ? rc : g->take(g->context, place, bytes_of(buf, got), err);
}

static int get_from_others(struct getting *g, struct error *err)
{
	int rc = 0;

	while (rc == 0 && g->next < g->count) {
		rc = take_from_spool(g, g->places[g->next++], err);
	}
	return rc;
}

/* What needs no peer is given at once; the rest is left in places. */
static int take_here(struct getting *g, size_t *places, size_t count, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		const struct digest *digest = &g->wants[i].digest;
		struct object *o cleanup(cleanup_object) =
			outbox_find(g->remote->outbox, OUTBOX_BLOBS, digest);

		if (o) {
			rc = g->take(g->context, i, bytes_of(o->content, o->len), err);
		} else if (digest_equal(digest, &digest_empty)) {
			rc = g->take(g->context, i, bytes_of(NULL, 0), err);
		} else {
			places[g->count++] = i;
		}
	}
	return rc;
}

int remote_blobs_get_many(struct remote *r, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err)
{
	size_t *places cleanup(cleanup_free) = xcalloc(count, sizeof(*places));
	struct getting g = {
		.remote = r,
		.wants = wants,
		.places = places,
		.take = take,
		.context = context,
	};
	int rc = take_here(&g, places, count, err);

	if (rc == 0 && g.count) {
		rc = peer_is_cairn(g.remote->peer, err);
		if (rc >= 0) {
			rc = rc ? get_from_cairn(&g, err) : get_from_others(&g, err);
		}
	}
	return rc;
}
