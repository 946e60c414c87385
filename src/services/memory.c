#include "services/memory.h"

#include <stdatomic.h>

#include "services/memory_records.h"
#include "services/memory_roots.h"
#include "services/object_table.h"
#include "services/stage.h"
#include "services/verified_reader.h"

struct memory_blobs {
	struct blob_service base;
	struct object_table table;
	struct memory_blobs *below; /* of a staged store: a reference; else NULL */
	_Atomic bool ended;         /* a staged store that is committed or given up */
};

struct memory_directories {
	struct directory_service base;
	struct object_table table;
	struct memory_directories *below;
	_Atomic bool ended;
};

/* In a staged store, of what was put into it and of what lies below. A reference, or NULL. */
static struct object *find_blob(struct memory_blobs *m, const struct digest *digest)
{
	struct object *o = object_table_get(&m->table, digest);

	return o || !m->below ? o : object_table_get(&m->below->table, digest);
}

static struct object *find_directory(struct memory_directories *m, const struct digest *digest)
{
	struct object *o = object_table_get(&m->table, digest);

	return o || !m->below ? o : object_table_get(&m->below->table, digest);
}

static int check_not_ended(const _Atomic bool *ended, struct error *err)
{
	return *ended ? error_set(err, ERROR_INVALID, "this staged store has ended") : 0;
}

static int put_copy(struct object_table *t, const struct digest *digest, struct bytes content,
		    struct error *err)
{
	struct object *o = object_copy(content);

	if (!o) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", content.len);
	}
	object_table_put(t, digest, o);
	return 0;
}

/* ---- Readers of blobs: check nothing, and see what the table holds now ---- */

struct memory_reader {
	struct blob_reader base;
	struct memory_blobs *blobs; /* a reference */
	struct digest digest;
};

static int memory_reader_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
			       size_t *got, struct error *err)
{
	struct memory_reader *m = container_of(r, struct memory_reader, base);
	struct object *o cleanup(cleanup_object) = find_blob(m->blobs, &m->digest);

	if (!o) {
		return error_set(err, ERROR_UNAVAILABLE, "blob %s was removed while open",
				 digest_text(&m->digest));
	}
	object_read(o, offset, buf, len, got);
	return 0;
}

static int memory_reader_fd(const struct blob_reader *r unused)
{
	return -1;
}

static void memory_reader_free(struct blob_reader *r)
{
	struct memory_reader *m = container_of(r, struct memory_reader, base);

	blob_service_unref(&m->blobs->base);
	free(m);
}

static const struct blob_reader_ops memory_reader_ops = {
	.pread = memory_reader_pread,
	.fd = memory_reader_fd,
	.outboard = blob_reader_outboard_by_reading,
	.free = memory_reader_free,
};

static struct blob_reader *memory_reader_new(struct memory_blobs *blobs,
					     const struct digest *digest, uint64_t size)
{
	struct memory_reader *m = xcalloc(1, sizeof(*m));

	m->base.ops = &memory_reader_ops;
	m->base.size = size;
	m->blobs = blobs;
	m->digest = *digest;
	blob_service_ref(&blobs->base);
	return &m->base;
}

/* ---- Writers of blobs ---- */

struct memory_writer {
	struct blob_writer base;
	struct memory_blobs *blobs; /* a reference */
	struct hasher *hasher;
	uint8_t *content;
	size_t len;
	size_t capacity;
};

static int memory_writer_write(struct blob_writer *w, struct bytes data, struct error *err)
{
	struct memory_writer *m = container_of(w, struct memory_writer, base);

	if (data.len > m->capacity - m->len) {
		size_t capacity = MAX(m->capacity + m->capacity / 2, m->len + data.len);
		uint8_t *content = realloc(m->content, capacity);

		if (!content) {
			return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", capacity);
		}
		m->content = content;
		m->capacity = capacity;
	}
	memcpy(m->content + m->len, data.ptr, data.len);
	m->len += data.len;
	hasher_update(m->hasher, data);
	return 0;
}

static void memory_writer_free(struct blob_writer *w)
{
	struct memory_writer *m = container_of(w, struct memory_writer, base);

	hasher_free(m->hasher);
	free(m->content);
	blob_service_unref(&m->blobs->base);
	free(m);
}

static int memory_writer_commit(struct blob_writer *w, struct digest *digest_out,
				uint64_t *size_out, struct error *err)
{
	struct memory_writer *m = container_of(w, struct memory_writer, base);
	struct object *known cleanup(cleanup_object) = NULL;
	int rc = check_not_ended(&m->blobs->ended, err);

	if (rc == 0) {
		hasher_finish(m->hasher, digest_out);
		*size_out = m->len;
		known = find_blob(m->blobs, digest_out);
	}
	if (rc == 0 && m->len && !known) {
		uint8_t *content = realloc(m->content, m->len);

		object_table_put(&m->blobs->table, digest_out,
				 object_new(content ? content : m->content, m->len));
		m->content = NULL;
	}
	memory_writer_free(w);
	return rc;
}

