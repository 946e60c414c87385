#include "rpc/range.h"

#include <pthread.h>

#include "castore/outboard.h"
#include "rpc/answer.h"
#include "services/blob_proof.h"

/* Of span values, of blobs that were read from last: 32 bytes for each MiB of blob. */
#define PROOFS_BYTES_MAX ((size_t)64 << 20)
#define PROOFS_COUNT_MAX 1024

/* What a reader has at hand: little at first, more when it is read in a row. */
#define AHEAD_FIRST ((size_t)1 << 20)
#define AHEAD_RANDOM ((size_t)64 << 10)
#define AHEAD_MAX ((size_t)4 << 20)

/* ---- What is known of a large blob ---- */

struct proof {
	unsigned refs; /* guarded by the source's lock */
	struct digest digest;
	uint64_t size;
	bool size_proved;    /* the last group was seen; guarded by the source's lock */
	struct buffer spans; /* checked; empty for at most one group */
	struct proof *next;  /* the one used before it */
};

struct range_source {
	struct peer *peer;
	pthread_mutex_t lock; /* guards what follows */
	struct proof *newest;
	size_t count;
	size_t bytes;
};

struct range_source *range_source_new(struct peer *peer)
{
	struct range_source *s = xcalloc(1, sizeof(*s));

	s->peer = peer;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void unref_locked(struct proof *p)
{
	if (p && --p->refs == 0) {
		buffer_done(&p->spans);
		free(p);
	}
}

static void proof_unref(struct range_source *s, struct proof *p)
{
	pthread_mutex_lock(&s->lock);
	unref_locked(p);
	pthread_mutex_unlock(&s->lock);
}

void range_source_free(struct range_source *s)
{
	if (!s) {
		return;
	}
	while (s->newest) {
		struct proof *p = s->newest;

		s->newest = p->next;
		unref_locked(p);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Takes it out of the list; NULL when it is not there. */
static struct proof *take_proof(struct range_source *s, const struct digest *digest)
{
	struct proof **at = &s->newest;

	while (*at && !digest_equal(&(*at)->digest, digest)) {
		at = &(*at)->next;
	}
	struct proof *p = *at;

	if (p) {
		*at = p->next;
		s->count--;
		s->bytes -= p->spans.len;
	}
	return p;
}

static void drop_oldest(struct range_source *s)
{
	struct proof **at = &s->newest;

	while ((*at)->next) {
		at = &(*at)->next;
	}
	s->count--;
	s->bytes -= (*at)->spans.len;
	unref_locked(*at);
	*at = NULL;
}

static void add_proof(struct range_source *s, struct proof *p)
{
	p->next = s->newest;
	s->newest = p;
	s->count++;
	s->bytes += p->spans.len;
	while (s->count > 1 && (s->count > PROOFS_COUNT_MAX || s->bytes > PROOFS_BYTES_MAX)) {
		drop_oldest(s);
	}
}

/* A reference, or NULL. */
static struct proof *find_proof(struct range_source *s, const struct digest *digest)
{
	pthread_mutex_lock(&s->lock);
	struct proof *p = take_proof(s, digest);

	if (p) {
		p->refs++;
		add_proof(s, p);
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

/* Remembers it for others, unless another thread was first. */
static void keep_proof(struct range_source *s, struct proof *p, bool size_proved)
{
	pthread_mutex_lock(&s->lock);
	struct proof *known = take_proof(s, &p->digest);

	if (!known) {
		known = p;
		p->refs++;
	}
	known->size_proved = known->size_proved || size_proved;
	add_proof(s, known);
	pthread_mutex_unlock(&s->lock);
}

static bool is_size_proved(struct range_source *s, const struct proof *p)
{
	pthread_mutex_lock(&s->lock);
	bool proved = p->size_proved;

	pthread_mutex_unlock(&s->lock);
	return proved;
}

/* ---- One range ---- */

struct reading {
	const struct range_source *source;
	struct proof *proof;
	bool known;      /* the proof was complete before */
	bool has_size;   /* the first message has come */
	bool has_groups; /* of the span `span` */
	bool saw_end;    /* the last group was checked */
	uint64_t offset; /* what the caller wants */
	uint8_t *buf;
	size_t len;
	uint64_t next; /* where the next data must begin */
	uint64_t end;  /* where it may stop */
	uint64_t span;
	uint8_t groups[OUTBOARD_SPAN / OUTBOARD_GROUP * DIGEST_SIZE];
};

static int wrong(const struct reading *r, const char *what, struct error *err)
{
	return error_set(err, ERROR_CORRUPT, "%s: blob %s: %s", peer_address(r->source->peer),
			 digest_text(&r->proof->digest), what);
}

static int take_size(struct reading *r, uint64_t size, struct error *err)
{
	struct proof *p = r->proof;

	if (size == 0 || size > BLOB_PROOF_SIZE_MAX) {
		return wrong(r, "a size that cannot be", err);
	}
	if (r->known && size != p->size) {
		return wrong(r, "another size than before", err);
	}
	if (!r->known) {
		p->size = size;
	}
	r->has_size = true;
	if (r->offset < size && r->len > 0) {
		r->end = MIN(round_up(r->offset + MIN(r->len, size), OUTBOARD_GROUP), size);
	}
	return 0;
}

static size_t spans_len(const struct proof *p)
{
	return p->size <= OUTBOARD_GROUP ? 0
					 : (size_t)outboard_span_count(p->size) * DIGEST_SIZE;
}

static int take_spans(struct reading *r, struct bytes spans, struct error *err)
{
	struct proof *p = r->proof;

	if (spans.len == 0 || r->known) {
		return 0;
	}
	if (spans.len > spans_len(p) - MIN(p->spans.len, spans_len(p))) {
		return wrong(r, "more spans than it has", err);
	}
	buffer_append(&p->spans, spans.ptr, spans.len);
	if (p->spans.len == spans_len(p) &&
	    !outboard_verify_spans(&p->digest, p->size, p->spans.ptr)) {
		return wrong(r, "spans that do not give its digest", err);
	}
	return 0;
}

static int take_groups(struct reading *r, const struct read_range_response *m,
		       struct error *err)
{
	uint64_t span = m->offset / OUTBOARD_SPAN;
	uint64_t first = span * (OUTBOARD_SPAN / OUTBOARD_GROUP);
	uint64_t count = MIN(OUTBOARD_SPAN / OUTBOARD_GROUP,
			     outboard_group_count(r->proof->size) - first);

	if (m->groups.len == 0) {
		return r->has_groups && r->span == span
			       ? 0
			       : wrong(r, "data of a span without its groups", err);
	}
	if (m->groups.len != count * DIGEST_SIZE ||
	    !outboard_verify_span(r->proof->size, span,
				  r->proof->spans.ptr + span * DIGEST_SIZE, m->groups.ptr)) {
		return wrong(r, "groups that do not give the value of their span", err);
	}
	memcpy(r->groups, m->groups.ptr, m->groups.len);
	r->has_groups = true;
	r->span = span;
	return 0;
}

/* At most one group: its hash is the digest. */
static int check_whole(struct reading *r, struct bytes data, struct error *err)
{
	struct digest found;

	digest_of(&found, data);
	if (data.len != r->proof->size || !digest_equal(&found, &r->proof->digest)) {
		return wrong(r, "other bytes", err);
	}
	return 0;
}

static int check_groups(struct reading *r, struct bytes data, struct error *err)
{
	uint64_t per_span = OUTBOARD_SPAN / OUTBOARD_GROUP;
	uint64_t group = r->next / OUTBOARD_GROUP;

	while (data.len) {
		size_t n = MIN(data.len, (size_t)OUTBOARD_GROUP);

		if (group / per_span != r->span ||
		    !outboard_verify_group(r->proof->size, group,
					   r->groups + group % per_span * DIGEST_SIZE,
					   bytes_of(data.ptr, n))) {
			return wrong(r, "other bytes", err);
		}
		data = bytes_of(data.ptr + n, data.len - n);
		group++;
	}
	return 0;
}

static void copy_wanted(struct reading *r, struct bytes data)
{
	uint64_t from = MAX(r->offset, r->next);
	uint64_t to = MIN(r->offset + r->len, r->next + data.len);

	if (from < to) {
		memcpy(r->buf + (from - r->offset), data.ptr + (from - r->next),
		       (size_t)(to - from));
	}
}

static int take_data(struct reading *r, const struct read_range_response *m, struct error *err)
{
	int rc;

	if (m->data.len == 0) {
		return 0;
	}
	if (r->proof->spans.len != spans_len(r->proof)) {
		return wrong(r, "data before all spans", err);
	}
	if (m->offset != r->next || r->next > r->end || m->data.len > r->end - r->next) {
		return wrong(r, "data that was not asked for", err);
	}
	if (spans_len(r->proof) == 0) {
		rc = check_whole(r, m->data, err);
	} else {
		rc = take_groups(r, m, err);
		rc = rc < 0 ? rc : check_groups(r, m->data, err);
	}
	if (rc == 0) {
		copy_wanted(r, m->data);
		r->next += m->data.len;
		r->saw_end = r->saw_end || r->next == r->proof->size;
	}
	return rc;
}

/* Spans are wanted even where the range lies behind the end. */
static bool complete(const struct reading *r)
{
	return r->has_size && r->proof->spans.len == spans_len(r->proof) && r->next >= r->end;
}

static int take_range(void *context, struct bytes message, struct error *err)
{
	struct reading *r = context;
	struct read_range_response m;
	int rc = answer_decode(&read_range_response_type, message, &m, err);

	if (rc == 0 && !r->has_size) {
		rc = take_size(r, m.size, err);
	}
	if (rc == 0) {
		rc = take_spans(r, m.spans, err);
	}
	if (rc == 0) {
		rc = take_data(r, &m, err);
	}
	return rc;
}

static void begin_reading(struct reading *r, struct proof *p, bool known)
{
	r->proof = p;
	r->known = known;
	r->has_size = false;
	r->has_groups = false;
	r->saw_end = false;
	r->end = 0;
	r->next = r->offset / OUTBOARD_GROUP * OUTBOARD_GROUP;
}

static struct proof *new_proof(const struct digest *digest)
{
	struct proof *p = xcalloc(1, sizeof(*p));

	p->refs = 1;
	p->digest = *digest;
	return p;
}

static int read_once(struct range_source *s, struct reading *r, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct read_range_request m = {
		.digest = digest_bytes(&r->proof->digest),
		.offset = r->offset,
		.length = r->len,
		.send_spans = !r->known,
	};

	message_encode(&read_range_request_type, &m, &request);
	int rc = peer_stream(s->peer, PEER_CAIRN("Objects/ReadRange"), buffer_bytes(&request),
			     take_range, r, err);

	if (rc > 0 && !complete(r)) {
		rc = wrong(r, "less than was asked for", err);
	}
	return rc;
}

/* A reference to what is known of the blob goes to *proof. */
static int read_range(struct range_source *s, const struct digest *digest, struct reading *r,
		      struct proof **proof, struct error *err)
{
	struct peer_retry retry = {0};
	struct proof *p;
	int rc;

	do {
		p = find_proof(s, digest);
		begin_reading(r, p ? p : new_proof(digest), p != NULL);
		p = r->proof;
		rc = read_once(s, r, err);
		if (rc > 0) {
			keep_proof(s, p, r->saw_end);
			*proof = p;
			return rc;
		}
		proof_unref(s, p);
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc;
}

/*
 * The size tells how the blob is hashed, but only to 16 KiB; exactly it is proved by the last
 * group, or by all of a blob that has one group only.
 */
static int prove_size(struct range_source *s, const struct proof *p, struct error *err)
{
	uint8_t byte;
	struct reading r = {.source = s, .offset = p->size - 1, .buf = &byte, .len = 1};
	struct proof *again;

	if (is_size_proved(s, p)) {
		return 1;
	}
	int rc = read_range(s, &p->digest, &r, &again, err);

	if (rc > 0) {
		rc = again->size == p->size && r.saw_end ? 1 : wrong(&r, "another size", err);
		proof_unref(s, again);
	}
	return rc;
}

int range_source_read(struct range_source *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, size_t *got, uint64_t *size, struct error *err)
{
	struct reading r = {.source = s, .buf = buf};
	struct proof *p;

	/* No sum overflows, and no blob is that large. */
	r.offset = MIN(offset, BLOB_PROOF_SIZE_MAX);
	r.len = MIN(len, (size_t)BLOB_PROOF_SIZE_MAX);
	int rc = read_range(s, digest, &r, &p, err);

	if (rc <= 0) {
		return rc;
	}
	if (r.offset + r.len >= p->size && !r.saw_end) {
		rc = prove_size(s, p, err);
	}
	if (rc > 0) {
		*size = p->size;
		*got = (size_t)MIN(r.len, p->size - MIN(r.offset, p->size));
	}
	proof_unref(s, p);
	return rc;
}

int range_source_size(struct range_source *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	uint8_t scratch[OUTBOARD_GROUP];
	struct reading r = {.source = s, .buf = scratch, .len = sizeof(scratch)};
	struct proof *p;
	int rc = read_range(s, digest, &r, &p, err);

	if (rc > 0) {
		rc = r.saw_end ? 1 : prove_size(s, p, err);
		*size = p->size;
		proof_unref(s, p);
	}
	return rc;
}

/* ---- Readers ---- */

struct range_reader {
	struct blob_reader base;
	struct range_source *source;
	struct digest digest;
	uint8_t *window; /* what was read last */
	size_t capacity;
	uint64_t start;
	size_t len;
	size_t ahead;  /* to read when the window is left at its end */
	uint64_t next; /* behind what was asked for last */
};

static int reader_fd(const struct blob_reader *r unused)
{
	return -1;
}

static void reader_free(struct blob_reader *base)
{
	struct range_reader *r = container_of(base, struct range_reader, base);

	free(r->window);
	free(r);
}

/* len lies in the blob. */
static int read_exactly(struct range_reader *r, uint64_t offset, uint8_t *buf, size_t len,
			struct error *err)
{
	uint64_t size;
	size_t got;
	int rc = range_source_read(r->source, &r->digest, offset, buf, len, &got, &size, err);

	if (rc == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "%s: blob %s was removed while open",
				 peer_address(r->source->peer), digest_text(&r->digest));
	}
	if (rc > 0 && got != len) {
		return error_set(err, ERROR_CORRUPT, "%s: blob %s became shorter",
				 peer_address(r->source->peer), digest_text(&r->digest));
	}
	return rc < 0 ? rc : 0;
}

static int move_window(struct range_reader *r, uint64_t offset, struct error *err)
{
	bool in_a_row = offset == r->next;

	r->ahead = in_a_row ? MIN(r->ahead * 2, AHEAD_MAX) : AHEAD_RANDOM;
	size_t len = (size_t)MIN(r->ahead, r->base.size - offset);

	if (len > r->capacity) {
		uint8_t *larger = realloc(r->window, len);

		if (!larger) {
			return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", len);
		}
		r->window = larger;
		r->capacity = len;
	}
	r->len = 0;
	int rc = read_exactly(r, offset, r->window, len, err);

	if (rc == 0) {
		r->start = offset;
		r->len = len;
	}
	return rc;
}

/* What the window has at this place. */
static size_t copy_from_window(const struct range_reader *r, uint64_t offset, uint8_t *buf,
			       size_t len)
{
	if (offset < r->start || offset - r->start >= r->len) {
		return 0;
	}
	size_t skip = (size_t)(offset - r->start);
	size_t n = MIN(len, r->len - skip);

	memcpy(buf, r->window + skip, n);
	return n;
}

static int reader_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct range_reader *r = container_of(base, struct range_reader, base);
	size_t wanted = (size_t)MIN(len, base->size - MIN(offset, base->size));
	uint8_t *at = buf;
	int rc = 0;

	for (size_t done = 0; rc == 0 && done < wanted;) {
		size_t n = copy_from_window(r, offset + done, at + done, wanted - done);

		if (n == 0 && wanted - done >= AHEAD_MAX) {
			n = wanted - done;
			rc = read_exactly(r, offset + done, at + done, n, err);
		} else if (n == 0) {
			rc = move_window(r, offset + done, err);
		}
		done += n;
		r->next = offset + done;
	}
	if (rc == 0) {
		*got = wanted;
	}
	return rc;
}

static const struct blob_reader_ops range_reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.free = reader_free,
};

/* The beginning is read at once: of most blobs that is all. */
static int open_reader(struct range_reader *r, struct error *err)
{
	uint64_t size;

	r->window = malloc(AHEAD_FIRST);
	if (!r->window) {
		return error_set(err, ERROR_LIMIT, "no memory for a buffer");
	}
	r->capacity = AHEAD_FIRST;
	int rc = range_source_read(r->source, &r->digest, 0, r->window, AHEAD_FIRST, &r->len,
				   &size, err);

	if (rc > 0 && size > AHEAD_FIRST) {
		rc = range_source_size(r->source, &r->digest, &size, err);
	}
	r->base.size = rc > 0 ? size : 0;
	return rc;
}

int range_source_open(struct range_source *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct range_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &range_reader_ops;
	r->source = s;
	r->digest = *digest;
	r->ahead = AHEAD_FIRST;
	int rc = open_reader(r, err);

	if (rc <= 0) {
		reader_free(&r->base);
		return rc;
	}
	if (r->len < r->capacity) {
		uint8_t *smaller = realloc(r->window, MAX(r->len, (size_t)1));

		r->window = smaller ? smaller : r->window;
		r->capacity = MAX(r->len, (size_t)1);
	}
	*out = &r->base;
	return 1;
}
