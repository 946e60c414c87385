/* BlobService of a local store. */

#include <stdatomic.h>

#include "services/local/direct_reader.h"
#include "services/local/large_file.h"

struct local_blobs {
	struct blob_service base;
	struct local_view *view;
	bool read_only;
	bool compress; /* what is packed */
};

struct local_reader {
	struct blob_reader base;
	struct local_view *view;
	struct location location;
	struct cached_file *file; /* large blobs */
	uint8_t *content;         /* packed ones */
};

struct local_writer {
	struct blob_writer base;
	struct local_view *view;
	bool compress;
	struct buffer small;        /* until it is too large */
	struct large_writer *large; /* from then on */
};

static struct local_blobs *blobs_of(struct blob_service *s)
{
	return container_of(s, struct local_blobs, base);
}

static void blobs_destroy(struct blob_service *s)
{
	struct local_blobs *b = blobs_of(s);

	local_view_unref(b->view);
	free(b);
}

static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	return local_object_size(blobs_of(s)->view, INDEX_BLOBS, digest, size, err);
}

/* ---- reading packed blobs ---- */

/* Reads and verifies a whole packed blob. */
static int read_packed(struct local_store *s, const struct location *l,
		       const struct digest *digest, void *buf, unsigned flags,
		       struct error *err)
{
	struct digest actual;
	int rc = local_record_read(s, l, RECORD_BLOB, digest, buf, flags, err);

	if (rc) {
		return rc;
	}
	digest_of(&actual, bytes_of(buf, (size_t)l->size));
	if (!digest_equal(&actual, digest)) {
		return error_set(err, ERROR_CORRUPT,
				 "blob %s is damaged in pack %08x at offset %llu",
				 digest_text(digest), l->pack, (unsigned long long)l->offset);
	}
	return 0;
}

/*
 * Part of a packed blob: all of it has to be read to be verified, so it is kept for the parts
 * that will be asked for next. When another thread is at this place, without it.
 */
static int read_packed_part(struct local_store *s, const struct location *l,
			    const struct digest *digest, uint64_t offset, void *buf, size_t len,
			    unsigned flags, struct error *err)
{
	struct recent_blob *recent = &s->recent[digest_hash(digest) % RECENT_BLOBS];
	bool locked = pthread_mutex_trylock(&recent->lock) == 0;
	int rc = 0;

	if (locked && recent->content && digest_equal(&recent->digest, digest)) {
		memcpy(buf, recent->content + offset, len);
		pthread_mutex_unlock(&recent->lock);
		return 0;
	}
	uint8_t *content = malloc(MAX((size_t)l->size, 1u));

	rc = content ? read_packed(s, l, digest, content, flags, err)
		     : error_set(err, ERROR_LIMIT, "no memory to read %s", digest_text(digest));
	if (rc == 0) {
		memcpy(buf, content + offset, len);
	}
	if (rc == 0 && locked) {
		free(recent->content);
		recent->content = content;
		recent->digest = *digest;
		content = NULL;
	}
	if (locked) {
		pthread_mutex_unlock(&recent->lock);
	}
	free(content);
	return rc;
}

static int read_large(struct local_view *view, struct cached_file *f, const struct location *l,
		      void *buf, size_t len, uint64_t offset, unsigned how, struct error *err)
{
	struct local_store *s = view->store;
	/* A stage's files were written just now. */
	int rc = view->below ? 0
			     : direct_reader_read(s->direct, f, l, buf, len, offset, how, err);

	return rc == 0 ? large_file_read(s, f, l, buf, len, offset, how, err) : MIN(rc, 0);
}

/* The range lies inside of the blob. */
static int read_located(struct local_view *view, const struct location *l,
			const struct digest *digest, uint64_t offset, void *buf, size_t len,
			unsigned how, struct error *err)
{
	struct cached_file *f;

	if (l->kind != LOCATION_FILE) {
		return len == l->size ? read_packed(view->store, l, digest, buf, how, err)
				      : read_packed_part(view->store, l, digest, offset, buf,
							 len, how, err);
	}
	int rc = large_file_open(view, digest, l, &f, err);

	if (rc == 0) {
		rc = read_large(view, f, l, buf, len, offset, how, err);
		file_cache_release(view->files, f);
	}
	return rc;
}

/* That a blob ends where the index says is checked like its bytes: by those before the end. */
static int check_end(struct local_view *view, const struct location *l,
		     const struct digest *digest, unsigned how, struct error *err)
{
	bool is_file = l->kind == LOCATION_FILE;
	uint8_t last;

	return read_located(view, l, digest, is_file ? l->size - 1 : 0, &last, is_file ? 1 : 0,
			    how, err);
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	struct local_view *view = blobs_of(s)->view;
	unsigned how = flags & BLOB_READ_NOWAIT ? LOCAL_READ_NOWAIT : 0;
	struct location l;
	int rc = local_locate(view, INDEX_BLOBS, digest, &l, err);

	while (rc > 0) {
		*got = offset >= l.size ? 0 : (size_t)MIN(len, l.size - offset);
		rc = *got ? read_located(view, &l, digest, offset, buf, *got, how, err)
			  : check_end(view, &l, digest, how, err);
		if (rc == 0) {
			return 1;
		}
		rc = local_relocate(view, INDEX_BLOBS, digest, &l, rc, err);
	}
	return rc;
}

