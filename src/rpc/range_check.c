#include "rpc/range_check.h"

#include "rpc/answer.h"
#include "services/blob_proof.h"

void range_proof_done(struct range_proof *p)
{
	buffer_done(&p->spans);
}

static size_t spans_len(const struct range_proof *p)
{
	return p->size <= OUTBOARD_GROUP ? 0
					 : (size_t)outboard_span_count(p->size) * DIGEST_SIZE;
}

bool range_proof_complete(const struct range_proof *p)
{
	return p->size > 0 && p->spans.len == spans_len(p);
}

static int wrong(const struct range_check *c, const char *what, struct error *err)
{
	return error_set(err, ERROR_CORRUPT, "blob %s: %s", digest_text(&c->proof->digest),
			 what);
}

static int take_size(struct range_check *c, uint64_t size, struct error *err)
{
	struct range_proof *p = c->proof;

	if (size == 0 || size > BLOB_PROOF_SIZE_MAX) {
		return wrong(c, "a size that cannot be", err);
	}
	if (c->known && size != p->size) {
		return wrong(c, "another size than before", err);
	}
	if (!c->known) {
		p->size = size;
	}
	c->has_size = true;
	if (c->offset < size && c->len > 0) {
		c->end = MIN(round_up(c->offset + MIN(c->len, size), OUTBOARD_GROUP), size);
	}
	return 0;
}

static int take_spans(struct range_check *c, struct bytes spans, struct error *err)
{
	struct range_proof *p = c->proof;

	if (spans.len == 0 || c->known) {
		return 0;
	}
	if (spans.len > spans_len(p) - MIN(p->spans.len, spans_len(p))) {
		return wrong(c, "more spans than it has", err);
	}
	buffer_append(&p->spans, spans.ptr, spans.len);
	if (p->spans.len == spans_len(p) &&
	    !outboard_verify_spans(&p->digest, p->size, p->spans.ptr)) {
		return wrong(c, "spans that do not give its digest", err);
	}
	return 0;
}

static int take_groups(struct range_check *c, const struct read_range_response *m,
		       struct error *err)
{
	uint64_t span = m->offset / OUTBOARD_SPAN;
	uint64_t first = span * (OUTBOARD_SPAN / OUTBOARD_GROUP);
	uint64_t count = MIN(OUTBOARD_SPAN / OUTBOARD_GROUP,
			     outboard_group_count(c->proof->size) - first);

	if (m->groups.len == 0) {
		return c->has_groups && c->span == span
			       ? 0
			       : wrong(c, "data of a span without its groups", err);
	}
	if (m->groups.len != count * DIGEST_SIZE ||
	    !outboard_verify_span(c->proof->size, span,
				  c->proof->spans.ptr + span * DIGEST_SIZE, m->groups.ptr)) {
		return wrong(c, "groups that do not give the value of their span", err);
	}
	memcpy(c->groups, m->groups.ptr, m->groups.len);
	c->has_groups = true;
	c->span = span;
	return 0;
}

/* At most one group: its hash is the digest. */
static int check_whole(struct range_check *c, struct bytes data, struct error *err)
{
	struct digest found;

	digest_of(&found, data);
	if (data.len != c->proof->size || !digest_equal(&found, &c->proof->digest)) {
		return wrong(c, "other bytes", err);
	}
	return 0;
}

static void copy_wanted(struct range_check *c, struct bytes data)
{
	uint64_t from = MAX(c->offset, c->next);
	uint64_t to = MIN(c->offset + c->len, c->next + data.len);

	if (from < to) {
		memcpy(c->buf + (from - c->offset), data.ptr + (from - c->next),
		       (size_t)(to - from));
	}
}

/* What is left of a message that came in pieces. */
struct rest {
	const struct bytes *pieces;
	size_t skip; /* of the first of them */
	size_t len;  /* of all */
};

/* The next bytes, not more than there are: where they lie, or copied to scratch. */
static struct bytes take_bytes(struct rest *r, size_t len, uint8_t *scratch)
{
	size_t copied = 0;

	r->len -= len;
	while (r->pieces->len == r->skip) {
		r->pieces++;
		r->skip = 0;
	}
	if (r->pieces->len - r->skip >= len) {
		r->skip += len;
		return bytes_of(r->pieces->ptr + r->skip - len, len);
	}
	while (copied < len) {
		size_t n = MIN(r->pieces->len - r->skip, len - copied);

		if (n) {
			memcpy(scratch + copied, r->pieces->ptr + r->skip, n);
		}
		copied += n;
		r->skip += n;
		if (r->skip == r->pieces->len) {
			r->pieces++;
			r->skip = 0;
		}
	}
	return bytes_of(scratch, len);
}

