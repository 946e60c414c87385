#include "services/blob_proof.h"

#include <stdatomic.h>

#include "castore/outboard.h"

struct blob_proof {
	_Atomic unsigned refs;
	struct digest digest;
	uint64_t size;
	struct buffer outboard; /* as encoded; empty for at most one group */
};

/* A reader must give what its size promises: no byte less, and none behind the end. */
static int read_exactly(struct blob_reader *r, void *buf, size_t len, uint64_t offset,
			struct error *err)
{
	size_t got;
	int rc = blob_reader_pread(r, buf, len, offset, &got, err);

	if (rc == 0 && got != len) {
		rc = error_set(err, ERROR_CORRUPT, "%zu bytes at %ju where %zu must be", got,
			       (uintmax_t)offset, len);
	}
	return rc;
}

static int check_nothing_follows(struct blob_reader *r, struct error *err)
{
	uint8_t byte;
	size_t got = 0;
	int rc = r->ops->pread(r, &byte, 1, r->size, &got, err);

	if (rc == 0 && got != 0) {
		rc = error_set(err, ERROR_CORRUPT, "there are more than its %ju bytes",
			       (uintmax_t)r->size);
	}
	return rc;
}

static int check_digest(const struct digest *found, const struct digest *wanted,
			struct error *err)
{
	if (!digest_equal(found, wanted)) {
		return error_set(err, ERROR_CORRUPT, "the content has the digest %s",
				 digest_text(found));
	}
	return 0;
}

static int hash_reader(struct blob_reader *r, struct outboard_builder *builder,
		       struct error *err)
{
	size_t piece = (size_t)MIN(r->size, OUTBOARD_SPAN);
	uint8_t *buf cleanup(cleanup_free) = malloc(piece ? piece : 1);

	if (!buf) {
		return error_set(err, ERROR_LIMIT, "no memory for a buffer");
	}
	for (uint64_t offset = 0; offset < r->size;) {
		size_t len = (size_t)MIN(r->size - offset, OUTBOARD_SPAN);
		int rc = read_exactly(r, buf, len, offset, err);

		if (rc < 0) {
			return rc;
		}
		outboard_builder_update(builder, bytes_of(buf, len));
		offset += len;
	}
	return check_nothing_follows(r, err);
}

static int make(struct blob_reader *r, struct blob_proof *p, struct error *err)
{
	struct digest digest;

	if (r->size > BLOB_PROOF_SIZE_MAX) {
		return error_set(err, ERROR_LIMIT, "%ju bytes are too many to check",
				 (uintmax_t)r->size);
	}
	struct outboard_builder *builder = outboard_builder_new();
	int rc = hash_reader(r, builder, err);

	if (rc == 0) {
		outboard_builder_finish(builder, &digest, &p->outboard);
		rc = check_digest(&digest, &p->digest, err);
	}
	outboard_builder_free(builder);
	return rc;
}

int blob_proof_make(struct blob_reader *unchecked, const struct digest *digest,
		    struct blob_proof **out, struct error *err)
{
	struct blob_proof *p = xcalloc(1, sizeof(*p));

	atomic_init(&p->refs, 1);
	p->digest = *digest;
	p->size = unchecked->size;
	int rc = make(unchecked, p, err);

	if (rc < 0) {
		error_wrap(err, "blob %s", digest_text(digest));
		blob_proof_unref(p);
		return rc;
	}
	*out = p;
	return 0;
}

static int read_whole(struct blob_reader *r, const struct digest *digest, uint8_t *content,
		      struct error *err)
{
	struct digest found;
	int rc = read_exactly(r, content, (size_t)r->size, 0, err);

	if (rc == 0) {
		rc = check_nothing_follows(r, err);
	}
	if (rc == 0) {
		digest_of(&found, bytes_of(content, (size_t)r->size));
		rc = check_digest(&found, digest, err);
	}
	return rc;
}

