/*
 * cairn.v1.Objects.ReadRange: a range of a blob, widened to whole groups, with the parts of the
 * outboard (castore/outboard.h) that it takes to check it.
 */

#include "castore/outboard.h"
#include "rpc/store_methods_internal.h"

/* Of a span, in one message. */
#define PIECE (OUTBOARD_SPAN / 2)
/* Bytes of span values in one message. */
#define SPANS_PIECE ((size_t)256 << 10)
#define GROUPS_PER_SPAN (OUTBOARD_SPAN / OUTBOARD_GROUP)

struct range {
	struct server_call *call;
	struct blob_reader *reader;
	uint64_t size; /* of the blob */
	uint64_t at;   /* what comes next: a group's start */
	uint64_t end;  /* a group's end, or the blob's */
	bool begun;    /* the size was sent */
};

static void fill_size(struct range *r, struct read_range_response *m)
{
	m->size = r->begun ? 0 : r->size;
	r->begun = true;
}

/* Blobs of one group have no values. */
static bool has_outboard(const struct range *r)
{
	return r->size > OUTBOARD_GROUP;
}

static int send_spans(struct range *r, struct error *err)
{
	uint64_t count = has_outboard(r) ? outboard_span_count(r->size) : 0;
	uint8_t *values cleanup(cleanup_free) = xmalloc(SPANS_PIECE);
	struct buffer message cleanup(buffer_done) = {0};
	int rc = 0;

	for (uint64_t first = 0; rc == 0 && first < count;) {
		size_t n = (size_t)MIN(count - first, SPANS_PIECE / DIGEST_SIZE);

		rc = blob_reader_outboard(r->reader, first, n, values, err);
		if (rc == 0) {
			struct read_range_response m = {
				.spans = bytes_of(values, n * DIGEST_SIZE)};

			fill_size(r, &m);
			message_encode(&read_range_response_type, &m, &message);
			rc = send_buffer(r->call, &message, err);
		}
		first += n;
	}
	return rc;
}

/* The message, but for the data, whose length it says. */
static int encode_head(struct range *r, size_t len, bool new_span, struct buffer *out,
		       struct error *err)
{
	uint8_t groups[GROUPS_PER_SPAN * DIGEST_SIZE];
	struct read_range_response m = {.offset = r->at};

	if (new_span && has_outboard(r)) {
		uint64_t first = r->at / OUTBOARD_SPAN * GROUPS_PER_SPAN;
		uint64_t count = MIN(GROUPS_PER_SPAN, outboard_group_count(r->size) - first);
		int rc = blob_reader_outboard(r->reader, outboard_span_count(r->size) + first,
					      (size_t)count, groups, err);

		if (rc < 0) {
			return rc;
		}
		m.groups = bytes_of(groups, (size_t)count * DIGEST_SIZE);
	}
	fill_size(r, &m);
	message_encode(&read_range_response_type, &m, out);
	message_put_element_head(out, 5, len);
	return 0;
}

static int send_data(struct range *r, size_t len, bool new_span, struct error *err)
{
	struct buffer head cleanup(buffer_done) = {0};
	struct rpc_message message = {0};
	uint8_t *data = malloc(len);
	size_t got = 0;
	int rc;

	if (!data) {
		return error_set(err, ERROR_LIMIT, "no memory for a piece of a blob");
	}
	rc = blob_reader_pread(r->reader, data, len, r->at, &got, err);
	if (rc == 0) {
		rc = encode_head(r, got, new_span, &head, err);
	}
	if (rc < 0) {
		free(data);
		return rc;
	}
	rpc_message_set_parts(&message, buffer_bytes(&head), bytes_of(data, got), free, data);
	r->at += got;
	return server_call_send(r->call, &message, err);
}

static int send_range(struct range *r, struct error *err)
{
	bool new_span = true;
	int rc = 0;

	while (rc == 0 && r->at < r->end) {
		uint64_t span_end = (r->at / OUTBOARD_SPAN + 1) * OUTBOARD_SPAN;
		uint64_t stop = MIN(MIN(span_end, r->end), r->at + PIECE);

		rc = send_data(r, (size_t)(stop - r->at), new_span, err);
		new_span = stop == span_end;
	}
	return rc;
}

static void set_range(struct range *r, const struct read_range_request *m)
{
	uint64_t start = MIN(m->offset, r->size);
	uint64_t end = start + MIN(m->length, r->size - start);

	r->at = start - start % OUTBOARD_GROUP;
	r->end = end > start ? MIN(round_up(end, OUTBOARD_GROUP), r->size) : r->at;
}

/* The blob is there. */
static int answer(struct range *r, const struct read_range_request *m, struct error *err)
{
	int rc = m->send_spans ? send_spans(r, err) : 0;

	set_range(r, m);
	if (rc == 0) {
		rc = send_range(r, err);
	}
	if (rc == 0) {
		struct buffer last cleanup(buffer_done) = {0};
		struct rpc_message message = {0};
		struct read_range_response size = {0};

		/* Nothing was to be sent but the size. */
		if (!r->begun) {
			fill_size(r, &size);
			message_encode(&read_range_response_type, &size, &last);
			rpc_message_set(&message, buffer_bytes(&last));
		}
		server_call_reply(r->call, &message);
	}
	return rc;
}

int range_method(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct blob_reader *reader cleanup(cleanup_blob_reader) = NULL;
	struct request request cleanup(request_done) = {0};
	struct read_range_request m;
	struct digest digest;
	int rc = request_receive(c, &read_range_request_type, &request, &m, err);

	if (rc == 0) {
		rc = message_digest(m.digest, &digest, err);
	}
	if (rc == 0) {
		rc = blob_service_open(s->store->blobs, &digest, &reader, err);
		rc = rc == 0 ? not_found("blob", &digest, err) : MIN(rc, 0);
	}
	if (rc < 0) {
		return rc;
	}
	struct range r = {.call = c, .reader = reader, .size = blob_reader_size(reader)};

	return answer(&r, &m, err);
}