static int check_group(struct range_check *c, struct bytes data, struct error *err)
{
	uint64_t per_span = OUTBOARD_SPAN / OUTBOARD_GROUP;
	uint64_t group = c->next / OUTBOARD_GROUP;

	if (spans_len(c->proof) == 0) {
		return check_whole(c, data, err);
	}
	if (group / per_span != c->span ||
	    !outboard_verify_group(c->proof->size, group,
				   c->groups + group % per_span * DIGEST_SIZE, data)) {
		return wrong(c, "other bytes", err);
	}
	return 0;
}

static int take_groups_of_data(struct range_check *c, struct rest *data, struct error *err)
{
	uint8_t scratch[OUTBOARD_GROUP];
	int rc = 0;

	while (rc == 0 && data->len) {
		struct bytes group =
			take_bytes(data, MIN(data->len, (size_t)OUTBOARD_GROUP), scratch);

		rc = check_group(c, group, err);
		if (rc == 0) {
			copy_wanted(c, group);
			c->next += group.len;
		}
	}
	return rc;
}

static int take_data(struct range_check *c, const struct read_range_response *m,
		     struct rest *data, struct error *err)
{
	int rc = 0;

	if (data->len == 0) {
		return 0;
	}
	if (c->proof->spans.len != spans_len(c->proof)) {
		return wrong(c, "data before all spans", err);
	}
	if (m->offset != c->next || c->next > c->end || data->len > c->end - c->next) {
		return wrong(c, "data that was not asked for", err);
	}
	if (spans_len(c->proof) > 0) {
		rc = take_groups(c, m, err);
	}
	rc = rc < 0 ? rc : take_groups_of_data(c, data, err);
	c->saw_end = c->saw_end || (rc == 0 && c->next == c->proof->size);
	return rc;
}

void range_check_init(struct range_check *c, struct range_proof *proof, uint64_t offset,
		      void *buf, size_t len)
{
	*c = (struct range_check){
		.proof = proof,
		/* No sum overflows, and no blob is that large. */
		.offset = MIN(offset, BLOB_PROOF_SIZE_MAX),
		.buf = buf,
		.len = MIN(len, (size_t)BLOB_PROOF_SIZE_MAX),
		.known = range_proof_complete(proof),
	};
	c->next = c->offset / OUTBOARD_GROUP * OUTBOARD_GROUP;
}

static int take_decoded(struct range_check *c, const struct read_range_response *m,
			struct rest *data, struct error *err)
{
	int rc = c->has_size ? 0 : take_size(c, m->size, err);

	if (rc == 0) {
		rc = take_spans(c, m->spans, err);
	}
	return rc < 0 ? rc : take_data(c, m, data, err);
}

static int take_whole(struct range_check *c, struct bytes message, struct error *err)
{
	struct read_range_response m;
	int rc = answer_decode(&read_range_response_type, message, &m, err);
	struct rest data = {.pieces = &m.data, .len = m.data.len};

	return rc < 0 ? rc : take_decoded(c, &m, &data, err);
}

/* The field of ReadRangeResponse. */
#define DATA_FIELD 5

int range_check_take(struct range_check *c, const struct bytes *pieces, size_t count,
		     struct error *err)
{
	struct buffer storage cleanup(buffer_done) = {0};
	struct read_range_response m;
	size_t size = 0;

	if (count == 1) {
		return take_whole(c, pieces[0], err);
	}
	for (size_t i = 0; i < count; i++) {
		size += pieces[i].len;
	}
	size_t head = count ? message_decode_head(&read_range_response_type, DATA_FIELD,
						  pieces[0], size, &m)
			    : 0;

	if (head) {
		struct rest data = {.pieces = pieces, .skip = head, .len = size - head};

		return take_decoded(c, &m, &data, err);
	}
	for (size_t i = 0; i < count; i++) {
		buffer_append(&storage, pieces[i].ptr, pieces[i].len);
	}
	return take_whole(c, buffer_bytes(&storage), err);
}

/* Spans are wanted even where the range lies behind the end. */
bool range_check_complete(const struct range_check *c)
{
	return c->has_size && range_proof_complete(c->proof) && c->next >= c->end;
}
