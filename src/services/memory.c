#include "services/memory.h"

#include <pthread.h>
#include <stdatomic.h>

#include "castore/digest_map.h"
#include "services/memory_roots.h"
#include "services/verified_reader.h"

/*
 * Objects, for blobs and for the encodings of directories. An object never changes; the table
 * may get another one under the same digest (only the hooks for tests do that).
 */
struct object {
	_Atomic unsigned refs;
	uint8_t *content;
	size_t len;
	struct blob_proof *proof; /* of a blob that was opened before; guarded by the table */
};

struct object_table {
	pthread_rwlock_t lock; /* guards objects, and the proof of each */
	struct digest_map objects;
};

struct memory_blobs {
	struct blob_service base;
	struct object_table table;
};

struct memory_directories {
	struct directory_service base;
	struct object_table table;
};

static struct object *object_ref(struct object *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

static void object_unref(struct object *o)
{
	if (o && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1) {
		blob_proof_unref(o->proof);
		free(o->content);
		free(o);
	}
}

DEFINE_CLEANUP(cleanup_object, struct object *, object_unref)

/* Takes over a malloc'd buffer. */
static struct object *object_new(uint8_t *content, size_t len)
{
	struct object *o = xcalloc(1, sizeof(*o));

	atomic_init(&o->refs, 1);
	o->content = content;
	o->len = len;
	return o;
}

static struct object *object_copy(struct bytes content)
{
	uint8_t *copy = malloc(content.len ? content.len : 1);

	if (!copy) {
		return NULL;
	}
	if (content.len) {
		memcpy(copy, content.ptr, content.len);
	}
	return object_new(copy, content.len);
}

/* ---- Tables ---- */

static struct object *slot_object(const uint64_t *slot)
{
	return slot ? (struct object *)(uintptr_t)*slot : NULL;
}

static void table_init(struct object_table *t)
{
	pthread_rwlock_init(&t->lock, NULL);
	t->objects = (struct digest_map){0};
}

static void table_done(struct object_table *t)
{
	for (size_t i = 0; i < t->objects.capacity; i++) {
		if (t->objects.slots[i].used) {
			object_unref(slot_object(&t->objects.slots[i].value));
		}
	}
	digest_map_done(&t->objects);
	pthread_rwlock_destroy(&t->lock);
}

/* A reference, or NULL. */
static struct object *table_get(struct object_table *t, const struct digest *digest)
{
	pthread_rwlock_rdlock(&t->lock);
	struct object *o = slot_object(digest_map_get(&t->objects, digest));

	if (o) {
		object_ref(o);
	}
	pthread_rwlock_unlock(&t->lock);
	return o;
}

static bool table_has(struct object_table *t, const struct digest *digest)
{
	struct object *o cleanup(cleanup_object) = table_get(t, digest);

	return o != NULL;
}

/* Takes over the reference. What is there already stays. */
static void table_put(struct object_table *t, const struct digest *digest, struct object *o)
{
	struct object *surplus = NULL;

	pthread_rwlock_wrlock(&t->lock);
	if (!digest_map_put(&t->objects, digest, (uint64_t)(uintptr_t)o)) {
		uint64_t *slot = digest_map_get(&t->objects, digest);

		if (*slot) {
			surplus = o;
		} else {
			*slot = (uint64_t)(uintptr_t)o;
		}
	}
	pthread_rwlock_unlock(&t->lock);
	object_unref(surplus);
}

/* Not copied when it is there already. */
static int table_put_copy(struct object_table *t, const struct digest *digest,
			  struct bytes content, struct error *err)
{
	if (table_has(t, digest)) {
		return 0;
	}
	struct object *o = object_copy(content);

	if (!o) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", content.len);
	}
	table_put(t, digest, o);
	return 0;
}

/* Takes over the reference (NULL removes). False when there was nothing to replace. */
static bool table_replace(struct object_table *t, const struct digest *digest, struct object *o)
{
	struct object *old;

	pthread_rwlock_wrlock(&t->lock);
	uint64_t *slot = digest_map_get(&t->objects, digest);

	old = slot_object(slot);
	if (old) {
		*slot = (uint64_t)(uintptr_t)o;
	}
	pthread_rwlock_unlock(&t->lock);
	object_unref(old ? old : o);
	return old != NULL;
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
	struct object *o cleanup(cleanup_object) = table_get(&m->blobs->table, &m->digest);

	if (!o) {
		return error_set(err, ERROR_UNAVAILABLE, "blob %s was removed while open",
				 digest_text(&m->digest));
	}
	*got = (size_t)MIN(len, o->len - MIN(offset, o->len));
	if (*got) {
		memcpy(buf, o->content + offset, *got);
	}
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
				uint64_t *size_out, struct error *err unused)
{
	struct memory_writer *m = container_of(w, struct memory_writer, base);

	hasher_finish(m->hasher, digest_out);
	*size_out = m->len;
	if (m->len) {
		uint8_t *content = realloc(m->content, m->len);

		table_put(&m->blobs->table, digest_out,
			  object_new(content ? content : m->content, m->len));
		m->content = NULL;
	}
	memory_writer_free(w);
	return 0;
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

	table_done(&m->table);
	free(m);
}

