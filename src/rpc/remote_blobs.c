#include <errno.h>

#include "base/io.h"
#include "rpc/answer.h"
#include "rpc/find_missing.h"
#include "rpc/remote.h"
#include "rpc/rpc_status.h"
#include "services/object_table.h"
#include "services/verified_reader.h"

struct remote_blobs {
	struct blob_service base;
	struct remote *remote; /* a reference */
};

static struct remote *remote_of(struct blob_service *s)
{
	return container_of(s, struct remote_blobs, base)->remote;
}

static void blobs_destroy(struct blob_service *s)
{
	struct remote_blobs *b = container_of(s, struct remote_blobs, base);

	remote_unref(b->remote);
	free(b);
}

/* ---- Asking ---- */

/* Asker. */
static int stat_blob(struct remote *r, const struct digest *digest, struct chunk_list *out,
		     struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct stat_blob_request m = {.digest = digest_bytes(digest), .send_chunks = true};

	message_encode(&stat_blob_request_type, &m, &request);
	int rc = peer_lookup(r->peer, PEER_METHOD(PEER_BLOBS, "Stat"), buffer_bytes(&request),
			     &reply, err);

	if (rc > 0) {
		rc = answer_chunks(buffer_bytes(&reply), out, err);
		rc = rc < 0 ? rc : 1;
	}
	return rc;
}

static int size_of_spooled(struct remote *r, const struct digest *digest, uint64_t *size,
			   struct error *err)
{
	struct spooled *b;
	int rc = spool_open(r->spool, digest, &b, err);

	if (rc > 0) {
		*size = blob_reader_size(spooled_reader(b));
		spool_close(r->spool, b);
	}
	return rc;
}

static int read_spooled(struct remote *r, const struct digest *digest, uint64_t offset,
			void *buf, size_t len, size_t *got, struct error *err)
{
	struct spooled *b;
	int rc = spool_open(r->spool, digest, &b, err);

	if (rc > 0) {
		rc = blob_reader_pread(spooled_reader(b), buf, len, offset, got, err);
		rc = rc < 0 ? rc : 1;
		spool_close(r->spool, b);
	}
	return rc;
}

/*
 * A question that is put to a cairn in one way and to others in another; also to one that has
 * become another one since it was asked what it is.
 */
struct question {
	struct remote *remote;
	const struct digest *digest;
	int (*to_cairn)(struct question *q, struct error *err);
	int (*to_others)(struct question *q, struct error *err);
	uint64_t offset;
	void *buf;
	size_t len;
	size_t *got;
	uint64_t *size;
	struct blob_reader **reader;
	size_t count; /* digest is the first of so many */
	bool *missing;
};

static int ask(struct question *q, struct error *err)
{
	int rc = peer_is_cairn(q->remote->peer, err);

	if (rc < 0) {
		return rc;
	}
	rc = rc ? q->to_cairn(q, err) : -ERROR_UNSUPPORTED;
	return rc == -ERROR_UNSUPPORTED ? q->to_others(q, err) : rc;
}

static int missing_cairn(struct question *q, struct error *err)
{
	return find_missing(q->remote->peer, FIND_MISSING_BLOB, q->digest, q->count, q->missing,
			    err);
}

static int missing_others(struct question *q, struct error *err)
{
	return find_missing_blobs(q->remote->peer, q->digest, q->count, q->missing, err);
}

static bool waits_here(struct remote *r, const struct digest *digest)
{
	struct object *o cleanup(cleanup_object) = outbox_find(r->outbox, OUTBOX_BLOBS, digest);

	return o || digest_equal(digest, &digest_empty);
}

/* What waits here now is not missing, even if it arrives only after the peer was asked. */
static int blobs_find_missing(struct blob_service *s, const struct digest *digests,
			      size_t count, bool *missing, struct error *err)
{
	struct remote *r = remote_of(s);
	bool *here cleanup(cleanup_free) = xcalloc(count, sizeof(*here));
	struct question q = {
		.remote = r,
		.digest = digests,
		.to_cairn = missing_cairn,
		.to_others = missing_others,
		.count = count,
		.missing = missing,
	};

	for (size_t i = 0; i < count; i++) {
		here[i] = waits_here(r, &digests[i]);
	}
	int rc = ask(&q, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		missing[i] = missing[i] && !here[i];
	}
	return rc;
}

