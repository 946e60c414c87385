#include "services/forward.h"

/* ---- Blobs ---- */

static struct blob_service *inner_blobs(struct blob_service *s)
{
	return container_of(s, struct forward_blobs, base)->inner;
}

void forward_blobs_init(struct forward_blobs *f, const struct blob_service_ops *ops,
			struct blob_service *inner)
{
	blob_service_init(&f->base, ops);
	f->inner = blob_service_ref(inner);
}

void forward_blobs_done(struct forward_blobs *f)
{
	blob_service_unref(f->inner);
}

int forward_blobs_has(struct blob_service *s, const struct digest *digest, struct error *err)
{
	return blob_service_has(inner_blobs(s), digest, err);
}

int forward_blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		       struct error *err)
{
	return blob_service_size(inner_blobs(s), digest, size, err);
}

int forward_blobs_open(struct blob_service *s, const struct digest *digest,
		       struct blob_reader **out, struct error *err)
{
	return blob_service_open(inner_blobs(s), digest, out, err);
}

int forward_blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	return blob_service_create(inner_blobs(s), out, err);
}

int forward_blobs_put_hashed(struct blob_service *s, struct bytes content,
			     const struct digest *digest, struct error *err)
{
	return blob_service_put_hashed(inner_blobs(s), content, digest, err);
}

int forward_blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			   struct blob_watch *watch, struct digest *out, struct error *err)
{
	return blob_service_put_file(inner_blobs(s), fd, size, watch, out, err);
}

int forward_blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		       void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	return blob_service_read(inner_blobs(s), digest, offset, buf, len, flags, got, err);
}

int forward_blobs_chunks(struct blob_service *s, const struct digest *digest,
			 struct chunk_list *out, struct error *err)
{
	return blob_service_chunks(inner_blobs(s), digest, out, err);
}

int forward_blobs_find_missing(struct blob_service *s, const struct digest *digests,
			       size_t count, bool *missing, struct error *err)
{
	return blob_service_find_missing(inner_blobs(s), digests, count, missing, err);
}

int forward_blobs_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			   blob_take take, void *context, struct error *err)
{
	return blob_service_get_many(inner_blobs(s), wants, count, take, context, err);
}

int forward_blobs_count(struct blob_service *s, struct blob_counts *out, struct error *err)
{
	return blob_service_count(inner_blobs(s), out, err);
}

int forward_blobs_stored(struct blob_service *s, const struct digest *digest, uint64_t *stored,
			 struct error *err)
{
	return blob_service_stored(inner_blobs(s), digest, stored, err);
}

int forward_blobs_discard(struct blob_service *s, const struct digest *digest,
			  struct error *err)
{
	return blob_service_discard(inner_blobs(s), digest, err);
}

int forward_blobs_sync(struct blob_service *s, struct error *err)
{
	return blob_service_sync(inner_blobs(s), err);
}

int forward_blobs_recover(struct blob_service *s, struct error *err)
{
	return blob_service_recover(inner_blobs(s), err);
}

/* ---- Directories ---- */

static struct directory_service *inner_directories(struct directory_service *s)
{
	return container_of(s, struct forward_directories, base)->inner;
}

void forward_directories_init(struct forward_directories *f,
			      const struct directory_service_ops *ops,
			      struct directory_service *inner)
{
	directory_service_init(&f->base, ops);
	f->base.fetches = directory_service_fetches(inner);
	f->inner = directory_service_ref(inner);
}

void forward_directories_done(struct forward_directories *f)
{
	directory_service_unref(f->inner);
}

/* What is in the bytes is checked once, by who asked first. */
int forward_directories_get(struct directory_service *s, const struct digest *digest,
			    uint8_t **encoding, size_t *len, struct error *err)
{
	return directory_service_get_encoding(inner_directories(s), digest, false, encoding,
					      len, err);
}

int forward_directories_get_nowait(struct directory_service *s, const struct digest *digest,
				   uint8_t **encoding, size_t *len, struct error *err)
{
	return directory_service_get_encoding(inner_directories(s), digest, true, encoding, len,
					      err);
}

int forward_directories_has(struct directory_service *s, const struct digest *digest,
			    struct error *err)
{
	return directory_service_has(inner_directories(s), digest, err);
}

int forward_directories_find_missing(struct directory_service *s, const struct digest *digests,
				     size_t count, bool *missing, struct error *err)
{
	return directory_service_find_missing(inner_directories(s), digests, count, missing,
					      err);
}

int forward_directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	return directory_service_put(inner_directories(s), d, err);
}

void forward_directories_prefetch(struct directory_service *s, const struct digest *root)
{
	directory_service_prefetch(inner_directories(s), root);
}

int forward_directories_stored(struct directory_service *s, const struct digest *digest,
			       uint64_t *stored, struct error *err)
{
	return directory_service_stored(inner_directories(s), digest, stored, err);
}

int forward_directories_discard(struct directory_service *s, const struct digest *digest,
				struct error *err)
{
	return directory_service_discard(inner_directories(s), digest, err);
}

/* To begin a walk is all that it takes. */
int forward_directories_gather(struct directory_service *s, const struct digest *root,
			       struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;

	return directory_service_get_recursive(inner_directories(s), root, &walk, err);
}

int forward_directories_sync(struct directory_service *s, struct error *err)
{
	return directory_service_sync(inner_directories(s), err);
}

/* ---- Roots ---- */

void forward_roots_init(struct forward_roots *f, const struct root_nodes_ops *ops,
			struct root_nodes *inner)
{
	root_nodes_init(&f->base, ops);
	f->base.is_local = root_nodes_is_local(inner);
	f->inner = root_nodes_ref(inner);
}

void forward_roots_done(struct forward_roots *f)
{
	root_nodes_unref(f->inner);
}

int forward_roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			 struct error *err)
{
	return root_nodes_lookup(container_of(r, struct forward_roots, base)->inner, name, out,
				 err);
}

int forward_roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		       void *context, struct error *err)
{
	return root_nodes_list(container_of(r, struct forward_roots, base)->inner, after, visit,
			       context, err);
}

/* ---- Records ---- */

void forward_records_init(struct forward_records *f, const struct record_table_ops *ops,
			  struct record_table *inner)
{
	record_table_init(&f->base, ops);
	f->base.is_local = record_table_is_local(inner);
	f->inner = record_table_ref(inner);
}

void forward_records_done(struct forward_records *f)
{
	record_table_unref(f->inner);
}

int forward_records_get(struct record_table *t, struct bytes key, struct buffer *out,
			struct error *err)
{
	return record_table_get(container_of(t, struct forward_records, base)->inner, key, out,
				err);
}

int forward_records_list(struct record_table *t, struct bytes after, record_visit visit,
			 void *context, struct error *err)
{
	return record_table_list(container_of(t, struct forward_records, base)->inner, after,
				 visit, context, err);
}
