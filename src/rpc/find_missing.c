#include "rpc/find_missing.h"

#include "rpc/answer.h"

/* Digests of one question to a cairn. */
#define FIND_COUNT ((size_t)16384)
/* Questions to others that are made together. */
#define STAT_COUNT ((size_t)256)

static int find_some(struct peer *p, enum find_missing_kind kind, const struct digest *digests,
		     size_t count, bool *missing, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct find_missing_request m = {
		.kind = kind,
		.digests = bytes_of(digests, count * sizeof(*digests)),
	};

	message_encode(&find_missing_request_type, &m, &request);
	int rc = peer_ask(p, PEER_CAIRN("Objects/FindMissing"), buffer_bytes(&request), &reply,
			  err);

	return rc < 0 ? rc : answer_missing(buffer_bytes(&reply), missing, count, err);
}

int find_missing(struct peer *p, enum find_missing_kind kind, const struct digest *digests,
		 size_t count, bool *missing, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i += FIND_COUNT) {
		rc = find_some(p, kind, digests + i, MIN(count - i, FIND_COUNT), missing + i,
			       err);
	}
	return rc;
}

/* missing[i] is set where the peer says so; other failures are those of all. */
static int judge_answers(struct peer *p, const struct client_question *questions,
			 const struct digest *digests, size_t count, bool *missing,
			 struct error *err)
{
	int rc = 0;

	for (size_t i = 0; i < count; i++) {
		missing[i] = questions[i].rc == -ERROR_NOT_FOUND;
		if (questions[i].rc < 0 && !missing[i] && rc == 0) {
			rc = error_set(err, (enum error_code)(-questions[i].rc),
				       "%s: no answer about blob %s", peer_address(p),
				       digest_text(&digests[i]));
		}
	}
	return rc;
}

static int stat_some(struct peer *p, const struct digest *digests, size_t count, bool *missing,
		     struct error *err)
{
	struct client_question *questions cleanup(cleanup_free) =
		xcalloc(count, sizeof(*questions));
	struct buffer requests cleanup(buffer_done) = {0};
	size_t len = 0;

	for (size_t i = 0; i < count; i++) {
		struct stat_blob_request m = {.digest = digest_bytes(&digests[i])};

		message_encode(&stat_blob_request_type, &m, &requests);
		len = requests.len / (i + 1);
	}
	for (size_t i = 0; i < count; i++) {
		questions[i].request = bytes_of(requests.ptr + i * len, len);
	}
	int rc = peer_ask_many(p, PEER_METHOD(PEER_BLOBS, "Stat"), questions, count, err);

	if (rc == -ERROR_NOT_FOUND) {
		rc = judge_answers(p, questions, digests, count, missing, err);
	} else if (rc == 0) {
		memset(missing, 0, count * sizeof(*missing));
	}
	for (size_t i = 0; i < count; i++) {
		buffer_done(&questions[i].reply);
	}
	return rc;
}

int find_missing_blobs(struct peer *p, const struct digest *digests, size_t count,
		       bool *missing, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i += STAT_COUNT) {
		rc = stat_some(p, digests + i, MIN(count - i, STAT_COUNT), missing + i, err);
	}
	return rc;
}
