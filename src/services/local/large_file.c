/* Large blobs: plain immutable files, with an outboard in a pack to verify any range of them.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "castore/outboard.h"
#include "services/local/large_file.h"
#include "services/local/local_stage.h"

#define WRITEBACK_STEP ((uint64_t)8 << 20)
#define ZERO_BLOCK ((size_t)65536)
#define GROUPS_PER_SPAN (OUTBOARD_SPAN / OUTBOARD_GROUP)

struct large_writer {
	struct local_view *view;
	struct outboard_builder *builder;
	char temporary[SCRATCH_NAME_SIZE];
	int fd;
	uint64_t size;
	uint64_t written_back;
	struct blob_watch *watch; /* of an import, or NULL */
	uint64_t watched;         /* what it was told, so that a second pass does not count */
};

/* ---- writing ---- */

int large_writer_new(struct local_view *v, struct large_writer **out, struct error *err)
{
	struct large_writer *w = xcalloc(1, sizeof(*w));
	struct local_store *s = v->store;
	int rc = scratch_name(v->scratch, s->dirfd, w->temporary, err);

	w->view = v;
	w->fd = -1;
	if (rc == 0) {
		w->fd = openat(s->dirfd, w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			       0444);
		rc = w->fd >= 0 ? 0
				: error_set_errno(err, errno, "cannot create %s/%s", s->path,
						  w->temporary);
	}
	if (rc) {
		free(w);
		return rc;
	}
	w->builder = outboard_builder_new();
	*out = w;
	return 0;
}

/* The temporary file stays: either somebody has it by now, or the caller removes it. */
static void large_writer_done(struct large_writer *w)
{
	if (w->fd >= 0) {
		close(w->fd);
	}
	outboard_builder_free(w->builder);
	free(w);
}

void large_writer_free(struct large_writer *w)
{
	if (w) {
		unlinkat(w->view->store->dirfd, w->temporary, 0);
		large_writer_done(w);
	}
}

static bool all_zero(struct bytes data)
{
	return data.len == 0 ||
	       (data.ptr[0] == 0 && memcmp(data.ptr, data.ptr + 1, data.len - 1) == 0);
}

static int store_bytes(struct large_writer *w, struct bytes data, uint64_t offset,
		       struct error *err)
{
	/* Runs of zeros stay holes, so that a sparse file does not grow by being stored. */
	for (size_t at = 0; at < data.len;) {
		size_t len =
			MIN(data.len - at, ZERO_BLOCK - (size_t)((offset + at) % ZERO_BLOCK));
		struct bytes part = bytes_of(data.ptr + at, len);

		if (!(len == ZERO_BLOCK && all_zero(part)) &&
		    pwrite_full(w->fd, part.ptr, part.len, (off_t)(offset + at)) != 0) {
			return error_set_errno(err, errno, "cannot write to store %s",
					       w->view->store->path);
		}
		at += len;
	}
	return 0;
}

static int check_size(const struct large_writer *w, uint64_t more, struct error *err)
{
	if (more > LARGE_BLOB_MAX - w->size) {
		return error_set(err, ERROR_LIMIT, "a blob of more than %llu bytes",
				 (unsigned long long)LARGE_BLOB_MAX);
	}
	return 0;
}

int large_writer_write(struct large_writer *w, struct bytes data, struct error *err)
{
	int rc = check_size(w, data.len, err);

	if (rc == 0) {
		outboard_builder_update(w->builder, data);
		rc = store_bytes(w, data, w->size, err);
	}
	if (rc) {
		return rc;
	}
	w->size += data.len;
	if (w->size - w->written_back >= WRITEBACK_STEP) {
		local_start_writing(w->view->store, w->fd, w->written_back,
				    w->size - w->written_back);
		w->written_back = w->size;
	}
	return 0;
}

int large_writer_commit(struct large_writer *w, struct digest *digest, uint64_t *size,
			struct error *err)
{
	struct buffer outboard cleanup(buffer_done) = {0};
	uint64_t known;
	int rc = 0;

