/*
 * The check of every object: the entry of the index, the record that it leads to, the plain
 * file, and (if so wished) every byte. Entries are taken many at a time and looked at in the
 * order in which they lie on the disk, by several threads.
 */

#include <stdio.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/thread.h"
#include "castore/outboard.h"
#include "services/local/check.h"
#include "services/local/large_file.h"

#define ENTRIES_AT_ONCE ((size_t)1 << 18)
#define THREADS_MAX 8u
#define PIECE_SIZE ((size_t)1 << 20)
#define GROUPS_PER_SPAN (OUTBOARD_SPAN / OUTBOARD_GROUP)
#define LOOKS_MAX 4
#define CANCEL_EACH 64u

struct entry {
	struct digest digest;
	struct location location;
};

struct object_check {
	struct check *check;
	enum index_table table;
	struct entry *entries;
	size_t count;
	_Atomic size_t next; /* entries are given out in runs */
	struct digest last;  /* key of the last entry read */
	bool more;
	atomic_bool failed;
};

struct worker {
	struct object_check *objects;
	pthread_t thread;
	struct buffer content;
	struct error err;
	int rc;
	bool started;
	bool index_wrong; /* what was found last is the fault of the index */
};

/* Is the content of this object to be read? */
static bool is_selected(const struct check *c, const struct digest *digest)
{
	const struct store_check_options *o = c->options;

	return o->read_data &&
	       (o->subset_count <= 1 || digest_hash(digest) % o->subset_count == o->subset - 1);
}

static enum record_kind record_of(enum index_table table, const struct location *l)
{
	if (l->kind == LOCATION_FILE) {
		return RECORD_OUTBOARD;
	}
	return table == INDEX_BLOBS ? RECORD_BLOB : RECORD_DIRECTORY;
}

/* ---- one object ---- */

static int check_end(struct check *c, const struct digest *digest, const struct location *l,
		     struct error *err)
{
	const struct checked_pack *pack = check_find_pack(c, l->pack);
	uint8_t key[8], value[8];
	uint64_t end = pack ? pack->end : 0, last = l->offset + record_total(l->stored);
	int rc = 1;

	if (last > end) {
		/* The pack may have grown, or come, since the packs were listed. */
		put_be64(key, l->pack);
		rc = index_get(c->store->index, INDEX_PACKS, bytes_of(key, 8), value, 8, err);
		end = rc > 0 ? get_le64(value) : 0;
	}
	if (rc < 0) {
		return rc;
	}
	return last <= end ? 0
			   : error_set(err, ERROR_CORRUPT,
				       "the index has %s beyond the committed end of pack %08x",
				       digest_text(digest), l->pack);
}

static int check_content(struct worker *w, enum index_table table, const struct digest *digest,
			 const struct location *l, struct error *err)
{
	struct check *c = w->objects->check;
	struct digest actual;

	if (l->encoding != ENCODING_RAW && l->encoding != ENCODING_ZSTD) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "%s is stored with encoding %u, unknown to this program",
				 digest_text(digest), l->encoding);
	}
	if (l->size > (table == INDEX_BLOBS ? CODEC_CONTENT_MAX : DIRECTORY_ENCODING_MAX)) {
		return error_set(err, ERROR_CORRUPT, "%s has an impossible size",
				 digest_text(digest));
	}
	w->content.len = 0;
	buffer_reserve(&w->content, (size_t)l->size);
	int rc = local_record_read(c->store, l, record_of(table, l), digest, w->content.ptr, 0,
				   err);

	if (rc == 0) {
		digest_of(&actual, bytes_of(w->content.ptr, (size_t)l->size));
		check_count(c, 0, l->size);
		if (!digest_equal(&actual, digest)) {
			rc = error_set(
				err, ERROR_CORRUPT, "%s is damaged in pack %08x at offset %llu",
				digest_text(digest), l->pack, (unsigned long long)l->offset);
		}
	}
	return rc;
}

/* The values of all groups against those of their spans, which were checked when it was opened.
 */