/* ---- readers ---- */

static struct local_reader *reader_of(struct blob_reader *r)
{
	return container_of(r, struct local_reader, base);
}

/* Asker: is the outboard somewhere else by now? For a file that is open, gone is a failure. */
static int outboard_moved(struct local_reader *r, int failure, struct error *err)
{
	struct error why = {.code = ERROR_NONE};

	if (err) {
		why = *err;
	}
	int rc =
		local_relocate(r->view, INDEX_BLOBS, &r->file->key, &r->location, failure, err);

	if (rc == 0 && err) {
		*err = why;
	}
	return rc == 0 ? failure : rc;
}

static int reader_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct local_reader *r = reader_of(base);
	size_t n = offset >= base->size ? 0 : (size_t)MIN(len, base->size - offset);
	int rc = 0;

	if (r->file) {
		do {
			rc = large_file_read(r->view->store, r->file, &r->location, buf, n,
					     offset, 0, err);
		} while (rc < 0 && (rc = outboard_moved(r, rc, err)) > 0);
	} else if (n) {
		memcpy(buf, r->content + offset, n);
	}
	if (rc == 0) {
		*got = n;
	}
	return rc;
}

static int reader_fd(const struct blob_reader *base)
{
	const struct local_reader *r = (const struct local_reader *)(const void *)base;

	return r->file ? r->file->fd : -1;
}

static int reader_outboard(struct blob_reader *base, uint64_t first, size_t count,
			   uint8_t *values, struct error *err)
{
	struct local_reader *r = reader_of(base);
	int rc;

	if (!r->file) {
		return blob_reader_outboard_by_reading(base, first, count, values, err);
	}
	do {
		rc = large_file_outboard(r->view->store, &r->location, first, count, values,
					 err);
	} while (rc < 0 && (rc = outboard_moved(r, rc, err)) > 0);
	return rc;
}

static void reader_free(struct blob_reader *base)
{
	struct local_reader *r = reader_of(base);

	file_cache_release(r->view->files, r->file);
	local_view_unref(r->view);
	free(r->content);
	free(r);
}

static const struct blob_reader_ops reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.outboard = reader_outboard,
	.free = reader_free,
};

static int open_located(struct local_view *view, const struct location *l,
			const struct digest *digest, struct blob_reader **out,
			struct error *err)
{
	struct local_reader *r = xcalloc(1, sizeof(*r));
	int rc;

	r->base = (struct blob_reader){.ops = &reader_ops, .size = l->size};
	r->view = local_view_ref(view);
	r->location = *l;
	if (l->kind == LOCATION_FILE) {
		rc = large_file_open(view, digest, l, &r->file, err);
	} else {
		r->content = malloc(MAX((size_t)l->size, 1u));
		rc = r->content ? read_packed(view->store, l, digest, r->content, 0, err)
				: error_set(err, ERROR_LIMIT, "no memory to read %s",
					    digest_text(digest));
	}
	if (rc) {
		reader_free(&r->base);
		return rc;
	}
	*out = &r->base;
	return 0;
}

static int blobs_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct local_view *view = blobs_of(s)->view;
	struct location l;
	int rc = local_locate(view, INDEX_BLOBS, digest, &l, err);

	while (rc > 0) {
		rc = open_located(view, &l, digest, out, err);
		if (rc == 0) {
			return 1;
		}
		rc = local_relocate(view, INDEX_BLOBS, digest, &l, rc, err);
	}
	return rc;
}

/* ---- writing ---- */

/* Compressed before anything is locked, so that all threads of an import work at it. */
static int put_packed(struct local_view *v, bool compress, const struct digest *digest,
		      struct bytes content, struct error *err)
{
	struct codec *codec = compress ? codec_take(&v->store->codecs) : NULL;
	struct record r = {.kind = RECORD_BLOB, .size = content.len, .digest = *digest};
	struct bytes payload = content;

	r.encoding = codec && codec_compress(codec, content, &payload) ? ENCODING_ZSTD
								       : ENCODING_RAW;
	r.stored = (uint32_t)payload.len;
	int rc = committer_add(v->committer, &r, payload, err);

	codec_give(&v->store->codecs, codec);
	return rc;
}

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	struct local_blobs *b = blobs_of(s);
	uint64_t known;
	int rc = local_check_writable(b->view->store, b->read_only, err);

	if (rc == 0) {
		rc = local_object_size(b->view, INDEX_BLOBS, digest, &known, err);
	}
	if (rc) {
		return rc < 0 ? rc : 0;
	}
	if (content.len < LARGE_BLOB_MIN) {
		return put_packed(b->view, b->compress, digest, content, err);
	}
	struct large_writer *w;
	struct digest same;
	uint64_t size;

	rc = large_writer_new(b->view, &w, err);
	if (rc) {
		return rc;
	}
	rc = large_writer_write(w, content, err);
	if (rc) {
		large_writer_free(w);
		return rc;
	}
	return large_writer_commit(w, &same, &size, err);
}