	outboard_builder_finish(w->builder, digest, &outboard);
	*size = w->size;
	/* A last hole has no byte behind it that would give the file its length. */
	if (ftruncate(w->fd, (off_t)w->size) != 0) {
		rc = error_set_errno(err, errno, "cannot write to store %s",
				     w->view->store->path);
	}
	if (rc == 0) {
		rc = local_object_size(w->view, INDEX_BLOBS, digest, &known, err);
	}
	if (rc) {
		large_writer_free(w);
		return rc < 0 ? rc : 0;
	}
	rc = committer_add_file(w->view->committer, digest, w->size, buffer_bytes(&outboard),
				w->temporary, err);
	large_writer_done(w);
	return rc;
}

/* ---- importing a file that is open ---- */

static bool clone_file(struct large_writer *w, int source)
{
	return ioctl(w->fd, FICLONE, source) == 0;
}

/* Where data begins at or after an offset: the offset itself where that cannot be told. */
static uint64_t end_of_hole(int fd, uint64_t at)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	struct stat st;

	if (data >= 0) {
		return (uint64_t)data;
	}
	/* Nothing but a hole up to the end of the file, or no file any more at this offset. */
	return errno == ENXIO && fstat(fd, &st) == 0 && (uint64_t)st.st_size > at
		       ? (uint64_t)st.st_size
		       : at;
}

static int tell_watch(struct large_writer *w, uint64_t at, struct error *err)
{
	uint64_t more = at > w->watched ? at - w->watched : 0;

	w->watched += more;
	return blob_watch_advance(w->watch, more, err);
}

/*
 * Feeds a file from its start to its end to the builder, and to the writer's file unless
 * hash_only. Holes are not read.
 */
static int feed_file(struct large_writer *w, int fd, uint64_t size, bool hash_only,
		     struct error *err)
{
	static const uint8_t zeros[OUTBOARD_SPAN];
	uint8_t *buf cleanup(cleanup_free) = xmalloc(OUTBOARD_SPAN);
	uint64_t hole_end = 0;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size;) {
		size_t want = (size_t)MIN(size - at, OUTBOARD_SPAN);
		struct bytes piece = bytes_of(zeros, want);

		if (at >= hole_end) {
			hole_end = end_of_hole(fd, at);
		}
		if (at + want > hole_end) {
			ssize_t n = pread_full(fd, buf, want, (off_t)at);

			if (n < 0) {
				return error_set_errno(err, errno, "cannot read");
			}
			if ((size_t)n < want) {
				return error_set(err, ERROR_CHANGED, "the file became shorter");
			}
			piece.ptr = buf;
		}
		if (hash_only) {
			outboard_builder_update(w->builder, piece);
		} else {
			rc = large_writer_write(w, piece, err);
		}
		at += want;
		if (rc == 0) {
			rc = tell_watch(w, at, err);
		}
	}
	return rc;
}

struct size_query {
	uint8_t key[8];
	bool found;
};

static bool visit_size(void *context, struct bytes key, struct bytes value unused)
{
	struct size_query *q = context;

	q->found = key.len >= 8 && memcmp(key.ptr, q->key, 8) == 0;
	return false;
}

/* Only if a large blob of exactly this size is there can the file be one the store has. */
static int may_have(struct local_view *v, uint64_t size, bool *out, struct error *err)
{
	struct size_query q = {0};
	int rc = 0;

	put_be64(q.key, size);
	for (; rc == 0 && !q.found && v; v = v->below) {
		struct index *ix = atomic_load(&v->index);

		rc = ix ? index_scan(ix, INDEX_LARGE_SIZES, bytes_of(q.key, 8), visit_size, &q,
				     err)
			: 0;
		q.found = q.found || committer_pending_size(v->committer, size);
	}
	*out = q.found;
	return rc;
}

/* Asker: is this content in the store? Costs one reading of the file, and no writing. */
static int hash_first(struct large_writer *w, int fd, uint64_t size, struct digest *digest,
		      struct error *err)
{
	uint64_t known;
	int rc = feed_file(w, fd, size, true, err);

	if (rc) {
		return rc;
	}
	outboard_builder_finish(w->builder, digest, NULL);
	outboard_builder_reset(w->builder);
	return local_object_size(w->view, INDEX_BLOBS, digest, &known, err);
}

