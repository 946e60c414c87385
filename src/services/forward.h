#pragma once

/*
 * For back ends that stand before another one: the parts of their tables that only pass a call
 * on. What a back end of this kind is embeds one of these, as its first member.
 */

#include "services/store.h"

struct forward_blobs {
	struct blob_service base;
	struct blob_service *inner; /* a reference */
};

struct forward_directories {
	struct directory_service base;
	struct directory_service *inner;
};

struct forward_roots {
	struct root_nodes base;
	struct root_nodes *inner;
};

struct forward_records {
	struct record_table base;
	struct record_table *inner;
};

/* Fills in the base and takes a reference to inner; the _done functions give it back. */
void forward_blobs_init(struct forward_blobs *f, const struct blob_service_ops *ops,
			struct blob_service *inner);
void forward_blobs_done(struct forward_blobs *f);
void forward_directories_init(struct forward_directories *f,
			      const struct directory_service_ops *ops,
			      struct directory_service *inner);
void forward_directories_done(struct forward_directories *f);
void forward_roots_init(struct forward_roots *f, const struct root_nodes_ops *ops,
			struct root_nodes *inner);
void forward_roots_done(struct forward_roots *f);
void forward_records_init(struct forward_records *f, const struct record_table_ops *ops,
			  struct record_table *inner);
void forward_records_done(struct forward_records *f);

/* For tables. What comes from inner's functions has been checked: verifies_ranges is true. */
int forward_blobs_has(struct blob_service *s, const struct digest *digest, struct error *err);
int forward_blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		       struct error *err);
int forward_blobs_open(struct blob_service *s, const struct digest *digest,
		       struct blob_reader **out, struct error *err);
int forward_blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err);
int forward_blobs_put_hashed(struct blob_service *s, struct bytes content,
			     const struct digest *digest, struct error *err);
int forward_blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			   struct blob_watch *watch, struct digest *out, struct error *err);
int forward_blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		       void *buf, size_t len, unsigned flags, size_t *got, struct error *err);
int forward_blobs_chunks(struct blob_service *s, const struct digest *digest,
			 struct chunk_list *out, struct error *err);
int forward_blobs_find_missing(struct blob_service *s, const struct digest *digests,
			       size_t count, bool *missing, struct error *err);
int forward_blobs_get_many(struct blob_service *s, const struct blob_want *wants, size_t count,
			   blob_take take, void *context, struct error *err);
int forward_blobs_count(struct blob_service *s, struct blob_counts *out, struct error *err);
int forward_blobs_stored(struct blob_service *s, const struct digest *digest, uint64_t *stored,
			 struct error *err);
int forward_blobs_discard(struct blob_service *s, const struct digest *digest,
			  struct error *err);
int forward_blobs_sync(struct blob_service *s, struct error *err);
int forward_blobs_recover(struct blob_service *s, struct error *err);

int forward_directories_get(struct directory_service *s, const struct digest *digest,
			    uint8_t **encoding, size_t *len, struct error *err);
int forward_directories_get_nowait(struct directory_service *s, const struct digest *digest,
				   uint8_t **encoding, size_t *len, struct error *err);
int forward_directories_has(struct directory_service *s, const struct digest *digest,
			    struct error *err);
int forward_directories_find_missing(struct directory_service *s, const struct digest *digests,
				     size_t count, bool *missing, struct error *err);
int forward_directories_put(struct directory_service *s, struct directory *d,
			    struct error *err);
void forward_directories_prefetch(struct directory_service *s, const struct digest *root);
int forward_directories_stored(struct directory_service *s, const struct digest *digest,
			       uint64_t *stored, struct error *err);
int forward_directories_discard(struct directory_service *s, const struct digest *digest,
				struct error *err);
int forward_directories_gather(struct directory_service *s, const struct digest *root,
			       struct error *err);
int forward_directories_sync(struct directory_service *s, struct error *err);

int forward_roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			 struct error *err);
int forward_roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		       void *context, struct error *err);

int forward_records_get(struct record_table *t, struct bytes key, struct buffer *out,
			struct error *err);
int forward_records_list(struct record_table *t, struct bytes after, record_visit visit,
			 void *context, struct error *err);
