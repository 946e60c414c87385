/*
 * Staged stores above a peer, which knows nothing of them: what is put is held in a store in a
 * temporary folder of this machine, and sent when it is committed. Reading finds that first,
 * then what the peer has.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "castore/digest_map.h"
#include "rpc/remote.h"
#include "rpc/stage_folder.h"
#include "services/fallback.h"
#include "services/forward.h"
#include "services/local/local_store.h"
#include "services/stage.h"

/* Digests in the order in which they came first. */
struct noted {
	pthread_mutex_t lock; /* guards the rest */
	struct digest_map known;
	struct digest *list;
	size_t count;
	size_t capacity;
	_Atomic bool ended;
};

struct held_blobs {
	struct forward_blobs forward;
	struct noted noted;
};

struct held_directories {
	struct forward_directories forward;
	struct noted noted;
};

struct remote_stage {
	struct stage base;
	struct stage_folder *folder;
	struct blob_service *blobs_below; /* references */
	struct directory_service *directories_below;
	struct held_blobs *blobs; /* references */
	struct held_directories *directories;
};

static void noted_init(struct noted *n)
{
	pthread_mutex_init(&n->lock, NULL);
}

static void noted_done(struct noted *n)
{
	digest_map_done(&n->known);
	free(n->list);
	pthread_mutex_destroy(&n->lock);
}

static void note(struct noted *n, const struct digest *digest)
{
	pthread_mutex_lock(&n->lock);
	if (digest_map_put(&n->known, digest, 0)) {
		if (n->count == n->capacity) {
			n->capacity = MAX(n->capacity * 2, (size_t)64);
			n->list = xrealloc(n->list, n->capacity * sizeof(*n->list));
		}
		n->list[n->count++] = *digest;
	}
	pthread_mutex_unlock(&n->lock);
}

static int check_not_ended(const struct noted *n, struct error *err)
{
	return n->ended ? error_set(err, ERROR_INVALID, "this staged store has ended") : 0;
}

/* ---- Blobs ---- */

static struct held_blobs *blobs_of(struct blob_service *s)
{
	return container_of(s, struct held_blobs, forward.base);
}

static void blobs_destroy(struct blob_service *s)
{
	struct held_blobs *b = blobs_of(s);

	forward_blobs_done(&b->forward);
	noted_done(&b->noted);
	free(b);
}

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	struct held_blobs *b = blobs_of(s);
	int rc = check_not_ended(&b->noted, err);

	if (rc == 0) {
		rc = forward_blobs_put_hashed(s, content, digest, err);
	}
	if (rc == 0) {
		note(&b->noted, digest);
	}
	return rc;
}

static int blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	struct held_blobs *b = blobs_of(s);
	struct digest digest;
	int rc = check_not_ended(&b->noted, err);

	if (rc == 0) {
		rc = forward_blobs_put_file(s, fd, size, watch, &digest, err);
	}
	if (rc == 0) {
		note(&b->noted, &digest);
		*out = digest;
	}
	return rc;
}

struct held_writer {
	struct blob_writer base;
	struct blob_writer *inner;
	struct held_blobs *blobs; /* a reference */
};

static int writer_write(struct blob_writer *base, struct bytes data, struct error *err)
{
	return blob_writer_write(container_of(base, struct held_writer, base)->inner, data,
				 err);
}

static void writer_free(struct blob_writer *base)
{
	struct held_writer *w = container_of(base, struct held_writer, base);

	blob_writer_free(w->inner);
	blob_service_unref(&w->blobs->forward.base);
	free(w);
}

static int writer_commit(struct blob_writer *base, struct digest *digest_out,
			 uint64_t *size_out, struct error *err)
{
	struct held_writer *w = container_of(base, struct held_writer, base);
	struct digest digest;
	int rc = check_not_ended(&w->blobs->noted, err);

	if (rc == 0) {
		rc = blob_writer_commit(w->inner, &digest, size_out, err);
		w->inner = NULL;
	}
	if (rc == 0) {
		*digest_out = digest;
	}
	if (rc == 0 && !digest_equal(&digest, &digest_empty)) {
		note(&w->blobs->noted, &digest);
	}
	writer_free(base);
	return rc;
}

static const struct blob_writer_ops writer_ops = {
	.write = writer_write,
	.commit = writer_commit,
	.free = writer_free,
};

