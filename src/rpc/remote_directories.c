#include "rpc/answer.h"
#include "rpc/find_missing.h"
#include "rpc/prefetched.h"
#include "rpc/remote.h"
#include "rpc/remote_directory.h"

/* Of the closures that were walked last. */
#define PREFETCHED_BYTES_MAX ((size_t)128 << 20)

struct remote_directories {
	struct directory_service base;
	struct remote *remote; /* a reference */
	struct prefetched *prefetched;
};

static struct remote_directories *directories_of(struct directory_service *s)
{
	return container_of(s, struct remote_directories, base);
}

static void directories_destroy(struct directory_service *s)
{
	struct remote_directories *d = directories_of(s);

	prefetched_free(d->prefetched);
	remote_unref(d->remote);
	free(d);
}

/* What needs no round trip. A reference, or NULL. */
static struct object *find_here(struct remote_directories *d, const struct digest *digest)
{
	struct object *o = outbox_find(d->remote->outbox, OUTBOX_DIRECTORIES, digest);

	return o ? o : prefetched_get(d->prefetched, digest);
}

static int copy_encoding(struct bytes encoding, uint8_t **out, size_t *len, struct error *err)
{
	uint8_t *copy = malloc(encoding.len ? encoding.len : 1);

	if (!copy) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", encoding.len);
	}
	if (encoding.len) {
		memcpy(copy, encoding.ptr, encoding.len);
	}
	*out = copy;
	*len = encoding.len;
	return 1;
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	struct remote_directories *d = directories_of(s);
	struct object *o cleanup(cleanup_object) = find_here(d, digest);
	struct directory *found cleanup(cleanup_directory) = NULL;

	if (o) {
		return copy_encoding(bytes_of(o->content, o->len), encoding, len, err);
	}
	int rc = remote_directory_get(d->remote->peer, digest, &found, err);

	return rc <= 0 ? rc : copy_encoding(directory_encoding(found), encoding, len, err);
}

static int directories_get_nowait(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	struct remote_directories *d = directories_of(s);
	struct object *o cleanup(cleanup_object) = find_here(d, digest);

	if (!o) {
		return error_set(err, ERROR_WOULD_BLOCK, "%s has to be asked for directory %s",
				 peer_address(d->remote->peer), digest_text(digest));
	}
	return copy_encoding(bytes_of(o->content, o->len), encoding, len, err);
}

/* There is no other way to ask them. */
static int missing_others(struct remote_directories *d, const struct digest *digests,
			  size_t count, bool *missing, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		struct directory *found cleanup(cleanup_directory) = NULL;
		int rc = remote_directory_get(d->remote->peer, &digests[i], &found, err);

		if (rc < 0) {
			return rc;
		}
		missing[i] = rc == 0;
	}
	return 0;
}

static int missing_at_peer(struct remote_directories *d, const struct digest *digests,
			   size_t count, bool *missing, struct error *err)
{
	int rc = peer_is_cairn(d->remote->peer, err);

	if (rc > 0) {
		rc = find_missing(d->remote->peer, FIND_MISSING_DIRECTORY, digests, count,
				  missing, err);
		/* It may have become another one. */
		return rc != -ERROR_UNSUPPORTED
			       ? rc
			       : missing_others(d, digests, count, missing, err);
	}
	return rc < 0 ? rc : missing_others(d, digests, count, missing, err);
}

static bool is_here(struct remote_directories *d, const struct digest *digest)
{
	struct object *o cleanup(cleanup_object) = find_here(d, digest);

	return o != NULL;
}

static int directories_find_missing(struct directory_service *s, const struct digest *digests,
				    size_t count, bool *missing, struct error *err)
{
	struct remote_directories *d = directories_of(s);
	bool *here cleanup(cleanup_free) = xcalloc(count, sizeof(*here));

	for (size_t i = 0; i < count; i++) {
		here[i] = is_here(d, &digests[i]);
	}
	int rc = missing_at_peer(d, digests, count, missing, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		missing[i] = missing[i] && !here[i];
	}
	return rc;
}

static int directories_has(struct directory_service *s, const struct digest *digest,
			   struct error *err)
{
	struct remote_directories *d = directories_of(s);
	bool missing;

	if (is_here(d, digest)) {
		return 1;
	}
	int rc = missing_at_peer(d, digest, 1, &missing, err);

	return rc < 0 ? rc : !missing;
}

static int directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	struct remote *r = directories_of(s)->remote;
	int rc = remote_check_writable(r, err);

	return rc < 0 ? rc
		      : outbox_put(r->outbox, OUTBOX_DIRECTORIES, directory_digest(d),
				   directory_encoding(d), err);
}

struct gathering {
	struct remote_directories *directories;
	size_t bytes;
};

/* What is more than there is room for is fetched one by one. */
static int take_gathered(void *context, struct directory *d, struct error *err unused)
{
	struct gathering *p = context;
	struct bytes encoding = directory_encoding(d);

	prefetched_add(p->directories->prefetched, directory_digest(d), encoding);
	p->bytes += encoding.len;
	return p->bytes > PREFETCHED_BYTES_MAX / 2;
}

static int directories_gather(struct directory_service *s, const struct digest *root,
			      struct error *err)
{
	struct remote_directories *d = directories_of(s);
	struct gathering p = {.directories = d};
	struct object *o cleanup(cleanup_object) =
		outbox_find(d->remote->outbox, OUTBOX_DIRECTORIES, root);

	/* What was put and not sent yet the peer does not know. */
	if (o) {
		return 1;
	}
	return remote_directory_get_closure(d->remote->peer, root, take_gathered, &p, err);
}

static int directories_sync(struct directory_service *s, struct error *err)
{
	return outbox_sync(directories_of(s)->remote->outbox, err);
}

static const struct directory_service_ops directories_ops = {
	.name = "remote",
	.destroy = directories_destroy,
	.get = directories_get,
	.get_nowait = directories_get_nowait,
	.has = directories_has,
	.find_missing = directories_find_missing,
	.put = directories_put,
	.gather = directories_gather,
	.sync = directories_sync,
};

struct directory_service *remote_directories_new(struct remote *r)
{
	struct remote_directories *d = xcalloc(1, sizeof(*d));

	directory_service_init(&d->base, &directories_ops);
	d->remote = remote_ref(r);
	d->prefetched = prefetched_new(PREFETCHED_BYTES_MAX);
	return &d->base;
}
