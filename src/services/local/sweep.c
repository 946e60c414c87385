/* Objects that nothing refers to leave the index, and large ones the disk. */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "services/local/batch.h"
#include "services/local/collect.h"
#include "services/local/name_guard.h"

/* Objects that go in one transaction: the pages that they dirty are held in memory. */
#define OBJECTS_AT_ONCE ((size_t)16384)
/* Unlinking takes time, and nobody can commit meanwhile. */
#define FILES_AT_ONCE ((size_t)64)
/* Where the disk is full, a small transaction may find room that a large one does not. */
#define OBJECTS_MIN ((size_t)8)
/* A read of the index keeps its old pages: it ends after so many entries. */
#define ENTRIES_AT_ONCE ((size_t)1 << 16)
/* New names are marked so often while others go on writing; then they have to wait. */
#define LOOKS_WITHOUT_LOCK 3

struct candidate {
	struct digest digest;
	uint8_t location[LOCATION_SIZE];
	uint64_t inode;  /* of a large file that is to be unlinked; 0: none */
	uint64_t blocks; /* its bytes on disk */
};

struct sweep {
	struct collection *collection;
	enum index_table table;
	enum location_kind kind; /* only these */
	size_t at_once;
	struct candidate *batch;
	size_t count;
	size_t visited;
	uint8_t next[DIGEST_SIZE]; /* where to go on */
	bool more;
	struct error *err;
	int rc;
};

static enum node_kind kind_of(enum index_table table)
{
	return table == INDEX_DIRECTORIES ? NODE_DIRECTORY : NODE_FILE;
}

static void count_live(struct sweep *s, const struct location *l)
{
	struct collected_pack *pack = collect_find_pack(s->collection, l->pack);

	if (pack && l->offset < pack->end) {
		pack->live_bytes += record_total(l->stored);
		pack->live_count++;
	}
}

