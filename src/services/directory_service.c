#include "services/directory_service.h"

#include <stdatomic.h>

#include "castore/digest_map.h"

/* Directories of one batch wait in memory for its commit: this many bytes of them. */
#define BATCH_MEMORY_MAX ((uint64_t)4 << 30)
/* Of a directory in a batch: in two tables of digests, and a pointer. */
#define KEPT_COST 256

struct directory_batch {
	struct directory_service *service;
	struct closure_validator *validator; /* NULL once the batch is refused */
	struct digest_map seen;
	struct directory **directories; /* distinct, children first */
	size_t count;
	size_t capacity;
	uint64_t memory;
};

void directory_service_init(struct directory_service *s,
			    const struct directory_service_ops *ops)
{
	s->ops = ops;
	s->fetches = ops->prefetch || ops->gather || !ops->get_nowait;
	atomic_init(&s->refs, 1);
}

struct directory_service *directory_service_ref(struct directory_service *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void directory_service_unref(struct directory_service *s)
{
	if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
		s->ops->destroy(s);
	}
}

static int wrong_digest(const struct digest *digest, const struct digest *found,
			struct error *err)
{
	return error_set(err, ERROR_CORRUPT,
			 "directory %s: the stored bytes have the digest %s",
			 digest_text(digest), digest_text(found));
}

/* Turns stored bytes into a directory. What is wrong with them is the store's fault. */
static int decode_stored(const struct digest *digest, uint8_t *encoding, size_t len,
			 struct directory **out, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct error why = {0};
	int rc = directory_decode_owned(encoding, len, &d, &why);

	if (rc < 0) {
		return error_set(err, rc == -ERROR_INVALID ? ERROR_CORRUPT : why.code,
				 "directory %s: %s", digest_text(digest), why.text);
	}
	if (!digest_equal(directory_digest(d), digest)) {
		return wrong_digest(digest, directory_digest(d), err);
	}
	*out = d;
	d = NULL;
	return 1;
}

/* Asker: what the back end gives. */
static int get_stored(struct directory_service *s, const struct digest *digest, bool nowait,
		      uint8_t **encoding, size_t *len, struct error *err)
{
	if (!nowait) {
		return s->ops->get(s, digest, encoding, len, err);
	}
	return s->ops->get_nowait ? s->ops->get_nowait(s, digest, encoding, len, err)
				  : error_set(err, ERROR_WOULD_BLOCK,
					      "directory %s is at a peer", digest_text(digest));
}

int directory_service_get(struct directory_service *s, const struct digest *digest,
			  struct directory **out, struct error *err)
{
	uint8_t *encoding;
	size_t len;
	int rc = get_stored(s, digest, false, &encoding, &len, err);

	return rc <= 0 ? rc : decode_stored(digest, encoding, len, out, err);
}

int directory_service_get_nowait(struct directory_service *s, const struct digest *digest,
				 struct directory **out, struct error *err)
{
	uint8_t *encoding;
	size_t len;
	int rc = get_stored(s, digest, true, &encoding, &len, err);

	return rc <= 0 ? rc : decode_stored(digest, encoding, len, out, err);
}

int directory_service_get_encoding(struct directory_service *s, const struct digest *digest,
				   bool nowait, uint8_t **encoding, size_t *len,
				   struct error *err)
{
	struct digest found;
	uint8_t *stored;
	size_t n;
	int rc = get_stored(s, digest, nowait, &stored, &n, err);

	if (rc <= 0) {
		return rc;
	}
	digest_of(&found, bytes_of(stored, n));
	if (!digest_equal(&found, digest)) {
		free(stored);
		return wrong_digest(digest, &found, err);
	}
	*encoding = stored;
	*len = n;
	return 1;
}

void directory_service_prefetch(struct directory_service *s, const struct digest *root)
{
	if (s->ops->prefetch) {
		s->ops->prefetch(s, root);
	}
}

bool directory_service_fetches(const struct directory_service *s)
{
	return s->fetches;
}

int directory_service_stored(struct directory_service *s, const struct digest *digest,
			     uint64_t *stored, struct error *err)
{
	return s->ops->stored
		       ? s->ops->stored(s, digest, stored, err)
		       : error_set(err, ERROR_UNSUPPORTED,
				   "this store does not know how much room a directory takes");
}

int directory_service_discard(struct directory_service *s, const struct digest *digest,
			      struct error *err)
{
	return s->ops->discard ? s->ops->discard(s, digest, err)
			       : error_set(err, ERROR_UNSUPPORTED,
					   "this store cannot forget a directory");
}

