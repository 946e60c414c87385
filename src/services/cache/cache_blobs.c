/* Blobs of a cache: has, get and put. How the parts of large ones come is in cache_ranges.c. */

#include <stdatomic.h>

#include "services/cache/cache_ranges.h"
#include "services/verified_reader.h"

struct cache_blobs {
	struct blob_service base;
	struct cache *cache; /* a reference */
};

static struct cache *cache_of(struct blob_service *s)
{
	return container_of(s, struct cache_blobs, base)->cache;
}

static void blobs_destroy(struct blob_service *s)
{
	cache_unref(cache_of(s));
	free(container_of(s, struct cache_blobs, base));
}

static struct object *recall(struct cache *c, const struct digest *digest)
{
	struct cache_key key = cache_key_of(CACHE_BLOB, digest_bytes(digest));

	return object_lru_get(c->recent, cache_key_bytes(&key), NULL);
}

static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	struct cache *c = cache_of(s);
	struct object *o cleanup(cleanup_object) = recall(c, digest);
	struct error why;

	if (o) {
		*size = o->len;
		return 1;
	}
	int rc = blob_service_size(c->near.blobs, digest, size, &why);

	if (rc < 0) {
		cache_near_unread(c, &why);
	}
	return rc > 0 ? rc : cache_far_size(c, digest, size, err);
}

static int blobs_has(struct blob_service *s, const struct digest *digest, struct error *err)
{
	struct cache *c = cache_of(s);
	struct object *o cleanup(cleanup_object) = recall(c, digest);
	struct error why;
	int rc = o ? 1 : blob_service_has(c->near.blobs, digest, &why);

	if (rc < 0) {
		cache_near_unread(c, &why);
	}
	return rc > 0 ? rc : blob_service_has(c->far.blobs, digest, err);
}

/* ---- Whole blobs ---- */

struct blob_fetch {
	struct cache *cache;
	const struct digest *digest;
	bool damaged; /* near has it, but not its bytes */
};

static void put_near(struct cache *c, const struct digest *digest, struct bytes content,
		     bool damaged)
{
	struct error err;
	int rc = damaged ? blob_service_discard(c->near.blobs, digest, &err) : 0;

	if (rc == 0) {
		rc = blob_service_put_hashed(c->near.blobs, content, digest, &err);
	}
	if (rc < 0) {
		cache_near_failed(c, &err);
	} else {
		cache_near_has(c, content.len);
	}
}

/* Memory first: who finds it in near must not have to wait for a sync. */
static void keep(struct cache *c, const struct digest *digest, struct object *o, bool damaged)
{
	struct cache_key key = cache_key_of(CACHE_BLOB, digest_bytes(digest));

	object_lru_put(c->recent, cache_key_bytes(&key), o, NULL);
	put_near(c, digest, bytes_of(o->content, o->len), damaged);
}

/*
 * Asker, for single_flight_get(): one question tells whether it is small, and has it then. Of
 * what is larger the beginning came, which is kept; there is no object then.
 */
static int fetch_blob(void *context, struct object **out, struct error *err)
{
	const struct blob_fetch *f = context;
	struct cache *c = f->cache;
	size_t max = (size_t)c->whole_max, got = 0;

	/* Another flight may have landed just before this one began. */
	*out = recall(c, f->digest);
	if (*out) {
		return 1;
	}
	uint8_t *content = malloc(max + 1);

	if (!content) {
		return error_set(err, ERROR_LIMIT, "no memory for a blob");
	}
	int rc = blob_service_read(c->far.blobs, f->digest, 0, content, max + 1, 0, &got, err);

	if (rc > 0 && got <= max) {
		uint8_t *fitting = realloc(content, MAX(got, (size_t)1));

		*out = object_new(fitting ? fitting : content, got);
		keep(c, f->digest, *out, f->damaged);
		return 1;
	}
	if (rc > 0) {
		rc = cache_ranges_keep_start(c, f->digest, bytes_of(content, got), err);
	}
	free(content);
	return rc;
}

/* Asker: all of a small blob; *out stays NULL for a large one. */
static int fetch_whole(struct cache *c, const struct digest *digest, bool damaged,
		       struct object **out, struct error *err)
{
	struct cache_key key = cache_key_of(CACHE_BLOB, digest_bytes(digest));
	struct blob_fetch f = {.cache = c, .digest = digest, .damaged = damaged};

	return single_flight_get(&c->flights, cache_key_bytes(&key), fetch_blob, &f, out, err);
}

/* ---- Reading ---- */

