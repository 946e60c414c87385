#pragma once

/*
 * A large file on its way to a peer: the calling thread reads and hashes it, another one sends
 * what was read, so that it is read once, and both are at work at the same time.
 *
 * Whether the peer has the blob can be asked only when all of it was hashed. What fits in
 * memory is not sent before that was asked. Of what is larger, some is sent in vain when the
 * peer has it: where sending is much slower than hashing, the caller goes ahead of the sender,
 * which then reads the rest for itself, and asks as early as it can; then the sending is given
 * up.
 */

#include "rpc/remote.h"

/* As for blob_service_put_file(). */
struct file_upload_plan {
	struct remote *remote;
	int fd;
	uint64_t size;              /* not 0 */
	struct blob_watch *watch;   /* or NULL */
	struct blob_service *blobs; /* of the remote */
};

/* The blob is with the peer, durable, when this returns 0. */
int file_upload(const struct file_upload_plan *plan, struct digest *out, struct error *err);
