#include "stalled_blobs.h"

#include <pthread.h>

struct stalled_blobs {
	struct blob_service base;
	struct blob_service *inner;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t change;
	bool stalled;
	unsigned waiting;
};

static struct stalled_blobs *stalled(struct blob_service *s)
{
	return container_of(s, struct stalled_blobs, base);
}

static void destroy(struct blob_service *s)
{
	struct stalled_blobs *b = stalled(s);

	blob_service_unref(b->inner);
	pthread_cond_destroy(&b->change);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static int size_of(struct blob_service *s, const struct digest *digest, uint64_t *size,
		   struct error *err)
{
	return blob_service_size(stalled(s)->inner, digest, size, err);
}

static int open_blob(struct blob_service *s, const struct digest *digest,
		     struct blob_reader **out, struct error *err)
{
	return blob_service_open(stalled(s)->inner, digest, out, err);
}

static int create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	return blob_service_create(stalled(s)->inner, out, err);
}

static int put_hashed(struct blob_service *s, struct bytes content, const struct digest *digest,
		      struct error *err)
{
	return blob_service_put_hashed(stalled(s)->inner, content, digest, err);
}

static int read_blob(struct blob_service *s, const struct digest *digest, uint64_t offset,
		     void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	struct stalled_blobs *b = stalled(s);

	pthread_mutex_lock(&b->lock);
	if (b->stalled && (flags & BLOB_READ_NOWAIT)) {
		pthread_mutex_unlock(&b->lock);
		return error_set(err, ERROR_WOULD_BLOCK, "stalled");
	}
	b->waiting++;
	pthread_cond_broadcast(&b->change);
	while (b->stalled) {
		pthread_cond_wait(&b->change, &b->lock);
	}
	b->waiting--;
	pthread_mutex_unlock(&b->lock);
	return blob_service_read(b->inner, digest, offset, buf, len, flags, got, err);
}

static int sync_blobs(struct blob_service *s, struct error *err)
{
	return blob_service_sync(stalled(s)->inner, err);
}

static const struct blob_service_ops ops = {
	.name = "stalled",
	.verifies_ranges = true,
	.destroy = destroy,
	.size = size_of,
	.open = open_blob,
	.create = create,
	.put_hashed = put_hashed,
	.put_file = blob_service_put_file_by_writer,
	.read = read_blob,
	.chunks = blob_service_no_chunks,
	.count = blob_service_no_counts,
	.sync = sync_blobs,
};

struct blob_service *stalled_blobs_new(struct blob_service *inner)
{
	struct stalled_blobs *b = xcalloc(1, sizeof(*b));

	blob_service_init(&b->base, &ops);
	b->inner = blob_service_ref(inner);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->change, NULL);
	return &b->base;
}

void stalled_blobs_stall(struct blob_service *s)
{
	struct stalled_blobs *b = stalled(s);

	pthread_mutex_lock(&b->lock);
	b->stalled = true;
	pthread_mutex_unlock(&b->lock);
}

void stalled_blobs_await(struct blob_service *s, unsigned count)
{
	struct stalled_blobs *b = stalled(s);

	pthread_mutex_lock(&b->lock);
	while (b->waiting < count) {
		pthread_cond_wait(&b->change, &b->lock);
	}
	pthread_mutex_unlock(&b->lock);
}

void stalled_blobs_release(struct blob_service *s)
{
	struct stalled_blobs *b = stalled(s);

	pthread_mutex_lock(&b->lock);
	b->stalled = false;
	pthread_cond_broadcast(&b->change);
	pthread_mutex_unlock(&b->lock);
}
