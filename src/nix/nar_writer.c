#include "nix/nar_writer.h"

#include <errno.h>
#include <pthread.h>

#include "base/io.h"
#include "base/pipeline.h"
#include "nix/nar_layout.h"

/* Pieces under way: enough that no thread waits for another, few enough for a CPU's cache. */
#define SLOTS 8

/* The blob that several pieces are of, where the store has no cheap ranges. */
struct large_blob {
	pthread_mutex_t lock; /* guards the rest, and the reader's use */
	struct digest digest;
	struct blob_reader *reader; /* NULL: none yet */
};

struct writer {
	struct store *store;
	struct nar_stats *stats, uncounted;
	struct nar_sink *sinks[2];
	struct nar_piece pieces[SLOTS];
	struct large_blob large;
};

static int wrong_size(const struct nar_hole *hole, size_t got, struct error *err)
{
	return error_set(err, ERROR_CORRUPT,
			 "blob %s %s the %ju bytes that its Directory gives it",
			 digest_text(&hole->digest),
			 got < hole->len ? "has fewer than" : "has more than",
			 (uintmax_t)(hole->offset + hole->len));
}

/* Asker. One thread after the other. */
static int read_large(struct writer *w, const struct nar_hole *hole, uint8_t *at, size_t len,
		      size_t *got, struct error *err)
{
	struct large_blob *large = &w->large;
	int rc = 1;

	pthread_mutex_lock(&large->lock);
	if (!large->reader || !digest_equal(&large->digest, &hole->digest)) {
		blob_reader_free(large->reader);
		large->reader = NULL;
		large->digest = hole->digest;
		rc = blob_service_open(w->store->blobs, &hole->digest, &large->reader, err);
	}
	int read =
		rc > 0 ? blob_reader_pread(large->reader, at, len, hole->offset, got, err) : 0;

	pthread_mutex_unlock(&large->lock);
	return read < 0 ? read : rc;
}

/* Asker. */
static int read_hole(struct writer *w, const struct nar_hole *hole, uint8_t *at, size_t len,
		     size_t *got, struct error *err)
{
	bool whole = hole->offset == 0 && hole->last;

	return whole || blob_service_reads_ranges(w->store->blobs)
		       ? blob_service_read(w->store->blobs, &hole->digest, hole->offset, at,
					   len, 0, got, err)
		       : read_large(w, hole, at, len, got, err);
}

/* One byte more is asked for at the end of a blob, to see that there is none. */
static int fill_hole(struct writer *w, const struct nar_hole *hole, uint8_t *at,
		     struct error *err)
{
	uint8_t behind = at[hole->len];
	size_t got;

	if (hole->len == 0 && digest_equal(&hole->digest, &digest_empty)) {
		return 0;
	}
	int rc = read_hole(w, hole, at, hole->len + hole->last, &got, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_UNAVAILABLE, "blob %s is not in the store",
					  digest_text(&hole->digest));
	}
	if (got != hole->len) {
		return wrong_size(hole, got, err);
	}
	at[hole->len] = behind;
	return 0;
}

static int run_fill(void *context, size_t slot, struct error *err)
{
	struct writer *w = context;
	const struct nar_piece *p = &w->pieces[slot];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < p->hole_count; i++) {
		rc = fill_hole(w, &p->holes[i], p->data + p->holes[i].at, err);
	}
	return rc;
}

static int give(struct writer *w, size_t sink, size_t slot, struct error *err)
{
	struct nar_sink *s = w->sinks[sink];

	return s->write(s, bytes_of(w->pieces[slot].data, w->pieces[slot].len), err);
}

static int run_first_sink(void *context, size_t slot, struct error *err)
{
	struct writer *w = context;
	int rc = give(w, 0, slot, err);

	if (rc == 0) {
		atomic_fetch_add_explicit(&w->stats->bytes, w->pieces[slot].len,
					  memory_order_relaxed);
	}
	return rc;
}

static int run_second_sink(void *context, size_t slot, struct error *err)
{
	return give(context, 1, slot, err);
}

