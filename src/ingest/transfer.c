#include "ingest/transfer.h"

#include "base/pipeline.h"
#include "castore/digest_map.h"

#define DEFAULT_JOBS 8
/* What one thread asks for and copies in one go. A large blob comes alone, or as the last. */
#define PIECE_BLOBS 1024u
#define PIECE_BYTES ((uint64_t)8 << 20)
#define LARGE_STEP ((size_t)1 << 20)
/* Directories are held until they are put, up to this much; the others are read twice. */
#define HELD_MAX ((size_t)256 << 20)
#define ASK_DIRECTORIES 1024u

struct piece {
	struct blob_want wants[PIECE_BLOBS];
	size_t count;
	uint64_t bytes;
	/* Of the thread that works on it. */
	struct digest digests[PIECE_BLOBS];
	bool missing[PIECE_BLOBS];
};

/* A directory of what was added. */
struct member {
	struct digest digest;
	struct directory *held; /* NULL: to be read again */
	bool missing;
	bool done; /* at the destination, and all below it */
};

struct transfer {
	struct store *from, *to;
	struct transfer_options options;
	struct transfer_stats own_stats;
	struct digest_map blobs;   /* that were asked for */
	struct digest_map numbers; /* of directories: in members */
	struct member *members;
	size_t count, capacity;
	size_t settled; /* members that are done */
	size_t held;    /* bytes */
	struct digest *roots;
	size_t root_count;
	struct pipeline_plan plan;
	struct pipeline *pipeline; /* NULL until there is a blob */
	struct piece *pieces[PIPELINE_SLOTS_MAX];
	struct piece *open; /* being filled; NULL: none */
};

static int run_piece(void *context, size_t slot, struct error *err);

struct transfer *transfer_new(struct store *from, struct store *to,
			      const struct transfer_options *options)
{
	struct transfer *t = xcalloc(1, sizeof(*t));

	t->from = from;
	t->to = to;
	t->options = *options;
	if (!t->options.stats) {
		t->options.stats = &t->own_stats;
	}
	t->plan = (struct pipeline_plan){
		.stages = {{.run = run_piece}},
		.stage_count = 1,
		.slot_count = PIPELINE_SLOTS_MAX,
		.threads = options->jobs ? options->jobs : DEFAULT_JOBS,
		.context = t,
		.cancel = options->cancel,
	};
	return t;
}

static void release_held(struct transfer *t)
{
	for (size_t i = t->settled; i < t->count; i++) {
		directory_unref(t->members[i].held);
		t->members[i].held = NULL;
	}
	t->held = 0;
}

void transfer_free(struct transfer *t)
{
	if (!t) {
		return;
	}
	pipeline_free(t->pipeline);
	for (size_t i = 0; i < ARRAY_SIZE(t->pieces); i++) {
		free(t->pieces[i]);
	}
	release_held(t);
	free(t->members);
	free(t->roots);
	digest_map_done(&t->numbers);
	digest_map_done(&t->blobs);
	free(t);
}

static bool cancelled(const struct transfer *t)
{
	return t->options.cancel && atomic_load(t->options.cancel);
}

static int cancel(struct error *err)
{
	return error_set(err, ERROR_CANCELED, "interrupted");
}

static void count_copied(struct transfer *t, uint64_t bytes)
{
	atomic_fetch_add(&t->options.stats->objects, 1);
	atomic_fetch_add(&t->options.stats->bytes, bytes);
}

/* ---- Blobs: by any thread ---- */

struct copying {
	struct transfer *transfer;
	const struct blob_want *wants;
};

static int put_small(void *context, size_t i, struct bytes content, struct error *err)
{
	const struct copying *c = context;
	struct transfer *t = c->transfer;

	if (cancelled(t)) {
		return cancel(err);
	}
	int rc =
		t->to ? blob_service_put_hashed(t->to->blobs, content, &c->wants[i].digest, err)
		      : 0;

	if (rc == 0) {
		count_copied(t, content.len);
	}
	return rc;
}

struct large {
	struct blob_watch watch;
	struct transfer *transfer;
};

static bool advance(struct blob_watch *w, uint64_t bytes)
{
	struct transfer *t = container_of(w, struct large, watch)->transfer;

	atomic_fetch_add(&t->options.stats->bytes, bytes);
	return !cancelled(t);
}

