/* Blobs on their way into a cache: far has to have them, near gets them too. */

#include "services/cache/cache_internal.h"

struct cache_writer {
	struct blob_writer base;
	struct cache *cache; /* a reference */
	struct blob_writer *far;
	struct blob_writer *near; /* NULL: near failed */
};

static struct cache_writer *writer_of(struct blob_writer *w)
{
	return container_of(w, struct cache_writer, base);
}

static void give_up_near(struct cache_writer *w, const struct error *why)
{
	cache_near_failed(w->cache, why);
	blob_writer_free(w->near);
	w->near = NULL;
}

static int writer_write(struct blob_writer *base, struct bytes data, struct error *err)
{
	struct cache_writer *w = writer_of(base);
	struct error why;

	if (w->near && blob_writer_write(w->near, data, &why) < 0) {
		give_up_near(w, &why);
	}
	return blob_writer_write(w->far, data, err);
}

static void writer_free(struct blob_writer *base)
{
	struct cache_writer *w = writer_of(base);

	blob_writer_free(w->far);
	blob_writer_free(w->near);
	cache_unref(w->cache);
	free(w);
}

static int writer_commit(struct blob_writer *base, struct digest *digest_out,
			 uint64_t *size_out, struct error *err)
{
	struct cache_writer *w = writer_of(base);
	struct digest near_digest;
	struct error why;
	int rc = blob_writer_commit(w->far, digest_out, size_out, err);

	w->far = NULL;
	if (rc == 0 && w->near) {
		if (blob_writer_commit(w->near, &near_digest, NULL, &why) < 0) {
			cache_near_failed(w->cache, &why);
		} else {
			cache_near_has(w->cache, *size_out);
		}
		w->near = NULL;
	}
	writer_free(base);
	return rc;
}

static const struct blob_writer_ops writer_ops = {
	.write = writer_write,
	.commit = writer_commit,
	.free = writer_free,
};

int cache_writer_new(struct cache *c, struct blob_writer **out, struct error *err)
{
	struct blob_writer *far, *near = NULL;
	struct error why;
	int rc = blob_service_create(c->far.blobs, &far, err);

	if (rc < 0) {
		return rc;
	}
	if (blob_service_create(c->near.blobs, &near, &why) < 0) {
		cache_near_failed(c, &why);
		near = NULL;
	}
	struct cache_writer *w = xcalloc(1, sizeof(*w));

	w->base.ops = &writer_ops;
	w->cache = cache_ref(c);
	w->far = far;
	w->near = near;
	*out = &w->base;
	return 0;
}

/* Near reads the file as well: for each of its bytes the watch has been told already. */
struct second_watch {
	struct blob_watch base;
	struct blob_watch *first;
};

static bool advance_again(struct blob_watch *w, uint64_t bytes unused)
{
	struct blob_watch *first = container_of(w, struct second_watch, base)->first;

	return !first || first->advance(first, 0);
}

int cache_put_file(struct cache *c, int fd, uint64_t size, struct blob_watch *watch,
		   struct digest *out, struct error *err)
{
	struct second_watch again = {.base.advance = advance_again, .first = watch};
	struct digest near_digest;
	struct error why;
	int rc = blob_service_put_file(c->far.blobs, fd, size, watch, out, err);

	if (rc < 0) {
		return rc;
	}
	rc = blob_service_put_file(c->near.blobs, fd, size, &again.base, &near_digest, &why);
	if (rc == -ERROR_CANCELED) {
		return error_set(err, ERROR_CANCELED, "%s", why.text);
	}
	/* A file that changed meanwhile is the caller's to find. */
	if (rc < 0 && rc != -ERROR_CHANGED) {
		cache_near_failed(c, &why);
	} else if (rc == 0) {
		cache_near_has(c, size);
	}
	return 0;
}