static int blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	struct blob_writer *inner;
	int rc = forward_blobs_create(s, &inner, err);

	if (rc < 0) {
		return rc;
	}
	struct held_writer *w = xcalloc(1, sizeof(*w));

	w->base.ops = &writer_ops;
	w->inner = inner;
	w->blobs = blobs_of(blob_service_ref(s));
	*out = &w->base;
	return 0;
}

/* What was held is gone when the store has ended, also for those who hold its services. */
static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	return blobs_of(s)->noted.ended ? 0 : forward_blobs_size(s, digest, size, err);
}

static int blobs_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	return blobs_of(s)->noted.ended ? 0 : forward_blobs_open(s, digest, out, err);
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	return blobs_of(s)->noted.ended
		       ? 0
		       : forward_blobs_read(s, digest, offset, buf, len, flags, got, err);
}

/* Nothing becomes durable here. */
static int blobs_sync(struct blob_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct blob_service_ops blobs_ops = {
	.name = "held",
	.verifies_ranges = true,
	.destroy = blobs_destroy,
	.size = blobs_size,
	.open = blobs_open,
	.create = blobs_create,
	.put_hashed = blobs_put_hashed,
	.put_file = blobs_put_file,
	.read = blobs_read,
	.chunks = blob_service_no_chunks,
	.count = forward_blobs_count,
	.sync = blobs_sync,
};

/* ---- Directories ---- */

static struct held_directories *directories_of(struct directory_service *s)
{
	return container_of(s, struct held_directories, forward.base);
}

static void directories_destroy(struct directory_service *s)
{
	struct held_directories *d = directories_of(s);

	forward_directories_done(&d->forward);
	noted_done(&d->noted);
	free(d);
}

static int directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	struct held_directories *h = directories_of(s);
	int rc = check_not_ended(&h->noted, err);

	if (rc == 0) {
		rc = forward_directories_put(s, d, err);
	}
	if (rc == 0) {
		note(&h->noted, directory_digest(d));
	}
	return rc;
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	return directories_of(s)->noted.ended
		       ? 0
		       : forward_directories_get(s, digest, encoding, len, err);
}

static int directories_get_nowait(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	return directories_of(s)->noted.ended
		       ? 0
		       : forward_directories_get_nowait(s, digest, encoding, len, err);
}

static int directories_has(struct directory_service *s, const struct digest *digest,
			   struct error *err)
{
	return directories_of(s)->noted.ended ? 0 : forward_directories_has(s, digest, err);
}

static int directories_sync(struct directory_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct directory_service_ops directories_ops = {
	.name = "held",
	.destroy = directories_destroy,
	.get = directories_get,
	.get_nowait = directories_get_nowait,
	.has = directories_has,
	.put = directories_put,
	.sync = directories_sync,
};

/* ---- Sending ---- */

#define PIECE ((size_t)1 << 20)

static int send_pieces(struct blob_reader *r, struct blob_writer *w, uint8_t *buf,
		       struct error *err)
{
	size_t got = 1;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < blob_reader_size(r); at += got) {
		rc = blob_reader_pread(r, buf, PIECE, at, &got, err);
		if (rc == 0) {
			rc = blob_writer_write(w, bytes_of(buf, got), err);
		}
	}
	return rc;
}

static int send_large(struct remote_stage *g, struct blob_reader *r,
		      const struct digest *digest, uint8_t *buf, struct error *err)
{
	struct blob_writer *w;
	struct digest found;
	int rc = blob_service_has(g->blobs_below, digest, err);

	if (rc != 0) {
		return rc < 0 ? rc : 0;
	}
	rc = blob_service_create(g->blobs_below, &w, err);
	if (rc < 0) {
		return rc;
	}
	rc = send_pieces(r, w, buf, err);
	if (rc < 0) {
		blob_writer_free(w);
		return rc;
	}
	return blob_writer_commit(w, &found, NULL, err);
}

static int send_blob(struct remote_stage *g, const struct digest *digest, uint8_t *buf,
		     struct error *err)
{
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;
	size_t got;
	int rc = blob_service_open(&g->blobs->forward.base, digest, &r, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_UNAVAILABLE, "blob %s is gone",
					  digest_text(digest));
	}
	if (blob_reader_size(r) > PIECE) {
		return send_large(g, r, digest, buf, err);
	}
	rc = blob_reader_pread(r, buf, PIECE, 0, &got, err);
	return rc < 0 ? rc
		      : blob_service_put_hashed(g->blobs_below, bytes_of(buf, got), digest,
						err);
}

