#pragma once

/*
 * A store that a peer keeps, over gRPC: what stands behind grpc+unix://, grpc+http:// and
 * grpc+https:// (rpc/remote_store.c). Within this room: its services share one of these.
 *
 * Puts of small objects go through the outbox, so they cost no round trip, and what a put could
 * not do is told by the next sync. Everything else is done when the call returns. Whatever
 * comes from the peer is checked before it is given to anybody; a peer that does not answer is
 * ERROR_TIMEOUT or ERROR_UNAVAILABLE, never absent.
 */

#include "rpc/outbox.h"
#include "rpc/range.h"
#include "rpc/spool.h"
#include "services/store.h"

struct remote {
	_Atomic unsigned refs;
	struct peer *peer;
	struct outbox *outbox;
	struct range_source *ranges; /* for a cairn */
	struct spool *spool;         /* for others */
	bool read_only;
};

struct remote_config {
	struct client_channel_config channel;
	size_t in_flight_max; /* bytes of puts that wait */
	uint64_t blob_max;    /* of those that come whole */
	bool read_only;
};

struct remote *remote_new(const struct remote_config *config);
struct remote *remote_ref(struct remote *r);
void remote_unref(struct remote *r);
/* ERROR_DENIED when the store was opened read-only. */
int remote_check_writable(const struct remote *r, struct error *err);
/* "%s: no NAME" as ERROR_UNSUPPORTED: what only a cairn offers. */
int remote_check_cairn(struct remote *r, const char *what, struct error *err);

/* Each takes a reference. */
struct blob_service *remote_blobs_new(struct remote *r);
struct directory_service *remote_directories_new(struct remote *r);
struct root_nodes *remote_roots_new(struct remote *r);
struct record_table *remote_path_infos_new(struct remote *r);
/* below: the services of the same peer, which it takes references to. */
struct stager *remote_stager_new(struct remote *r, const struct store *below);

/* A writer that streams to the peer what is too large for the outbox. */
struct blob_writer *remote_writer_new(struct remote *r);
