#include "rpc/range.h"

#include <pthread.h>

#include "castore/outboard.h"
#include "rpc/messages.h"
#include "rpc/range_check.h"

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
	struct range_proof known;
	bool size_proved;   /* the last group was seen; guarded by the source's lock */
	struct proof *next; /* the one used before it */
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
		range_proof_done(&p->known);
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

	while (*at && !digest_equal(&(*at)->known.digest, digest)) {
		at = &(*at)->next;
	}
	struct proof *p = *at;

	if (p) {
		*at = p->next;
		s->count--;
		s->bytes -= p->known.spans.len;
	}
	return p;
}

static void drop_oldest(struct range_source *s)
{
	struct proof **at = &s->newest;

	while (*at && (*at)->next) {
		at = &(*at)->next;
	}
	struct proof *oldest = *at;

	if (oldest) {
		s->count--;
		s->bytes -= oldest->known.spans.len;
		unref_locked(oldest);
		*at = NULL;
	}
}

static void add_proof(struct range_source *s, struct proof *p)
{
	p->next = s->newest;
	s->newest = p;
	s->count++;
	s->bytes += p->known.spans.len;
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
	struct proof *known = take_proof(s, &p->known.digest);

	if (!known) {
		known = p;
		p->refs++;
	}
	known->size_proved = known->size_proved || size_proved;
	add_proof(s, known);
	pthread_mutex_unlock(&s->lock);
}

/* What it says may be wrong, so the next one begins anew. */
static void forget_proof(struct range_source *s, const struct digest *digest)
{
	pthread_mutex_lock(&s->lock);
	unref_locked(take_proof(s, digest));
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

static struct proof *new_proof(const struct digest *digest)
{
	struct proof *p = xcalloc(1, sizeof(*p));

	p->refs = 1;
	p->known.digest = *digest;
	return p;
}

static int take_message(void *context, struct bytes message, struct error *err)
{
	return range_check_take(context, message, err);
}

static int read_once(struct range_source *s, struct range_check *c, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct read_range_request m = {
		.digest = digest_bytes(&c->proof->digest),
		.offset = c->offset,
		.length = c->len,
		.send_spans = !c->known,
	};

	message_encode(&read_range_request_type, &m, &request);
	int rc = peer_stream(s->peer, PEER_CAIRN("Objects/ReadRange"), buffer_bytes(&request),
			     take_message, c, err);

	if (rc > 0 && !range_check_complete(c)) {
		rc = error_set(err, ERROR_CORRUPT, "blob %s: less than was asked for",
			       digest_text(&c->proof->digest));
	}
	return rc;
}

/* What a caller wants; the check is of the last attempt. */
struct range {
	const struct digest *digest;
	uint64_t offset;
	void *buf;
	size_t len;
	struct range_check check;
};

/* A reference to what is known of the blob goes to *proof. */
static int read_range(struct range_source *s, struct range *r, struct proof **proof,
		      struct error *err)
{
	struct peer_retry retry = {0};
	int rc;

	do {
		struct proof *p = find_proof(s, r->digest);

		p = p ? p : new_proof(r->digest);
		range_check_init(&r->check, &p->known, r->offset, r->buf, r->len);
		rc = read_once(s, &r->check, err);
		if (rc > 0) {
			keep_proof(s, p, r->check.saw_end);
			*proof = p;
			return rc;
		}
		proof_unref(s, p);
	} while (rc < 0 && peer_retry(&retry, rc));
	if (rc == -ERROR_CORRUPT) {
		forget_proof(s, r->digest);
		error_wrap(err, "%s", peer_address(s->peer));
	}
	return rc;
}

/*
 * The size tells how the blob is hashed, but only to 16 KiB; exactly it is proved by the last
 * group, or by all of a blob that has one group only.
 */
static int prove_size(struct range_source *s, const struct proof *p, struct error *err)
{
	uint64_t size = p->known.size;
	uint8_t byte;
	struct range r = {
		.digest = &p->known.digest, .offset = size - 1, .buf = &byte, .len = 1};
	struct proof *again;

	if (is_size_proved(s, p)) {
		return 1;
	}
	int rc = read_range(s, &r, &again, err);

	if (rc <= 0) {
		return rc;
	}
	if (again->known.size != size || !r.check.saw_end) {
		rc = error_set(err, ERROR_CORRUPT, "%s: blob %s: another size than before",
			       peer_address(s->peer), digest_text(&p->known.digest));
	}
	proof_unref(s, again);
	return rc;
}

int range_source_read(struct range_source *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, size_t *got, uint64_t *size, struct error *err)
{
	struct range r = {.digest = digest, .offset = offset, .buf = buf, .len = len};
	struct proof *p;
	int rc = read_range(s, &r, &p, err);

	if (rc <= 0) {
		return rc;
	}
	uint64_t at = r.check.offset;

	if (at + r.check.len >= p->known.size && !r.check.saw_end) {
		rc = prove_size(s, p, err);
	}
	if (rc > 0) {
		*size = p->known.size;
		*got = (size_t)MIN(r.check.len, p->known.size - MIN(at, p->known.size));
	}
	proof_unref(s, p);
	return rc;
}

int range_source_size(struct range_source *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	uint8_t scratch[OUTBOARD_GROUP];
	struct range r = {.digest = digest, .buf = scratch, .len = sizeof(scratch)};
	struct proof *p;
	int rc = read_range(s, &r, &p, err);

	if (rc > 0) {
		rc = r.check.saw_end ? 1 : prove_size(s, p, err);
		*size = p->known.size;
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
