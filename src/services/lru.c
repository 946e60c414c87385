#include "services/lru.h"

#include "services/forward.h"
#include "services/object_lru.h"

/* Blobs up to this size are kept, whole; one part of a blob is read by having all of it. */
#define BLOB_KEPT_MAX ((size_t)64 << 10)

/* One bound for all: what is kept has the kind before its key. */
enum kept_kind { KEPT_BLOB, KEPT_DIRECTORY, KEPT_RECORD };

struct lru_blobs {
	struct forward_blobs forward;
	struct object_lru *kept;
};

struct lru_directories {
	struct forward_directories forward;
	struct object_lru *kept;
};

struct lru_records {
	struct forward_records forward;
	struct object_lru *kept;
};

struct kept_key {
	uint8_t bytes[1 + RECORD_KEY_MAX];
	size_t len;
};

static struct kept_key key_of(enum kept_kind kind, struct bytes name)
{
	struct kept_key key = {.bytes = {(uint8_t)kind}, .len = 1 + name.len};

	memcpy(key.bytes + 1, name.ptr, name.len);
	return key;
}

static struct bytes key_bytes(const struct kept_key *key)
{
	return bytes_of(key->bytes, key->len);
}

/* ---- Blobs ---- */

static struct lru_blobs *blobs_of(struct blob_service *s)
{
	return container_of(s, struct lru_blobs, forward.base);
}

static void blobs_destroy(struct blob_service *s)
{
	struct lru_blobs *b = blobs_of(s);

	forward_blobs_done(&b->forward);
	object_lru_unref(b->kept);
	free(b);
}

static struct object *recall_blob(struct blob_service *s, const struct digest *digest)
{
	struct kept_key key = key_of(KEPT_BLOB, digest_bytes(digest));

	return object_lru_get(blobs_of(s)->kept, key_bytes(&key), NULL);
}

static void keep_blob(struct blob_service *s, const struct digest *digest, struct object *o)
{
	struct kept_key key = key_of(KEPT_BLOB, digest_bytes(digest));

	object_lru_put(blobs_of(s)->kept, key_bytes(&key), o, NULL);
}

static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	struct object *o cleanup(cleanup_object) = recall_blob(s, digest);

	if (o) {
		*size = o->len;
		return 1;
	}
	return forward_blobs_size(s, digest, size, err);
}

/* Asker; *out stays NULL when the blob is not so small. */
static int read_small(struct blob_service *s, const struct digest *digest, unsigned flags,
		      struct object **out, struct error *err)
{
	uint8_t *content = malloc(BLOB_KEPT_MAX + 1);
	size_t got = 0;

	if (!content) {
		return error_set(err, ERROR_LIMIT, "no memory for a blob");
	}
	int rc = forward_blobs_read(s, digest, 0, content, BLOB_KEPT_MAX + 1, flags, &got, err);

	if (rc > 0 && got <= BLOB_KEPT_MAX) {
		*out = object_copy(bytes_of(content, got));
	}
	free(content);
	return rc;
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	struct object *o cleanup(cleanup_object) = recall_blob(s, digest);

	/* A first read from the start tells how large it is, at no further cost. */
	if (!o && offset == 0 && len <= BLOB_KEPT_MAX) {
		int rc = read_small(s, digest, flags, &o, err);

		if (rc <= 0) {
			return rc;
		}
		if (o) {
			keep_blob(s, digest, o);
		}
	}
	if (!o) {
		return forward_blobs_read(s, digest, offset, buf, len, flags, got, err);
	}
	object_read(o, offset, buf, len, got);
	return 1;
}

/* After a change below: a failed one may have come through as well. */
static void forget(struct object_lru *kept, enum kept_kind kind, struct bytes name)
{
	struct kept_key key = key_of(kind, name);

	object_lru_change(kept, key_bytes(&key));
}

static int blobs_discard(struct blob_service *s, const struct digest *digest, struct error *err)
{
	int rc = forward_blobs_discard(s, digest, err);

	forget(blobs_of(s)->kept, KEPT_BLOB, digest_bytes(digest));
	return rc;
}

static const struct blob_service_ops blobs_ops = {
	.name = "lru",
	.verifies_ranges = true,
	.destroy = blobs_destroy,
	.has = forward_blobs_has,
	.size = blobs_size,
	.open = forward_blobs_open,
	.create = forward_blobs_create,
	.put_hashed = forward_blobs_put_hashed,
	.put_file = forward_blobs_put_file,
	.read = blobs_read,
	.chunks = forward_blobs_chunks,
	.find_missing = forward_blobs_find_missing,
	.get_many = forward_blobs_get_many,
	.count = forward_blobs_count,
	.discard = blobs_discard,
	.sync = forward_blobs_sync,
	.recover = forward_blobs_recover,
};

/* ---- Directories ---- */

static struct lru_directories *directories_of(struct directory_service *s)
{
	return container_of(s, struct lru_directories, forward.base);
}