static int blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	struct local_blobs *b = blobs_of(s);
	int rc = local_check_writable(b->view->store, b->read_only, err);

	if (rc) {
		return rc;
	}
	return size < LARGE_BLOB_MIN
		       ? blob_service_put_file_by_writer(s, fd, size, watch, out, err)
		       : large_file_import(b->view, fd, size, watch, out, err);
}

static struct local_writer *writer_of(struct blob_writer *w)
{
	return container_of(w, struct local_writer, base);
}

static void writer_free(struct blob_writer *base)
{
	struct local_writer *w = writer_of(base);

	large_writer_free(w->large);
	buffer_done(&w->small);
	local_view_unref(w->view);
	free(w);
}

static int writer_write(struct blob_writer *base, struct bytes data, struct error *err)
{
	struct local_writer *w = writer_of(base);
	int rc = 0;

	if (!w->large && w->small.len + data.len < LARGE_BLOB_MIN) {
		buffer_append(&w->small, data.ptr, data.len);
		return 0;
	}
	if (!w->large) {
		rc = large_writer_new(w->view, &w->large, err);
		if (rc == 0) {
			rc = large_writer_write(w->large, buffer_bytes(&w->small), err);
			buffer_done(&w->small);
		}
	}
	return rc ? rc : large_writer_write(w->large, data, err);
}

static int writer_commit(struct blob_writer *base, struct digest *digest_out,
			 uint64_t *size_out, struct error *err)
{
	struct local_writer *w = writer_of(base);
	struct digest digest;
	uint64_t size = w->small.len, known;
	int rc;

	if (w->large) {
		rc = large_writer_commit(w->large, &digest, &size, err);
		w->large = NULL;
	} else {
		digest_of(&digest, buffer_bytes(&w->small));
		rc = size ? local_object_size(w->view, INDEX_BLOBS, &digest, &known, err) : 1;
		if (rc == 0) {
			rc = put_packed(w->view, w->compress, &digest, buffer_bytes(&w->small),
					err);
		}
	}
	writer_free(base);
	if (rc < 0) {
		return rc;
	}
	*digest_out = digest;
	*size_out = size;
	return 0;
}

static const struct blob_writer_ops writer_ops = {
	.write = writer_write,
	.commit = writer_commit,
	.free = writer_free,
};

static int blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	struct local_blobs *b = blobs_of(s);
	int rc = local_check_writable(b->view->store, b->read_only, err);

	if (rc) {
		return rc;
	}
	struct local_writer *w = xcalloc(1, sizeof(*w));

	w->base.ops = &writer_ops;
	w->view = local_view_ref(b->view);
	w->compress = b->compress;
	*out = &w->base;
	return 0;
}

static int blobs_count(struct blob_service *s, struct blob_counts *out, struct error *err)
{
	struct local_view *view = blobs_of(s)->view;
	struct index *ix = view->store->index;
	uint64_t blobs, large;
	int rc = index_count(ix, INDEX_BLOBS, &blobs, err);

	if (rc == 0) {
		rc = index_count(ix, INDEX_LARGE_SIZES, &large, err);
	}
	if (rc == 0) {
		*out = (struct blob_counts){.blobs = blobs, .plain_files = large};
		committer_count(view->committer, out);
	}
	return rc;
}

static int blobs_stored(struct blob_service *s, const struct digest *digest, uint64_t *stored,
			struct error *err)
{
	return local_object_stored(blobs_of(s)->view, INDEX_BLOBS, digest, stored, err);
}

static int blobs_discard(struct blob_service *s, const struct digest *digest, struct error *err)
{
	struct local_blobs *b = blobs_of(s);
	int rc = local_check_writable(b->view->store, b->read_only, err);

	return rc ? rc : local_object_discard(b->view, INDEX_BLOBS, digest, err);
}

static int blobs_recover(struct blob_service *s, struct error *err unused)
{
	struct local_view *view = blobs_of(s)->view;

	/* A stage that failed is given up. */
	if (!view->below) {
		committer_recover(view->committer);
	}
	return 0;
}

static int blobs_sync(struct blob_service *s, struct error *err)
{
	return local_view_sync(blobs_of(s)->view, err);
}

static const struct blob_service_ops blob_ops = {
	.name = "file",
	.verifies_ranges = true,
	.destroy = blobs_destroy,
	.size = blobs_size,
	.open = blobs_open,
	.create = blobs_create,
	.put_hashed = blobs_put_hashed,
	.put_file = blobs_put_file,
	.read = blobs_read,
	.chunks = blob_service_no_chunks,
	.count = blobs_count,
	.stored = blobs_stored,
	.discard = blobs_discard,
	.sync = blobs_sync,
	.recover = blobs_recover,
};

struct blob_service *local_blobs_new(struct local_view *v, unsigned flags)
{
	struct local_blobs *b = xcalloc(1, sizeof(*b));

	blob_service_init(&b->base, &blob_ops);
	b->view = local_view_ref(v);
	b->read_only = flags & STORE_READ_ONLY;
	b->compress = !(flags & STORE_UNCOMPRESSED);
	return &b->base;
}
