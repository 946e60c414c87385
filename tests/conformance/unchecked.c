#include "unchecked.h"

#include <stdatomic.h>

struct unchecked_service {
	struct blob_service base;
	struct blob_service *inner;
	struct unchecked_lies lies;
	_Atomic unsigned reads;
};

struct unchecked_reader {
	struct blob_reader base;
	struct unchecked_service *service;
	struct blob_reader *inner;
};

static struct unchecked_service *service_of(struct blob_service *s)
{
	return container_of(s, struct unchecked_service, base);
}

static int reader_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct unchecked_reader *u = container_of(r, struct unchecked_reader, base);
	const struct unchecked_lies *lies = &u->service->lies;
	size_t n = 0;
	int rc = blob_reader_pread(u->inner, buf, len, offset, &n, err);

	atomic_fetch_add(&u->service->reads, 1);
	if (rc < 0) {
		return rc;
	}
	if (lies->flip && lies->flip_at >= offset && lies->flip_at - offset < n) {
		((uint8_t *)buf)[lies->flip_at - offset] ^= 1;
	}
	if (lies->give_off < 0 && n > 0) {
		n -= MIN(n, (size_t)-lies->give_off);
	} else if (lies->give_off > 0 && n < len) {
		memset((uint8_t *)buf + n, 0, len - n);
		n += MIN(len - n, (size_t)lies->give_off);
	}
	*got = n;
	return 0;
}

static int reader_fd(const struct blob_reader *r unused)
{
	return 0; /* also a lie: what comes from here must not get to a caller */
}

static void reader_free(struct blob_reader *r)
{
	struct unchecked_reader *u = container_of(r, struct unchecked_reader, base);

	blob_reader_free(u->inner);
	free(u);
}

static const struct blob_reader_ops reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.free = reader_free,
};

static void service_destroy(struct blob_service *s)
{
	struct unchecked_service *u = service_of(s);

	blob_service_unref(u->inner);
	free(u);
}

static int service_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
			struct error *err)
{
	return blob_service_size(service_of(s)->inner, digest, size, err);
}

static int service_open(struct blob_service *s, const struct digest *digest,
			struct blob_reader **out, struct error *err)
{
	struct unchecked_service *u = service_of(s);
	struct blob_reader *inner;
	int rc = blob_service_open(u->inner, digest, &inner, err);

	if (rc <= 0) {
		return rc;
	}
	struct unchecked_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &reader_ops;
	r->base.size = blob_reader_size(inner) + (uint64_t)u->lies.size_off;
	r->service = u;
	r->inner = inner;
	*out = &r->base;
	return 1;
}

static int service_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	return blob_service_create(service_of(s)->inner, out, err);
}

static int service_put_hashed(struct blob_service *s, struct bytes content,
			      const struct digest *digest, struct error *err)
{
	return blob_service_put_hashed(service_of(s)->inner, content, digest, err);
}

static int service_sync(struct blob_service *s, struct error *err)
{
	return blob_service_sync(service_of(s)->inner, err);
}

static const struct blob_service_ops service_ops = {
	.name = "unchecked",
	.verifies_ranges = false,
	.destroy = service_destroy,
	.size = service_size,
	.open = service_open,
	.create = service_create,
	.put_hashed = service_put_hashed,
	.put_file = blob_service_put_file_by_writer,
	.read = blob_service_read_by_open,
	.chunks = blob_service_no_chunks,
	.count = blob_service_no_counts,
	.sync = service_sync,
};

struct unchecked_service *unchecked_service_new(struct blob_service *inner)
{
	struct unchecked_service *u = xcalloc(1, sizeof(*u));

	blob_service_init(&u->base, &service_ops);
	u->inner = inner;
	return u;
}

struct blob_service *unchecked_service_blobs(struct unchecked_service *u)
{
	return &u->base;
}

int unchecked_service_open(struct unchecked_service *u, const struct digest *digest,
			   struct blob_reader **out, struct error *err)
{
	return service_open(&u->base, digest, out, err);
}

void unchecked_service_lie(struct unchecked_service *u, struct unchecked_lies lies)
{
	u->lies = lies;
}

unsigned unchecked_service_reads(struct unchecked_service *u)
{
	return atomic_exchange(&u->reads, 0);
}
