/* The repair of objects: out of use, and back from where their content is still to be had. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/large_file.h"
#include "services/local/repair.h"

#define PIECE_SIZE ((size_t)1 << 20)
/* A record whose header is damaged is as long as the index says, which may be wrong too. */
#define SALVAGE_MAX ((uint64_t)256 << 20)

struct wanted {
	struct digest digest;
	bool is_directory;
};

struct objects {
	struct repair *repair;
	struct local_store *store;
	struct blob_service *blobs;
	struct directory_service *directories;
	struct wanted *wanted; /* missing, to be fetched */
	size_t count;
	size_t fetched, lost;
};

static const char *kind_of(bool is_directory)
{
	return is_directory ? "Directory" : "blob";
}

static void want(struct objects *o, const struct digest *digest, bool is_directory)
{
	if ((o->count & (o->count - 1)) == 0) {
		o->wanted =
			xrealloc(o->wanted, MAX(2 * o->count, (size_t)1) * sizeof(*o->wanted));
	}
	o->wanted[o->count++] =
		(struct wanted){.digest = *digest, .is_directory = is_directory};
}

/* Asker: is it there now? */
static int present(struct objects *o, const struct digest *digest, bool is_directory,
		   struct error *err)
{
	return is_directory ? directory_service_has(o->directories, digest, err)
			    : blob_service_has(o->blobs, digest, err);
}

/* ---- from what is left here ---- */

/* Asker: puts bytes that have the digest; 0 when they have not. */
static int put_content(struct objects *o, const struct wanted *w, struct bytes content,
		       struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct digest actual;
	int rc;

	digest_of(&actual, content);
	if (!digest_equal(&actual, &w->digest)) {
		return 0;
	}
	if (!w->is_directory) {
		rc = blob_service_put_hashed(o->blobs, content, &w->digest, err);
		return rc ? rc : 1;
	}
	if (directory_decode(content, &d, NULL) != 0) {
		return 0;
	}
	rc = directory_service_put(o->directories, d, err);
	return rc ? rc : 1;
}

/* The payload of a record, as it lies there; kept aside as well. False: it cannot be read. */
static bool read_record(struct objects *o, const struct wanted *w, const struct location *l,
			struct buffer *record)
{
	char name[LOCAL_NAME_SIZE], hex[DIGEST_HEX_SIZE], kept[96];
	uint64_t len = RECORD_HEADER_SIZE + l->stored;

	local_pack_name(name, l->pack);
	int fd cleanup(cleanup_close) = openat(o->store->dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || len > SALVAGE_MAX) {
		return false;
	}
	ssize_t n = pread_full(fd, buffer_reserve(record, (size_t)len), (size_t)len,
			       (off_t)l->offset);

	record->len = n > 0 ? (size_t)n : 0;
	digest_to_hex(hex, &w->digest);
	snprintf(kept, sizeof(kept), "%s.record", hex);
	return record->len == len &&
	       repair_keep(o->repair, kept, buffer_bytes(record), NULL) == 0;
}

/* Asker: from a record of which perhaps only the header is damaged. */
static int salvage_record(struct objects *o, const struct wanted *w, const struct location *l,
			  const struct buffer *record, struct error *err)
{
	struct bytes payload = bytes_of(record->ptr + RECORD_HEADER_SIZE, l->stored);

	if (l->encoding == ENCODING_RAW) {
		return put_content(o, w, payload, err);
	}
	if (l->encoding != ENCODING_ZSTD || l->size > CODEC_CONTENT_MAX) {
		return 0;
	}
	uint8_t *content cleanup(cleanup_free) = xmalloc((size_t)l->size + 1);
	struct codec *codec = codec_take(&o->store->codecs);
	int rc = codec_decompress(codec, payload, content, (size_t)l->size, NULL);

	codec_give(&o->store->codecs, codec);
	return rc ? 0 : put_content(o, w, bytes_of(content, (size_t)l->size), err);
}

