#include "services/blob_service.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/io.h"
#include "castore/outboard.h"
#include "services/verified_reader.h"

void chunk_list_done(struct chunk_list *l)
{
	free(l->chunks);
	*l = (struct chunk_list){0};
}

void blob_service_init(struct blob_service *s, const struct blob_service_ops *ops)
{
	s->ops = ops;
	atomic_init(&s->refs, 1);
}

struct blob_service *blob_service_ref(struct blob_service *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void blob_service_unref(struct blob_service *s)
{
	if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
		s->ops->destroy(s);
	}
}

/* The empty blob exists in every service, so back ends are never asked for it. */
static bool is_empty(const struct digest *digest)
{
	return digest_equal(digest, &digest_empty);
}

int blob_service_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	if (is_empty(digest)) {
		*size = 0;
		return 1;
	}
	return s->ops->size(s, digest, size, err);
}

int blob_service_has(struct blob_service *s, const struct digest *digest, struct error *err)
{
	uint64_t size;

	if (s->ops->has && !is_empty(digest)) {
		return s->ops->has(s, digest, err);
	}
	return blob_service_size(s, digest, &size, err);
}

int blob_service_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct blob_reader *r;

	if (is_empty(digest)) {
		*out = verified_reader_of_memory(NULL, 0);
		return 1;
	}
	int rc = s->ops->open(s, digest, &r, err);

	if (rc <= 0) {
		return rc;
	}
	if (s->ops->verifies_ranges) {
		*out = r;
		return 1;
	}
	rc = verified_reader_open(r, digest, out, err);
	return rc < 0 ? rc : 1;
}

int blob_service_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	return s->ops->create(s, out, err);
}

int blob_service_put(struct blob_service *s, struct bytes content, struct digest *out,
		     struct error *err)
{
	struct digest digest;

	digest_of(&digest, content);
	int rc = blob_service_put_hashed(s, content, &digest, err);

	if (rc == 0 && out) {
		*out = digest;
	}
	return rc;
}

int blob_service_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	if ((content.len == 0) != is_empty(digest)) {
		return error_set(err, ERROR_INVALID, "%s is not the digest of %zu bytes",
				 digest_text(digest), content.len);
	}
	return content.len == 0 ? 0 : s->ops->put_hashed(s, content, digest, err);
}

int blob_service_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	if (size == 0) {
		*out = digest_empty;
		return 0;
	}
	return s->ops->put_file(s, fd, size, watch, out, err);
}

int blob_watch_advance(struct blob_watch *watch, uint64_t bytes, struct error *err)
{
	if (watch && !watch->advance(watch, bytes)) {
		return error_set(err, ERROR_CANCELED, "interrupted");
	}
	return 0;
}

#define PUT_FILE_PIECE ((size_t)1 << 20)

static int write_file_pieces(struct blob_writer *w, int fd, uint64_t size,
			     struct blob_watch *watch, struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(PUT_FILE_PIECE);
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size;) {
		size_t want = (size_t)MIN(size - at, PUT_FILE_PIECE);
		ssize_t n = pread_full(fd, buf, want, (off_t)at);

		if (n < 0) {
			return error_set_errno(err, errno, "cannot read");
		}
		if ((size_t)n < want) {
			return error_set(err, ERROR_CHANGED, "the file became shorter");
		}
		rc = blob_writer_write(w, bytes_of(buf, want), err);
		if (rc == 0) {
			rc = blob_watch_advance(watch, want, err);
		}
		at += want;
	}
	return rc;
}

int blob_service_put_file_by_writer(struct blob_service *s, int fd, uint64_t size,
				    struct blob_watch *watch, struct digest *out,
				    struct error *err)
{
	struct blob_writer *w;
	int rc = blob_service_create(s, &w, err);

	if (rc) {
		return rc;
	}
	rc = write_file_pieces(w, fd, size, watch, err);
	if (rc) {
		blob_writer_free(w);
		return rc;
	}
	return blob_writer_commit(w, out, NULL, err);
}