/* After a clone the copy is ours and cannot change: it is what gets hashed. */
static int hash_clone(struct large_writer *w, uint64_t size, struct error *err)
{
	struct stat st;

	if (fstat(w->fd, &st) != 0) {
		return error_set_errno(err, errno, "cannot write to store %s",
				       w->view->store->path);
	}
	if ((uint64_t)st.st_size != size) {
		return error_set(err, ERROR_CHANGED, "the size of the file changed");
	}
	w->size = size;
	return feed_file(w, w->fd, size, true, err);
}

int large_file_import(struct local_view *v, int fd, uint64_t size, struct blob_watch *watch,
		      struct digest *digest, struct error *err)
{
	struct large_writer *w;
	uint64_t stored;
	bool maybe;
	int rc = large_writer_new(v, &w, err);

	if (rc) {
		return rc;
	}
	w->watch = watch;
	rc = check_size(w, size, err);
	if (rc == 0) {
		rc = may_have(v, size, &maybe, err);
	}
	if (rc == 0 && maybe) {
		rc = hash_first(w, fd, size, digest, err);
	}
	if (rc) {
		large_writer_free(w);
		return rc < 0 ? rc : 0;
	}
	rc = clone_file(w, fd) ? hash_clone(w, size, err) : feed_file(w, fd, size, false, err);
	if (rc) {
		large_writer_free(w);
		return rc;
	}
	return large_writer_commit(w, digest, &stored, err);
}

/* ---- reading ---- */

static int read_spans(struct local_store *s, const struct digest *digest,
		      const struct location *l, uint8_t **out, struct error *err)
{
	size_t len = (size_t)outboard_span_count(l->size) * DIGEST_SIZE;
	struct cached_file *pack;
	int rc = local_pack_open(s, l->pack, &pack, err);

	if (rc) {
		return rc;
	}
	uint8_t *spans = malloc(len);

	rc = spans ? local_pread(pack->fd, spans, len, l->offset + RECORD_HEADER_SIZE, 0,
				 "an outboard", err)
		   : error_set(err, ERROR_LIMIT, "no memory for the outboard of %s",
			       digest_text(digest));
	file_cache_release(&s->packs, pack);
	if (rc == 0 && !outboard_verify_spans(digest, l->size, spans)) {
		rc = error_set(err, ERROR_CORRUPT, "the outboard of %s in pack %08x is damaged",
			       digest_text(digest), l->pack);
	}
	if (rc) {
		free(spans);
		return rc;
	}
	*out = spans;
	return 0;
}

int large_file_outboard(struct local_store *s, const struct location *l, uint64_t first,
			size_t count, uint8_t *values, struct error *err)
{
	struct cached_file *pack;
	int rc = local_pack_open(s, l->pack, &pack, err);

	if (rc == 0) {
		rc = local_pread(pack->fd, values, count * DIGEST_SIZE,
				 l->offset + RECORD_HEADER_SIZE + first * DIGEST_SIZE, 0,
				 "an outboard", err);
		file_cache_release(&s->packs, pack);
	}
	return rc;
}

/* The name that is left in `name` is the last one tried. */
static int open_plain(struct local_view *v, const struct digest *digest,
		      char name[LOCAL_NAME_SIZE])
{
	const struct local_store *s = v->store;
	int fd = -1;

	errno = ENOENT;
	for (; fd < 0 && errno == ENOENT && v; v = v->below) {
		if (!v->below) {
			local_file_name(name, digest);
		} else if (!local_staged_name(v, digest, name)) {
			continue;
		}
		fd = local_open_to_read(s, name, O_NOFOLLOW);
	}
	return fd;
}

int large_file_open(struct local_view *v, const struct digest *digest, const struct location *l,
		    struct cached_file **out, struct error *err)
{
	struct local_store *s = v->store;
	char name[LOCAL_NAME_SIZE];
	uint8_t *spans = NULL;
	struct stat st;

	*out = file_cache_get(v->files, digest);
	if (*out) {
		return 0;
	}
	int fd = open_plain(v, digest, name);