static int write_pieces(struct writer *w, struct pipeline *pipeline, struct nar_layout *layout,
			struct error *err)
{
	for (;;) {
		size_t slot;
		int rc = pipeline_claim(pipeline, &slot, err);

		if (rc == 0) {
			rc = nar_layout_next(layout, &w->pieces[slot], err);
		}
		if (rc <= 0) {
			return rc < 0 ? rc : pipeline_finish(pipeline, err);
		}
		pipeline_publish(pipeline);
	}
}

enum { STAGE_FILL, STAGE_FIRST_SINK, STAGE_SECOND_SINK };

/* To one or two sinks, each with a stage of its own. */
static int write_to(struct writer *w, const struct node *node,
		    const struct nar_options *options, struct error *err)
{
	const struct pipeline_plan plan = {
		.stages = {[STAGE_FILL] = {.run = run_fill},
			   [STAGE_FIRST_SINK] = {.run = run_first_sink,
						 .ordered = true,
						 .after = 1u << STAGE_FILL},
			   [STAGE_SECOND_SINK] = {.run = run_second_sink,
						  .ordered = true,
						  .after = 1u << STAGE_FILL}},
		.stage_count = w->sinks[1] ? 3 : 2,
		.slot_count = SLOTS,
		.context = w,
		.cancel = options ? options->cancel : NULL,
	};
	struct nar_layout *layout cleanup(cleanup_nar_layout) = NULL;

	w->stats = options && options->stats ? options->stats : &w->uncounted;
	pthread_mutex_init(&w->large.lock, NULL);
	int rc = nar_layout_new(w->store, node, w->stats, &layout, err);

	if (rc == 0) {
		struct pipeline *pipeline = pipeline_new(&plan);

		rc = write_pieces(w, pipeline, layout, err);
		pipeline_free(pipeline);
	}
	for (size_t i = 0; i < SLOTS; i++) {
		nar_piece_done(&w->pieces[i]);
	}
	blob_reader_free(w->large.reader);
	pthread_mutex_destroy(&w->large.lock);
	return rc;
}

int nar_write(struct store *store, const struct node *node, struct nar_sink *sink,
	      const struct nar_options *options, struct error *err)
{
	struct writer w = {.store = store, .sinks = {sink}};

	return write_to(&w, node, options, err);
}

/* ---- To a descriptor ---- */

struct fd_sink {
	struct nar_sink base;
	int fd;
};

static int write_to_fd(struct nar_sink *s, struct bytes data, struct error *err)
{
	const struct fd_sink *f = container_of(s, struct fd_sink, base);

	return write_full(f->fd, data.ptr, data.len) == 0
		       ? 0
		       : error_set_errno(err, errno, "cannot write the NAR");
}

int nar_write_fd(struct store *store, const struct node *node, int fd,
		 const struct nar_options *options, struct error *err)
{
	struct fd_sink sink = {.base.write = write_to_fd, .fd = fd};

	widen_pipe(fd);
	return nar_write(store, node, &sink.base, options, err);
}

/* ---- Hashing ---- */

struct hash_sink {
	struct nar_sink base;
	struct hash_stream *stream;
	uint64_t size;
};

static int write_to_hash(struct nar_sink *s, struct bytes data, struct error *err unused)
{
	struct hash_sink *h = container_of(s, struct hash_sink, base);

	hash_stream_update(h->stream, data);
	h->size += data.len;
	return 0;
}

int nar_hash(struct store *store, const struct node *node, struct nar_sink *also,
	     const struct nar_options *options, uint64_t *size, uint8_t sha256[SHA256_SIZE],
	     struct error *err)
{
	struct hash_stream *stream cleanup(cleanup_hash_stream) = hash_stream_new(HASH_SHA256);
	struct hash_sink sink = {.base.write = write_to_hash, .stream = stream};
	struct writer w = {.store = store, .sinks = {&sink.base, also}};
	struct hash hash;
	int rc = write_to(&w, node, options, err);

	if (rc == 0) {
		hash_stream_finish(stream, &hash);
		memcpy(sha256, hash.bytes, SHA256_SIZE);
		*size = sink.size;
	}
	return rc;
}