/* w is NULL when nothing is copied. */
static int write_pieces(struct blob_reader *r, struct blob_writer *w, struct blob_watch *watch,
			struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(LARGE_STEP);
	uint64_t size = blob_reader_size(r);
	size_t got = 0;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size; at += got) {
		rc = blob_reader_pread(r, buf, LARGE_STEP, at, &got, err);
		if (rc == 0 && w) {
			rc = blob_writer_write(w, bytes_of(buf, got), err);
		}
		if (rc == 0) {
			rc = blob_watch_advance(watch, got, err);
		}
	}
	return rc;
}

static int write_through(struct transfer *t, struct blob_reader *r, struct blob_watch *watch,
			 struct digest *out, struct error *err)
{
	struct blob_writer *w;
	int rc = blob_service_create(t->to->blobs, &w, err);

	if (rc < 0) {
		return rc;
	}
	rc = write_pieces(r, w, watch, err);
	if (rc < 0) {
		blob_writer_free(w);
		return rc;
	}
	return blob_writer_commit(w, out, NULL, err);
}

/* From a plain file, the destination may do better than being written to. */
static int put_large(struct transfer *t, struct blob_reader *r, struct digest *out,
		     struct error *err)
{
	struct large l = {.watch.advance = advance, .transfer = t};
	int fd = blob_reader_fd(r);

	if (!t->to) {
		return write_pieces(r, NULL, &l.watch, err);
	}
	return fd < 0 ? write_through(t, r, &l.watch, out, err)
		      : blob_service_put_file(t->to->blobs, fd, blob_reader_size(r), &l.watch,
					      out, err);
}

static int copy_large(struct transfer *t, const struct blob_want *want, struct error *err)
{
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;
	struct digest found = want->digest;
	int rc = blob_service_open(t->from->blobs, &want->digest, &r, err);

	if (rc == 0) {
		return error_set(err, ERROR_NOT_FOUND, "blob %s is absent",
				 digest_text(&want->digest));
	}
	if (rc > 0 && blob_reader_size(r) != want->size) {
		rc = error_set(err, ERROR_CORRUPT, "blob %s has %ju bytes, not %ju",
			       digest_text(&want->digest), (uintmax_t)blob_reader_size(r),
			       (uintmax_t)want->size);
	}
	if (rc > 0) {
		rc = put_large(t, r, &found, err);
		if (rc < 0) {
			error_wrap(err, "blob %s", digest_text(&want->digest));
		}
	}
	if (rc == 0 && !digest_equal(&found, &want->digest)) {
		rc = error_set(err, ERROR_CORRUPT, "blob %s: what was copied has the digest %s",
			       digest_text(&want->digest), digest_text(&found));
	}
	if (rc == 0) {
		count_copied(t, 0);
	}
	return rc;
}

/* Moves what is missing and small to the front; returns how many those are. */
static size_t sort_missing(struct transfer *t, struct piece *p)
{
	size_t missing = 0, small = 0;

	for (size_t i = 0; i < p->count; i++) {
		if (p->missing[i]) {
			p->wants[missing++] = p->wants[i];
		}
	}
	atomic_fetch_add(&t->options.stats->present, p->count - missing);
	p->count = missing;
	for (size_t i = 0; i < missing; i++) {
		if (p->wants[i].size <= BLOB_MANY_SIZE_MAX) {
			const struct blob_want want = p->wants[small];

			p->wants[small++] = p->wants[i];
			p->wants[i] = want;
		}
	}
	return small;
}

/* Without a destination: what is not at hand at the source. */
static int find_far(struct transfer *t, struct piece *p, struct error *err)
{
	uint8_t byte;
	size_t got;

	for (size_t i = 0; i < p->count; i++) {
		int rc = blob_service_read(t->from->blobs, &p->wants[i].digest, 0, &byte, 1,
					   BLOB_READ_LOCAL, &got, err);

		if (rc < 0 && rc != -ERROR_WOULD_BLOCK) {
			return rc;
		}
		p->missing[i] = rc <= 0;
	}
	return 0;
}

static int find_missing_blobs(struct transfer *t, struct piece *p, struct error *err)
{
	if (!t->to) {
		return find_far(t, p, err);
	}
	for (size_t i = 0; i < p->count; i++) {
		p->digests[i] = p->wants[i].digest;
	}
	return blob_service_find_missing(t->to->blobs, p->digests, p->count, p->missing, err);
}

static int run_piece(void *context, size_t slot, struct error *err)
{
	struct transfer *t = context;
	struct piece *p = t->pieces[slot];
	struct copying c = {.transfer = t, .wants = p->wants};

	int rc = find_missing_blobs(t, p, err);

	if (rc < 0) {
		return rc;
	}
	size_t small = sort_missing(t, p);

	rc = blob_service_get_many(t->from->blobs, p->wants, small, put_small, &c, err);
	for (size_t i = small; rc == 0 && i < p->count; i++) {
		rc = cancelled(t) ? cancel(err) : copy_large(t, &p->wants[i], err);
	}
	return rc;
}