int directory_service_has(struct directory_service *s, const struct digest *digest,
			  struct error *err)
{
	return s->ops->has(s, digest, err);
}

int directory_service_find_missing(struct directory_service *s, const struct digest *digests,
				   size_t count, bool *missing, struct error *err)
{
	if (s->ops->find_missing) {
		return s->ops->find_missing(s, digests, count, missing, err);
	}
	for (size_t i = 0; i < count; i++) {
		int rc = directory_service_has(s, &digests[i], err);

		if (rc < 0) {
			return rc;
		}
		missing[i] = rc == 0;
	}
	return 0;
}

int directory_service_put(struct directory_service *s, struct directory *d, struct error *err)
{
	return s->ops->put(s, d, err);
}

int directory_service_sync(struct directory_service *s, struct error *err)
{
	return s->ops->sync(s, err);
}

static int get_for_walk(void *context, const struct digest *digest, struct directory **out,
			struct error *err)
{
	return directory_service_get(context, digest, out, err);
}

int directory_service_get_recursive(struct directory_service *s, const struct digest *root,
				    struct closure_walk **out, struct error *err)
{
	int rc = s->ops->gather ? s->ops->gather(s, root, err)
				: directory_service_has(s, root, err);

	if (rc > 0) {
		*out = closure_walk_new(CLOSURE_ROOT_TO_LEAVES, root, get_for_walk, s);
	}
	return rc;
}

int directory_service_put_batch(struct directory_service *s, struct directory_batch **out,
				struct error *err unused)
{
	struct directory_batch *b = xcalloc(1, sizeof(*b));

	b->service = directory_service_ref(s);
	b->validator = closure_validator_new(CLOSURE_LEAVES_TO_ROOT, NULL);
	*out = b;
	return 0;
}

static void refuse(struct directory_batch *b)
{
	closure_validator_free(b->validator);
	b->validator = NULL;
}

static int refused(struct error *err)
{
	return error_set(err, ERROR_INVALID, "the batch was refused before");
}

static int check_limits(const struct directory_batch *b, struct error *err)
{
	if (b->count >= CLOSURE_DIRECTORIES_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %zu directories in one batch",
				 CLOSURE_DIRECTORIES_MAX);
	}
	if (b->memory > BATCH_MEMORY_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %ju bytes in one batch",
				 (uintmax_t)BATCH_MEMORY_MAX);
	}
	return 0;
}

static int keep(struct directory_batch *b, struct directory *d, struct error *err)
{
	if (!digest_map_put(&b->seen, directory_digest(d), 0)) {
		return 0;
	}
	b->memory += directory_memory(d) + KEPT_COST;
	int rc = check_limits(b, err);

	if (rc < 0) {
		return rc;
	}
	if (b->count == b->capacity) {
		b->capacity = MAX(b->capacity * 2, (size_t)16);
		b->directories =
			xrealloc(b->directories, b->capacity * sizeof(*b->directories));
	}
	b->directories[b->count++] = directory_ref(d);
	return 0;
}

int directory_batch_add(struct directory_batch *b, struct directory *d, struct error *err)
{
	if (!b->validator) {
		return refused(err);
	}
	int rc = closure_validator_add(b->validator, d, err);

	if (rc == 0) {
		rc = keep(b, d, err);
	}
	if (rc < 0) {
		refuse(b);
	}
	return rc;
}

uint64_t directory_batch_memory(const struct directory_batch *b)
{
	return b->memory;
}

static int commit(struct directory_batch *b, struct digest *root, struct error *err)
{
	struct digest found;

	if (!b->validator) {
		return refused(err);
	}
	int rc = closure_validator_finish(b->validator, &found, err);

	/* Children first: whoever sees a directory finds what it refers to. */
	for (size_t i = 0; rc == 0 && i < b->count; i++) {
		rc = directory_service_put(b->service, b->directories[i], err);
	}
	if (rc == 0) {
		*root = found;
	}
	return rc;
}

int directory_batch_commit(struct directory_batch *b, struct digest *root, struct error *err)
{
	int rc = commit(b, root, err);

	directory_batch_free(b);
	return rc;
}

void directory_batch_free(struct directory_batch *b)
{
	if (!b) {
		return;
	}
	for (size_t i = 0; i < b->count; i++) {
		directory_unref(b->directories[i]);
	}
	free(b->directories);
	digest_map_done(&b->seen);
	closure_validator_free(b->validator);
	directory_service_unref(b->service);
	free(b);
}
