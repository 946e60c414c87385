#include "services/local/name_guard.h"

#include "base/endian.h"
#include "services/mark.h"

#define EPOCH_KEY "gc-epoch"
/* A sweep may go on while trees are looked through. After so many times it has to wait. */
#define LOOKS_WITHOUT_LOCK 3

static uint64_t epoch_of(struct bytes value)
{
	return value.len == 8 ? get_le64(value.ptr) : 0;
}

int epoch_read(struct index *ix, uint64_t *out, struct error *err)
{
	uint8_t value[8] = {0};
	int rc = index_get(ix, INDEX_META, bytes_of_string(EPOCH_KEY), value, sizeof(value),
			   err);

	*out = rc > 0 ? get_le64(value) : 0;
	return MIN(rc, 0);
}

static int epoch_in_write(struct index_write *w, uint64_t *out, struct error *err)
{
	struct bytes value;
	int rc = index_write_get(w, INDEX_META, bytes_of_string(EPOCH_KEY), &value, err);

	*out = rc > 0 ? epoch_of(value) : 0;
	return MIN(rc, 0);
}

int epoch_raise(struct index_write *w, struct error *err)
{
	uint8_t value[8];
	uint64_t epoch;
	int rc = epoch_in_write(w, &epoch, err);

	put_le64(value, epoch + 1);
	return rc ? rc
		  : index_write_put(w, INDEX_META, bytes_of_string(EPOCH_KEY),
				    bytes_of(value, sizeof(value)), true, err);
}

/* ---- Is all of it there? ---- */

static int find_object(void *context, enum node_kind kind, const struct digest *digest,
		       struct error *err)
{
	struct blob_service *blobs = context;
	int rc = kind == NODE_FILE ? blob_service_has(blobs, digest, err) : 0;

	return rc ? MIN(rc, 0)
		  : error_set(err, ERROR_COLLECTED,
			      "%s was collected as garbage while it was needed again; the same "
			      "command will succeed",
			      digest_text(digest));
}

static int find_in_view(struct local_view *v, const struct node *const *trees, size_t count,
			struct error *err)
{
	struct blob_service *blobs cleanup(cleanup_blob_service) =
		local_blobs_new(v, STORE_READ_ONLY);
	struct directory_service *directories cleanup(cleanup_directory_service) =
		local_directories_new(v, true);
	struct mark m;
	int rc = mark_init(&m, 0, err);

	if (rc) {
		return rc;
	}
	m.directories = directories;
	m.met = find_object;
	m.context = blobs;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = trees[i] ? mark_node(&m, trees[i], err) : 0;
	}
	mark_done(&m);
	return rc;
}

/*
 * What other threads still hold back is not looked at: to find it, it would be committed first,
 * and the caller may be the one who holds the index.
 */
static int find_trees(struct local_store *s, const struct node *const *trees, size_t count,
		      struct error *err)
{
	struct local_view committed = s->view;
	struct committer nothing;

	committer_init(&nothing, s, NULL);
	committed.committer = &nothing;
	int rc = find_in_view(&committed, trees, count, err);

	committer_done(&nothing);
	return rc;
}

/* Asker: 1 when nothing was collected since the trees were known to be there. */
static int begin_under(struct logged_write *w, const struct logged_table *table,
		       struct local_store *s, bool read_only, uint64_t epoch, struct error *err)
{
	uint64_t now;
	int rc = logged_write_begin(w, table, s, read_only, err);

	if (rc) {
		return rc;
	}
	rc = epoch_in_write(w->index, &now, err);
	if (rc == 0 && now == epoch) {
		return 1;
	}
	index_write_abort(w->index);
	return rc;
}

static int begin_and_look(struct logged_write *w, const struct logged_table *table,
			  struct local_store *s, bool read_only,
			  const struct node *const *trees, size_t count, struct error *err)
{
	int rc = logged_write_begin(w, table, s, read_only, err);

	if (rc) {
		return rc;
	}
	rc = find_trees(s, trees, count, err);
	if (rc) {
		index_write_abort(w->index);
	}
	return rc;
}

int logged_write_begin_for(struct logged_write *w, const struct logged_table *table,
			   struct local_store *s, bool read_only,
			   const struct node *const *trees, size_t count, struct error *err)
{
	uint64_t epoch = s->epoch;
	int rc = begin_under(w, table, s, read_only, epoch, err);

	for (unsigned looks = 0; rc == 0 && looks < LOOKS_WITHOUT_LOCK; looks++) {
		rc = epoch_read(s->index, &epoch, err);
		if (rc == 0) {
			rc = find_trees(s, trees, count, err);
		}
		if (rc == 0) {
			rc = begin_under(w, table, s, read_only, epoch, err);
		}
	}
	return rc ? MIN(rc, 0) : begin_and_look(w, table, s, read_only, trees, count, err);
}