/* Is it there, and which one is it? */
static bool stat_file(struct sweep *s, const struct digest *digest, struct stat *st)
{
	char name[LOCAL_NAME_SIZE];

	local_file_name(name, digest);
	return fstatat(s->collection->local->dirfd, name, st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_young_file(struct sweep *s, const struct digest *digest)
{
	struct stat st;

	return s->collection->options->older_than && stat_file(s, digest, &st) &&
	       collect_is_young(s->collection, (uint64_t)st.st_mtime);
}

/* ---- Looking ---- */

static bool look_at(void *context, struct bytes key, struct bytes value)
{
	struct sweep *s = context;
	struct candidate *c = &s->batch[s->count];
	struct location l;

	if (s->count == s->at_once || s->visited == ENTRIES_AT_ONCE) {
		memcpy(s->next, key.ptr, DIGEST_SIZE);
		s->more = true;
		return false;
	}
	if (key.len != DIGEST_SIZE || value.len != LOCATION_SIZE) {
		s->rc = error_set(s->err, ERROR_CORRUPT,
				  "the index of the store is damaged (an entry of %zu bytes)",
				  value.len);
		return false;
	}
	s->visited++;
	memcpy(c->digest.bytes, key.ptr, DIGEST_SIZE);
	memcpy(c->location, value.ptr, LOCATION_SIZE);
	s->rc = location_decode(value.ptr, &l, s->err);
	if (s->rc < 0 || l.kind != s->kind) {
		return s->rc == 0;
	}
	if (mark_has(&s->collection->mark, kind_of(s->table), &c->digest) ||
	    collect_is_protected(s->collection, &l) ||
	    (l.kind == LOCATION_FILE && is_young_file(s, &c->digest))) {
		count_live(s, &l);
	} else {
		s->count++;
	}
	return true;
}

static int gather(struct sweep *s, struct error *err)
{
	struct bytes from = bytes_of(s->next, s->more ? DIGEST_SIZE : 0);

	s->count = s->visited = 0;
	s->more = false;
	s->err = err;
	s->rc = 0;
	int rc = index_scan(s->collection->local->index, s->table, from, look_at, s, err);

	atomic_fetch_add_explicit(&s->collection->options->stats->objects, s->visited,
				  memory_order_relaxed);
	return s->rc ? s->rc : rc;
}

/* ---- Taking ---- */

static int delete_size(struct index_write *w, const struct digest *digest, uint64_t size,
		       struct error *err)
{
	uint8_t key[8 + DIGEST_SIZE];

	put_be64(key, size);
	memcpy(key + 8, digest->bytes, DIGEST_SIZE);
	return MIN(index_write_delete(w, INDEX_LARGE_SIZES, bytes_of(key, sizeof(key)), err),
		   0);
}

/* The file that the blob has now is the one to be unlinked later, and no other. */
static void note_file(struct sweep *s, struct candidate *c)
{
	struct stat st;

	if (stat_file(s, &c->digest, &st)) {
		c->inode = st.st_ino;
		c->blocks = st.st_nlink == 1 ? (uint64_t)st.st_blocks * 512 : 0;
	}
}

static void count_taken(struct sweep *s, const struct location *l)
{
	struct store_collected *r = s->collection->result;

	*(s->table == INDEX_BLOBS ? &r->blobs : &r->directories) += 1;
	r->files += l->kind == LOCATION_FILE;
	r->object_bytes += l->size;
}

/* Asker: 0 when it stays, since it is not what it was. */
static int take_one(struct sweep *s, struct index_write *w, struct candidate *c,
		    struct error *err)
{
	struct bytes value;
	struct location l;
	int rc = index_write_get(w, s->table, digest_bytes(&c->digest), &value, err);

	c->inode = 0;
	if (rc <= 0 || !bytes_equal(value, bytes_of(c->location, LOCATION_SIZE))) {
		return MIN(rc, 0);
	}
	rc = location_decode(c->location, &l, err);
	if (rc == 0 && (mark_has(&s->collection->mark, kind_of(s->table), &c->digest) ||
			collect_is_protected(s->collection, &l))) {
		count_live(s, &l);
		return 0;
	}
	if (rc == 0 && l.kind == LOCATION_FILE) {
		note_file(s, c);
		rc = delete_size(w, &c->digest, l.size, err);
	}
	if (rc == 0) {
		rc = index_write_delete(w, s->table, digest_bytes(&c->digest), err);
	}
	return rc;
}

/*
 * Ends the write, whatever it returns. An object that stays may be counted as live when this
 * fails, too; then nobody looks at these counts.
 */
static int take_batch(struct sweep *s, struct index_write *w, struct error *err)
{
	struct store_collected before = *s->collection->result;
	int rc = epoch_raise(w, err);

	for (size_t i = 0; rc >= 0 && i < s->count; i++) {
		rc = take_one(s, w, &s->batch[i], err);
		if (rc > 0) {
			struct location l;

			location_decode(s->batch[i].location, &l, NULL);
			count_taken(s, &l);
		}
	}
	if (rc < 0) {
		index_write_abort(w);
	} else {
		rc = index_write_commit(w, err);
	}
	if (rc < 0) {
		*s->collection->result = before;
	}
	return rc;
}

/*
 * Asker: a write, and nobody can hold or name anything that was not marked, until the leases
 * are unlocked; 0 when there was something to mark first.
 */
static int begin_taking(struct collection *c, bool wait, struct index_write **out,
			struct error *err)
{
	struct index_write *w;
	int rc = index_write_begin(c->local->index, &w, err);

	if (rc) {
		return rc;
	}
	rc = lease_reader_lock(&c->leases, err);
	if (rc == 0) {
		rc = collect_catch_up(c, w, err);
		if (rc > 0 && wait) {
			rc = collect_mark_news(c, err);
		}
		if (rc == 0) {
			*out = w;
			return 1;
		}
		lease_reader_unlock(&c->leases);
	}
	index_write_abort(w);
	return rc < 0 ? rc : collect_mark_news(c, err);
}

static int take(struct sweep *s, struct error *err)
{
	struct collection *c = s->collection;
	struct index_write *w = NULL;
	int rc = 0;

	for (unsigned looks = 0; rc == 0; looks++) {
		rc = begin_taking(c, looks >= LOOKS_WITHOUT_LOCK, &w, err);
	}
	if (rc < 0 || !w) {
		return rc;
	}
	rc = take_batch(s, w, err);
	lease_reader_unlock(&c->leases);
	return rc;
}

/*
 * Whoever puts a blob gives its file the name before the index knows it. So a file is unlinked
 * only while nobody else can write to the index, if it is still the one that the index had; and
 * whoever puts one into the index looks whether it is there (local_file_check_placed()).
 */
static void unlink_file(struct sweep *s, struct index_write *w, struct candidate *c)
{
	struct collection *collection = s->collection;
	char name[LOCAL_NAME_SIZE];
	struct bytes value;
	struct stat st;

	local_file_name(name, &c->digest);
	if (c->inode &&
	    index_write_get(w, INDEX_BLOBS, digest_bytes(&c->digest), &value, NULL) == 0 &&
	    stat_file(s, &c->digest, &st) && st.st_ino == c->inode &&
	    unlinkat(collection->local->dirfd, name, 0) == 0) {
		collect_freed(collection, c->blocks);
	}
	c->inode = 0;
	file_cache_forget(&collection->local->files, &c->digest);
}

static int unlink_files(struct sweep *s, struct error *err)
{
	struct index_write *w;
	int rc = index_write_begin(s->collection->local->index, &w, err);

	for (size_t i = 0; rc == 0 && i < s->count; i++) {
		unlink_file(s, w, &s->batch[i]);
	}
	if (rc == 0) {
		index_write_abort(w);
	}
	return rc;
}

/* What would go. */
static void pretend(struct sweep *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct candidate *c = &s->batch[i];
		struct location l;

		location_decode(c->location, &l, NULL);
		count_taken(s, &l);
		c->blocks = 0;
		if (l.kind == LOCATION_FILE) {
			note_file(s, c);
			collect_freed(s->collection, c->blocks);
		}
	}
}

/* Few at a time, and fewer, until a transaction finds room on the disk. */
static int take_somehow(struct sweep *s, struct error *err)
{
	size_t all = s->count;
	int rc = take(s, err);

	for (size_t some = all / 2; rc == -ERROR_NO_SPACE && some >= OBJECTS_MIN; some /= 2) {
		s->count = some;
		rc = take(s, err);
		if (rc == 0 && s->kind == LOCATION_FILE) {
			rc = unlink_files(s, err);
		}
	}
	if (rc == 0 && s->count < all) {
		/* The rest again, where there may be room by now. */
		memmove(s->batch, s->batch + s->count, (all - s->count) * sizeof(*s->batch));
		s->count = all - s->count;
		return take_somehow(s, err);
	}
	return rc;
}

static int sweep_batch(struct sweep *s, struct error *err)
{
	if (s->count == 0) {
		return 0;
	}
	if (s->collection->options->dry_run) {
		pretend(s);
		return 0;
	}
	int rc = take_somehow(s, err);

	return rc == 0 && s->kind == LOCATION_FILE ? unlink_files(s, err) : rc;
}

/* Asker: 0 when it stopped before the end, with enough. */
static int sweep_table(struct collection *c, enum index_table table, enum location_kind kind,
		       struct error *err)
{
	struct candidate *batch cleanup(cleanup_free) =
		xcalloc(OBJECTS_AT_ONCE + 1, sizeof(*batch));
	struct sweep s = {.collection = c,
			  .table = table,
			  .kind = kind,
			  .at_once = kind == LOCATION_FILE ? FILES_AT_ONCE : OBJECTS_AT_ONCE,
			  .batch = batch};
	int rc;

	do {
		rc = collect_check_cancel(c, err);
		if (rc == 0) {
			rc = gather(&s, err);
		}
		if (rc == 0) {
			rc = sweep_batch(&s, err);
		}
	} while (rc == 0 && s.more && !collect_has_enough(c));
	return rc < 0 ? rc : !s.more;
}

int sweep_objects(struct collection *c, struct error *err)
{
	/* Large files first: their room is free at once. */
	int rc = sweep_table(c, INDEX_BLOBS, LOCATION_FILE, err);

	if (rc > 0 && !collect_has_enough(c)) {
		rc = sweep_table(c, INDEX_BLOBS, LOCATION_PACK, err);
	}
	if (rc > 0 && !collect_has_enough(c)) {
		rc = sweep_table(c, INDEX_DIRECTORIES, LOCATION_PACK, err);
		c->swept = rc > 0;
	}
	return MIN(rc, 0);
}