static const struct blob_writer_ops memory_writer_ops = {
	.write = memory_writer_write,
	.commit = memory_writer_commit,
	.free = memory_writer_free,
};

/* ---- Blobs ---- */

static void memory_blobs_destroy(struct blob_service *s)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);

	object_table_done(&m->table);
	if (m->below) {
		blob_service_unref(&m->below->base);
	}
	free(m);
}

static int memory_blobs_size(struct blob_service *s, const struct digest *digest,
			     uint64_t *size, struct error *err unused)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);
	struct object *o cleanup(cleanup_object) = find_blob(m, digest);

	if (!o) {
		return 0;
	}
	*size = o->len;
	return 1;
}

/* The proof of an object is made once, when it is first opened. A reference for the caller. */
static int get_proof(struct object *o, struct blob_reader *unchecked,
		     const struct digest *digest, struct blob_proof **out, struct error *err)
{
	struct blob_proof *proof = atomic_load(&o->proof), *other = NULL;

	if (!proof) {
		int rc = blob_proof_make(unchecked, digest, &proof, err);

		if (rc < 0) {
			return rc;
		}
		if (!atomic_compare_exchange_strong(&o->proof, &other, proof)) {
			blob_proof_unref(proof);
			proof = other;
		}
	}
	*out = blob_proof_ref(proof);
	return 0;
}

static int memory_blobs_open(struct blob_service *s, const struct digest *digest,
			     struct blob_reader **out, struct error *err)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);
	struct object *o cleanup(cleanup_object) = find_blob(m, digest);
	struct blob_proof *proof cleanup(cleanup_blob_proof) = NULL;

	if (!o) {
		return 0;
	}
	struct blob_reader *unchecked = memory_reader_new(m, digest, o->len);
	int rc = get_proof(o, unchecked, digest, &proof, err);

	if (rc < 0) {
		blob_reader_free(unchecked);
		return rc;
	}
	*out = verified_reader_new(unchecked, proof);
	return 1;
}

static int memory_blobs_create(struct blob_service *s, struct blob_writer **out,
			       struct error *err unused)
{
	struct memory_writer *w = xcalloc(1, sizeof(*w));

	w->base.ops = &memory_writer_ops;
	w->blobs = container_of(s, struct memory_blobs, base);
	w->hasher = hasher_new();
	blob_service_ref(s);
	*out = &w->base;
	return 0;
}

static int memory_blobs_put_hashed(struct blob_service *s, struct bytes content,
				   const struct digest *digest, struct error *err)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);

	struct object *known cleanup(cleanup_object) = find_blob(m, digest);
	int rc = check_not_ended(&m->ended, err);

	return rc || known ? rc : put_copy(&m->table, digest, content, err);
}

/* Memory is at hand, so there is never anything to wait for. */
static int memory_blobs_read(struct blob_service *s, const struct digest *digest,
			     uint64_t offset, void *buf, size_t len, unsigned flags unused,
			     size_t *got, struct error *err)
{
	return blob_service_read_by_open(s, digest, offset, buf, len, 0, got, err);
}

/* A table keeps the place of what was removed from it, for a put to fill. */
static int memory_blobs_discard(struct blob_service *s, const struct digest *digest,
				struct error *err unused)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);

	object_table_replace(&m->table, digest, NULL);
	return 0;
}

static int memory_blobs_sync(struct blob_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct blob_service_ops memory_blobs_ops = {
	.name = "memory",
	.verifies_ranges = true,
	.destroy = memory_blobs_destroy,
	.size = memory_blobs_size,
	.open = memory_blobs_open,
	.create = memory_blobs_create,
	.put_hashed = memory_blobs_put_hashed,
	.put_file = blob_service_put_file_by_writer,
	.read = memory_blobs_read,
	.chunks = blob_service_no_chunks,
	.count = blob_service_no_counts,
	.discard = memory_blobs_discard,
	.sync = memory_blobs_sync,
};

static struct object_table *blob_table(struct blob_service *s)
{
	return s->ops == &memory_blobs_ops ? &container_of(s, struct memory_blobs, base)->table
					   : NULL;
}

bool memory_blob_corrupt(struct blob_service *s, const struct digest *digest,
			 struct bytes content)
{
	struct object_table *t = blob_table(s);
	struct object *o = t ? object_copy(content) : NULL;

	return o && object_table_replace(t, digest, o);
}

bool memory_blob_remove(struct blob_service *s, const struct digest *digest)
{
	struct object_table *t = blob_table(s);

	return t && object_table_replace(t, digest, NULL);
}

/* ---- Directories ---- */

static void memory_directories_destroy(struct directory_service *s)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	object_table_done(&m->table);
	if (m->below) {
		directory_service_unref(&m->below->base);
	}
	free(m);
}

static int memory_directories_get(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);
	struct object *o cleanup(cleanup_object) = find_directory(m, digest);

	if (!o) {
		return 0;
	}
	return object_give(o, encoding, len, err);
}

static int memory_directories_has(struct directory_service *s, const struct digest *digest,
				  struct error *err unused)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	struct object *o cleanup(cleanup_object) = find_directory(m, digest);

	return o != NULL;
}

