/* Making the index again from what it was made of: packs and files. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "castore/outboard.h"
#include "services/local/batch.h"
#include "services/local/large_file.h"
#include "services/local/logged_table.h"
#include "services/local/pack_scan.h"

#define NEW_INDEX "index.new"
#define OLD_INDEX "index.old"
#define ENTRIES_PER_WRITE 16384

/* A change of a table: where its record is, so that many of them need little memory. */
struct found_change {
	const struct logged_table *table;
	uint64_t sequence;
	struct digest digest;
	struct location location;
};

struct rebuild {
	struct local_store *store;
	struct index_write *write;
	size_t entries; /* in this write */
	struct found_change *changes;
	size_t change_count, change_capacity;
	struct buffer content; /* of one compressed record */
	struct store_rebuilt *result;
};

static int next_write(struct rebuild *r, struct error *err)
{
	int rc = 0;

	if (r->write && ++r->entries >= ENTRIES_PER_WRITE) {
		rc = index_write_commit(r->write, err);
		r->write = NULL;
	}
	if (rc == 0 && !r->write) {
		r->entries = 0;
		rc = index_write_begin(r->store->index, &r->write, err);
	}
	return rc;
}

static void keep_change(struct rebuild *r, const struct found_change *change)
{
	if (r->change_count == r->change_capacity) {
		r->change_capacity = r->change_capacity ? r->change_capacity * 2 : 64;
		r->changes = xrealloc(r->changes, r->change_capacity * sizeof(*r->changes));
	}
	r->changes[r->change_count++] = *change;
}

/* Is the plain file of this blob there, in full length, and this its outboard? */
static bool large_blob_present(struct local_store *s, const struct record *rec,
			       struct bytes outboard)
{
	char name[LOCAL_NAME_SIZE];
	struct stat st;

	local_file_name(name, &rec->digest);
	return outboard.len == outboard_encoded_size(rec->size) && outboard.len &&
	       outboard_verify_spans(&rec->digest, rec->size, outboard.ptr) &&
	       fstatat(s->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size == rec->size;
}

static int put_location(struct rebuild *r, enum index_table table, const struct record *rec,
			const struct location *l, struct error *err)
{
	uint8_t value[LOCATION_SIZE], key[8 + DIGEST_SIZE];

	location_encode(value, l);
	int rc = index_write_put(r->write, table, digest_bytes(&rec->digest),
				 bytes_of(value, sizeof(value)), false, err);

	if (rc == 0 && l->kind == LOCATION_FILE) {
		put_be64(key, l->size);
		memcpy(key + 8, rec->digest.bytes, DIGEST_SIZE);
		rc = index_write_put(r->write, INDEX_LARGE_SIZES, bytes_of(key, sizeof(key)),
				     bytes_of(NULL, 0), false, err);
	}
	return rc;
}

static bool payload_matches(const struct record *rec, struct bytes payload)
{
	struct digest actual;

	digest_of(&actual, payload);
	return digest_equal(&actual, &rec->digest);
}

/* Asker: is this a blob or Directory with the digest that the header says? */
static int check_object(struct rebuild *r, const struct record *rec, struct bytes payload,
			struct error *err)
{
	if (rec->encoding == ENCODING_RAW) {
		return rec->size == rec->stored && payload_matches(rec, payload);
	}
	if (rec->encoding != ENCODING_ZSTD) {
		/* To pass it over would lose it from the index. */
		return error_set(err, ERROR_UNSUPPORTED,
				 "%s is stored with encoding %u, unknown to this program",
				 digest_text(&rec->digest), rec->encoding);
	}
	if (!record_lengths_valid(rec->encoding, rec->stored, rec->size)) {
		return 0;
	}
	struct codec *codec = codec_take(&r->store->codecs);
	size_t size = (size_t)rec->size;

	r->content.len = 0;
	int rc =
		codec_decompress(codec, payload, buffer_reserve(&r->content, size), size, NULL);

	codec_give(&r->store->codecs, codec);
	return rc == 0 && payload_matches(rec, bytes_of(r->content.ptr, size));
}

/* False when the payload is not what the header says, or is no change of a table. */
static bool take_change(struct rebuild *r, const struct record *rec, const struct location *l,
			struct bytes payload)
{
	const struct logged_table *table = logged_table_of(rec->kind);
	struct table_change change;