/* ---- The walk: by the caller's thread ---- */

static int open_piece(struct transfer *t, struct error *err)
{
	size_t slot;

	if (!t->pipeline) {
		t->pipeline = pipeline_new(&t->plan);
	}
	int rc = pipeline_claim(t->pipeline, &slot, err);

	if (rc < 0) {
		return rc;
	}
	if (!t->pieces[slot]) {
		t->pieces[slot] = xmalloc(sizeof(*t->pieces[slot]));
	}
	t->open = t->pieces[slot];
	t->open->count = 0;
	t->open->bytes = 0;
	return 0;
}

static void close_piece(struct transfer *t)
{
	if (t->open) {
		t->open = NULL;
		pipeline_publish(t->pipeline);
	}
}

static int add_blob(struct transfer *t, const struct node *file, struct error *err)
{
	if (file->size == 0 || !digest_map_put(&t->blobs, &file->digest, 0)) {
		return 0;
	}
	int rc = t->open ? 0 : open_piece(t, err);

	if (rc < 0) {
		return rc;
	}
	struct piece *p = t->open;

	p->wants[p->count++] = (struct blob_want){.digest = file->digest, .size = file->size};
	p->bytes += MIN(file->size, PIECE_BYTES);
	if (p->count == PIECE_BLOBS || p->bytes >= PIECE_BYTES) {
		close_piece(t);
	}
	return 0;
}

/* True when it was not known. Holds it, if there is room. */
static bool add_member(struct transfer *t, struct directory *d)
{
	if (!digest_map_put(&t->numbers, directory_digest(d), t->count)) {
		return false;
	}
	if (t->count == t->capacity) {
		t->capacity = MAX(t->capacity * 2, (size_t)256);
		t->members = xrealloc(t->members, t->capacity * sizeof(*t->members));
	}
	struct member *m = &t->members[t->count++];

	*m = (struct member){.digest = *directory_digest(d)};
	if (t->held < HELD_MAX) {
		m->held = directory_ref(d);
		t->held += directory_memory(d);
	}
	return true;
}

static int add_directory(struct transfer *t, struct directory *d, struct error *err)
{
	struct directory_entry e;
	int rc = 0;

	if (!add_member(t, d)) {
		return 0;
	}
	for (size_t i = 0; rc == 0 && i < directory_count(d); i++) {
		directory_entry(d, i, &e);
		if (e.node.kind == NODE_FILE) {
			rc = add_blob(t, &e.node, err);
		}
	}
	return rc;
}

static int add_tree(struct transfer *t, const struct digest *root, struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;
	struct directory *d;
	int rc = directory_service_get_recursive(t->from->directories, root, &walk, err);

	if (rc == 0) {
		return error_set(err, ERROR_NOT_FOUND, "directory %s is absent",
				 digest_text(root));
	}
	while (rc > 0 && (rc = closure_walk_next(walk, &d, err)) > 0) {
		rc = cancelled(t) ? cancel(err) : add_directory(t, d, err);
		directory_unref(d);
		rc = rc < 0 ? rc : 1;
	}
	return rc;
}

int transfer_add(struct transfer *t, const struct node *node, struct error *err)
{
	switch (node->kind) {
	case NODE_FILE:
		return add_blob(t, node, err);
	case NODE_DIRECTORY:
		t->roots = xrealloc(t->roots, (t->root_count + 1) * sizeof(*t->roots));
		t->roots[t->root_count++] = node->digest;
		return digest_map_get(&t->numbers, &node->digest)
			       ? 0
			       : add_tree(t, &node->digest, err);
	case NODE_SYMLINK:
		return 0;
	}
	return error_set(err, ERROR_INVALID, "unknown kind of node: %d", (int)node->kind);
}

/* ---- Directories, leaves to root ---- */

static int find_missing(struct transfer *t, struct error *err)
{
	struct digest digests[ASK_DIRECTORIES];
	bool missing[ASK_DIRECTORIES];
	int rc = 0;

	for (size_t at = t->settled; rc == 0 && at < t->count; at += ASK_DIRECTORIES) {
		struct member *m = &t->members[at];
		size_t n = MIN(t->count - at, (size_t)ASK_DIRECTORIES);

		for (size_t i = 0; i < n; i++) {
			digests[i] = m[i].digest;
		}
		rc = directory_service_find_missing(t->to->directories, digests, n, missing,
						    err);
		for (size_t i = 0; rc == 0 && i < n; i++) {
			m[i].missing = missing[i];
		}
	}
	return rc;
}