static int send_blobs(struct remote_stage *g, struct error *err)
{
	const struct noted *n = &g->blobs->noted;
	uint8_t *buf cleanup(cleanup_free) = xmalloc(PIECE);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n->count; i++) {
		rc = send_blob(g, &n->list[i], buf, err);
	}
	return rc;
}

static int send_directories(struct remote_stage *g, struct error *err)
{
	const struct noted *n = &g->directories->noted;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n->count; i++) {
		struct directory *d cleanup(cleanup_directory) = NULL;

		rc = directory_service_get(&g->directories->forward.base, &n->list[i], &d, err);
		if (rc == 0) {
			rc = error_set(err, ERROR_UNAVAILABLE, "directory %s is gone",
				       digest_text(&n->list[i]));
		}
		if (rc > 0) {
			rc = directory_service_put(g->directories_below, d, err);
		}
	}
	return rc;
}

static int stage_commit(struct stage *base, struct error *err)
{
	struct remote_stage *g = container_of(base, struct remote_stage, base);
	int rc = send_blobs(g, err);

	if (rc == 0) {
		rc = send_directories(g, err);
	}
	if (rc == 0) {
		rc = blob_service_sync(g->blobs_below, err);
	}
	return rc == 0 ? directory_service_sync(g->directories_below, err) : rc;
}

/* ---- The staged store ---- */

static void stage_free(struct stage *base)
{
	struct remote_stage *g = container_of(base, struct remote_stage, base);

	if (g->blobs) {
		g->blobs->noted.ended = true;
		g->directories->noted.ended = true;
		blob_service_unref(&g->blobs->forward.base);
		directory_service_unref(&g->directories->forward.base);
	}
	blob_service_unref(g->blobs_below);
	directory_service_unref(g->directories_below);
	stage_folder_free(g->folder);
	free(g);
}

static const struct stage_ops stage_ops = {
	.commit = stage_commit,
	.free = stage_free,
};

static void hold(struct remote_stage *g, const struct store *temporary)
{
	g->blobs = xcalloc(1, sizeof(*g->blobs));
	forward_blobs_init(&g->blobs->forward, &blobs_ops, temporary->blobs);
	noted_init(&g->blobs->noted);
	g->directories = xcalloc(1, sizeof(*g->directories));
	forward_directories_init(&g->directories->forward, &directories_ops,
				 temporary->directories);
	noted_init(&g->directories->noted);
}

static int open_temporary(struct remote_stage *g, struct error *err)
{
	struct store temporary = {0};
	int rc = stage_folder_new(&g->folder, err);

	if (rc == 0) {
		rc = local_store_open(&temporary, stage_folder_path(g->folder), STORE_CREATE,
				      err);
	}
	if (rc == 0) {
		hold(g, &temporary);
	}
	store_close(&temporary);
	return rc;
}

struct remote_stager {
	struct stager base;
	struct remote *remote; /* a reference */
};

static int stager_begin(struct stager *base, struct store *staged, struct error *err)
{
	struct remote_stager *s = container_of(base, struct remote_stager, base);
	int rc = remote_check_writable(s->remote, err);

	if (rc < 0) {
		return rc;
	}
	struct remote_stage *g = xcalloc(1, sizeof(*g));

	g->base.ops = &stage_ops;
	g->blobs_below = remote_blobs_new(s->remote);
	g->directories_below = remote_directories_new(s->remote);
	rc = open_temporary(g, err);
	if (rc < 0) {
		stage_free(&g->base);
		return rc;
	}
	*staged = (struct store){
		.blobs = blob_service_ref(&g->blobs->forward.base),
		.directories = directory_service_ref(&g->directories->forward.base),
		.stage = &g->base,
	};
	return 0;
}

static void stager_free(struct stager *base)
{
	struct remote_stager *s = container_of(base, struct remote_stager, base);

	remote_unref(s->remote);
	free(s);
}

static const struct stager_ops stager_ops = {
	.begin = stager_begin,
	.free = stager_free,
};

struct stager *remote_stager_new(struct remote *r, const struct store *below)
{
	struct remote_stager *s = xcalloc(1, sizeof(*s));
	struct store holder = {.stager = &s->base};

	stager_init(&s->base, &stager_ops);
	s->remote = remote_ref(r);
	/* What is not held is read from below. */
	struct stager *made = fallback_stager_new(&holder, 1, below);

	stager_unref(&s->base);
	return made;
}