static void directories_destroy(struct directory_service *s)
{
	struct lru_directories *d = directories_of(s);

	forward_directories_done(&d->forward);
	object_lru_unref(d->kept);
	free(d);
}

static int get_encoding(struct directory_service *s, const struct digest *digest, bool nowait,
			uint8_t **encoding, size_t *len, struct error *err)
{
	struct lru_directories *d = directories_of(s);
	struct kept_key key = key_of(KEPT_DIRECTORY, digest_bytes(digest));
	struct object *o cleanup(cleanup_object) =
		object_lru_get(d->kept, key_bytes(&key), NULL);

	if (o) {
		return object_give(o, encoding, len, err);
	}
	int rc = directory_service_get_encoding(d->forward.inner, digest, nowait, encoding, len,
						err);

	if (rc > 0) {
		o = object_copy(bytes_of(*encoding, *len));
		if (o) {
			object_lru_put(d->kept, key_bytes(&key), o, NULL);
		}
	}
	return rc;
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	return get_encoding(s, digest, false, encoding, len, err);
}

static int directories_get_nowait(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	return get_encoding(s, digest, true, encoding, len, err);
}

static int directories_discard(struct directory_service *s, const struct digest *digest,
			       struct error *err)
{
	int rc = forward_directories_discard(s, digest, err);

	forget(directories_of(s)->kept, KEPT_DIRECTORY, digest_bytes(digest));
	return rc;
}

static const struct directory_service_ops directories_ops = {
	.name = "lru",
	.destroy = directories_destroy,
	.get = directories_get,
	.get_nowait = directories_get_nowait,
	.has = forward_directories_has,
	.find_missing = forward_directories_find_missing,
	.put = forward_directories_put,
	.prefetch = forward_directories_prefetch,
	.gather = forward_directories_gather,
	.discard = directories_discard,
	.sync = forward_directories_sync,
};

/* ---- Records ---- */

static struct lru_records *records_of(struct record_table *t)
{
	return container_of(t, struct lru_records, forward.base);
}

static void records_destroy(struct record_table *t)
{
	struct lru_records *r = records_of(t);

	forward_records_done(&r->forward);
	object_lru_unref(r->kept);
	free(r);
}

static int records_get(struct record_table *t, struct bytes name, struct buffer *out,
		       struct error *err)
{
	struct lru_records *r = records_of(t);
	struct kept_key key = key_of(KEPT_RECORD, name);
	uint64_t changes;
	struct object *o cleanup(cleanup_object) =
		object_lru_get(r->kept, key_bytes(&key), &changes);

	if (o) {
		out->len = 0;
		buffer_append(out, o->content, o->len);
		return 1;
	}
	int rc = forward_records_get(t, name, out, err);

	if (rc > 0) {
		o = object_copy(buffer_bytes(out));
		if (o) {
			object_lru_put(r->kept, key_bytes(&key), o, &changes);
		}
	}
	return rc;
}

static int records_put(struct record_table *t, const struct record_entry *entries, size_t count,
		       struct error *err)
{
	struct lru_records *r = records_of(t);
	int rc = record_table_put(r->forward.inner, entries, count, err);

	for (size_t i = 0; i < count; i++) {
		forget(r->kept, KEPT_RECORD, entries[i].key);
	}
	return rc;
}

static int records_remove(struct record_table *t, const struct bytes *keys, size_t count,
			  size_t *removed, struct error *err)
{
	struct lru_records *r = records_of(t);
	int rc = record_table_remove_many(r->forward.inner, keys, count, removed, err);

	for (size_t i = 0; i < count; i++) {
		forget(r->kept, KEPT_RECORD, keys[i]);
	}
	return rc;
}

static const struct record_table_ops records_ops = {
	.name = "lru",
	.destroy = records_destroy,
	.get = records_get,
	.put = records_put,
	.remove = records_remove,
	.list = forward_records_list,
};

/* ---- The store ---- */

void lru_store(struct store *out, const struct store *inner, size_t bytes_max)
{
	struct lru_blobs *blobs = xcalloc(1, sizeof(*blobs));
	struct lru_directories *directories = xcalloc(1, sizeof(*directories));
	struct lru_records *records = xcalloc(1, sizeof(*records));

	blobs->kept = object_lru_new(bytes_max);
	directories->kept = object_lru_ref(blobs->kept);
	records->kept = object_lru_ref(blobs->kept);
	forward_blobs_init(&blobs->forward, &blobs_ops, inner->blobs);
	forward_directories_init(&directories->forward, &directories_ops, inner->directories);
	forward_records_init(&records->forward, &records_ops, inner->path_infos);
	store_ref(out, inner);
	blob_service_unref(out->blobs);
	directory_service_unref(out->directories);
	record_table_unref(out->path_infos);
	out->blobs = &blobs->forward.base;
	out->directories = &directories->forward.base;
	out->path_infos = &records->forward.base;
}