/* The way down to the directory that is worked on. */
struct step {
	struct directory *directory;
	size_t number; /* of the member */
	size_t next;   /* entry */
};

struct way {
	struct step *steps;
	size_t count, capacity;
};

static int find_member(struct transfer *t, const struct digest *digest, struct member **out,
		       struct error *err)
{
	const uint64_t *number = digest_map_get(&t->numbers, digest);

	if (!number) {
		return error_set(err, ERROR_CORRUPT, "directory %s was left out of its tree",
				 digest_text(digest));
	}
	*out = &t->members[*number];
	return 0;
}

static int descend(struct transfer *t, struct way *w, const struct member *m, struct error *err)
{
	struct directory *d = m->held ? directory_ref(m->held) : NULL;

	if (!d) {
		int rc = directory_service_get(t->from->directories, &m->digest, &d, err);

		if (rc <= 0) {
			return rc < 0 ? rc
				      : error_set(err, ERROR_NOT_FOUND,
						  "directory %s is absent",
						  digest_text(&m->digest));
		}
	}
	if (w->count == w->capacity) {
		w->capacity = MAX(w->capacity * 2, (size_t)64);
		w->steps = xrealloc(w->steps, w->capacity * sizeof(*w->steps));
	}
	w->steps[w->count++] =
		(struct step){.directory = d, .number = (size_t)(m - t->members)};
	return 0;
}

/* Asker: the next directory in this one that is not done. */
static int next_child(struct transfer *t, struct step *s, struct member **out,
		      struct error *err)
{
	struct directory_entry e;
	int rc = 0;

	while (rc == 0 && s->next < directory_count(s->directory)) {
		directory_entry(s->directory, s->next++, &e);
		if (e.node.kind == NODE_DIRECTORY) {
			rc = find_member(t, &e.node.digest, out, err);
			rc = rc < 0 || (*out)->done ? rc : 1;
		}
	}
	return rc;
}

/* All below it is done. */
static int finish_member(struct transfer *t, const struct step *s, struct error *err)
{
	struct member *m = &t->members[s->number];
	int rc = 0;

	if (m->missing) {
		rc = directory_service_put(t->to->directories, s->directory, err);
	}
	if (rc == 0 && m->missing) {
		count_copied(t, directory_encoding(s->directory).len);
	} else if (rc == 0) {
		atomic_fetch_add(&t->options.stats->present, 1);
	}
	m->done = rc == 0;
	return rc;
}

/* One step of the way: down, or up again. */
static int go_on(struct transfer *t, struct way *w, struct error *err)
{
	struct step *s = &w->steps[w->count - 1];
	struct member *m = NULL;
	int rc = next_child(t, s, &m, err);

	if (rc > 0) {
		return descend(t, w, m, err);
	}
	if (rc == 0) {
		rc = cancelled(t) ? cancel(err) : finish_member(t, s, err);
	}
	directory_unref(s->directory);
	w->count--;
	return rc;
}

static int put_tree(struct transfer *t, const struct digest *root, struct error *err)
{
	struct way w = {.count = 0};
	struct member *m = NULL;
	int rc = find_member(t, root, &m, err);

	if (rc == 0 && m && !m->done) {
		rc = descend(t, &w, m, err);
	}
	while (rc == 0 && w.count > 0) {
		rc = go_on(t, &w, err);
	}
	while (w.count > 0) {
		directory_unref(w.steps[--w.count].directory);
	}
	free(w.steps);
	return rc;
}

static int put_directories(struct transfer *t, struct error *err)
{
	int rc = find_missing(t, err);

	for (size_t i = 0; rc == 0 && i < t->root_count; i++) {
		rc = put_tree(t, &t->roots[i], err);
	}
	if (rc == 0) {
		release_held(t);
		t->root_count = 0;
		t->settled = t->count;
	}
	return rc;
}

int transfer_settle(struct transfer *t, struct error *err)
{
	int rc = 0;

	close_piece(t);
	if (t->pipeline) {
		rc = pipeline_finish(t->pipeline, err);
		pipeline_free(t->pipeline);
		t->pipeline = NULL;
	}
	if (rc < 0 || !t->to) {
		return rc;
	}
	rc = blob_service_sync(t->to->blobs, err);
	if (rc == 0) {
		rc = put_directories(t, err);
	}
	return rc < 0 ? rc : directory_service_sync(t->to->directories, err);
}
