#include "services/read_only.h"

#include "services/forward.h"

static int denied(struct error *err)
{
	return error_set(err, ERROR_DENIED, "this store is for reading only");
}

/* ---- Blobs ---- */

static void blobs_destroy(struct blob_service *s)
{
	struct forward_blobs *f = container_of(s, struct forward_blobs, base);

	forward_blobs_done(f);
	free(f);
}

static int blobs_create(struct blob_service *s unused, struct blob_writer **out unused,
			struct error *err)
{
	return denied(err);
}

static int blobs_put_hashed(struct blob_service *s unused, struct bytes content unused,
			    const struct digest *digest unused, struct error *err)
{
	return denied(err);
}

static int blobs_put_file(struct blob_service *s unused, int fd unused, uint64_t size unused,
			  struct blob_watch *watch unused, struct digest *out unused,
			  struct error *err)
{
	return denied(err);
}

static int blobs_discard(struct blob_service *s unused, const struct digest *digest unused,
			 struct error *err)
{
	return denied(err);
}

/* Nothing was put. */
static int blobs_sync(struct blob_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct blob_service_ops blobs_ops = {
	.name = "read-only",
	.verifies_ranges = true,
	.destroy = blobs_destroy,
	.has = forward_blobs_has,
	.size = forward_blobs_size,
	.open = forward_blobs_open,
	.create = blobs_create,
	.put_hashed = blobs_put_hashed,
	.put_file = blobs_put_file,
	.read = forward_blobs_read,
	.chunks = forward_blobs_chunks,
	.find_missing = forward_blobs_find_missing,
	.get_many = forward_blobs_get_many,
	.count = forward_blobs_count,
	.stored = forward_blobs_stored,
	.discard = blobs_discard,
	.sync = blobs_sync,
};

/* ---- Directories ---- */

static void directories_destroy(struct directory_service *s)
{
	struct forward_directories *f = container_of(s, struct forward_directories, base);

	forward_directories_done(f);
	free(f);
}

static int directories_put(struct directory_service *s unused, struct directory *d unused,
			   struct error *err)
{
	return denied(err);
}

static int directories_discard(struct directory_service *s unused,
			       const struct digest *digest unused, struct error *err)
{
	return denied(err);
}

static int directories_sync(struct directory_service *s unused, struct error *err unused)
{
	return 0;
}

static const struct directory_service_ops directories_ops = {
	.name = "read-only",
	.destroy = directories_destroy,
	.get = forward_directories_get,
	.get_nowait = forward_directories_get_nowait,
	.has = forward_directories_has,
	.find_missing = forward_directories_find_missing,
	.put = directories_put,
	.prefetch = forward_directories_prefetch,
	.gather = forward_directories_gather,
	.stored = forward_directories_stored,
	.discard = directories_discard,
	.sync = directories_sync,
};

/* ---- Roots ---- */

static void roots_destroy(struct root_nodes *r)
{
	struct forward_roots *f = container_of(r, struct forward_roots, base);

	forward_roots_done(f);
	free(f);
}

static int roots_put(struct root_nodes *r unused, struct bytes name unused,
		     const struct node *node unused, bool replace unused, struct error *err)
{
	return denied(err);
}

static int roots_remove(struct root_nodes *r unused, struct bytes name unused,
			struct error *err)
{
	return denied(err);
}

/* Others may write to the store behind this one. */
static const struct root_nodes_ops roots_ops = {
	.name = "read-only",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = forward_roots_lookup,
	.list = forward_roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

/* ---- Records ---- */

static void records_destroy(struct record_table *t)
{
	struct forward_records *f = container_of(t, struct forward_records, base);

	forward_records_done(f);
	free(f);
}

static int records_put(struct record_table *t unused, const struct record_entry *entries unused,
		       size_t count unused, struct error *err)
{
	return denied(err);
}

static int records_remove(struct record_table *t unused, const struct bytes *keys unused,
			  size_t count unused, size_t *removed unused, struct error *err)
{
	return denied(err);
}

static const struct record_table_ops records_ops = {
	.name = "read-only",
	.destroy = records_destroy,
	.get = forward_records_get,
	.put = records_put,
	.remove = records_remove,
	.list = forward_records_list,
};

/* ---- The store ---- */

static int stager_begin(struct stager *g unused, struct store *staged unused, struct error *err)
{
	return denied(err);
}

static void stager_free(struct stager *g)
{
	free(g);
}

static const struct stager_ops stager_ops = {
	.begin = stager_begin,
	.free = stager_free,
};

void read_only_store(struct store *out, const struct store *inner)
{
	struct forward_blobs *blobs = xcalloc(1, sizeof(*blobs));
	struct forward_directories *directories = xcalloc(1, sizeof(*directories));
	struct forward_roots *roots = xcalloc(1, sizeof(*roots));
	struct forward_records *records = xcalloc(1, sizeof(*records));
	struct stager *stager = xcalloc(1, sizeof(*stager));

	forward_blobs_init(blobs, &blobs_ops, inner->blobs);
	forward_directories_init(directories, &directories_ops, inner->directories);
	forward_roots_init(roots, &roots_ops, inner->roots);
	forward_records_init(records, &records_ops, inner->path_infos);
	stager_init(stager, &stager_ops);
	*out = (struct store){
		.blobs = &blobs->base,
		.directories = &directories->base,
		.roots = &roots->base,
		.path_infos = &records->base,
		.stager = stager,
	};
}