	if (fd < 0 && errno == ENOENT) {
		return error_set(err, ERROR_CORRUPT, "%s/%s is missing", s->path, name);
	}
	if (fd < 0 || fstat(fd, &st) != 0) {
		int rc = error_set_errno(err, errno, "cannot open %s/%s", s->path, name);

		cleanup_close(&fd);
		return rc;
	}
	int rc = (uint64_t)st.st_size == l->size
			 ? read_spans(s, digest, l, &spans, err)
			 : error_set(err, ERROR_CORRUPT, "%s/%s has %lld bytes instead of %llu",
				     s->path, name, (long long)st.st_size,
				     (unsigned long long)l->size);
	if (rc) {
		close(fd);
		return rc;
	}
	*out = file_cache_add(v->files, digest, fd, l->size, spans);
	return 0;
}

/* A read, widened to whole groups: what is outside of the range goes to the edges. */
struct wide_read {
	uint64_t first, last; /* groups */
	uint8_t *head, *tail; /* one group each */
	uint8_t *buf;
	size_t len;
	uint64_t offset, size;
};

/* Where the bytes of a group are after the read. */
static uint8_t *group_place(const struct wide_read *r, uint64_t group, size_t *len)
{
	uint64_t start = group * OUTBOARD_GROUP;
	uint64_t end = MIN(start + OUTBOARD_GROUP, r->size);

	*len = (size_t)(end - start);
	if (start < r->offset) {
		return r->head;
	}
	return end > r->offset + r->len ? r->tail : r->buf + (start - r->offset);
}

/*
 * Where the bytes of this group are, and of those behind it that lie side by side with it, up
 * to `last`. Goes on to the first that does not.
 */
static uint8_t *run_place(const struct wide_read *r, uint64_t *group, uint64_t last,
			  size_t *len)
{
	uint8_t *at = group_place(r, *group, len);
	size_t more;

	while (++*group <= last && group_place(r, *group, &more) == at + *len) {
		*len += more;
	}
	return at;
}

static int read_groups(int fd, const struct wide_read *r, unsigned flags, struct error *err)
{
	int rc = 0;

	for (uint64_t group = r->first; rc == 0 && group <= r->last;) {
		uint64_t start = group * OUTBOARD_GROUP;
		size_t len;
		uint8_t *at = run_place(r, &group, r->last, &len);

		rc = local_pread(fd, at, len, start, flags, "a large blob", err);
	}
	return rc;
}

/* The values of a span's groups, as the pack has them. */
struct span_values {
	uint64_t first; /* group */
	uint8_t values[GROUPS_PER_SPAN * DIGEST_SIZE];
};

static int read_span_values(struct span_values *v, int pack, const struct cached_file *f,
			    const struct location *l, uint64_t span, unsigned flags,
			    struct error *err)
{
	uint64_t base =
		l->offset + RECORD_HEADER_SIZE + outboard_span_count(l->size) * DIGEST_SIZE;

	v->first = span * GROUPS_PER_SPAN;
	size_t count = (size_t)MIN(GROUPS_PER_SPAN, outboard_group_count(l->size) - v->first);
	int rc = local_pread(pack, v->values, count * DIGEST_SIZE,
			     base + v->first * DIGEST_SIZE, flags, "an outboard", err);

	if (rc == 0 &&
	    !outboard_verify_span(l->size, span, f->spans + span * DIGEST_SIZE, v->values)) {
		rc = error_set(err, ERROR_CORRUPT, "the outboard of %s in pack %08x is damaged",
			       digest_text(&f->key), l->pack);
	}
	return rc;
}

/* Of groups that do not have their values: the first that does not. */
static int damaged_group(const struct local_store *s, const struct cached_file *f,
			 const struct span_values *v, uint64_t group, struct bytes data,
			 struct error *err)
{
	char name[LOCAL_NAME_SIZE];
	size_t at = 0, len = (size_t)MIN(OUTBOARD_GROUP, data.len);