static int blobs_has(struct blob_service *s, const struct digest *digest, struct error *err)
{
	bool missing;

	if (waits_here(remote_of(s), digest)) {
		return 1;
	}
	int rc = blobs_find_missing(s, digest, 1, &missing, err);

	return rc < 0 ? rc : !missing;
}

static int size_cairn(struct question *q, struct error *err)
{
	return range_source_size(q->remote->ranges, q->digest, q->size, err);
}

static int size_others(struct question *q, struct error *err)
{
	return size_of_spooled(q->remote, q->digest, q->size, err);
}

static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	struct remote *r = remote_of(s);
	struct object *o cleanup(cleanup_object) = outbox_find(r->outbox, OUTBOX_BLOBS, digest);
	struct question q = {
		.remote = r,
		.digest = digest,
		.to_cairn = size_cairn,
		.to_others = size_others,
		.size = size,
	};

	if (o) {
		*size = o->len;
		return 1;
	}
	return ask(&q, err);
}

/* ---- Reading ---- */

static int open_object(const struct object *o, struct blob_reader **out, struct error *err)
{
	uint8_t *copy = malloc(o->len);

	if (!copy) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", o->len);
	}
	memcpy(copy, o->content, o->len);
	*out = verified_reader_of_memory(copy, o->len);
	return 1;
}

static int open_cairn(struct question *q, struct error *err)
{
	return range_source_open(q->remote->ranges, q->digest, q->reader, err);
}

static int open_others(struct question *q, struct error *err)
{
	return spool_open_reader(q->remote->spool, q->digest, q->reader, err);
}

/* A reader that keeps what it reads from. */
struct remote_reader {
	struct blob_reader base;
	struct blob_reader *inner;
	struct remote *remote; /* a reference */
};

static int reader_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct remote_reader *r = container_of(base, struct remote_reader, base);

	return blob_reader_pread(r->inner, buf, len, offset, got, err);
}

static int reader_fd(const struct blob_reader *base unused)
{
	return -1;
}

static void reader_free(struct blob_reader *base)
{
	struct remote_reader *r = container_of(base, struct remote_reader, base);

	blob_reader_free(r->inner);
	remote_unref(r->remote);
	free(r);
}

static const struct blob_reader_ops reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.free = reader_free,
};

static struct blob_reader *reader_new(struct remote *remote, struct blob_reader *inner)
{
	struct remote_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &reader_ops;
	r->base.size = blob_reader_size(inner);
	r->inner = inner;
	r->remote = remote_ref(remote);
	return &r->base;
}

static int blobs_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct remote *r = remote_of(s);
	struct object *o cleanup(cleanup_object) = outbox_find(r->outbox, OUTBOX_BLOBS, digest);
	struct blob_reader *inner;
	struct question q = {
		.remote = r,
		.digest = digest,
		.to_cairn = open_cairn,
		.to_others = open_others,
		.reader = &inner,
	};

	if (o) {
		return open_object(o, out, err);
	}
	int rc = ask(&q, err);

	if (rc > 0) {
		*out = reader_new(r, inner);
	}
	return rc;
}

static int read_cairn(struct question *q, struct error *err)
{
	uint64_t size;

	return range_source_read(q->remote->ranges, q->digest, q->offset, q->buf, q->len,
				 q->got, &size, err);
}

