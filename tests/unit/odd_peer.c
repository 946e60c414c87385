#include "odd_peer.h"

static struct odd_blobs *odd_of(struct blob_service *s)
{
	return container_of(s, struct odd_blobs, base);
}

static bool is_in(uint64_t place, uint64_t offset, size_t len)
{
	return place && place >= offset && place - offset < len;
}

/* Waits while the place is among these bytes, and fails when the other one is. */
static int pass(struct odd_blobs *b, const uint64_t *stalls, const uint64_t *fails,
		uint64_t offset, size_t len, enum error_code code, struct error *err)
{
	pthread_mutex_lock(&b->lock);
	while (is_in(*stalls, offset, len)) {
		b->waiting++;
		pthread_cond_broadcast(&b->changed);
		pthread_cond_wait(&b->changed, &b->lock);
		b->waiting--;
	}
	bool failed = is_in(*fails, offset, len);

	pthread_mutex_unlock(&b->lock);
	return failed ? error_set(err, code, "odd from %ju on", (uintmax_t)offset) : 0;
}

/* ---- Reading ---- */

struct odd_reader {
	struct blob_reader base;
	struct blob_reader *inner;
	struct odd_blobs *blobs;
};

static int reader_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct odd_reader *r = container_of(base, struct odd_reader, base);
	struct odd_blobs *b = r->blobs;
	int rc = pass(b, &b->read_stalls_at, &b->read_fails_at, offset, len, ERROR_IO, err);

	if (rc == 0) {
		rc = blob_reader_pread(r->inner, buf, len, offset, got, err);
	}
	pthread_mutex_lock(&b->lock);
	if (rc == 0 && is_in(b->wrong_at, offset, *got)) {
		((uint8_t *)buf)[b->wrong_at - offset] ^= 1;
	}
	pthread_mutex_unlock(&b->lock);
	return rc;
}

static int reader_outboard(struct blob_reader *base, uint64_t first, size_t count,
			   uint8_t *values, struct error *err)
{
	return blob_reader_outboard(container_of(base, struct odd_reader, base)->inner, first,
				    count, values, err);
}

static int reader_fd(const struct blob_reader *base unused)
{
	return -1;
}

static void reader_free(struct blob_reader *base)
{
	struct odd_reader *r = container_of(base, struct odd_reader, base);

	blob_reader_free(r->inner);
	free(r);
}

static const struct blob_reader_ops reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.outboard = reader_outboard,
	.free = reader_free,
};

static int open_blob(struct blob_service *s, const struct digest *digest,
		     struct blob_reader **out, struct error *err)
{
	struct odd_reader *r = xcalloc(1, sizeof(*r));
	int rc = blob_service_open(odd_of(s)->inner, digest, &r->inner, err);

	if (rc <= 0) {
		free(r);
		return rc;
	}
	r->base.ops = &reader_ops;
	r->base.size = blob_reader_size(r->inner);
	r->blobs = odd_of(s);
	*out = &r->base;
	return rc;
}

/* ---- Writing ---- */

struct odd_writer {
	struct blob_writer base;
	struct blob_writer *inner;
	struct odd_blobs *blobs;
	uint64_t at;
};

static int writer_write(struct blob_writer *base, struct bytes data, struct error *err)
{
	struct odd_writer *w = container_of(base, struct odd_writer, base);
	struct odd_blobs *b = w->blobs;
	int rc = pass(b, &b->write_stalls_at, &b->write_fails_at, w->at, data.len,
		      ERROR_NO_SPACE, err);

	w->at += data.len;
	return rc < 0 ? rc : blob_writer_write(w->inner, data, err);
}

static int writer_commit(struct blob_writer *base, struct digest *digest, uint64_t *size,
			 struct error *err)
{
	struct odd_writer *w = container_of(base, struct odd_writer, base);
	int rc = blob_writer_commit(w->inner, digest, size, err);

	pthread_mutex_lock(&w->blobs->lock);
	w->blobs->committed++;
	pthread_mutex_unlock(&w->blobs->lock);
	free(w);
	return rc;
}

static void writer_free(struct blob_writer *base)
{
	struct odd_writer *w = container_of(base, struct odd_writer, base);

	blob_writer_free(w->inner);
	free(w);
}

static const struct blob_writer_ops writer_ops = {
	.write = writer_write,
	.commit = writer_commit,
	.free = writer_free,
};

static int create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	struct odd_writer *w = xcalloc(1, sizeof(*w));
	int rc = blob_service_create(odd_of(s)->inner, &w->inner, err);

	if (rc < 0) {
		free(w);
		return rc;
	}
	w->base.ops = &writer_ops;
	w->blobs = odd_of(s);
	*out = &w->base;
	return 0;
}

/* ---- The rest ---- */

static int size_of(struct blob_service *s, const struct digest *digest, uint64_t *size,
		   struct error *err)
{
	struct odd_blobs *b = odd_of(s);

	pthread_mutex_lock(&b->lock);
	if (b->releases && digest_equal(b->releases, digest)) {
		b->write_stalls_at = 0;
		pthread_cond_broadcast(&b->changed);
	}
	pthread_mutex_unlock(&b->lock);
	return blob_service_size(b->inner, digest, size, err);
}

static int sync_blobs(struct blob_service *s, struct error *err)
{
	return blob_service_sync(odd_of(s)->inner, err);
}

static int recover(struct blob_service *s, struct error *err)
{
	return blob_service_recover(odd_of(s)->inner, err);
}

static void destroy(struct blob_service *s)
{
	struct odd_blobs *b = odd_of(s);

	blob_service_unref(b->inner);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static const struct blob_service_ops ops = {
	.name = "odd",
	.verifies_ranges = true,
	.destroy = destroy,
	.size = size_of,
	.open = open_blob,
	.create = create,
	.sync = sync_blobs,
	.recover = recover,
};

void odd_peer_start(struct odd_peer *p, void **state)
{
	struct rpc_fixture *f = *state;
	char *address cleanup(cleanup_free) = xasprintf("grpc+unix://%s/socket", f->folder);
	struct odd_blobs *b = xcalloc(1, sizeof(*b));

	blob_service_init(&b->base, &ops);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	b->inner = f->store.blobs;
	f->store.blobs = &b->base;
	*p = (struct odd_peer){.server = rpc_fixture_start(state), .blobs = b};
	if (store_open(&p->client, address, 0, NULL) != 0) {
		abort();
	}
}

void odd_peer_stop(struct odd_peer *p)
{
	store_close(&p->client);
}

void odd_peer_set(struct odd_peer *p, uint64_t *place, uint64_t value)
{
	pthread_mutex_lock(&p->blobs->lock);
	*place = value;
	pthread_cond_broadcast(&p->blobs->changed);
	pthread_mutex_unlock(&p->blobs->lock);
}

void odd_peer_await_stall(struct odd_peer *p)
{
	struct odd_blobs *b = p->blobs;

	pthread_mutex_lock(&b->lock);
	while (b->waiting == 0) {
		pthread_cond_wait(&b->changed, &b->lock);
	}
	pthread_mutex_unlock(&b->lock);
}

unsigned odd_peer_committed(struct odd_peer *p)
{
	pthread_mutex_lock(&p->blobs->lock);
	unsigned committed = p->blobs->committed;

	pthread_mutex_unlock(&p->blobs->lock);
	return committed;
}

uint8_t *odd_peer_content(size_t size)
{
	uint8_t *content = xmalloc(size);

	for (size_t i = 0; i < size; i++) {
		content[i] = (uint8_t)(i * 2654435761u >> 20);
	}
	return content;
}
