#include "services/local/batch.h"

#include <unistd.h>

#include "base/endian.h"
#include "services/local/local_internal.h"

struct batch *batch_new(uint64_t number)
{
	struct batch *b = xcalloc(1, sizeof(*b));

	b->number = number;
	b->pack_fd = -1;
	return b;
}

void batch_free(struct batch *b, int store_dirfd)
{
	if (!b) {
		return;
	}
	for (size_t i = 0; i < b->file_count; i++) {
		if (b->files[i].temporary) {
			unlinkat(store_dirfd, b->files[i].temporary, 0);
			free(b->files[i].temporary);
		}
	}
	if (b->close_pack && b->pack_fd >= 0) {
		close(b->pack_fd);
	}
	digest_map_done(&b->blobs);
	digest_map_done(&b->directories);
	buffer_done(&b->held);
	buffer_done(&b->seen);
	free(b->entries);
	free(b->files);
	free(b);
}

static const struct digest_map *map_of(const struct batch *b, enum index_table table)
{
	return table == INDEX_BLOBS ? &b->blobs : &b->directories;
}

ssize_t batch_find(const struct batch *b, enum index_table table, const struct digest *digest)
{
	const uint64_t *at = b ? digest_map_get(map_of(b, table), digest) : NULL;

	return at ? (ssize_t)*at : -1;
}

void batch_add(struct batch *b, enum index_table table, const struct digest *digest,
	       const struct location *location)
{
	struct digest_map *map = table == INDEX_BLOBS ? &b->blobs : &b->directories;

	if (b->count == b->capacity) {
		b->capacity = b->capacity ? b->capacity * 2 : 256;
		b->entries = xrealloc(b->entries, b->capacity * sizeof(*b->entries));
	}
	digest_map_put(map, digest, b->count);
	b->entries[b->count++] =
		(struct pending){.table = table, .digest = *digest, .location = *location};
	b->bytes += location->kind == LOCATION_FILE ? location->size : location->stored;
}

void batch_add_file(struct batch *b, const struct digest *digest, const char *temporary)
{
	if (b->file_count == b->file_capacity) {
		b->file_capacity = b->file_capacity ? b->file_capacity * 2 : 64;
		b->files = xrealloc(b->files, b->file_capacity * sizeof(*b->files));
	}
	b->files[b->file_count++] =
		(struct pending_file){.digest = *digest, .temporary = xstrdup(temporary)};
}

bool batch_full(const struct batch *b)
{
	return b->count >= COMMIT_OBJECTS || b->bytes >= COMMIT_BYTES ||
	       b->file_count >= COMMIT_FILES ||
	       b->seen.len >= 4 * COMMIT_OBJECTS * (SEEN_KEY_SIZE + SEEN_VALUE_SIZE);
}

static int place_files(struct batch *b, struct local_store *s, bool singly, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < b->file_count; i++) {
		struct pending_file *f = &b->files[i];

		rc = local_file_place(s, f->temporary, &f->digest, singly, err);
		if (rc == 0) {
			free(f->temporary);
			f->temporary = NULL;
		}
	}
	for (size_t i = 0; rc == 0 && singly && i < b->file_count; i++) {
		rc = local_file_sync_name(s, &b->files[i].digest, err);
	}
	return rc;
}

static int make_durable(struct batch *b, struct local_store *s, struct error *err)
{
	bool singly = b->file_count <= FILES_SYNCED_SINGLY;
	int rc = place_files(b, s, singly, err);

	if (rc) {
		return rc;
	}
	if (!singly) {
		return local_sync_all(s, err);
	}
	return b->pack_fd < 0 ? 0 : local_pack_sync(s, b->pack_fd, err);
}

static int compare_pending(const void *a, const void *b)
{
	const struct pending *const *p = a, *const *q = b;
	const struct pending *x = *p, *y = *q;

	return x->table != y->table ? (x->table > y->table) - (x->table < y->table)
				    : digest_compare(&x->digest, &y->digest);
}

/*
 * The entries in key order, so that each page of the index is visited once; malloc'd. The
 * entries themselves stay where the maps say: others look things up meanwhile.
 */
static const struct pending **sorted_entries(const struct batch *b)
{
	const struct pending **order = xmalloc(b->count * sizeof(*order));

	for (size_t i = 0; i < b->count; i++) {
		order[i] = &b->entries[i];
	}
	if (b->count) {
		qsort(order, b->count, sizeof(*order), compare_pending);
	}
	return order;
}

int index_write_pack_end(struct index_write *w, uint64_t number, uint64_t end,
			 struct error *err)
{
	uint8_t key[8], value[8];
	struct bytes old;

	put_be64(key, number);
	put_le64(value, end);
	int rc = index_write_get(w, INDEX_PACKS, bytes_of(key, 8), &old, err);

	if (rc > 0 && old.len == 8 && get_le64(old.ptr) >= end) {
		return 0;
	}
	return rc < 0 ? rc
		      : index_write_put(w, INDEX_PACKS, bytes_of(key, 8), bytes_of(value, 8),
					true, err);
}

int index_write_object(struct index_write *w, enum index_table table,
		       const struct digest *digest, const struct location *l, struct error *err)
{
	uint8_t value[LOCATION_SIZE];

	location_encode(value, l);
	int rc = index_write_put(w, table, digest_bytes(digest), bytes_of(value, sizeof(value)),
				 false, err);

	if (rc == 0 && l->kind == LOCATION_FILE) {
		uint8_t key[8 + DIGEST_SIZE];

		put_be64(key, l->size);
		memcpy(key + 8, digest->bytes, DIGEST_SIZE);
		rc = index_write_put(w, INDEX_LARGE_SIZES, bytes_of(key, sizeof(key)),
				     bytes_of(NULL, 0), false, err);
	}
	return rc;
}

int batch_write(const struct batch *b, struct index_write *w, struct error *err)
{
	const struct pending **order cleanup(cleanup_free) = sorted_entries(b);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < b->count; i++) {
		const struct pending *p = order[i];

		rc = index_write_object(w, p->table, &p->digest, &p->location, err);
	}
	for (size_t at = 0; rc == 0 && at < b->seen.len;
	     at += SEEN_KEY_SIZE + SEEN_VALUE_SIZE) {
		rc = index_write_put(
			w, INDEX_SEEN, bytes_of(b->seen.ptr + at, SEEN_KEY_SIZE),
			bytes_of(b->seen.ptr + at + SEEN_KEY_SIZE, SEEN_VALUE_SIZE), true, err);
	}
	if (rc == 0 && b->pack_fd >= 0) {
		rc = index_write_pack_end(w, b->pack_number, b->pack_end, err);
	}
	return rc;
}

int batch_commit(struct batch *b, struct local_store *s, struct error *err)
{
	struct index_write *w;
	int rc = make_durable(b, s, err);

	if (rc) {
		return rc;
	}
	rc = durable_write_begin(s, false, &w, err);
	if (rc < 0) {
		return rc;
	}
	rc = 0;
	for (size_t i = 0; rc == 0 && i < b->file_count; i++) {
		rc = local_file_check_placed(s, &b->files[i].digest, err);
	}
	if (rc == 0) {
		rc = batch_write(b, w, err);
	}
	if (rc) {
		index_write_abort(w);
		return rc;
	}
	rc = index_write_commit(w, err);
	if (rc == 0 && b->pack_fd >= 0 && s->lease.long_lived) {
		lease_note_writes(&s->lease, s->dirfd, b->pack_number, b->pack_end);
	}
	return rc;
}