static int read_others(struct question *q, struct error *err)
{
	return read_spooled(q->remote, q->digest, q->offset, q->buf, q->len, q->got, err);
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	struct remote *r = remote_of(s);
	struct object *o cleanup(cleanup_object) = outbox_find(r->outbox, OUTBOX_BLOBS, digest);
	struct question q = {
		.remote = r,
		.digest = digest,
		.to_cairn = read_cairn,
		.to_others = read_others,
		.offset = offset,
		.buf = buf,
		.len = len,
		.got = got,
	};

	if (o) {
		*got = (size_t)MIN(len, o->len - MIN(offset, o->len));
		if (*got) {
			memcpy(buf, o->content + offset, *got);
		}
		return 1;
	}
	struct spooled *kept = spool_find(r->spool, digest);

	/* Also when the peer has gone since. */
	if (kept) {
		int rc = blob_reader_pread(spooled_reader(kept), buf, len, offset, got, err);

		spool_close(r->spool, kept);
		return rc < 0 ? rc : 1;
	}
	if (flags & (BLOB_READ_NOWAIT | BLOB_READ_LOCAL)) {
		return error_set(err, ERROR_WOULD_BLOCK, "%s has to be asked for blob %s",
				 peer_address(r->peer), digest_text(digest));
	}
	return ask(&q, err);
}

/* ---- Many ---- */

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
	size_t place = g->places[g->next++];
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
		struct peer_retry retry = {0};

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
	int rc = read_spooled(g->remote, &want->digest, 0, buf, (size_t)want->size + 1, &got,
			      err);

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

static int blobs_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err)
{
	size_t *places cleanup(cleanup_free) = xcalloc(count, sizeof(*places));
	struct getting g = {
		.remote = remote_of(s),
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

/* ---- Chunks ---- */

static int check_chunk(struct blob_reader *r, uint64_t offset, const struct chunk *chunk,
		       struct hasher *hasher, uint8_t *buf, size_t size, struct error *err)
{
	struct digest found;
	size_t got;
	int rc = 0;

	hasher_reset(hasher);
	for (uint64_t done = 0; rc == 0 && done < chunk->size; done += got) {
		size_t n = (size_t)MIN(size, chunk->size - done);

		rc = blob_reader_pread(r, buf, n, offset + done, &got, err);
		if (rc == 0 && got < n) {
			return error_set(err, ERROR_CORRUPT, "chunks of more than the blob");
		}
		hasher_update(hasher, bytes_of(buf, rc == 0 ? got : 0));
	}
	hasher_finish(hasher, &found);
	if (rc == 0 && !digest_equal(&found, &chunk->digest)) {
		rc = error_set(err, ERROR_CORRUPT, "a chunk of other bytes");
	}
	return rc;
}

#define CHECK_PIECE ((size_t)1 << 20)

static int check_all_chunks(struct blob_reader *r, const struct chunk_list *list,
			    struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(CHECK_PIECE);
	struct hasher *hasher = hasher_new();
	uint64_t offset = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < list->count; i++) {
		rc = check_chunk(r, offset, &list->chunks[i], hasher, buf, CHECK_PIECE, err);
		offset += list->chunks[i].size;
	}
	hasher_free(hasher);
	if (rc == 0 && offset != blob_reader_size(r)) {
		rc = error_set(err, ERROR_CORRUPT, "chunks of less than the blob");
	}
	return rc;
}

/*
 * Digests of chunks do not give the digest of the blob, so a list can only be checked against
 * the whole, which is read for it.
 */
static int check_chunks(struct blob_service *s, const struct digest *digest,
			const struct chunk_list *list, struct error *err)
{
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;
	int rc = blobs_open(s, digest, &r, err);

	if (rc > 0) {
		rc = check_all_chunks(r, list, err);
		rc = rc < 0 ? error_wrap(err, "%s: blob %s", peer_address(remote_of(s)->peer),
					 digest_text(digest))
			    : 1;
	}
	return rc;
}

static int blobs_chunks(struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err)
{
	struct remote *r = remote_of(s);
	struct object *o cleanup(cleanup_object) = outbox_find(r->outbox, OUTBOX_BLOBS, digest);
	struct chunk_list list = {0};
	int rc = o ? 1 : stat_blob(r, digest, &list, err);

	if (rc > 0 && list.count) {
		rc = check_chunks(s, digest, &list, err);
	}
	if (rc > 0) {
		*out = list;
	} else {
		chunk_list_done(&list);
	}
	return rc;
}

/* ---- Putting ---- */

static int blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	struct remote *r = remote_of(s);
	int rc = remote_check_writable(r, err);

	if (rc == 0) {
		*out = remote_writer_new(r);
	}
	return rc;
}

