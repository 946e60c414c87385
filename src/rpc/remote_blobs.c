#include "rpc/find_missing.h"
#include "rpc/range_reader.h"
#include "rpc/remote_blobs_internal.h"
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
	return spool_size(q->remote->spool, q->digest, q->size, err);
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
	return range_reader_open(q->remote->ranges, q->digest, q->reader, err);
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
				 q->got, &size, NULL, err);
}

static int read_others(struct question *q, struct error *err)
{
	return spool_read(q->remote->spool, q->digest, q->offset, q->buf, q->len, q->got, err);
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

static int blobs_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err)
{
	return remote_blobs_get_many(remote_of(s), wants, count, take, context, err);
}

static int blobs_chunks(struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err)
{
	return remote_blobs_chunks(remote_of(s), s, digest, out, err);
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

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	return remote_blobs_put(remote_of(s), s, content, digest, err);
}

static int blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	return remote_blobs_put_file(remote_of(s), s, fd, size, watch, out, err);
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