static int check_outboard(struct check *c, const struct cached_file *f,
			  const struct location *l, struct error *err)
{
	uint8_t values[GROUPS_PER_SPAN * DIGEST_SIZE];
	uint64_t groups = outboard_group_count(l->size), spans = outboard_span_count(l->size);
	int rc = 0;

	for (uint64_t span = 0; rc == 0 && span < spans; span++) {
		uint64_t first = span * GROUPS_PER_SPAN;

		rc = large_file_outboard(c->store, l, spans + first,
					 (size_t)MIN(GROUPS_PER_SPAN, groups - first), values,
					 err);
		if (rc == 0 && !outboard_verify_span(l->size, span,
						     f->spans + span * DIGEST_SIZE, values)) {
			rc = error_set(err, ERROR_CORRUPT,
				       "the outboard of %s in pack %08x is damaged",
				       digest_text(&f->key), l->pack);
		}
	}
	return rc;
}

static int read_file(struct worker *w, struct cached_file *f, const struct location *l,
		     struct error *err)
{
	struct check *c = w->objects->check;
	int rc = 0;

	w->content.len = 0;
	buffer_reserve(&w->content, PIECE_SIZE);
	for (uint64_t at = 0; rc == 0 && at < l->size; at += PIECE_SIZE) {
		size_t len = (size_t)MIN(PIECE_SIZE, l->size - at);

		rc = large_file_read(c->store, f, l, w->content.ptr, len, at, 0, err);
		if (rc == 0) {
			check_count(c, 0, len);
			rc = check_canceled(c, err);
		}
	}
	return rc;
}

static int check_file(struct worker *w, const struct digest *digest, const struct location *l,
		      struct error *err)
{
	struct check *c = w->objects->check;
	uint8_t key[8 + DIGEST_SIZE], none;
	struct cached_file *f;

	put_be64(key, l->size);
	memcpy(key + 8, digest->bytes, DIGEST_SIZE);
	int rc = index_get(c->store->index, INDEX_LARGE_SIZES, bytes_of(key, sizeof(key)),
			   &none, 0, err);

	if (rc == 0) {
		w->index_wrong = true;
		return error_set(err, ERROR_CORRUPT,
				 "the index lacks the size of large blob %s",
				 digest_text(digest));
	}
	rc = rc < 0 ? rc : large_file_open(&c->store->view, digest, l, &f, err);
	if (rc) {
		return rc;
	}
	rc = check_outboard(c, f, l, err);
	if (rc == 0 && is_selected(c, digest)) {
		rc = read_file(w, f, l, err);
	}
	file_cache_release(c->store->view.files, f);
	/* What other processes do to it counts, and not what is still open. */
	file_cache_forget(c->store->view.files, digest);
	return rc;
}

static int check_located(struct worker *w, enum index_table table, const struct digest *digest,
			 const struct location *l, struct error *err)
{
	struct check *c = w->objects->check;
	int rc = check_end(c, digest, l, err);

	if (rc == 0 && table == INDEX_DIRECTORIES && l->kind != LOCATION_PACK) {
		rc = error_set(err, ERROR_CORRUPT, "the index says that Directory %s is a file",
			       digest_text(digest));
	}
	w->index_wrong = rc != 0;
	if (rc == 0 && l->kind == LOCATION_PACK && is_selected(c, digest)) {
		return check_content(w, table, digest, l, err);
	}
	if (rc == 0) {
		rc = local_record_check(c->store, l, record_of(table, l), digest, err);
	}
	return rc || l->kind == LOCATION_PACK ? rc : check_file(w, digest, l, err);
}

/* Where is it now? Asker. */
static int look_again(struct object_check *o, const struct digest *digest, struct location *l,
		      struct error *err)
{
	uint8_t value[LOCATION_SIZE];
	int rc = index_get(o->check->store->index, o->table, digest_bytes(digest), value,
			   sizeof(value), err);

	if (rc > 0) {
		rc = location_decode(value, l, err);
		return rc ? rc : 1;
	}
	return rc;
}

static bool same_place(const struct location *a, const struct location *b)
{
	return a->kind == b->kind && a->pack == b->pack && a->offset == b->offset &&
	       a->stored == b->stored && a->size == b->size && a->encoding == b->encoding;
}