static int memory_directories_put(struct directory_service *s, struct directory *d,
				  struct error *err)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	struct object *known cleanup(cleanup_object) = find_directory(m, directory_digest(d));
	int rc = check_not_ended(&m->ended, err);

	return rc || known
		       ? rc
		       : put_copy(&m->table, directory_digest(d), directory_encoding(d), err);
}

static int memory_directories_discard(struct directory_service *s, const struct digest *digest,
				      struct error *err unused)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	object_table_replace(&m->table, digest, NULL);
	return 0;
}

static int memory_directories_sync(struct directory_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct directory_service_ops memory_directories_ops = {
	.name = "memory",
	.destroy = memory_directories_destroy,
	.get = memory_directories_get,
	.get_nowait = memory_directories_get,
	.has = memory_directories_has,
	.put = memory_directories_put,
	.discard = memory_directories_discard,
	.sync = memory_directories_sync,
};

static struct object_table *directory_table(struct directory_service *s)
{
	return s->ops == &memory_directories_ops
		       ? &container_of(s, struct memory_directories, base)->table
		       : NULL;
}

bool memory_directory_corrupt(struct directory_service *s, const struct digest *digest,
			      struct bytes encoding)
{
	struct object_table *t = directory_table(s);
	struct object *o = t ? object_copy(encoding) : NULL;

	return o && object_table_replace(t, digest, o);
}

bool memory_directory_remove(struct directory_service *s, const struct digest *digest)
{
	struct object_table *t = directory_table(s);

	return t && object_table_replace(t, digest, NULL);
}

/* ---- The store, and staged stores above it ---- */

struct memory_stager {
	struct stager base;
	struct memory_blobs *blobs;             /* a reference */
	struct memory_directories *directories; /* likewise */
};

struct memory_stage {
	struct stage base;
	struct memory_blobs *blobs;             /* a reference */
	struct memory_directories *directories; /* likewise */
};

static struct memory_blobs *memory_blobs_new(struct memory_blobs *below)
{
	struct memory_blobs *m = xcalloc(1, sizeof(*m));

	blob_service_init(&m->base, &memory_blobs_ops);
	object_table_init(&m->table);
	if (below) {
		blob_service_ref(&below->base);
		m->below = below;
	}
	return m;
}

static struct memory_directories *memory_directories_new(struct memory_directories *below)
{
	struct memory_directories *m = xcalloc(1, sizeof(*m));

	directory_service_init(&m->base, &memory_directories_ops);
	object_table_init(&m->table);
	if (below) {
		directory_service_ref(&below->base);
		m->below = below;
	}
	return m;
}

/* Blobs first: a directory is never there before its files. */
static int memory_stage_commit(struct stage *base, struct error *err unused)
{
	struct memory_stage *g = container_of(base, struct memory_stage, base);

	object_table_move(&g->blobs->below->table, &g->blobs->table);
	object_table_move(&g->directories->below->table, &g->directories->table);
	return 0;
}

static void memory_stage_free(struct stage *base)
{
	struct memory_stage *g = container_of(base, struct memory_stage, base);

	g->blobs->ended = true;
	object_table_clear(&g->blobs->table);
	g->directories->ended = true;
	object_table_clear(&g->directories->table);
	blob_service_unref(&g->blobs->base);
	directory_service_unref(&g->directories->base);
	free(g);
}

static const struct stage_ops memory_stage_ops = {
	.commit = memory_stage_commit,
	.free = memory_stage_free,
};

static int memory_stager_begin(struct stager *base, struct store *staged,
			       struct error *err unused)
{
	struct memory_stager *m = container_of(base, struct memory_stager, base);
	struct memory_stage *g = xcalloc(1, sizeof(*g));

	g->base.ops = &memory_stage_ops;
	g->blobs = memory_blobs_new(m->blobs);
	g->directories = memory_directories_new(m->directories);
	blob_service_ref(&g->blobs->base);
	directory_service_ref(&g->directories->base);
	*staged = (struct store){
		.blobs = &g->blobs->base,
		.directories = &g->directories->base,
		.stage = &g->base,
	};
	return 0;
}

static void memory_stager_free(struct stager *base)
{
	struct memory_stager *m = container_of(base, struct memory_stager, base);

	blob_service_unref(&m->blobs->base);
	directory_service_unref(&m->directories->base);
	free(m);
}

static const struct stager_ops memory_stager_ops = {
	.begin = memory_stager_begin,
	.free = memory_stager_free,
};

void memory_store_open(struct store *out)
{
	struct memory_stager *stager = xcalloc(1, sizeof(*stager));

	stager_init(&stager->base, &memory_stager_ops);
	stager->blobs = memory_blobs_new(NULL);
	stager->directories = memory_directories_new(NULL);
	blob_service_ref(&stager->blobs->base);
	directory_service_ref(&stager->directories->base);
	*out = (struct store){
		.blobs = &stager->blobs->base,
		.directories = &stager->directories->base,
		.roots = memory_roots_new(),
		.stager = &stager->base,
		.path_infos = memory_records_new(),
	};
}
