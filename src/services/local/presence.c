#include "services/local/presence.h"

#include "services/local/record.h"

/* Reading all takes as long as asking for one in so many. */
#define ASKED_SHARE 16
/* More would take too much memory: 20 bytes each. */
#define BLOBS_MAX ((uint64_t)2 << 20)
/* Asked for at once. */
#define PIECE 64

void presence_init(struct presence *p)
{
	*p = (struct presence){0};
	pthread_mutex_init(&p->lock, NULL);
}

void presence_done(struct presence *p)
{
	mark_set_done(&p->blobs);
	pthread_mutex_destroy(&p->lock);
}

static bool is_location(struct bytes value)
{
	struct location l;

	return value.len == LOCATION_SIZE && location_decode(value.ptr, &l, NULL) == 0;
}

/* ---- reading all ---- */

struct taking {
	struct mark_set blobs;
	int rc;
};

static bool visit_blob(void *context, struct bytes key, struct bytes value)
{
	struct taking *t = context;
	struct digest digest;

	if (key.len == DIGEST_SIZE && is_location(value)) {
		memcpy(digest.bytes, key.ptr, DIGEST_SIZE);
		t->rc = mark_set_add(&t->blobs, NODE_FILE, &digest, NULL);
	}
	return t->rc >= 0;
}

static bool read_all(struct taking *t, struct index *ix)
{
	uint64_t count;

	return index_count(ix, INDEX_BLOBS, &count, NULL) == 0 && count <= BLOBS_MAX &&
	       mark_set_init(&t->blobs, (size_t)count, NULL) == 0 &&
	       index_scan(ix, INDEX_BLOBS, bytes_of(NULL, 0), visit_blob, t, NULL) == 0 &&
	       t->rc >= 0;
}

/* Who cannot goes on asking the index. */
static void take(struct presence *p, struct index *ix)
{
	struct taking t = {0};
	uint64_t before, after;

	/* What is the same before and after was so meanwhile: states only grow. */
	if (index_state(ix, &before, NULL) == 0 && read_all(&t, ix) &&
	    index_state(ix, &after, NULL) == 0 && before == after) {
		struct mark_set old;

		pthread_mutex_lock(&p->lock);
		old = p->blobs;
		p->blobs = t.blobs;
		p->state = before;
		pthread_mutex_unlock(&p->lock);
		t.blobs = old;
	}
	mark_set_done(&t.blobs);
}

/* ---- asking ---- */

static bool find_here(struct presence *p, uint64_t state, const struct digest *digests,
		      size_t count, bool *there)
{
	pthread_mutex_lock(&p->lock);
	bool known = p->blobs.slots && p->state == state;

	for (size_t i = 0; known && i < count; i++) {
		there[i] = mark_set_has(&p->blobs, NODE_FILE, &digests[i]);
	}
	pthread_mutex_unlock(&p->lock);
	return known;
}

static int find_in_index(struct index *ix, const struct digest *digests, size_t count,
			 bool *there, struct error *err)
{
	uint8_t locations[PIECE][LOCATION_SIZE];
	int rc = 0;

	for (size_t done = 0; rc == 0 && done < count; done += PIECE) {
		size_t n = MIN(count - done, (size_t)PIECE);

		rc = index_get_many(ix, INDEX_BLOBS, digests[done].bytes, DIGEST_SIZE, n,
				    locations[0], LOCATION_SIZE, &there[done], err);
		for (size_t i = 0; rc == 0 && i < n; i++) {
			there[done + i] = there[done + i] &&
					  is_location(bytes_of(locations[i], LOCATION_SIZE));
		}
	}
	return rc;
}

/* Has one thread read all, once enough was asked for. */
static bool is_worthwhile(struct presence *p, struct index *ix, uint64_t state, size_t count)
{
	uint64_t blobs;

	if (index_count(ix, INDEX_BLOBS, &blobs, NULL) != 0 || blobs > BLOBS_MAX) {
		return false;
	}
	pthread_mutex_lock(&p->lock);
	p->asked = (p->asked_state == state ? p->asked : 0) + count;
	p->asked_state = state;
	bool enough = p->asked > blobs / ASKED_SHARE;

	p->asked = enough ? 0 : p->asked;
	pthread_mutex_unlock(&p->lock);
	return enough;
}

int presence_find(struct presence *p, struct index *ix, const struct digest *digests,
		  size_t count, bool *there, struct error *err)
{
	uint64_t state;
	int rc = index_state(ix, &state, err);

	if (rc || find_here(p, state, digests, count, there)) {
		return rc;
	}
	rc = find_in_index(ix, digests, count, there, err);
	if (rc == 0 && is_worthwhile(p, ix, state, count)) {
		take(p, ix);
	}
	return rc;
}