/* Until it is right, gone, or wrong where the index has it. */
static int check_entry(struct worker *w, const struct entry *e)
{
	struct object_check *o = w->objects;
	struct location l = e->location, now;
	struct error why;

	for (unsigned looks = 0; looks < LOOKS_MAX; looks++) {
		int rc = check_located(w, o->table, &e->digest, &l, &why);

		if (rc == 0) {
			return 0;
		}
		if (why.code == ERROR_CANCELED) {
			w->err = why;
			return rc;
		}
		rc = look_again(o, &e->digest, &now, &w->err);
		if (rc <= 0) {
			return rc;
		}
		/* A pack that went may have left its number to another. */
		if (looks && same_place(&l, &now)) {
			break;
		}
		file_cache_clear(&o->check->store->packs);
		l = now;
	}
	check_add_object(o->check,
			 w->index_wrong            ? STORE_FAULT_INDEX
			 : l.kind == LOCATION_FILE ? STORE_FAULT_FILE
						   : STORE_FAULT_OBJECT,
			 o->table, &e->digest, &l, &why);
	return 0;
}

/* ---- many ---- */

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct object_check *o = w->objects;
	size_t at;

	while (w->rc == 0 && !atomic_load(&o->failed) &&
	       (at = atomic_fetch_add(&o->next, CANCEL_EACH)) < o->count) {
		size_t end = MIN(at + CANCEL_EACH, o->count);

		w->rc = check_canceled(o->check, &w->err);
		for (size_t i = at; w->rc == 0 && i < end; i++) {
			w->rc = check_entry(w, &o->entries[i]);
		}
		check_count(o->check, end - at, 0);
	}
	if (w->rc) {
		atomic_store(&o->failed, true);
	}
	return NULL;
}

static int run_workers(struct object_check *o, struct error *err)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct worker workers[THREADS_MAX];
	unsigned count = (unsigned)MIN(MAX(cpus, 1L), (long)THREADS_MAX);
	int rc = 0;

	memset(workers, 0, sizeof(workers));
	atomic_store(&o->next, 0);
	for (unsigned i = 0; i < count; i++) {
		workers[i].objects = o;
		/* The first one is this thread. */
		workers[i].started =
			i && thread_start(&workers[i].thread, 0, worker_main, &workers[i]) == 0;
	}
	worker_main(&workers[0]);
	for (unsigned i = 0; i < count; i++) {
		if (workers[i].started) {
			pthread_join(workers[i].thread, NULL);
		}
		buffer_done(&workers[i].content);
		if (rc == 0 && workers[i].rc) {
			rc = workers[i].rc;
			*err = workers[i].err;
		}
	}
	return rc;
}

static bool visit_object(void *context, struct bytes key, struct bytes value)
{
	struct object_check *o = context;
	struct error why;

	if (o->count == ENTRIES_AT_ONCE) {
		o->more = true;
		return false;
	}
	if (key.len != DIGEST_SIZE || value.len != LOCATION_SIZE) {
		check_add_index(o->check, "its tables of objects have an impossible entry");
		return true;
	}
	struct entry *e = &o->entries[o->count];

	memcpy(e->digest.bytes, key.ptr, DIGEST_SIZE);
	o->last = e->digest;
	if (location_decode(value.ptr, &e->location, &why) != 0) {
		check_add_object(o->check, STORE_FAULT_INDEX, o->table, &e->digest, NULL, &why);
		return true;
	}
	o->count++;
	return true;
}

static int compare_places(const void *a, const void *b)
{
	const struct location *x = &((const struct entry *)a)->location,
			      *y = &((const struct entry *)b)->location;

	return x->pack != y->pack ? (x->pack > y->pack) - (x->pack < y->pack)
				  : (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_table(struct check *c, enum index_table table, struct error *err)
{
	struct object_check o = {.check = c,
				 .table = table,
				 .entries = xmalloc(ENTRIES_AT_ONCE * sizeof(*o.entries)),
				 .more = true};
	uint8_t from[DIGEST_SIZE + 1] = {0};
	size_t from_len = 0;
	int rc = 0;

	while (rc == 0 && o.more) {
		o.more = false;
		o.count = 0;
		rc = index_scan(c->store->index, table, bytes_of(from, from_len), visit_object,
				&o, err);
		/* The first key behind the last one. */
		memcpy(from, o.last.bytes, DIGEST_SIZE);
		from_len = sizeof(from);
		if (rc == 0 && o.count) {
			qsort(o.entries, o.count, sizeof(*o.entries), compare_places);
			rc = run_workers(&o, err);
		}
	}
	free(o.entries);
	return rc;
}

int check_objects(struct check *c, struct error *err)
{
	int rc = check_table(c, INDEX_DIRECTORIES, err);

	return rc ? rc : check_table(c, INDEX_BLOBS, err);
}