/* Asker: is this what the file holds? */
static int file_has(int fd, const struct digest *digest, uint64_t *size)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(PIECE_SIZE);
	struct hasher *h = hasher_new();
	struct digest actual;
	ssize_t n;

	*size = 0;
	while ((n = pread_full(fd, buf, PIECE_SIZE, (off_t)*size)) > 0) {
		hasher_update(h, bytes_of(buf, (size_t)n));
		*size += (uint64_t)n;
	}
	hasher_finish(h, &actual);
	hasher_free(h);
	return n == 0 && digest_equal(&actual, digest);
}

/*
 * The file of a large blob goes aside. Asker: 1 when its content is right, so that only its
 * outboard was damaged, and it was put again.
 */
static int salvage_file(struct objects *o, const struct wanted *w, struct error *err)
{
	struct repair *r = o->repair;
	char name[LOCAL_NAME_SIZE], hex[DIGEST_HEX_SIZE];
	struct digest put;
	uint64_t size;
	int rc = repair_make_quarantine(r, err);

	if (rc) {
		return rc;
	}
	digest_to_hex(hex, &w->digest);
	char *aside cleanup(cleanup_free) = xasprintf("%s/%s", r->quarantine, hex);

	local_file_name(name, &w->digest);
	if (renameat(r->dirfd, name, r->dirfd, aside) != 0) {
		return errno == ENOENT ? 0
				       : error_set_errno(err, errno, "cannot move %s/%s aside",
							 r->path, name);
	}
	int fd cleanup(cleanup_close) = openat(r->dirfd, aside, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || !file_has(fd, &w->digest, &size)) {
		return 0;
	}
	rc = blob_service_put_file(o->blobs, fd, size, NULL, &put, err);
	if (rc == 0) {
		/* The very same is in use again. */
		unlinkat(r->dirfd, aside, 0);
	}
	return rc ? rc : 1;
}

/* Out of the index, and back if what is left of it suffices. */
static int repair_damaged(struct objects *o, const struct wanted *w, struct error *err)
{
	enum index_table table = w->is_directory ? INDEX_DIRECTORIES : INDEX_BLOBS;
	struct buffer record cleanup(buffer_done) = {0};
	struct location l;
	int rc = local_locate(&o->store->view, table, &w->digest, &l, err);

	if (rc < 0 && err->code != ERROR_CORRUPT && err->code != ERROR_UNSUPPORTED) {
		return rc;
	}
	bool located = rc > 0;
	bool whole = located && l.kind == LOCATION_PACK && read_record(o, w, &l, &record);

	rc = local_object_discard(&o->store->view, table, &w->digest, err);
	if (rc < 0) {
		return rc;
	}
	repair_tell(o->repair, "took damaged %s %s out of use", kind_of(w->is_directory),
		    digest_text(&w->digest));
	rc = !located                  ? 0
	     : l.kind == LOCATION_FILE ? salvage_file(o, w, err)
	     : whole                   ? salvage_record(o, w, &l, &record, err)
				       : 0;
	if (rc > 0) {
		repair_tell(o->repair, "put it again from what was left of it");
	} else if (rc == 0) {
		want(o, &w->digest, w->is_directory);
	}
	return MIN(rc, 0);
}

/* ---- from another store ---- */

static int copy_blob(struct objects *o, struct blob_reader *in, struct digest *out,
		     struct error *err)
{
	uint8_t *buf cleanup(cleanup_free) = xmalloc(PIECE_SIZE);
	uint64_t size = blob_reader_size(in);
	struct blob_writer *w;
	int rc = blob_service_create(o->blobs, &w, err);

	if (rc) {
		return rc;
	}
	for (uint64_t at = 0; rc == 0 && at < size;) {
		size_t got = 0;

		rc = blob_reader_pread(in, buf, PIECE_SIZE, at, &got, err);
		if (rc == 0 && got == 0) {
			rc = error_set(err, ERROR_CORRUPT, "the blob is shorter than it was");
		}
		rc = rc ? rc : blob_writer_write(w, bytes_of(buf, got), err);
		at += got;
	}
	if (rc) {
		blob_writer_free(w);
		return rc;
	}
	return blob_writer_commit(w, out, NULL, err);
}

