#pragma once

/* What the files of a peer's blobs share. s is the service of this remote. */

#include "rpc/remote.h"

/* These are the operations of the same names (services/blob_service.h). */
int remote_blobs_get_many(struct remote *r, const struct blob_want *wants, size_t count,
			  blob_take take, void *context, struct error *err);
int remote_blobs_chunks(struct remote *r, struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err);
int remote_blobs_put(struct remote *r, struct blob_service *s, struct bytes content,
		     const struct digest *digest, struct error *err);
int remote_blobs_put_file(struct remote *r, struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err);
