#include "rpc/remote.h"

#include <stdatomic.h>

struct remote *remote_new(const struct remote_config *config)
{
	struct remote *r = xcalloc(1, sizeof(*r));

	atomic_init(&r->refs, 1);
	r->peer = peer_new(&config->channel);
	r->outbox = outbox_new(r->peer, config->in_flight_max);
	r->ranges = range_source_new(r->peer);
	r->spool = spool_new(r->peer, config->blob_max);
	r->read_only = config->read_only;
	return r;
}

struct remote *remote_ref(struct remote *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void remote_unref(struct remote *r)
{
	if (r && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) {
		outbox_free(r->outbox);
		range_source_free(r->ranges);
		spool_free(r->spool);
		peer_free(r->peer);
		free(r);
	}
}

int remote_check_writable(const struct remote *r, struct error *err)
{
	return r->read_only ? error_set(err, ERROR_DENIED, "%s was opened read-only",
					peer_address(r->peer))
			    : 0;
}

int remote_check_cairn(struct remote *r, const char *what, struct error *err)
{
	int rc = peer_is_cairn(r->peer, err);

	if (rc == 0) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "%s: the peer is no cairn, and offers no %s",
				 peer_address(r->peer), what);
	}
	return rc < 0 ? rc : 0;
}
