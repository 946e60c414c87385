#include "services/local/local_stage.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/endian.h"
#include "services/local/batch.h"
#include "services/local/pack_claim.h"

#define STAGED_FILES_OPEN_MAX 64

struct local_stager {
	struct stager base;
	struct local_store *store; /* a reference */
	unsigned flags;            /* enum store_open_flags */
};

struct local_stage {
	struct stage base;
	_Atomic unsigned refs;
	struct local_view view;
	struct committer committer;
	struct scratch scratch;
	struct file_cache files;

	/* By one thread at a time, of which each waited for the one before: */
	struct claimed_pack *full; /* packs that are not the committer's any more */
	size_t full_count;
	uint64_t file_count; /* large files that were kept */
};

static struct local_stage *stage_of_view(struct local_view *v)
{
	return container_of(v, struct local_stage, view);
}

bool local_staged_name(struct local_view *v, const struct digest *digest,
		       char out[LOCAL_NAME_SIZE])
{
	char hex[DIGEST_HEX_SIZE];

	_Static_assert(LOCAL_NAME_SIZE >= SCRATCH_NAME_SIZE, "one buffer for both");
	digest_to_hex(hex, digest);
	return scratch_find(v->scratch, hex, out);
}

/* ---- keeping batches ---- */

static int open_own_index(struct local_stage *g, struct error *err)
{
	struct local_store *s = g->view.store;
	char name[SCRATCH_NAME_SIZE];
	struct index *ix;

	if (atomic_load(&g->view.index)) {
		return 0;
	}
	int rc = scratch_name(&g->scratch, s->dirfd, name, err);

	if (rc) {
		return rc;
	}
	/* Not by the path of the store: a daemon may have changed its working directory. */
	char *path cleanup(cleanup_free) = xasprintf("/proc/self/fd/%d/%s", s->dirfd, name);

	rc = index_open(&ix, path, INDEX_PRIVATE, err);
	if (rc == 0) {
		atomic_store(&g->view.index, ix);
	}
	return rc;
}

/* Gives the large files of a batch the names by which the stage finds them. */
static int keep_files(struct local_stage *g, struct batch *b, struct error *err)
{
	struct local_store *s = g->view.store;

	for (size_t i = 0; i < b->file_count; i++) {
		struct pending_file *f = &b->files[i];
		char name[LOCAL_NAME_SIZE];

		if (!local_staged_name(&g->view, &f->digest, name) ||
		    renameat(s->dirfd, f->temporary, s->dirfd, name) != 0) {
			return error_set_errno(err, errno, "cannot rename %s/%s", s->path,
					       f->temporary);
		}
		free(f->temporary);
		f->temporary = NULL;
	}
	g->file_count += b->file_count;
	return 0;
}

/* A full pack stays ours: another writer would cut off what is not committed. */
static void keep_pack(struct local_stage *g, struct batch *b)
{
	if (!b->close_pack) {
		return;
	}
	g->full = xrealloc(g->full, (g->full_count + 1) * sizeof(*g->full));
	g->full[g->full_count++] = (struct claimed_pack){
		.fd = b->pack_fd, .number = b->pack_number, .end = b->pack_end};
	b->close_pack = false;
}

int local_stage_keep(struct local_stage *g, struct batch *b, struct error *err)
{
	struct index_write *w;
	int rc = open_own_index(g, err);

	if (rc == 0) {
		rc = keep_files(g, b, err);
	}
	if (rc == 0) {
		rc = index_write_begin(atomic_load(&g->view.index), &w, err);
	}
	if (rc) {
		return rc;
	}
	rc = batch_write(b, w, err);
	if (rc) {
		index_write_abort(w);
		return rc;
	}
	rc = index_write_commit(w, err);
	if (rc == 0) {
		keep_pack(g, b);
	}
	return rc;
}

/* ---- committing ---- */

struct placing {
	struct local_stage *stage;
	bool singly;
	int rc;
	struct error *err;
};

/* Keys of INDEX_LARGE_SIZES: the size, then the digest. */
static void digest_of_size_key(struct digest *out, struct bytes key)
{
	memcpy(out->bytes, key.ptr + 8, DIGEST_SIZE);
}

