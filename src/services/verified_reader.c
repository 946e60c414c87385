#include "services/verified_reader.h"

struct whole_reader {
	struct blob_reader base;
	uint8_t *content;
};

struct verified_reader {
	struct blob_reader base;
	struct blob_reader *unchecked;
	struct blob_proof *proof;
};

static int no_fd(const struct blob_reader *r unused)
{
	return -1;
}

static int whole_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
		       size_t *got, struct error *err unused)
{
	struct whole_reader *w = container_of(r, struct whole_reader, base);

	*got = (size_t)MIN(len, r->size - MIN(offset, r->size));
	if (*got) {
		memcpy(buf, w->content + offset, *got);
	}
	return 0;
}

static void whole_free(struct blob_reader *r)
{
	struct whole_reader *w = container_of(r, struct whole_reader, base);

	free(w->content);
	free(w);
}

static const struct blob_reader_ops whole_reader_ops = {
	.pread = whole_pread,
	.fd = no_fd,
	.outboard = blob_reader_outboard_by_reading,
	.free = whole_free,
};

struct blob_reader *verified_reader_of_memory(uint8_t *content, size_t len)
{
	struct whole_reader *w = xcalloc(1, sizeof(*w));

	w->base.ops = &whole_reader_ops;
	w->base.size = len;
	w->content = content;
	return &w->base;
}

static int verified_pread(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
			  size_t *got, struct error *err)
{
	struct verified_reader *v = container_of(r, struct verified_reader, base);
	size_t n = (size_t)MIN(len, r->size - MIN(offset, r->size));
	int rc = blob_proof_pread(v->proof, v->unchecked, buf, n, offset, err);

	if (rc == 0) {
		*got = n;
	}
	return rc;
}

static int verified_outboard(struct blob_reader *r, uint64_t first, size_t count,
			     uint8_t *values, struct error *err unused)
{
	struct verified_reader *v = container_of(r, struct verified_reader, base);

	memcpy(values, blob_proof_outboard(v->proof).ptr + first * DIGEST_SIZE,
	       count * DIGEST_SIZE);
	return 0;
}

static void verified_free(struct blob_reader *r)
{
	struct verified_reader *v = container_of(r, struct verified_reader, base);

	blob_reader_free(v->unchecked);
	blob_proof_unref(v->proof);
	free(v);
}

static const struct blob_reader_ops verified_reader_ops = {
	.pread = verified_pread,
	.fd = no_fd,
	.outboard = verified_outboard,
	.free = verified_free,
};

struct blob_reader *verified_reader_new(struct blob_reader *unchecked, struct blob_proof *proof)
{
	struct verified_reader *v = xcalloc(1, sizeof(*v));

	v->base.ops = &verified_reader_ops;
	v->base.size = blob_proof_size(proof);
	v->unchecked = unchecked;
	v->proof = blob_proof_ref(proof);
	return &v->base;
}

int verified_reader_open(struct blob_reader *unchecked, const struct digest *digest,
			 struct blob_reader **out, struct error *err)
{
	struct blob_proof *proof cleanup(cleanup_blob_proof) = NULL;
	uint8_t *content;
	int rc;

	if (unchecked->size <= VERIFIED_READER_WHOLE_MAX) {
		/* What was hashed is what is kept: nothing is left to check at each read. */
		rc = blob_proof_read_whole(unchecked, digest, &content, err);
		if (rc == 0) {
			*out = verified_reader_of_memory(content, (size_t)unchecked->size);
		}
		blob_reader_free(unchecked);
		return rc;
	}
	rc = blob_proof_make(unchecked, digest, &proof, err);
	if (rc < 0) {
		blob_reader_free(unchecked);
		return rc;
	}
	*out = verified_reader_new(unchecked, proof);
	return 0;
}