/* Asker. */
static int fetch_blob(struct objects *o, const struct digest *digest, struct error *err)
{
	struct blob_reader *in cleanup(cleanup_blob_reader) = NULL;
	struct digest got;
	int rc = blob_service_open(o->repair->options->from->blobs, digest, &in, err);

	if (rc <= 0) {
		return rc;
	}
	rc = copy_blob(o, in, &got, err);
	if (rc == 0 && !digest_equal(&got, digest)) {
		rc = error_set(err, ERROR_CORRUPT, "what was fetched is not %s",
			       digest_text(digest));
	}
	return rc ? rc : 1;
}

/* Asker. What is below it may be lost as well. */
static int fetch_directory(struct objects *o, const struct digest *digest, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	int rc = directory_service_get(o->repair->options->from->directories, digest, &d, err);

	if (rc <= 0) {
		return rc;
	}
	rc = directory_service_put(o->directories, d, err);
	for (size_t i = 0; rc == 0 && i < directory_count(d); i++) {
		struct directory_entry e;

		directory_entry(d, i, &e);
		if (e.node.kind == NODE_SYMLINK) {
			continue;
		}
		bool is_directory = e.node.kind == NODE_DIRECTORY;

		rc = present(o, &e.node.digest, is_directory, err);
		if (rc == 0) {
			want(o, &e.node.digest, is_directory);
		}
		rc = MIN(rc, 0);
	}
	return rc ? rc : 1;
}

static int fetch(struct objects *o, const struct wanted *w, struct error *err)
{
	struct error why = {0};
	int rc = present(o, &w->digest, w->is_directory, err);

	if (rc != 0) {
		return MIN(rc, 0);
	}
	if (o->repair->options->from) {
		rc = w->is_directory ? fetch_directory(o, &w->digest, &why)
				     : fetch_blob(o, &w->digest, &why);
	}
	if (rc > 0) {
		o->fetched++;
		return 0;
	}
	/* The next one may be there. */
	repair_tell(o->repair, "cannot get %s %s: %s", kind_of(w->is_directory),
		    digest_text(&w->digest),
		    rc < 0                     ? why.text
		    : o->repair->options->from ? "the other store has it not"
					       : "there is no other store (--from)");
	o->lost++;
	return 0;
}

static int repair_each(struct objects *o, const struct store_check_report *faults,
		       struct error *err)
{
	const atomic_bool *cancel = o->repair->options->check.cancel;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < faults->fault_count; i++) {
		const struct store_fault *f = &faults->faults[i];
		struct wanted w = {.digest = f->digest, .is_directory = f->is_directory};

		if (f->kind == STORE_FAULT_OBJECT || f->kind == STORE_FAULT_FILE) {
			rc = repair_damaged(o, &w, err);
		} else if (f->kind == STORE_FAULT_MISSING) {
			want(o, &w.digest, w.is_directory);
		}
	}
	while (rc == 0 && o->count) {
		struct wanted w = o->wanted[--o->count];

		rc = cancel && atomic_load(cancel)
			     ? error_set(err, ERROR_CANCELED, "interrupted")
			     : fetch(o, &w, err);
	}
	return rc ? rc : blob_service_sync(o->blobs, err);
}

int repair_objects(struct repair *r, struct local_store *s,
		   const struct store_check_report *faults, struct error *err)
{
	struct objects o = {.repair = r,
			    .store = s,
			    .blobs = local_blobs_new(&s->view, 0),
			    .directories = local_directories_new(&s->view, false)};
	int rc = repair_each(&o, faults, err);

	if (o.fetched) {
		repair_tell(r, "fetched %zu objects", o.fetched);
	}
	blob_service_unref(o.blobs);
	directory_service_unref(o.directories);
	free(o.wanted);
	return rc;
}