/* Nothing to read: only whether the blob is there. */
static int read_nothing(struct blob_service *s, const struct digest *digest, size_t *got,
			struct error *err)
{
	int rc = blob_service_has(s, digest, err);

	if (rc > 0) {
		*got = 0;
	}
	return rc;
}

int blob_service_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	size_t n = 0;

	if (len == 0 || is_empty(digest)) {
		return read_nothing(s, digest, got, err);
	}
	if (!s->ops->verifies_ranges) {
		return blob_service_read_by_open(s, digest, offset, buf, len, flags, got, err);
	}
	int rc = s->ops->read(s, digest, offset, buf, len, flags, &n, err);

	if (rc > 0 && n > len) {
		return error_set(err, ERROR_CORRUPT, "blob %s: %zu bytes where %zu were asked",
				 digest_text(digest), n, len);
	}
	if (rc > 0) {
		*got = n;
	}
	return rc;
}

int blob_service_find_missing(struct blob_service *s, const struct digest *digests,
			      size_t count, bool *missing, struct error *err)
{
	if (s->ops->find_missing) {
		return s->ops->find_missing(s, digests, count, missing, err);
	}
	for (size_t i = 0; i < count; i++) {
		int rc = blob_service_has(s, &digests[i], err);

		if (rc < 0) {
			return rc;
		}
		missing[i] = rc == 0;
	}
	return 0;
}

static int wrong_size(const struct blob_want *want, uint64_t size, struct error *err)
{
	return error_set(err, ERROR_CORRUPT, "blob %s has %ju bytes, not %ju",
			 digest_text(&want->digest), (uintmax_t)size, (uintmax_t)want->size);
}

/* What a back end gives is checked on its way to whoever asked. */
struct taking {
	const struct blob_service *service;
	const struct blob_want *wants;
	size_t count;
	size_t given;
	blob_take take;
	void *context;
};

static int take_checked(void *context, size_t i, struct bytes content, struct error *err)
{
	struct taking *t = context;
	struct digest found;

	if (i >= t->count) {
		return error_set(err, ERROR_CORRUPT, "a blob that nobody asked for");
	}
	if (content.len != t->wants[i].size) {
		return wrong_size(&t->wants[i], content.len, err);
	}
	if (!t->service->ops->verifies_ranges) {
		digest_of(&found, content);
		if (!digest_equal(&found, &t->wants[i].digest)) {
			return error_set(err, ERROR_CORRUPT,
					 "blob %s: the bytes have the digest %s",
					 digest_text(&t->wants[i].digest), digest_text(&found));
		}
	}
	t->given++;
	return t->take(t->context, i, content, err);
}

static int get_one(struct blob_service *s, const struct blob_want *want, struct buffer *room,
		   struct error *err)
{
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;
	size_t got;
	int rc = blob_service_open(s, &want->digest, &r, err);

	if (rc == 0) {
		return error_set(err, ERROR_NOT_FOUND, "blob %s is absent",
				 digest_text(&want->digest));
	}
	if (rc > 0 && blob_reader_size(r) != want->size) {
		return wrong_size(want, blob_reader_size(r), err);
	}
	if (rc > 0) {
		room->len = 0;
		buffer_reserve(room, want->size);
		room->len = want->size;
		rc = blob_reader_pread(r, room->ptr, want->size, 0, &got, err);
	}
	return rc;
}

static int get_one_by_one(struct blob_service *s, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err)
{
	struct buffer room cleanup(buffer_done) = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = get_one(s, &wants[i], &room, err);
		if (rc == 0) {
			rc = take(context, i, buffer_bytes(&room), err);
		}
	}
	return rc;
}

