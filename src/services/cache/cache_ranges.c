#include "services/cache/cache_ranges.h"

#include <stdatomic.h>

#include "base/endian.h"
#include "base/log.h"

/* What one question to far brings at most. */
#define SPAN ((uint64_t)1 << 20)
/* What a flight brings begins with the offset of the rest. */
#define PIECE_HEADER 8

/* ---- Sizes ---- */

/* Asker, without far. */
static int recall_size(struct cache *c, const struct digest *digest, uint64_t *size)
{
	struct cache_key key = cache_key_of(CACHE_SIZE, digest_bytes(digest));
	struct object *o cleanup(cleanup_object) = NULL;

	if (range_store_size(c->ranges, digest, size)) {
		return 1;
	}
	o = object_lru_get(c->recent, cache_key_bytes(&key), NULL);
	if (o) {
		*size = get_le64(o->content);
	}
	return o != NULL;
}

int cache_far_size(struct cache *c, const struct digest *digest, uint64_t *size,
		   struct error *err)
{
	uint8_t encoded[8];

	if (recall_size(c, digest, size)) {
		return 1;
	}
	int rc = blob_service_size(c->far.blobs, digest, size, err);

	if (rc > 0) {
		struct cache_key key = cache_key_of(CACHE_SIZE, digest_bytes(digest));

		put_le64(encoded, *size);
		struct object *o cleanup(cleanup_object) =
			object_copy(bytes_of(encoded, sizeof(encoded)));

		if (o) {
			object_lru_put(c->recent, cache_key_bytes(&key), o, NULL);
		}
	}
	return rc;
}

bool cache_ranges_known(struct cache *c, const struct digest *digest)
{
	uint64_t size;

	return recall_size(c, digest, &size) > 0 && size > c->whole_max;
}

/* ---- A blob that is complete goes to near ---- */

struct completion {
	struct background_job job;
	struct cache *cache; /* borrowed: it outlives its threads */
	struct digest digest;
	uint64_t size;
};

static void free_completion(struct background_job *j)
{
	free(container_of(j, struct completion, job));
}

/* Asker: 0 when a part went meanwhile. */
static int copy_ranges(const struct completion *p, struct blob_writer *w, struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(SPAN);

	for (uint64_t at = 0; at < p->size; at += SPAN) {
		size_t len = (size_t)MIN(SPAN, p->size - at);

		if (!range_store_read(p->cache->ranges, &p->digest, p->size, at, buf, len)) {
			return 0;
		}
		int rc = blob_writer_write(w, bytes_of(buf, len), err);

		if (rc < 0) {
			return rc;
		}
	}
	return 1;
}

/* Asker: 1 when near has the blob for good. */
static int complete(const struct completion *p, struct error *err)
{
	struct blob_service *near = p->cache->near.blobs;
	struct blob_writer *w;
	struct digest found;
	int rc = blob_service_create(near, &w, err);

	if (rc < 0) {
		return rc;
	}
	rc = copy_ranges(p, w, err);
	if (rc <= 0) {
		blob_writer_free(w);
		return rc;
	}
	rc = blob_writer_commit(w, &found, NULL, err);
	if (rc == 0 && !digest_equal(&found, &p->digest)) {
		return error_set(err, ERROR_CORRUPT, "the ranges of blob %s give %s",
				 digest_text(&p->digest), digest_text(&found));
	}
	if (rc == 0) {
		rc = blob_service_sync(near, err);
	}
	return rc < 0 ? rc : 1;
}

static void run_completion(struct background_job *j, struct background *b unused)
{
	struct completion *p = container_of(j, struct completion, job);
	struct error err;
	int rc = complete(p, &err);

	if (rc < 0) {
		cache_near_failed(p->cache, &err);
	} else if (rc > 0) {
		range_store_drop(p->cache->ranges, &p->digest);
	}
	free_completion(j);
}

static void keep(struct cache *c, const struct digest *digest, uint64_t size, uint64_t offset,
		 struct bytes content)
{
	if (!range_store_put(c->ranges, digest, size, offset, content)) {
		return;
	}
	struct completion *p = xcalloc(1, sizeof(*p));

	p->job.run = run_completion;
	p->job.free = free_completion;
	p->cache = c;
	p->digest = *digest;
	p->size = size;
	background_add(c->keeper, &p->job);
}

int cache_ranges_keep_start(struct cache *c, const struct digest *digest, struct bytes start,
			    struct error *err)
{
	uint64_t size;
	int rc = cache_far_size(c, digest, &size, err);

	if (rc > 0 && size < start.len) {
		return error_set(err, ERROR_CORRUPT, "blob %s has more than its %ju bytes",
				 digest_text(digest), (uintmax_t)size);
	}
	if (rc > 0) {
		keep(c, digest, size, 0,
		     bytes_of(start.ptr, start.len - start.len % RANGE_UNIT));
	}
	return rc;
}

/* ---- Reading ---- */