int blob_proof_read_whole(struct blob_reader *unchecked, const struct digest *digest,
			  uint8_t **content, struct error *err)
{
	uint8_t *buf = unchecked->size < SIZE_MAX ? malloc((size_t)unchecked->size + 1) : NULL;
	int rc;

	if (buf) {
		rc = read_whole(unchecked, digest, buf, err);
	} else {
		rc = error_set(err, ERROR_LIMIT, "no memory for %ju bytes",
			       (uintmax_t)unchecked->size);
	}
	if (rc < 0) {
		error_wrap(err, "blob %s", digest_text(digest));
		free(buf);
		return rc;
	}
	*content = buf;
	return 0;
}

struct blob_proof *blob_proof_ref(struct blob_proof *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void blob_proof_unref(struct blob_proof *p)
{
	if (p && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) {
		buffer_done(&p->outboard);
		free(p);
	}
}

uint64_t blob_proof_size(const struct blob_proof *p)
{
	return p->size;
}

struct bytes blob_proof_outboard(const struct blob_proof *p)
{
	return buffer_bytes(&p->outboard);
}

static size_t group_len(const struct blob_proof *p, uint64_t group)
{
	return (size_t)MIN(OUTBOARD_GROUP, p->size - group * OUTBOARD_GROUP);
}

static bool group_matches(const struct blob_proof *p, uint64_t group, struct bytes data)
{
	if (p->outboard.len == 0) {
		struct digest digest;

		digest_of(&digest, data);
		return digest_equal(&digest, &p->digest);
	}
	uint64_t index = outboard_span_count(p->size) + group;

	return outboard_verify_group(p->size, group, p->outboard.ptr + index * DIGEST_SIZE,
				     data);
}

/* Whole groups, read into place and checked there. len ends at a group's end. */
static int read_groups(const struct blob_proof *p, struct blob_reader *r, uint64_t group,
		       uint8_t *buf, size_t len, struct error *err)
{
	int rc = read_exactly(r, buf, len, group * OUTBOARD_GROUP, err);

	if (rc < 0) {
		return rc;
	}
	while (len > 0) {
		size_t n = group_len(p, group);

		if (!group_matches(p, group, bytes_of(buf, n))) {
			return error_set(err, ERROR_CORRUPT, "the %zu bytes at %ju are damaged",
					 n, (uintmax_t)(group * OUTBOARD_GROUP));
		}
		buf += n;
		len -= n;
		group++;
	}
	return 0;
}

/* Part of one group: the group is read whole, to be checked. */
static int read_part(const struct blob_proof *p, struct blob_reader *r, uint8_t *buf,
		     size_t len, uint64_t offset, struct error *err)
{
	uint8_t scratch[OUTBOARD_GROUP];
	uint64_t group = offset / OUTBOARD_GROUP;
	int rc = read_groups(p, r, group, scratch, group_len(p, group), err);

	if (rc == 0) {
		memcpy(buf, scratch + offset % OUTBOARD_GROUP, len);
	}
	return rc;
}

static int read_range(const struct blob_proof *p, struct blob_reader *r, uint8_t *buf,
		      size_t len, uint64_t offset, struct error *err)
{
	while (len > 0) {
		uint64_t group = offset / OUTBOARD_GROUP;
		size_t skip = (size_t)(offset % OUTBOARD_GROUP);
		size_t n = MIN(len, group_len(p, group) - skip);
		int rc;

		if (skip == 0 && n == group_len(p, group)) {
			n = offset + len == p->size ? len : len - len % OUTBOARD_GROUP;
			rc = read_groups(p, r, group, buf, n, err);
		} else {
			rc = read_part(p, r, buf, n, offset, err);
		}
		if (rc < 0) {
			return rc;
		}
		buf += n;
		len -= n;
		offset += n;
	}
	return 0;
}

int blob_proof_pread(const struct blob_proof *p, struct blob_reader *unchecked, void *buf,
		     size_t len, uint64_t offset, struct error *err)
{
	int rc;

	if (unchecked->size != p->size) {
		rc = error_set(err, ERROR_CORRUPT, "its size has changed");
	} else {
		rc = read_range(p, unchecked, buf, len, offset, err);
	}
	if (rc < 0) {
		error_wrap(err, "blob %s", digest_text(&p->digest));
	}
	return rc;
}