static int memory_blobs_size(struct blob_service *s, const struct digest *digest,
			     uint64_t *size, struct error *err unused)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);
	struct object *o cleanup(cleanup_object) = table_get(&m->table, digest);

	if (!o) {
		return 0;
	}
	*size = o->len;
	return 1;
}

/* The proof of an object is made once, when it is first opened. A reference for the caller. */
static int get_proof(struct memory_blobs *m, struct object *o, struct blob_reader *unchecked,
		     const struct digest *digest, struct blob_proof **out, struct error *err)
{
	struct blob_proof *proof = NULL;
	int rc = 0;

	pthread_rwlock_rdlock(&m->table.lock);
	if (o->proof) {
		proof = blob_proof_ref(o->proof);
	}
	pthread_rwlock_unlock(&m->table.lock);
	if (!proof) {
		rc = blob_proof_make(unchecked, digest, &proof, err);
		if (rc < 0) {
			return rc;
		}
		pthread_rwlock_wrlock(&m->table.lock);
		if (!o->proof) {
			o->proof = blob_proof_ref(proof);
		}
		pthread_rwlock_unlock(&m->table.lock);
	}
	*out = proof;
	return rc;
}

static int memory_blobs_open(struct blob_service *s, const struct digest *digest,
			     struct blob_reader **out, struct error *err)
{
	struct memory_blobs *m = container_of(s, struct memory_blobs, base);
	struct object *o cleanup(cleanup_object) = table_get(&m->table, digest);
	struct blob_proof *proof cleanup(cleanup_blob_proof) = NULL;

	if (!o) {
		return 0;
	}
	struct blob_reader *unchecked = memory_reader_new(m, digest, o->len);
	int rc = get_proof(m, o, unchecked, digest, &proof, err);

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

	return table_put_copy(&m->table, digest, content, err);
}

/* Memory is at hand, so there is never anything to wait for. */
static int memory_blobs_read(struct blob_service *s, const struct digest *digest,
			     uint64_t offset, void *buf, size_t len, unsigned flags,
			     size_t *got, struct error *err)
{
	return blob_service_read_by_open(s, digest, offset, buf, len,
					 flags & ~(unsigned)BLOB_READ_NOWAIT, got, err);
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

	return o && table_replace(t, digest, o);
}

bool memory_blob_remove(struct blob_service *s, const struct digest *digest)
{
	struct object_table *t = blob_table(s);

	return t && table_replace(t, digest, NULL);
}

/* ---- Directories ---- */

static void memory_directories_destroy(struct directory_service *s)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	table_done(&m->table);
	free(m);
}

static int memory_directories_get(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);
	struct object *o cleanup(cleanup_object) = table_get(&m->table, digest);

	if (!o) {
		return 0;
	}
	uint8_t *copy = malloc(o->len ? o->len : 1);

	if (!copy) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", o->len);
	}
	memcpy(copy, o->content, o->len);
	*encoding = copy;
	*len = o->len;
	return 1;
}

static int memory_directories_has(struct directory_service *s, const struct digest *digest,
				  struct error *err unused)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	return table_has(&m->table, digest);
}

static int memory_directories_put(struct directory_service *s, struct directory *d,
				  struct error *err)
{
	struct memory_directories *m = container_of(s, struct memory_directories, base);

	return table_put_copy(&m->table, directory_digest(d), directory_encoding(d), err);
}

static int memory_directories_sync(struct directory_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct directory_service_ops memory_directories_ops = {
	.name = "memory",
	.destroy = memory_directories_destroy,
	.get = memory_directories_get,
	.has = memory_directories_has,
	.put = memory_directories_put,
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

	return o && table_replace(t, digest, o);
}

bool memory_directory_remove(struct directory_service *s, const struct digest *digest)
{
	struct object_table *t = directory_table(s);

	return t && table_replace(t, digest, NULL);
}

/* ---- The store ---- */

void memory_store_open(struct store *out)
{
	struct memory_blobs *blobs = xcalloc(1, sizeof(*blobs));
	struct memory_directories *directories = xcalloc(1, sizeof(*directories));

	blob_service_init(&blobs->base, &memory_blobs_ops);
	table_init(&blobs->table);
	directory_service_init(&directories->base, &memory_directories_ops);
	table_init(&directories->table);
	*out = (struct store){
		.blobs = &blobs->base,
		.directories = &directories->base,
		.roots = memory_roots_new(),
	};
}
