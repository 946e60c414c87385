#include "probe_store.h"

#include <stdatomic.h>

#include "services/forward.h"

struct probe {
	struct store behind;
	_Atomic unsigned faults;
	_Atomic int code;
	_Atomic unsigned reads;
	_Atomic uint64_t bytes;
	struct forward_blobs blobs;
	struct forward_directories directories;
	struct forward_roots roots;
	struct forward_records records;
};

/* 0, or the failure that was asked for. */
static int visit(struct probe *p, enum probe_fault kind, struct error *err)
{
	if (kind == PROBE_READS) {
		atomic_fetch_add(&p->reads, 1);
	}
	return p->faults & (unsigned)kind
		       ? error_set(err, (enum error_code)p->code, "as the test wants it")
		       : 0;
}

/* ---- Blobs ---- */

static struct probe *of_blobs(struct blob_service *s)
{
	return container_of(s, struct probe, blobs.base);
}

/* The probe is the test's. */
static void keep_blobs(struct blob_service *s unused)
{
}

static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	int rc = visit(of_blobs(s), PROBE_READS, err);

	return rc ? rc : forward_blobs_size(s, digest, size, err);
}

static int blobs_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	int rc = visit(of_blobs(s), PROBE_READS, err);

	return rc ? rc : forward_blobs_open(s, digest, out, err);
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	int rc = visit(of_blobs(s), PROBE_READS, err);

	rc = rc ? rc : forward_blobs_read(s, digest, offset, buf, len, flags, got, err);
	if (rc > 0) {
		atomic_fetch_add(&of_blobs(s)->bytes, *got);
	}
	return rc;
}

static int blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	int rc = visit(of_blobs(s), PROBE_WRITES, err);

	return rc ? rc : forward_blobs_create(s, out, err);
}

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	int rc = visit(of_blobs(s), PROBE_WRITES, err);

	return rc ? rc : forward_blobs_put_hashed(s, content, digest, err);
}

static int blobs_sync(struct blob_service *s, struct error *err)
{
	int rc = visit(of_blobs(s), PROBE_WRITES, err);

	return rc ? rc : forward_blobs_sync(s, err);
}

static const struct blob_service_ops blobs_ops = {
	.name = "probe",
	.verifies_ranges = true,
	.destroy = keep_blobs,
	.size = blobs_size,
	.open = blobs_open,
	.create = blobs_create,
	.put_hashed = blobs_put_hashed,
	.put_file = blob_service_put_file_by_writer,
	.read = blobs_read,
	.chunks = forward_blobs_chunks,
	.count = forward_blobs_count,
	.discard = forward_blobs_discard,
	.sync = blobs_sync,
};

/* ---- Directories ---- */

static struct probe *of_directories(struct directory_service *s)
{
	return container_of(s, struct probe, directories.base);
}

static void keep_directories(struct directory_service *s unused)
{
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	int rc = visit(of_directories(s), PROBE_READS, err);

	return rc ? rc : forward_directories_get(s, digest, encoding, len, err);
}

static int directories_has(struct directory_service *s, const struct digest *digest,
			   struct error *err)
{
	int rc = visit(of_directories(s), PROBE_READS, err);

	return rc ? rc : forward_directories_has(s, digest, err);
}

static int directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	int rc = visit(of_directories(s), PROBE_WRITES, err);

	return rc ? rc : forward_directories_put(s, d, err);
}

static int directories_sync(struct directory_service *s, struct error *err)
{
	int rc = visit(of_directories(s), PROBE_WRITES, err);

	return rc ? rc : forward_directories_sync(s, err);
}

static const struct directory_service_ops directories_ops = {
	.name = "probe",
	.destroy = keep_directories,
	.get = directories_get,
	.has = directories_has,
	.put = directories_put,
	.discard = forward_directories_discard,
	.sync = directories_sync,
};

/* ---- Names ---- */

static struct probe *of_roots(struct root_nodes *r)
{
	return container_of(r, struct probe, roots.base);
}