	while (at + len < data.len &&
	       outboard_verify_group(f->size, group,
				     v->values + (group - v->first) * DIGEST_SIZE,
				     bytes_of(data.ptr + at, len))) {
		group++;
		at += len;
		len = (size_t)MIN(OUTBOARD_GROUP, data.len - at);
	}
	uint64_t start = group * OUTBOARD_GROUP;

	local_file_name(name, &f->key);
	return error_set(err, ERROR_CORRUPT,
			 "%s/%s is damaged between bytes %llu and %llu (blob %s)", s->path,
			 name, (unsigned long long)start, (unsigned long long)(start + len),
			 digest_text(&f->key));
}

/* The groups of a read that are in this span. */
static int verify_span_groups(const struct local_store *s, const struct cached_file *f,
			      const struct span_values *v, const struct wide_read *r,
			      struct error *err)
{
	uint64_t last = MIN(r->last, v->first + GROUPS_PER_SPAN - 1);
	int rc = 0;

	for (uint64_t group = MAX(r->first, v->first); rc == 0 && group <= last;) {
		uint64_t first = group;
		size_t len;
		const uint8_t *at = run_place(r, &group, last, &len);

		if (!outboard_verify_groups(f->size, first,
					    v->values + (first - v->first) * DIGEST_SIZE,
					    bytes_of(at, len))) {
			rc = damaged_group(s, f, v, first, bytes_of(at, len), err);
		}
	}
	return rc;
}

static int verify_groups(struct local_store *s, const struct cached_file *f,
			 const struct location *l, const struct wide_read *r, unsigned flags,
			 struct error *err)
{
	struct cached_file *pack = NULL;
	int rc = local_pack_open(s, l->pack, &pack, err);

	for (uint64_t span = r->first / GROUPS_PER_SPAN;
	     rc == 0 && span <= r->last / GROUPS_PER_SPAN; span++) {
		struct span_values v;

		rc = read_span_values(&v, pack->fd, f, l, span, flags, err);
		if (rc == 0) {
			rc = verify_span_groups(s, f, &v, r, err);
		}
	}
	file_cache_release(&s->packs, pack);
	return rc;
}

int large_file_verify(struct local_store *s, const struct cached_file *f,
		      const struct location *l, uint8_t *data, size_t len, uint64_t offset,
		      struct error *err)
{
	const struct wide_read r = {.first = offset / OUTBOARD_GROUP,
				    .last = (offset + len - 1) / OUTBOARD_GROUP,
				    .buf = data,
				    .len = len,
				    .offset = offset,
				    .size = l->size};

	return verify_groups(s, f, l, &r, 0, err);
}

static void copy_edges(const struct wide_read *r)
{
	uint64_t end = r->offset + r->len;
	uint64_t head_start = r->first * OUTBOARD_GROUP, tail_start = r->last * OUTBOARD_GROUP;

	if (head_start < r->offset) {
		uint64_t head_end = MIN(MIN(head_start + OUTBOARD_GROUP, r->size), end);

		memcpy(r->buf, r->head + (r->offset - head_start),
		       (size_t)(head_end - r->offset));
	}
	/* A last group inside the first one was copied with it. */
	if (tail_start >= r->offset && MIN(tail_start + OUTBOARD_GROUP, r->size) > end) {
		memcpy(r->buf + (tail_start - r->offset), r->tail, (size_t)(end - tail_start));
	}
}

int large_file_read(struct local_store *s, struct cached_file *f, const struct location *l,
		    void *buf, size_t len, uint64_t offset, unsigned flags, struct error *err)
{
	uint8_t head[OUTBOARD_GROUP], tail[OUTBOARD_GROUP];
	struct wide_read r = {.first = offset / OUTBOARD_GROUP,
			      .last = (offset + len - 1) / OUTBOARD_GROUP,
			      .head = head,
			      .tail = tail,
			      .buf = buf,
			      .len = len,
			      .offset = offset,
			      .size = l->size};

	if (len == 0) {
		return 0;
	}
	int rc = read_groups(f->fd, &r, flags, err);

	if (rc == 0) {
		rc = verify_groups(s, f, l, &r, flags, err);
	}
	if (rc == 0) {
		copy_edges(&r);
	}
	return rc;
}