	if (rec->encoding != ENCODING_RAW || rec->size != rec->stored ||
	    !payload_matches(rec, payload) ||
	    table_change_decode(table, payload, &change, NULL) != 0) {
		return false;
	}
	keep_change(r, &(struct found_change){.table = table,
					      .sequence = change.sequence,
					      .digest = rec->digest,
					      .location = *l});
	return true;
}

/* Asker: 0 when the payload is not what the header says. */
static int take_record(struct rebuild *r, const struct record *rec, uint32_t pack,
		       uint64_t offset, struct bytes payload, struct error *err)
{
	struct location l = {.kind = LOCATION_PACK,
			     .encoding = rec->encoding,
			     .pack = pack,
			     .offset = offset,
			     .stored = rec->stored,
			     .size = rec->size};
	int rc = next_write(r, err);

	if (rc) {
		return rc;
	}
	switch (rec->kind) {
	case RECORD_BLOB:
	case RECORD_DIRECTORY:
		rc = check_object(r, rec, payload, err);
		if (rc <= 0) {
			return rc;
		}
		(*(rec->kind == RECORD_BLOB ? &r->result->blobs : &r->result->directories))++;
		rc = put_location(r, rec->kind == RECORD_BLOB ? INDEX_BLOBS : INDEX_DIRECTORIES,
				  rec, &l, err);
		break;
	case RECORD_OUTBOARD:
		if (rec->encoding == ENCODING_RAW &&
		    large_blob_present(r->store, rec, payload)) {
			r->result->blobs++;
			l.kind = LOCATION_FILE;
			rc = put_location(r, INDEX_BLOBS, rec, &l, err);
		}
		break;
	case RECORD_ROOT:
	case RECORD_PATH_INFO:
		return take_change(r, rec, &l, payload);
	}
	return rc ? rc : 1;
}

static int scan_pack(struct rebuild *r, int fd, uint32_t pack, uint64_t size, struct error *err)
{
	struct buffer payload cleanup(buffer_done) = {0};
	uint64_t end = PACK_HEADER_SIZE, offset;
	struct pack_scan scan;
	struct record rec;
	int rc = 0;

	pack_scan_init(&scan, fd, end, size);
	while (rc >= 0 && pack_scan_next(&scan, &rec, &offset)) {
		rc = pack_scan_payload(&scan, &rec, offset, &payload)
			     ? take_record(r, &rec, pack, offset, buffer_bytes(&payload), err)
			     : 0;
		if (rc == 0) {
			pack_scan_reject(&scan, offset);
		}
		end = rc > 0 ? scan.next : end;
	}
	r->result->damaged_bytes += scan.skipped;
	pack_scan_done(&scan);
	return rc < 0 ? rc : index_write_pack_end(r->write, pack, end, err);
}

static int scan_pack_file(void *context, const char *name, uint32_t number, struct error *err)
{
	struct rebuild *r = context;
	uint8_t header[PACK_HEADER_SIZE];
	struct stat st;
	int fd cleanup(cleanup_close) = openat(r->store->dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0) {
		return error_set_errno(err, errno, "cannot open %s/%s", r->store->path, name);
	}
	if (pread_full(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    !pack_header_valid(header, number, r->store->id)) {
		r->result->damaged_bytes += (uint64_t)st.st_size;
		return 0;
	}
	int rc = next_write(r, err);

	return rc ? rc : scan_pack(r, fd, number, (uint64_t)st.st_size, err);
}

static int compare_changes(const void *a, const void *b)
{
	const struct found_change *x = a, *y = b;

	return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* Does the change, and counts by how many entries the table grew. */
static int put_change(struct rebuild *r, const struct logged_table *table,
		      const struct table_change *c, int *grown, struct error *err)
{
	struct bytes old;
	int rc;

	if (c->removal) {
		rc = index_write_delete(r->write, table->table, c->key, err);
		*grown = rc > 0 ? -1 : 0;
		return MIN(rc, 0);
	}
	rc = index_write_get(r->write, table->table, c->key, &old, err);
	*grown = rc == 0 ? 1 : 0;
	return rc < 0 ? rc
		      : index_write_put(r->write, table->table, c->key, c->value, true, err);
}

static int replay_change(struct rebuild *r, const struct found_change *f,
			 struct buffer *payload, struct error *err)
{
	uint64_t *count =
		f->table == &logged_roots ? &r->result->roots : &r->result->path_infos;
	struct table_change change;
	int grown = 0, rc;

	payload->len = 0;
	rc = local_record_read(r->store, &f->location, f->table->record, &f->digest,
			       buffer_reserve(payload, f->location.stored), 0, err);
	if (rc == 0) {
		payload->len = f->location.stored;
		rc = table_change_decode(f->table, buffer_bytes(payload), &change, err);
	}
	if (rc == 0) {
		rc = next_write(r, err);
	}
	if (rc == 0) {
		rc = put_change(r, f->table, &change, &grown, err);
		*count += (uint64_t)grown;
	}
	/* In their order, so that the last one stays. */
	return rc ? rc : logged_table_set_sequence(f->table, r->write, f->sequence, err);
}

/* Replays every change of each table in its order. */
static int replay_changes(struct rebuild *r, struct error *err)
{
	struct buffer payload cleanup(buffer_done) = {0};
	int rc = next_write(r, err);

	if (r->change_count) {
		qsort(r->changes, r->change_count, sizeof(*r->changes), compare_changes);
	}
	for (size_t i = 0; rc == 0 && i < r->change_count; i++) {
		rc = replay_change(r, &r->changes[i], &payload, err);
	}
	return rc;
}

/* In one step where there is an old one, so that at any moment there is an index. */
static int place_index(struct local_store *s)
{
	if (renameat2(s->dirfd, NEW_INDEX, s->dirfd, "index", RENAME_EXCHANGE) == 0) {
		return 0;
	}
	/* ENOENT: it is lost; EINVAL: the file system cannot exchange. */
	if (errno != ENOENT && errno != EINVAL) {
		return -1;
	}
	if (renameat(s->dirfd, "index", s->dirfd, OLD_INDEX) != 0 && errno != ENOENT) {
		return -1;
	}
	return renameat(s->dirfd, NEW_INDEX, s->dirfd, "index");
}

/* Where place_index() left the old one, if there was one, it gets another name. */
static int put_aside(struct local_store *s, const char *aside, struct error *err)
{
	if (renameat(s->dirfd, NEW_INDEX, s->dirfd, aside) == 0 ||
	    (errno == ENOENT &&
	     (renameat(s->dirfd, OLD_INDEX, s->dirfd, aside) == 0 || errno == ENOENT))) {
		return 0;
	}
	return error_set_errno(err, errno, "cannot put the old index of %s aside", s->path);
}

/* aside: where the old one goes, to stay there; NULL: it goes. */
static int swap_index(struct local_store *s, const char *aside, struct error *err)
{
	/* Also what was written without being synced, of which the old index may know. */
	int rc = local_sync_all(s, err);

	if (rc) {
		return rc;
	}
	if (place_index(s) != 0) {
		return error_set_errno(err, errno, "cannot put the new index of %s in place",
				       s->path);
	}
	rc = sync_directory(s->dirfd, err);
	if (rc == 0 && aside) {
		rc = put_aside(s, aside, err);
	}
	if (rc == 0) {
		local_index_remove(s, OLD_INDEX);
		local_index_remove(s, NEW_INDEX);
	}
	return rc;
}

static int fill_index(struct rebuild *r, struct error *err)
{
	int rc = local_packs_visit(r->store, scan_pack_file, r, err);

	if (rc == 0) {
		rc = replay_changes(r, err);
	}
	if (rc == 0) {
		rc = index_write_commit(r->write, err);
		r->write = NULL;
	}
	index_write_abort(r->write);
	free(r->changes);
	buffer_done(&r->content);
	return rc;
}

int local_index_rebuild(struct local_store *s, const char *aside, struct store_rebuilt *out,
			struct error *err)
{
	struct store_rebuilt result = {0};
	struct rebuild r = {.store = s, .result = &result};
	char *index_path cleanup(cleanup_free) = xasprintf("%s/%s", s->path, NEW_INDEX);
	int rc = 0;

	local_index_remove(s, OLD_INDEX);
	local_index_remove(s, NEW_INDEX);
	if (mkdirat(s->dirfd, NEW_INDEX, 0755) != 0) {
		rc = error_set_errno(err, errno, "cannot create %s", index_path);
	}
	if (rc == 0) {
		rc = index_open(&s->index, index_path, INDEX_CREATE, err);
	}
	if (rc == 0) {
		rc = fill_index(&r, err);
	}
	index_close(s->index);
	s->index = NULL;
	if (rc == 0) {
		rc = swap_index(s, aside, err);
	}
	if (rc == 0) {
		*out = result;
	}
	return rc;
}

int local_store_rebuild(const char *path, struct store_rebuilt *out, struct error *err)
{
	struct local_store *s;
	int rc = local_store_open_alone(&s, path, err);

	if (rc == 0) {
		rc = local_index_rebuild(s, NULL, out, err);
		local_store_free(s);
	}
	return rc;
}