static bool place_one(void *context, struct bytes key, struct bytes value unused)
{
	struct placing *p = context;
	char name[LOCAL_NAME_SIZE];
	struct digest digest;

	digest_of_size_key(&digest, key);
	p->rc = local_staged_name(&p->stage->view, &digest, name)
			? local_file_place(p->stage->view.store, name, &digest, p->singly,
					   p->err)
			: error_set(p->err, ERROR_IO, "the scratch folder is gone");
	return p->rc == 0;
}

static bool sync_one_name(void *context, struct bytes key, struct bytes value unused)
{
	struct placing *p = context;
	struct digest digest;

	digest_of_size_key(&digest, key);
	p->rc = local_file_sync_name(p->stage->view.store, &digest, p->err);
	return p->rc == 0;
}

static int visit_files(struct placing *p, index_visit visit)
{
	int rc = index_scan(atomic_load(&p->stage->view.index), INDEX_LARGE_SIZES,
			    bytes_of(NULL, 0), visit, p, p->err);

	return p->rc ? p->rc : rc;
}

static int sync_packs(struct local_stage *g, struct error *err)
{
	struct local_store *s = g->view.store;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < g->full_count; i++) {
		rc = local_pack_sync(s, g->full[i].fd, err);
	}
	return rc || g->committer.pack_fd < 0 ? rc
					      : local_pack_sync(s, g->committer.pack_fd, err);
}

static int make_durable(struct local_stage *g, struct error *err)
{
	struct placing p = {.stage = g,
			    .singly = g->file_count + g->full_count <= FILES_SYNCED_SINGLY,
			    .err = err};
	int rc = visit_files(&p, place_one);

	if (rc == 0 && !p.singly) {
		return local_sync_all(g->view.store, err);
	}
	if (rc == 0) {
		rc = visit_files(&p, sync_one_name);
	}
	return rc ? rc : sync_packs(g, err);
}

/* Entries on their way from the index of the stage into that of the store. */
struct transfer {
	struct local_stage *stage;
	struct index_write *write;
	enum index_table table;
	size_t count;              /* objects in this write */
	uint8_t next[DIGEST_SIZE]; /* with `more`: where the next write goes on */
	bool more;
	int rc;
	struct error *err;
};

static bool move_pack_end(void *context, struct bytes key, struct bytes value)
{
	struct transfer *t = context;

	t->rc = index_write_pack_end(t->write, get_be64(key.ptr), get_le64(value.ptr), t->err);
	return t->rc == 0;
}

static bool move_object(void *context, struct bytes key, struct bytes value)
{
	struct transfer *t = context;
	struct location l;
	struct digest digest;

	if (t->count == COMMIT_OBJECTS) {
		memcpy(t->next, key.ptr, DIGEST_SIZE);
		t->more = true;
		return false;
	}
	memcpy(digest.bytes, key.ptr, DIGEST_SIZE);
	t->rc = location_decode(value.ptr, &l, t->err);
	if (t->rc == 0 && l.kind == LOCATION_FILE) {
		t->rc = local_file_check_placed(t->stage->view.store, &digest, t->err);
	}
	if (t->rc == 0) {
		t->rc = index_write_object(t->write, t->table, &digest, &l, t->err);
	}
	t->count++;
	return t->rc == 0;
}

static int move_some(struct transfer *t, enum index_table table, struct bytes from,
		     index_visit visit)
{
	t->table = table;
	t->more = false;
	int rc = index_scan(atomic_load(&t->stage->view.index), table, from, visit, t, t->err);

	return t->rc ? t->rc : rc;
}

static int next_write(struct transfer *t)
{
	int rc = t->write ? index_write_commit(t->write, t->err) : 0;

	t->write = NULL;
	t->count = 0;
	if (rc == 0) {
		rc = durable_write_begin(t->stage->view.store, false, &t->write, t->err);
	}
	return MIN(rc, 0);
}

static int move_table(struct transfer *t, enum index_table table)
{
	int rc = move_some(t, table, bytes_of(NULL, 0), move_object);

	while (rc == 0 && t->more) {
		rc = next_write(t);
		if (rc == 0) {
			rc = move_some(t, table, bytes_of(t->next, DIGEST_SIZE), move_object);
		}
	}
	return rc;
}