int cache_ranges_recall(struct cache *c, const struct digest *digest, uint64_t offset,
			void *buf, size_t len, size_t *got)
{
	uint64_t size;

	if (!range_store_size(c->ranges, digest, &size)) {
		return 0;
	}
	size_t n = (size_t)MIN(len, size - MIN(offset, size));

	if (!range_store_read(c->ranges, digest, size, offset, buf, n)) {
		return 0;
	}
	*got = n;
	return 1;
}

/* A part of one span that somebody waits for. */
struct part {
	struct cache *cache;
	const struct digest *digest;
	uint64_t size; /* of the blob */
	uint64_t offset;
	size_t len;
};

/* Whole units; up to the end of the span when the unit before was read too. */
static void choose_piece(const struct part *p, uint64_t *start, uint64_t *end)
{
	uint64_t span_end = MIN((p->offset / SPAN + 1) * SPAN, p->size);

	*start = p->offset - p->offset % RANGE_UNIT;
	*end = MIN(round_up(p->offset + p->len, RANGE_UNIT), span_end);
	if (*start > 0 && range_store_has(p->cache->ranges, p->digest, *start - 1)) {
		*end = span_end;
	}
}

/* A flight may have landed between the look at what is kept and this one's start. */
static struct object *piece_kept_meanwhile(const struct part *p)
{
	uint8_t *piece = malloc(PIECE_HEADER + p->len);

	if (piece && range_store_read(p->cache->ranges, p->digest, p->size, p->offset,
				      piece + PIECE_HEADER, p->len)) {
		put_le64(piece, p->offset);
		return object_new(piece, PIECE_HEADER + p->len);
	}
	free(piece);
	return NULL;
}

static int fetch_piece(void *context, struct object **out, struct error *err)
{
	const struct part *p = context;
	uint64_t start, end;
	size_t got = 0;

	*out = piece_kept_meanwhile(p);
	if (*out) {
		return 1;
	}
	choose_piece(p, &start, &end);
	size_t len = (size_t)(end - start);
	uint8_t *piece = malloc(PIECE_HEADER + len);

	if (!piece) {
		return error_set(err, ERROR_LIMIT, "no memory for a part of a blob");
	}
	int rc = blob_service_read(p->cache->far.blobs, p->digest, start, piece + PIECE_HEADER,
				   len, 0, &got, err);

	if (rc > 0 && got != len) {
		rc = error_set(err, ERROR_CORRUPT, "blob %s ends before its %ju bytes",
			       digest_text(p->digest), (uintmax_t)p->size);
	}
	if (rc <= 0) {
		free(piece);
		return rc;
	}
	keep(p->cache, p->digest, p->size, start, bytes_of(piece + PIECE_HEADER, len));
	put_le64(piece, start);
	*out = object_new(piece, PIECE_HEADER + len);
	return 1;
}

/* False when this piece, which another thread asked for, is of another part. */
static bool copy_from_piece(const struct object *o, const struct part *p, void *buf)
{
	uint64_t start = get_le64(o->content), end = start + o->len - PIECE_HEADER;

	if (p->offset < start || p->offset + p->len > end) {
		return false;
	}
	memcpy(buf, o->content + PIECE_HEADER + (p->offset - start), p->len);
	return true;
}

/* Asker. */
static int read_part(struct part *p, void *buf, struct error *err)
{
	uint8_t name[DIGEST_SIZE + 8];

	memcpy(name, p->digest->bytes, DIGEST_SIZE);
	put_le64(name + DIGEST_SIZE, p->offset / SPAN);

	struct cache_key key = cache_key_of(CACHE_SPAN, bytes_of(name, sizeof(name)));

	while (!range_store_read(p->cache->ranges, p->digest, p->size, p->offset, buf,
				 p->len)) {
		struct object *o cleanup(cleanup_object) = NULL;
		int rc = single_flight_get(&p->cache->flights, cache_key_bytes(&key),
					   fetch_piece, p, &o, err);

		if (rc <= 0 || copy_from_piece(o, p, buf)) {
			return rc;
		}
	}
	return 1;
}

int cache_ranges_read(struct cache *c, const struct digest *digest, uint64_t offset, void *buf,
		      size_t len, size_t *got, struct error *err)
{
	struct part p = {.cache = c, .digest = digest};
	int rc = cache_far_size(c, digest, &p.size, err);

	if (rc <= 0) {
		return rc;
	}
	size_t n = (size_t)MIN(len, p.size - MIN(offset, p.size));

	for (size_t at = 0; at < n; at += p.len) {
		uint8_t *out = (uint8_t *)buf + at;

		p.offset = offset + at;
		p.len = (size_t)MIN(n - at, RANGE_UNIT - p.offset % RANGE_UNIT);
		if (range_store_read(c->ranges, digest, p.size, p.offset, out, p.len)) {
			continue; /* what is here does not come again with what is not */
		}
		p.len = (size_t)MIN(n - at, SPAN - p.offset % SPAN);
		rc = read_part(&p, out, err);
		if (rc <= 0) {
			return rc;
		}
	}
	*got = n;
	return 1;
}
