/* DirectoryService of a local store. */

#include "services/local/local_internal.h"

struct local_directories {
	struct directory_service base;
	struct local_view *view;
	bool read_only;
};

static struct local_directories *directories_of(struct directory_service *s)
{
	return container_of(s, struct local_directories, base);
}

static void directories_destroy(struct directory_service *s)
{
	struct local_directories *d = directories_of(s);

	local_view_unref(d->view);
	free(d);
}

static int read_located(struct local_view *view, const struct location *l,
			const struct digest *digest, uint8_t **encoding, size_t *len,
			struct error *err)
{
	if (l->kind != LOCATION_PACK || l->size > DIRECTORY_ENCODING_MAX) {
		return error_set(err, ERROR_CORRUPT, "the index has no directory for %s",
				 digest_text(digest));
	}
	uint8_t *buf = malloc(MAX((size_t)l->size, 1u));

	if (!buf) {
		return error_set(err, ERROR_LIMIT, "no memory to read %s", digest_text(digest));
	}
	int rc = local_record_read(view->store, l, RECORD_DIRECTORY, digest, buf, 0, err);

	if (rc) {
		free(buf);
		return rc;
	}
	*encoding = buf;
	*len = (size_t)l->size;
	return 0;
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	struct local_view *view = directories_of(s)->view;
	struct location l;
	int rc = local_locate(view, INDEX_DIRECTORIES, digest, &l, err);

	while (rc > 0) {
		rc = read_located(view, &l, digest, encoding, len, err);
		if (rc == 0) {
			return 1;
		}
		rc = local_relocate(view, INDEX_DIRECTORIES, digest, &l, rc, err);
	}
	return rc;
}

static int directories_has(struct directory_service *s, const struct digest *digest,
			   struct error *err)
{
	uint64_t size;

	return local_object_size(directories_of(s)->view, INDEX_DIRECTORIES, digest, &size,
				 err);
}

static int directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	struct local_directories *dirs = directories_of(s);
	int rc = local_check_writable(dirs->view->store, dirs->read_only, err);

	if (rc == 0) {
		rc = directories_has(s, directory_digest(d), err);
	}
	if (rc) {
		return rc < 0 ? rc : 0;
	}
	/* Raw: most of it are digests, which nothing can compress. */
	struct bytes encoding = directory_encoding(d);
	struct record r = {.kind = RECORD_DIRECTORY,
			   .encoding = ENCODING_RAW,
			   .stored = (uint32_t)encoding.len,
			   .size = encoding.len,
			   .digest = *directory_digest(d)};

	return committer_add(dirs->view->committer, &r, encoding, err);
}

static int directories_stored(struct directory_service *s, const struct digest *digest,
			      uint64_t *stored, struct error *err)
{
	return local_object_stored(directories_of(s)->view, INDEX_DIRECTORIES, digest, stored,
				   err);
}

static int directories_discard(struct directory_service *s, const struct digest *digest,
			       struct error *err)
{
	struct local_directories *d = directories_of(s);
	int rc = local_check_writable(d->view->store, d->read_only, err);

	return rc ? rc : local_object_discard(d->view, INDEX_DIRECTORIES, digest, err);
}

static int directories_sync(struct directory_service *s, struct error *err)
{
	return local_view_sync(directories_of(s)->view, err);
}

static const struct directory_service_ops directory_ops = {
	.name = "file",
	.destroy = directories_destroy,
	.get = directories_get,
	.get_nowait = directories_get,
	.has = directories_has,
	.put = directories_put,
	.stored = directories_stored,
	.discard = directories_discard,
	.sync = directories_sync,
};

struct directory_service *local_directories_new(struct local_view *v, bool read_only)
{
	struct local_directories *d = xcalloc(1, sizeof(*d));

	directory_service_init(&d->base, &directory_ops);
	d->view = local_view_ref(v);
	d->read_only = read_only;
	return &d->base;
}