int blob_service_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err)
{
	struct taking t = {
		.service = s, .wants = wants, .count = count, .take = take, .context = context};

	for (size_t i = 0; i < count; i++) {
		if (wants[i].size > BLOB_MANY_SIZE_MAX) {
			return error_set(err, ERROR_LIMIT, "blob %s is too large for this",
					 digest_text(&wants[i].digest));
		}
	}
	if (!s->ops->get_many) {
		return get_one_by_one(s, wants, count, take, context, err);
	}
	int rc = s->ops->get_many(s, wants, count, take_checked, &t, err);

	if (rc == 0 && t.given < count) {
		rc = error_set(err, ERROR_CORRUPT, "%zu blobs where %zu were asked", t.given,
			       count);
	}
	return rc;
}

bool blob_service_reads_ranges(const struct blob_service *s)
{
	return s->ops->verifies_ranges;
}

int blob_service_read_by_open(struct blob_service *s, const struct digest *digest,
			      uint64_t offset, void *buf, size_t len, unsigned flags,
			      size_t *got, struct error *err)
{
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;

	if (flags & (BLOB_READ_NOWAIT | BLOB_READ_LOCAL)) {
		return error_set(err, ERROR_WOULD_BLOCK, "blob %s has to be opened",
				 digest_text(digest));
	}
	int rc = blob_service_open(s, digest, &r, err);

	if (rc <= 0) {
		return rc;
	}
	rc = blob_reader_pread(r, buf, len, offset, got, err);
	return rc < 0 ? rc : 1;
}

/* What a back end lists must add up, or an assembled blob would have holes. */
static int check_chunks(struct blob_service *s, const struct digest *digest,
			const struct chunk_list *l, struct error *err)
{
	uint64_t size = 0;
	uint64_t sum = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (__builtin_add_overflow(sum, l->chunks[i].size, &sum)) {
			return error_set(err, ERROR_CORRUPT, "sizes of chunks overflow");
		}
	}
	if (l->count == 0) {
		return 1;
	}
	int rc = s->ops->size(s, digest, &size, err);

	if (rc > 0 && size != sum) {
		rc = error_set(err, ERROR_CORRUPT, "chunks of %ju bytes for a blob of %ju",
			       (uintmax_t)sum, (uintmax_t)size);
	}
	return rc;
}

int blob_service_chunks(struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err)
{
	struct chunk_list list = {0};

	if (is_empty(digest)) {
		*out = list;
		return 1;
	}
	int rc = s->ops->chunks(s, digest, &list, err);

	if (rc <= 0) {
		return rc;
	}
	rc = check_chunks(s, digest, &list, err);
	if (rc > 0) {
		*out = list;
		return rc;
	}
	if (rc < 0) {
		error_wrap(err, "blob %s", digest_text(digest));
	}
	chunk_list_done(&list);
	return rc;
}

int blob_service_no_counts(struct blob_service *s unused, struct blob_counts *out,
			   struct error *err unused)
{
	*out = (struct blob_counts){0};
	return 0;
}

int blob_service_no_chunks(struct blob_service *s, const struct digest *digest,
			   struct chunk_list *out, struct error *err)
{
	int rc = blob_service_has(s, digest, err);

	if (rc > 0) {
		*out = (struct chunk_list){0};
	}
	return rc;
}

int blob_service_count(struct blob_service *s, struct blob_counts *out, struct error *err)
{
	return s->ops->count(s, out, err);
}

int blob_service_stored(struct blob_service *s, const struct digest *digest, uint64_t *stored,
			struct error *err)
{
	if (!s->ops->stored) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "this store does not know how much room a blob takes");
	}
	if (is_empty(digest)) {
		*stored = 0;
		return 1;
	}
	return s->ops->stored(s, digest, stored, err);
}

int blob_service_discard(struct blob_service *s, const struct digest *digest, struct error *err)
{
	return s->ops->discard
		       ? s->ops->discard(s, digest, err)
		       : error_set(err, ERROR_UNSUPPORTED, "this store cannot forget a blob");
}