/* Asker: from far, what near could not give. */
static int read_far(struct cache *c, const struct digest *digest, uint64_t offset, void *buf,
		    size_t len, bool damaged, size_t *got, struct error *err)
{
	struct object *o cleanup(cleanup_object) = NULL;
	struct error why;

	/* Beyond what a small blob can have, and once it is known to be large, by parts. */
	if (offset < c->whole_max && !cache_ranges_known(c, digest)) {
		int rc = fetch_whole(c, digest, damaged, &o, err);

		if (rc <= 0) {
			return rc;
		}
	}
	if (o) {
		object_read(o, offset, buf, len, got);
		return 1;
	}
	int rc = cache_ranges_read(c, digest, offset, buf, len, got, err);

	if (rc > 0 && damaged && blob_service_discard(c->near.blobs, digest, &why) < 0) {
		cache_near_failed(c, &why);
	}
	return rc;
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	struct cache *c = cache_of(s);
	struct object *o cleanup(cleanup_object) = recall(c, digest);
	struct error why;

	if (o) {
		object_read(o, offset, buf, len, got);
		return 1;
	}
	int rc = blob_service_read(c->near.blobs, digest, offset, buf, len, flags, got, &why);

	if (rc > 0) {
		return rc;
	}
	if (flags & BLOB_READ_NOWAIT) {
		return error_set(err, ERROR_WOULD_BLOCK, "blob %s is not in memory",
				 digest_text(digest));
	}
	if (cache_ranges_recall(c, digest, offset, buf, len, got)) {
		return 1;
	}
	if (flags & BLOB_READ_LOCAL) {
		return error_set(err, ERROR_WOULD_BLOCK, "blob %s is far", digest_text(digest));
	}
	if (rc < 0) {
		cache_near_unread(c, &why);
	}
	return read_far(c, digest, offset, buf, len, rc < 0, got, err);
}

/* ---- Readers ---- */

struct cache_reader {
	struct blob_reader base;
	struct blob_service *blobs; /* a reference */
	struct blob_reader *near;   /* NULL: by parts */
	struct digest digest;
};

static int reader_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct cache_reader *c = container_of(r, struct cache_reader, base);

	if (c->near && blob_reader_pread(c->near, buf, len, offset, got, NULL) == 0) {
		return 0;
	}
	int rc = blob_service_read(c->blobs, &c->digest, offset, buf, len, 0, got, err);

	if (rc == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "blob %s is not there any more",
				 digest_text(&c->digest));
	}
	return rc < 0 ? rc : 0;
}

static int reader_fd(const struct blob_reader *r)
{
	const struct cache_reader *c = (const struct cache_reader *)(const void *)r;

	return c->near ? blob_reader_fd(c->near) : -1;
}

/* Far tells it for what is not here; who asks checks it. */
static int reader_outboard(struct blob_reader *r, uint64_t first, size_t count, uint8_t *values,
			   struct error *err)
{
	struct cache_reader *c = container_of(r, struct cache_reader, base);
	struct blob_reader *far cleanup(cleanup_blob_reader) = NULL;

	if (c->near) {
		return blob_reader_outboard(c->near, first, count, values, err);
	}
	int rc = blob_service_open(cache_of(c->blobs)->far.blobs, &c->digest, &far, err);

	if (rc == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "blob %s is not there any more",
				 digest_text(&c->digest));
	}
	return rc < 0 ? rc : blob_reader_outboard(far, first, count, values, err);
}

static void reader_free(struct blob_reader *r)
{
	struct cache_reader *c = container_of(r, struct cache_reader, base);

	blob_reader_free(c->near);
	blob_service_unref(c->blobs);
	free(c);
}

static const struct blob_reader_ops reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.outboard = reader_outboard,
	.free = reader_free,
};

static struct blob_reader *reader_new(struct blob_service *s, const struct digest *digest,
				      uint64_t size, struct blob_reader *near)
{
	struct cache_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &reader_ops;
	r->base.size = size;
	r->blobs = blob_service_ref(s);
	r->near = near;
	r->digest = *digest;
	return &r->base;
}

static int reader_of_object(const struct object *o, struct blob_reader **out, struct error *err)
{
	uint8_t *content;
	size_t len;
	int rc = object_give(o, &content, &len, err);

	if (rc > 0) {
		*out = verified_reader_of_memory(content, len);
	}
	return rc;
}

/* Asker: a small blob is fetched, a large one by parts when they are read. */
static int open_far(struct blob_service *s, const struct digest *digest, bool damaged,
		    struct blob_reader **out, struct error *err)
{
	struct cache *c = cache_of(s);
	struct object *o cleanup(cleanup_object) = NULL;
	uint64_t size = 0;
	int rc = cache_ranges_known(c, digest) ? 1 : fetch_whole(c, digest, damaged, &o, err);

	if (rc > 0 && o) {
		return reader_of_object(o, out, err);
	}
	if (rc > 0) {
		rc = cache_far_size(c, digest, &size, err);
	}
	if (rc > 0) {
		*out = reader_new(s, digest, size, NULL);
	}
	return rc;
}

static int blobs_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct cache *c = cache_of(s);
	struct object *o cleanup(cleanup_object) = recall(c, digest);
	struct blob_reader *near;
	struct error why;

	if (o) {
		return reader_of_object(o, out, err);
	}
	int rc = blob_service_open(c->near.blobs, digest, &near, &why);

	if (rc > 0) {
		*out = reader_new(s, digest, blob_reader_size(near), near);
		return 1;
	}
	if (rc < 0) {
		cache_near_unread(c, &why);
	}
	return open_far(s, digest, rc < 0, out, err);
}

/* ---- Writing ---- */

