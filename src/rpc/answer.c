#include "rpc/answer.h"

/* The field of StatBlobResponse. */
#define CHUNKS_FIELD 2

/* Whatever is wrong with an answer is the peer's fault, not the caller's. */
static int peers_fault(int rc, struct error *err)
{
	if (rc != -ERROR_INVALID) {
		return rc;
	}
	if (err) {
		err->code = ERROR_CORRUPT;
	}
	return -ERROR_CORRUPT;
}

int answer_decode(const struct message_type *type, struct bytes message, void *out,
		  struct error *err)
{
	return peers_fault(message_decode(type, message, out, err), err);
}

int answer_digest(struct bytes message, struct digest *out, struct error *err)
{
	struct digest_message m;
	int rc = answer_decode(&digest_message_type, message, &m, err);

	return rc < 0 ? rc : peers_fault(message_digest(m.digest, out, err), err);
}

int answer_check_digest(struct bytes message, const char *what, const struct digest *expected,
			struct error *err)
{
	struct digest found;
	int rc = answer_digest(message, &found, err);

	if (rc == 0 && !digest_equal(&found, expected)) {
		rc = error_set(err, ERROR_CORRUPT, "%s %s arrived as %s", what,
			       digest_text(expected), digest_text(&found));
	}
	return rc;
}

int answer_missing(struct bytes message, bool *missing, size_t count, struct error *err)
{
	return peers_fault(message_get_missing(message, missing, count, err), err);
}

static int get_chunk(struct bytes message, struct chunk *out, struct error *err)
{
	struct chunk_message m;
	int rc = answer_decode(&chunk_message_type, message, &m, err);

	if (rc == 0) {
		rc = peers_fault(message_digest(m.digest, &out->digest, err), err);
	}
	if (rc == 0 && m.size == 0) {
		rc = error_set(err, ERROR_CORRUPT, "a chunk of 0 bytes");
	}
	out->size = m.size;
	return rc;
}

static int add_chunk(struct chunk_list *l, size_t *capacity, const struct chunk *chunk,
		     uint64_t *total, struct error *err)
{
	if (l->count == ANSWER_CHUNKS_MAX) {
		return error_set(err, ERROR_LIMIT, "a blob of more than %zu chunks",
				 ANSWER_CHUNKS_MAX);
	}
	if (chunk->size > INT64_MAX || *total + chunk->size > INT64_MAX) {
		return error_set(err, ERROR_CORRUPT, "sizes of chunks overflow");
	}
	if (l->count == *capacity) {
		*capacity = MAX(*capacity * 2, (size_t)16);
		l->chunks = xrealloc(l->chunks, *capacity * sizeof(*l->chunks));
	}
	*total += chunk->size;
	l->chunks[l->count++] = *chunk;
	return 0;
}

int answer_chunks(struct bytes message, struct chunk_list *out, struct error *err)
{
	struct wire w = wire_of(message);
	struct chunk_list list = {0};
	struct bytes element;
	struct chunk chunk;
	size_t capacity = 0;
	uint64_t total = 0;
	int rc;

	while ((rc = message_next_element(&w, CHUNKS_FIELD, &element, err)) > 0) {
		rc = get_chunk(element, &chunk, err);
		if (rc == 0) {
			rc = add_chunk(&list, &capacity, &chunk, &total, err);
		}
		if (rc < 0) {
			break;
		}
	}
	if (rc < 0) {
		chunk_list_done(&list);
		return peers_fault(rc, err);
	}
	*out = list;
	return 0;
}