static void keep_roots(struct root_nodes *r unused)
{
}

static int roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err)
{
	int rc = visit(of_roots(r), PROBE_READS, err);

	return rc ? rc : forward_roots_lookup(r, name, out, err);
}

static int roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visitor,
		      void *context, struct error *err)
{
	int rc = visit(of_roots(r), PROBE_READS, err);

	return rc ? rc : forward_roots_list(r, after, visitor, context, err);
}

static int roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	int rc = visit(of_roots(r), PROBE_WRITES, err);

	return rc ? rc : root_nodes_put(of_roots(r)->roots.inner, name, node, replace, err);
}

static int roots_remove(struct root_nodes *r, struct bytes name, struct error *err)
{
	int rc = visit(of_roots(r), PROBE_WRITES, err);

	return rc ? rc : root_nodes_remove(of_roots(r)->roots.inner, name, err);
}

static const struct root_nodes_ops roots_ops = {
	.name = "probe",
	.may_grow = true,
	.destroy = keep_roots,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

/* ---- Records ---- */

static struct probe *of_records(struct record_table *t)
{
	return container_of(t, struct probe, records.base);
}

static void keep_records(struct record_table *t unused)
{
}

static int records_get(struct record_table *t, struct bytes key, struct buffer *out,
		       struct error *err)
{
	int rc = visit(of_records(t), PROBE_READS, err);

	return rc ? rc : forward_records_get(t, key, out, err);
}

static int records_put(struct record_table *t, const struct record_entry *entries, size_t count,
		       struct error *err)
{
	int rc = visit(of_records(t), PROBE_WRITES, err);

	return rc ? rc : record_table_put(of_records(t)->records.inner, entries, count, err);
}

static int records_remove(struct record_table *t, const struct bytes *keys, size_t count,
			  size_t *removed, struct error *err)
{
	int rc = visit(of_records(t), PROBE_WRITES, err);

	return rc ? rc
		  : record_table_remove_many(of_records(t)->records.inner, keys, count, removed,
					     err);
}

static int records_list(struct record_table *t, struct bytes after, record_visit visitor,
			void *context, struct error *err)
{
	int rc = visit(of_records(t), PROBE_READS, err);

	return rc ? rc : forward_records_list(t, after, visitor, context, err);
}

static const struct record_table_ops records_ops = {
	.name = "probe",
	.destroy = keep_records,
	.get = records_get,
	.put = records_put,
	.remove = records_remove,
	.list = records_list,
};

/* ---- The store ---- */

struct probe *probe_new(struct store *behind)
{
	struct probe *p = xcalloc(1, sizeof(*p));

	store_ref(&p->behind, behind);
	forward_blobs_init(&p->blobs, &blobs_ops, behind->blobs);
	forward_directories_init(&p->directories, &directories_ops, behind->directories);
	forward_roots_init(&p->roots, &roots_ops, behind->roots);
	forward_records_init(&p->records, &records_ops, behind->path_infos);
	return p;
}

void probe_free(struct probe *p)
{
	forward_blobs_done(&p->blobs);
	forward_directories_done(&p->directories);
	forward_roots_done(&p->roots);
	forward_records_done(&p->records);
	store_close(&p->behind);
	free(p);
}

void probe_store(struct probe *p, struct store *out)
{
	*out = (struct store){
		.blobs = blob_service_ref(&p->blobs.base),
		.directories = directory_service_ref(&p->directories.base),
		.roots = root_nodes_ref(&p->roots.base),
		.path_infos = record_table_ref(&p->records.base),
	};
}

void probe_fail(struct probe *p, unsigned faults, enum error_code code)
{
	p->code = (int)code;
	p->faults = faults;
}

unsigned probe_reads(struct probe *p)
{
	return atomic_exchange(&p->reads, 0);
}

uint64_t probe_bytes(struct probe *p)
{
	return atomic_exchange(&p->bytes, 0);
}