static int move_entries(struct local_stage *g, struct error *err)
{
	struct transfer t = {.stage = g, .err = err};
	int rc = next_write(&t);

	/* First of all, so that no entry of the store lies outside of a committed length. */
	if (rc == 0) {
		rc = move_some(&t, INDEX_PACKS, bytes_of(NULL, 0), move_pack_end);
	}
	if (rc == 0) {
		rc = move_table(&t, INDEX_BLOBS);
	}
	if (rc == 0) {
		rc = move_table(&t, INDEX_DIRECTORIES);
	}
	if (rc) {
		index_write_abort(t.write);
		return rc;
	}
	return index_write_commit(t.write, err);
}

static int stage_commit(struct stage *base, struct error *err)
{
	struct local_stage *g = container_of(base, struct local_stage, base);
	struct batch *last = NULL;
	/* What was not written again because the store below has it must stay there. */
	int rc = committer_sync(g->view.below->committer, err);

	if (rc == 0) {
		rc = committer_close(&g->committer, &last, err);
	}
	if (rc == 0 && !atomic_load(&g->view.index)) {
		return last ? batch_commit(last, g->view.store, err) : 0;
	}
	if (rc == 0 && last) {
		rc = local_stage_keep(g, last, err);
	}
	if (rc == 0) {
		rc = make_durable(g, err);
	}
	return rc ? rc : move_entries(g, err);
}

/* ---- life ---- */

static void stage_free(struct stage *base)
{
	const struct error why = {.code = ERROR_INVALID, .text = "this staged store has ended"};
	struct local_stage *g = container_of(base, struct local_stage, base);
	struct local_store *s = g->view.store;

	committer_end(&g->committer, &why);
	for (size_t i = 0; i < g->full_count; i++) {
		pack_release(s, g->full[i].fd, g->full[i].number);
	}
	g->full_count = 0;
	file_cache_clear(&g->files);
	scratch_clear(&g->scratch, s->dirfd);
	index_close(atomic_exchange(&g->view.index, NULL));
	local_stage_unref(&g->view);
}

static const struct stage_ops stage_ops = {
	.commit = stage_commit,
	.free = stage_free,
};

void local_stage_ref(struct local_view *v)
{
	atomic_fetch_add(&stage_of_view(v)->refs, 1);
}

void local_stage_unref(struct local_view *v)
{
	struct local_stage *g = stage_of_view(v);
	struct local_store *s = v->store;

	if (atomic_fetch_sub(&g->refs, 1) > 1) {
		return;
	}
	committer_done(&g->committer);
	scratch_done(&g->scratch, s->dirfd);
	file_cache_done(&g->files);
	free(g->full);
	free(g);
	local_store_unref(s);
}

static struct local_stage *stage_new(struct local_store *s)
{
	struct local_stage *g = xcalloc(1, sizeof(*g));

	g->base.ops = &stage_ops;
	atomic_init(&g->refs, 1);
	committer_init(&g->committer, s, g);
	scratch_init(&g->scratch);
	file_cache_init(&g->files, STAGED_FILES_OPEN_MAX);
	g->view = (struct local_view){.store = local_store_ref(s),
				      .below = &s->view,
				      .committer = &g->committer,
				      .scratch = &g->scratch,
				      .files = &g->files};
	return g;
}

static int stager_begin(struct stager *base, struct store *staged, struct error *err)
{
	struct local_stager *m = container_of(base, struct local_stager, base);
	int rc = local_check_writable(m->store, m->flags & STORE_READ_ONLY, err);

	if (rc) {
		return rc;
	}
	struct local_stage *g = stage_new(m->store);

	*staged = (struct store){
		.blobs = local_blobs_new(&g->view, m->flags),
		.directories = local_directories_new(&g->view, false),
		.stage = &g->base,
	};
	return 0;
}

static void stager_free(struct stager *base)
{
	struct local_stager *m = container_of(base, struct local_stager, base);

	local_store_unref(m->store);
	free(m);
}

static const struct stager_ops stager_ops = {
	.begin = stager_begin,
	.free = stager_free,
};

struct stager *local_stager_new(struct local_store *s, unsigned flags)
{
	struct local_stager *m = xcalloc(1, sizeof(*m));

	stager_init(&m->base, &stager_ops);
	m->store = local_store_ref(s);
	m->flags = flags;
	return &m->base;
}