int blob_service_sync(struct blob_service *s, struct error *err)
{
	return s->ops->sync(s, err);
}

int blob_service_recover(struct blob_service *s, struct error *err)
{
	return s->ops->recover ? s->ops->recover(s, err) : 0;
}

int blob_reader_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
		      size_t *got, struct error *err)
{
	size_t want = (size_t)MIN(len, r->size - MIN(offset, r->size));
	size_t n = 0;

	if (want == 0) {
		*got = 0;
		return 0;
	}
	int rc = r->ops->pread(r, buf, want, offset, &n, err);

	if (rc < 0) {
		return rc;
	}
	if (n != want) {
		return error_set(err, ERROR_CORRUPT, "%zu bytes at %ju where %zu must be", n,
				 (uintmax_t)offset, want);
	}
	*got = n;
	return 0;
}

uint64_t blob_reader_size(const struct blob_reader *r)
{
	return r->size;
}

/* Above this, reading a blob to tell how its ranges can be checked takes too long. */
#define OUTBOARD_BY_READING_MAX OUTBOARD_SPAN

static int hash_reader(struct blob_reader *r, struct buffer *outboard, struct error *err)
{
	struct outboard_builder *builder = outboard_builder_new();
	uint8_t *buf = xmalloc(OUTBOARD_GROUP);
	struct digest digest;
	size_t got = 1;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < r->size && got; at += got) {
		rc = blob_reader_pread(r, buf, OUTBOARD_GROUP, at, &got, err);
		if (rc == 0) {
			outboard_builder_update(builder, bytes_of(buf, got));
		}
	}
	outboard_builder_finish(builder, &digest, outboard);
	outboard_builder_free(builder);
	free(buf);
	return rc;
}

int blob_reader_outboard_by_reading(struct blob_reader *r, uint64_t first, size_t count,
				    uint8_t *values, struct error *err)
{
	struct buffer outboard cleanup(buffer_done) = {0};
	int rc = hash_reader(r, &outboard, err);

	if (rc < 0) {
		return rc;
	}
	if (outboard.len != outboard_encoded_size(r->size)) {
		return error_set(err, ERROR_CORRUPT, "a blob ends before its %ju bytes",
				 (uintmax_t)r->size);
	}
	memcpy(values, outboard.ptr + first * DIGEST_SIZE, count * DIGEST_SIZE);
	return 0;
}

int blob_reader_outboard(struct blob_reader *r, uint64_t first, size_t count, uint8_t *values,
			 struct error *err)
{
	uint64_t all = outboard_encoded_size(r->size) / DIGEST_SIZE;

	if (first > all || count > all - first) {
		return error_set(err, ERROR_INVALID, "an outboard of %ju values has no %ju",
				 (uintmax_t)all, (uintmax_t)(first + count));
	}
	if (count == 0) {
		return 0;
	}
	if (r->ops->outboard) {
		return r->ops->outboard(r, first, count, values, err);
	}
	if (r->size > OUTBOARD_BY_READING_MAX) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "ranges of large blobs cannot be checked from here");
	}
	return blob_reader_outboard_by_reading(r, first, count, values, err);
}

int blob_reader_fd(const struct blob_reader *r)
{
	return r->ops->fd(r);
}

void blob_reader_free(struct blob_reader *r)
{
	if (r) {
		r->ops->free(r);
	}
}

int blob_writer_write(struct blob_writer *w, struct bytes data, struct error *err)
{
	return data.len == 0 ? 0 : w->ops->write(w, data, err);
}

int blob_writer_commit(struct blob_writer *w, struct digest *digest_out, uint64_t *size_out,
		       struct error *err)
{
	uint64_t size;

	return w->ops->commit(w, digest_out, size_out ? size_out : &size, err);
}

void blob_writer_free(struct blob_writer *w)
{
	if (w) {
		w->ops->free(w);
	}
}
