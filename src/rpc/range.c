#include "rpc/range.h"

#include <pthread.h>

#include "castore/outboard.h"
#include "rpc/messages.h"
#include "rpc/range_check.h"

/* Of span values, of blobs that were read from last: 32 bytes for each MiB of blob. */
#define PROOFS_BYTES_MAX ((size_t)64 << 20)
#define PROOFS_COUNT_MAX 1024
/* Readers that fetch ahead; each takes some mebibytes for it (read_ahead.h). */
#define PLACES_MAX 8

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
	unsigned places_taken;
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

const char *range_source_address(const struct range_source *s)
{
	return peer_address(s->peer);
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

/* ---- Places ---- */

bool range_source_take_place(struct range_source *s)
{
	pthread_mutex_lock(&s->lock);
	bool taken = s->places_taken < PLACES_MAX;

	s->places_taken += taken;
	pthread_mutex_unlock(&s->lock);
	return taken;
}

void range_source_give_place(struct range_source *s)
{
	pthread_mutex_lock(&s->lock);
	s->places_taken--;
	pthread_mutex_unlock(&s->lock);
}

/* ---- One range ---- */

static struct proof *new_proof(const struct digest *digest)
{
	struct proof *p = xcalloc(1, sizeof(*p));

	p->refs = 1;
	p->known.digest = *digest;
	return p;
}

struct answer {
	struct range_check *check;
	struct bytes *pieces; /* of one message */
	size_t capacity;
};

static int take_message(void *context, const struct rpc_message *message, struct error *err)
{
	struct answer *a = context;
	size_t count = rpc_message_piece_count(message);

	if (count > a->capacity) {
		a->pieces = xrealloc(a->pieces, count * sizeof(*a->pieces));
		a->capacity = count;
	}
	for (size_t i = 0; i < count; i++) {
		a->pieces[i] = rpc_message_piece(message, i);
	}
	return range_check_take(a->check, a->pieces, count, err);
}

static int read_once(struct range_source *s, struct range_check *c, struct client_stop *stop,
		     struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct answer answer = {.check = c};
	struct read_range_request m = {
		.digest = digest_bytes(&c->proof->digest),
		.offset = c->offset,
		.length = c->len,
		.send_spans = !c->known,
	};

	message_encode(&read_range_request_type, &m, &request);
	int rc = peer_stream_pieces(s->peer, PEER_CAIRN("Objects/ReadRange"),
				    buffer_bytes(&request), take_message, &answer, stop, err);

	free(answer.pieces);
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
	struct client_stop *stop; /* or NULL */
	struct range_check check;
};

/* A reference to what is known of the blob goes to *proof. */
static int read_range(struct range_source *s, struct range *r, struct proof **proof,
		      struct error *err)
{
	struct peer_retry retry = {.peer = s->peer};
	int rc;

	do {
		struct proof *p = find_proof(s, r->digest);

		p = p ? p : new_proof(r->digest);
		range_check_init(&r->check, &p->known, r->offset, r->buf, r->len);
		rc = read_once(s, &r->check, r->stop, err);
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
		      void *buf, size_t len, size_t *got, uint64_t *size,
		      struct client_stop *stop, struct error *err)
{
	struct range r = {
		.digest = digest, .offset = offset, .buf = buf, .len = len, .stop = stop};
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