static int put_large(struct remote *r, struct bytes content, const struct digest *digest,
		     struct error *err)
{
	struct blob_writer *w = remote_writer_new(r);
	struct digest found;
	int rc = blob_writer_write(w, content, err);

	if (rc < 0) {
		blob_writer_free(w);
		return rc;
	}
	rc = blob_writer_commit(w, &found, NULL, err);
	if (rc == 0 && !digest_equal(&found, digest)) {
		rc = error_set(err, ERROR_INVALID, "%s is not the digest of %zu bytes",
			       digest_text(digest), content.len);
	}
	return rc;
}

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	struct remote *r = remote_of(s);
	struct peer_retry retry = {0};
	int rc = remote_check_writable(r, err);

	if (rc < 0) {
		return rc;
	}
	if (content.len <= OUTBOX_OBJECT_MAX) {
		return outbox_put(r->outbox, OUTBOX_BLOBS, digest, content, err);
	}
	do {
		rc = blobs_has(s, digest, err);
		if (rc == 0) {
			rc = put_large(r, content, digest, err);
		}
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc < 0 ? rc : 0;
}

static int hash_file(int fd, uint64_t size, struct blob_watch *watch, struct digest *out,
		     struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(CHECK_PIECE);
	struct hasher *hasher = hasher_new();
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size;) {
		size_t want = (size_t)MIN(size - at, CHECK_PIECE);
		ssize_t n = pread_full(fd, buf, want, (off_t)at);

		if (n < 0) {
			rc = error_set_errno(err, errno, "cannot read");
		} else if ((size_t)n < want) {
			rc = error_set(err, ERROR_CHANGED, "the file became shorter");
		} else {
			hasher_update(hasher, bytes_of(buf, want));
			rc = blob_watch_advance(watch, 0, err);
		}
		at += want;
	}
	hasher_finish(hasher, out);
	hasher_free(hasher);
	return rc;
}

/* A large file is read twice rather than sent in vain. */
static int blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	struct digest digest;
	int rc = remote_check_writable(remote_of(s), err);

	if (rc < 0) {
		return rc;
	}
	if (size <= OUTBOX_OBJECT_MAX) {
		return blob_service_put_file_by_writer(s, fd, size, watch, out, err);
	}
	rc = hash_file(fd, size, watch, &digest, err);
	if (rc == 0) {
		rc = blobs_has(s, &digest, err);
	}
	if (rc == 0) {
		return blob_service_put_file_by_writer(s, fd, size, watch, out, err);
	}
	if (rc > 0) {
		*out = digest;
		rc = blob_watch_advance(watch, size, err);
	}
	return rc;
}

static int blobs_sync(struct blob_service *s, struct error *err)
{
	return outbox_sync(remote_of(s)->outbox, err);
}

static const struct blob_service_ops blobs_ops = {
	.name = "remote",
	.verifies_ranges = true,
	.destroy = blobs_destroy,
	.has = blobs_has,
	.size = blobs_size,
	.open = blobs_open,
	.create = blobs_create,
	.put_hashed = blobs_put_hashed,
	.put_file = blobs_put_file,
	.read = blobs_read,
	.chunks = blobs_chunks,
	.find_missing = blobs_find_missing,
	.get_many = blobs_get_many,
	.count = blob_service_no_counts,
	.sync = blobs_sync,
};

struct blob_service *remote_blobs_new(struct remote *r)
{
	struct remote_blobs *b = xcalloc(1, sizeof(*b));

	blob_service_init(&b->base, &blobs_ops);
	b->remote = remote_ref(r);
	return &b->base;
}