static int blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	return cache_writer_new(cache_of(s), out, err);
}

static int blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	return cache_put_file(cache_of(s), fd, size, watch, out, err);
}

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	struct cache *c = cache_of(s);
	struct object *o cleanup(cleanup_object) = NULL;
	int rc = blob_service_put_hashed(c->far.blobs, content, digest, err);

	if (rc < 0) {
		return rc;
	}
	o = content.len <= c->whole_max ? object_copy(content) : NULL;
	if (o) {
		keep(c, digest, o, false);
	} else {
		put_near(c, digest, content, false);
	}
	return 0;
}

static int blobs_chunks(struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err)
{
	struct cache *c = cache_of(s);

	return blob_service_has(c->near.blobs, digest, NULL) > 0
		       ? blob_service_chunks(c->near.blobs, digest, out, err)
		       : blob_service_chunks(c->far.blobs, digest, out, err);
}

/* What near has is what this is about: far is not counted. */
static int blobs_count(struct blob_service *s, struct blob_counts *out, struct error *err)
{
	return blob_service_count(cache_of(s)->near.blobs, out, err);
}

static int blobs_sync(struct blob_service *s, struct error *err)
{
	struct cache *c = cache_of(s);
	struct error why;

	if (blob_service_sync(c->near.blobs, &why) < 0) {
		cache_near_failed(c, &why);
	}
	return blob_service_sync(c->far.blobs, err);
}

/* Near is written to at all times, and so goes on as it is. */
static int blobs_recover(struct blob_service *s, struct error *err)
{
	return blob_service_recover(cache_of(s)->far.blobs, err);
}

/* ---- Many at once: what near has not, far is asked for together ---- */

static bool near_has(struct cache *c, const struct digest *digest)
{
	struct object *o cleanup(cleanup_object) = recall(c, digest);

	return o || blob_service_has(c->near.blobs, digest, NULL) > 0;
}

static int far_missing(struct cache *c, const struct digest *digests, size_t count,
		       bool *missing, struct error *err)
{
	return blob_service_find_missing(c->far.blobs, digests, count, missing, err);
}

static int blobs_find_missing(struct blob_service *s, const struct digest *digests,
			      size_t count, bool *missing, struct error *err)
{
	const struct cache_questions q = {.near_has = near_has, .far_missing = far_missing};

	return cache_find_missing(cache_of(s), &q, digests, count, missing, err);
}

/* Those of the wants that far is asked for. */
struct far_wants {
	struct cache *cache;
	struct blob_want *wants;
	size_t *numbers; /* as the caller counts them */
	size_t count;
	blob_take take;
	void *context;
};

static int take_far(void *context, size_t i, struct bytes content, struct error *err)
{
	const struct far_wants *f = context;
	struct object *o cleanup(cleanup_object) = object_copy(content);

	if (o) {
		keep(f->cache, &f->wants[i].digest, o, false);
	}
	return f->take(f->context, f->numbers[i], content, err);
}

/* From near, where it is there, whole and of this size. What take says comes of it. */
static int take_near(const struct far_wants *f, const struct blob_want *want, size_t i,
		     uint8_t *buf, bool *found, struct error *err)
{
	struct cache *c = f->cache;
	struct object *o cleanup(cleanup_object) = recall(c, &want->digest);
	struct bytes content = o ? bytes_of(o->content, o->len) : bytes_of(buf, 0);

	/* One byte more than it has, to see that there is none. */
	*found = o || blob_service_read(c->near.blobs, &want->digest, 0, buf,
					(size_t)want->size + 1, 0, &content.len, NULL) > 0;
	*found &= content.len == want->size;
	return *found ? f->take(f->context, i, content, err) : 0;
}

static int get_many(struct far_wants *f, const struct blob_want *wants, size_t count,
		    struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc((size_t)BLOB_MANY_SIZE_MAX + 1);

	for (size_t i = 0; i < count; i++) {
		bool found;
		int rc = take_near(f, &wants[i], i, buf, &found, err);

		if (rc != 0) {
			return rc;
		}
		if (!found) {
			f->wants[f->count] = wants[i];
			f->numbers[f->count++] = i;
		}
	}
	return f->count == 0 ? 0
			     : blob_service_get_many(f->cache->far.blobs, f->wants, f->count,
						     take_far, f, err);
}

static int blobs_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err)
{
	struct far_wants f = {
		.cache = cache_of(s),
		.wants = xcalloc(count, sizeof(*f.wants)),
		.numbers = xcalloc(count, sizeof(*f.numbers)),
		.take = take,
		.context = context,
	};
	int rc = get_many(&f, wants, count, err);

	free(f.wants);
	free(f.numbers);
	return rc;
}

static const struct blob_service_ops blobs_ops = {
	.name = "cache",
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
	.count = blobs_count,
	.sync = blobs_sync,
	.recover = blobs_recover,
};

struct blob_service *cache_blobs_new(struct cache *c)
{
	struct cache_blobs *b = xcalloc(1, sizeof(*b));

	blob_service_init(&b->base, &blobs_ops);
	b->cache = cache_ref(c);
	return &b->base;
}
