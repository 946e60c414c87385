/* The room in packs that nothing refers to is given back: what is needed goes to a new pack. */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "base/log.h"
#include "services/local/batch.h"
#include "services/local/collect.h"
#include "services/local/logged_table.h"
#include "services/local/pack_claim.h"

/* A pack of which less than this share is unused stays: to copy the rest would cost more. */
#define UNUSED_PERCENT 20
#define WINDOW_SIZE ((size_t)1 << 20)
/*
 * Many objects are copied before the index learns of them, in the order of its keys: so each of
 * its pages is written a few times, and not for every object on it.
 */
#define MOVES_AT_ONCE ((size_t)1 << 19)
#define MOVED_BYTES_AT_ONCE ((uint64_t)512 << 20)
#define MOVES_PER_WRITE ((size_t)16384)

/* A record that has been copied. */
struct move {
	enum index_table table;
	struct digest digest;
	struct location from;
	uint64_t to; /* offset in the target */
};

struct compaction {
	struct collection *collection;
	struct claimed_pack target; /* fd -1: none yet */
	uint64_t target_end;        /* with what is in the buffer */
	uint64_t changed;           /* the latest time of what was copied to it */
	struct buffer out;          /* not yet written to the target */
	struct move *moves;
	size_t move_count;
	uint64_t uncommitted; /* bytes */
	uint64_t taken;       /* by new packs: bytes on disk */
};

/* The pack that is being looked through. */
struct source {
	struct claimed_pack pack;
	uint8_t *window;
	uint64_t window_at;
	size_t window_len;
	uint64_t found, needed; /* live objects; bytes of all records that have to stay */
};

/* ---- Reading a pack ---- */

/* Asker: 0 where the pack ends. What is returned is valid until the next call. */
static int source_get(struct source *s, uint64_t offset, size_t len, const uint8_t **out,
		      struct error *err)
{
	if (offset + len > s->pack.end) {
		return 0;
	}
	if (offset < s->window_at || offset + len > s->window_at + s->window_len) {
		ssize_t n = pread_full(s->pack.fd, s->window, WINDOW_SIZE, (off_t)offset);

		if (n < 0) {
			return error_set_errno(err, errno, "cannot read pack %08x",
					       (unsigned)s->pack.number);
		}
		s->window_at = offset;
		s->window_len = (size_t)n;
	}
	if (offset + len > s->window_at + s->window_len) {
		return 0;
	}
	*out = s->window + (offset - s->window_at);
	return 1;
}

/* Asker: a whole record that begins here. */
static int source_record(struct source *s, uint64_t offset, struct record *out,
			 struct error *err)
{
	const uint8_t *header = NULL;
	int rc = source_get(s, offset, RECORD_HEADER_SIZE, &header, err);

	if (rc <= 0) {
		return rc;
	}
	return header && record_decode(header, out) && out->stored <= RECORD_PAYLOAD_MAX &&
	       offset + record_total(out->stored) <= s->pack.end;
}

/* What has no mark was taken by the sweep: the index, in which it is slow to find, is not
 * asked. */
static bool may_be_live(struct collection *c, const struct move *m)
{
	enum node_kind kind = m->table == INDEX_DIRECTORIES ? NODE_DIRECTORY : NODE_FILE;

	return mark_has(&c->mark, kind, &m->digest) || collect_is_protected(c, &m->from);
}

/* Asker: does the index say that this record is the object? */
static int is_live(struct compaction *c, const struct source *s, const struct record *r,
		   uint64_t offset, struct move *out, struct error *err)
{
	uint8_t value[LOCATION_SIZE];

	*out = (struct move){
		.table = r->kind == RECORD_DIRECTORY ? INDEX_DIRECTORIES : INDEX_BLOBS,
		.digest = r->digest,
		.from = {.kind = r->kind == RECORD_OUTBOARD ? LOCATION_FILE : LOCATION_PACK,
			 .pack = (uint32_t)s->pack.number,
			 .offset = offset},
	};
	if (!may_be_live(c->collection, out)) {
		return 0;
	}
	int rc = index_get(c->collection->local->index, out->table, digest_bytes(&r->digest),
			   value, sizeof(value), err);

	if (rc > 0) {
		rc = location_decode(value, &out->from, err);
		rc = rc < 0 ? rc : 1;
	}
	if (rc <= 0) {
		return rc;
	}
	return out->from.pack == s->pack.number && out->from.offset == offset &&
	       (out->from.kind == LOCATION_FILE) == (r->kind == RECORD_OUTBOARD) &&
	       out->from.stored == r->stored;
}

static int is_needed_change(struct compaction *c, struct source *s, const struct record *r,
			    uint64_t offset, struct error *err)
{
	struct buffer payload cleanup(buffer_done) = {0};

	buffer_reserve(&payload, r->stored);
	if (pread_full(s->pack.fd, payload.ptr, r->stored,
		       (off_t)(offset + RECORD_HEADER_SIZE)) != (ssize_t)r->stored) {
		return error_set_errno(err, errno, "cannot read pack %08x",
				       (unsigned)s->pack.number);
	}
	payload.len = r->stored;
	return logged_change_needed(c->collection->local->index, logged_table_of(r->kind),
				    buffer_bytes(&payload), err);
}

typedef int (*record_take)(struct compaction *c, struct source *s, const struct record *r,
			   uint64_t offset, const struct move *move, struct error *err);

/* move: NULL for a change of a table. */
static int visit_record(struct compaction *c, struct source *s, const struct record *r,
			uint64_t offset, record_take take, struct error *err)
{
	struct move move;
	bool change = logged_table_of(r->kind);

	if (!change && !take) {
		return 0;
	}
	int rc = change ? is_needed_change(c, s, r, offset, err)
			: is_live(c, s, r, offset, &move, err);

	if (rc <= 0) {
		return rc;
	}
	s->found += !change;
	s->needed += record_total(r->stored);
	return take ? take(c, s, r, offset, change ? NULL : &move, err) : 0;
}

/* All records that have to stay; without take, changes of tables alone. Where none begins, one
 * may at the next eighth byte. */
static int visit_records(struct compaction *c, struct source *s, record_take take,
			 struct error *err)
{
	int rc = collect_check_cancel(c->collection, err);

	s->found = s->needed = 0;
	s->window_len = 0;
	for (uint64_t offset = PACK_HEADER_SIZE; rc == 0 && offset < s->pack.end;) {
		struct record r;

		rc = source_record(s, offset, &r, err);
		if (rc > 0) {
			rc = visit_record(c, s, &r, offset, take, err);
			offset += record_total(r.stored);
		} else {
			offset += RECORD_ALIGN;
		}
	}
	return rc;
}

/* ---- Writing ---- */

static int write_out(struct compaction *c, struct error *err)
{
	uint64_t at = c->target_end - c->out.len;

	if (c->out.len && pwrite_full(c->target.fd, c->out.ptr, c->out.len, (off_t)at) != 0) {
		return error_set_errno(err, errno, "cannot write to a pack of %s",
				       c->collection->local->path);
	}
	c->out.len = 0;
	return 0;
}

/* Asker: 0 when the object is not there any more. */
static int move_one(struct compaction *c, struct index_write *w, const struct move *m,
		    struct error *err)
{
	uint8_t to[LOCATION_SIZE];
	struct location l;
	struct bytes value;
	int rc = index_write_get(w, m->table, digest_bytes(&m->digest), &value, err);

	if (rc > 0 && value.len != LOCATION_SIZE) {
		return error_set(err, ERROR_CORRUPT,
				 "the index of the store is damaged (an entry of %zu bytes)",
				 value.len);
	}
	if (rc > 0) {
		rc = location_decode(value.ptr, &l, err);
		rc = rc < 0 ? rc : l.pack == m->from.pack && l.offset == m->from.offset;
	}
	if (rc <= 0) {
		return rc;
	}
	l.pack = (uint32_t)c->target.number;
	l.offset = m->to;
	location_encode(to, &l);
	rc = index_write_put(w, m->table, digest_bytes(&m->digest), bytes_of(to, sizeof(to)),
			     true, err);
	return rc ? rc : 1;
}

static int compare_moves(const void *a, const void *b)
{
	const struct move *x = a, *y = b;

	return x->table != y->table ? (x->table > y->table) - (x->table < y->table)
				    : digest_compare(&x->digest, &y->digest);
}

/* With the committed length, so that no object lies behind it. */
static int write_moves(struct compaction *c, const struct move *moves, size_t count,
		       struct error *err)
{
	struct index_write *w;
	int rc = index_write_begin(c->collection->local->index, &w, err);

	if (rc) {
		return rc;
	}
	for (size_t i = 0; rc >= 0 && i < count; i++) {
		rc = move_one(c, w, &moves[i], err);
	}
	if (rc >= 0) {
		rc = index_write_pack_end(w, c->target.number, c->target_end, err);
	}
	if (rc < 0) {
		index_write_abort(w);
		return rc;
	}
	return index_write_commit(w, err);
}

/* The copies are durable before the index says that they are the objects. */
static int commit_moves(struct compaction *c, struct error *err)
{
	size_t done = 0;
	int rc = write_out(c, err);

	if (rc || c->uncommitted == 0) {
		return rc;
	}
	rc = local_pack_sync(c->collection->local, c->target.fd, err);
	if (rc == 0 && c->move_count) {
		qsort(c->moves, c->move_count, sizeof(*c->moves), compare_moves);
	}
	/* Once at least: changes of tables are in no index. */
	do {
		size_t some = MIN(c->move_count - done, MOVES_PER_WRITE);

		rc = rc ? rc : write_moves(c, c->moves + done, some, err);
		done += some;
		if (rc == 0) {
			c->target.end = c->target_end;
		}
	} while (rc == 0 && done < c->move_count);
	if (rc == 0) {
		c->collection->result->copied_bytes += c->uncommitted;
		c->move_count = 0;
		c->uncommitted = 0;
	}
	return rc;
}

/* What a new pack takes is not free. */
static void count_new_pack(struct compaction *c, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0) {
		c->taken += (uint64_t)st.st_blocks * 512;
	}
}

/* It is as old as what is in it: see collect_is_young(). */
static void end_target(struct compaction *c)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
					  {.tv_sec = (time_t)c->changed}};

	if (c->target.fd < 0) {
		return;
	}
	/* What was not committed; where this fails, whoever claims the pack next does it. */
	int rc = ftruncate(c->target.fd, (off_t)c->target.end);

	rc |= futimens(c->target.fd, times);
	(void)rc;
	count_new_pack(c, c->target.fd);
	pack_release(c->collection->local, c->target.fd, c->target.number);
	c->target.fd = -1;
	c->changed = 0;
}

/* For so many more bytes. */
static int need_target(struct compaction *c, uint64_t total, struct error *err)
{
	int rc = 0;

	if (c->target.fd >= 0 && c->target_end > PACK_HEADER_SIZE &&
	    c->target_end + total > PACK_SIZE_TARGET) {
		rc = commit_moves(c, err);
		if (rc == 0) {
			end_target(c);
		}
	}
	if (rc == 0 && c->target.fd < 0) {
		rc = pack_claim_new(c->collection->local, &c->target, err);
		c->target_end = c->target.end;
		if (rc) {
			c->target.fd = -1;
		}
	}
	return rc;
}

/* As it is, also where it is damaged: whoever checks the store finds it in its new place. */
static int copy_bytes(struct compaction *c, const struct source *s, uint64_t offset,
		      uint64_t total, struct error *err)
{
	while (total) {
		size_t part = (size_t)MIN(total, WINDOW_SIZE);

		if (pread_full(s->pack.fd, buffer_reserve(&c->out, part), part,
			       (off_t)offset) != (ssize_t)part) {
			return error_set_errno(err, errno, "cannot read pack %08x",
					       (unsigned)s->pack.number);
		}
		c->out.len += part;
		c->target_end += part;
		c->uncommitted += part;
		offset += part;
		total -= part;

		int rc = c->out.len >= WINDOW_SIZE ? write_out(c, err) : 0;

		if (rc) {
			return rc;
		}
	}
	return 0;
}

static int copy_record(struct compaction *c, struct source *s, const struct record *r,
		       uint64_t offset, const struct move *move, struct error *err)
{
	uint64_t total = record_total(r->stored);
	int rc = need_target(c, total, err);

	if (rc == 0 && move) {
		c->moves[c->move_count] = *move;
		c->moves[c->move_count++].to = c->target_end;
	}
	if (rc == 0) {
		rc = copy_bytes(c, s, offset, total, err);
	}
	if (rc == 0 &&
	    (c->move_count == MOVES_AT_ONCE || c->uncommitted >= MOVED_BYTES_AT_ONCE)) {
		rc = commit_moves(c, err);
	}
	return rc;
}

/* ---- Packs ---- */

/*
 * The number of a pack that is gone must not come again, since others may have the old one open
 * under it: there is always one with a higher number.
 */
static int keep_numbers(struct compaction *c, uint64_t number, struct error *err)
{
	uint64_t *numbers cleanup(cleanup_free) = NULL;
	struct claimed_pack next;
	size_t count = 0;
	int rc = pack_list(c->collection->local, &numbers, &count, err);

	if (rc == 0 && count && numbers[0] == number) {
		rc = pack_claim_new(c->collection->local, &next, err);
		if (rc == 0) {
			count_new_pack(c, next.fd);
			pack_release(c->collection->local, next.fd, next.number);
		}
	}
	return rc;
}

static int forget_pack(struct compaction *c, uint64_t number, struct error *err)
{
	struct index_write *w;
	uint8_t key[8];
	int rc = index_write_begin(c->collection->local->index, &w, err);

	if (rc) {
		return rc;
	}
	put_be64(key, number);
	rc = index_write_delete(w, INDEX_PACKS, bytes_of(key, sizeof(key)), err);
	if (rc <= 0) {
		index_write_abort(w);
		return rc;
	}
	return index_write_commit(w, err);
}

/*
 * First it leaves the index, then the disk. Others who have it open find it empty, and look up
 * where their objects are; so its room is free at once.
 */
static int remove_pack(struct compaction *c, struct source *s, struct error *err)
{
	struct local_store *store = c->collection->local;
	char name[LOCAL_NAME_SIZE];
	struct stat st;
	int rc = keep_numbers(c, s->pack.number, err);

	if (rc == 0) {
		rc = forget_pack(c, s->pack.number, err);
	}
	if (rc) {
		return rc;
	}
	local_pack_name(name, s->pack.number);
	if (fstat(s->pack.fd, &st) != 0 || unlinkat(store->dirfd, name, 0) != 0 ||
	    ftruncate(s->pack.fd, 0) != 0) {
		return error_set_errno(err, errno, "cannot remove %s/%s", store->path, name);
	}
	collect_freed(c->collection, (uint64_t)st.st_blocks * 512);
	c->collection->result->packs++;
	return 0;
}

/* What a crash left behind the committed end. */
static void cut_off(struct compaction *c, const struct source *s)
{
	struct stat before, after;

	if (!c->collection->options->dry_run && s->pack.end >= PACK_HEADER_SIZE &&
	    fstat(s->pack.fd, &before) == 0 && before.st_size > (off_t)s->pack.end &&
	    ftruncate(s->pack.fd, (off_t)s->pack.end) == 0 && fstat(s->pack.fd, &after) == 0 &&
	    before.st_blocks > after.st_blocks) {
		collect_freed(c->collection,
			      (uint64_t)(before.st_blocks - after.st_blocks) * 512);
	}
}

static bool is_mostly_used(const struct source *s, uint64_t used)
{
	uint64_t all = s->pack.end - PACK_HEADER_SIZE;

	return used && (all - MIN(used, all)) * 100 < all * UNUSED_PERCENT;
}

static int replace_pack(struct compaction *c, struct source *s,
			const struct collected_pack *pack, struct error *err)
{
	int rc = visit_records(c, s, copy_record, err);

	if (rc == 0) {
		c->changed = MAX(c->changed, pack->changed);
		rc = commit_moves(c, err);
	}
	if (rc == 0 && s->found < pack->live_count) {
		log_warning(
			"pack %08x stays: of %ju objects that are in use, only %ju are where "
			"the index says; 'cairn fsck' tells more",
			(unsigned)s->pack.number, (uintmax_t)pack->live_count,
			(uintmax_t)s->found);
		return 0;
	}
	return rc ? rc : remove_pack(c, s, err);
}

/* What it would give. */
static void pretend(struct compaction *c, const struct source *s)
{
	c->collection->result->packs++;
	c->collection->result->copied_bytes += s->needed;
	collect_freed(c->collection, s->pack.end - PACK_HEADER_SIZE - s->needed);
}

static int compact_claimed(struct compaction *c, struct source *s,
			   const struct collected_pack *pack, bool newest, struct error *err)
{
	/* Empty, and there to keep its number. */
	if (s->pack.end <= PACK_HEADER_SIZE) {
		return newest || c->collection->options->dry_run ? 0 : remove_pack(c, s, err);
	}
	/* Written to since the objects in it were counted: the next collection sees to it. */
	if (!pack || pack->end != s->pack.end || is_mostly_used(s, pack->live_bytes) ||
	    collect_is_young(c->collection, pack->changed)) {
		return 0;
	}
	/* Changes of tables are needed, too, and were not counted yet. */
	int rc = visit_records(c, s, NULL, err);

	s->needed += pack->live_bytes;
	if (rc || is_mostly_used(s, s->needed)) {
		return rc;
	}
	if (c->collection->options->dry_run) {
		pretend(c, s);
		return 0;
	}
	return replace_pack(c, s, pack, err);
}

/* only_empty: only if nothing in it is live. */
static int compact_pack(struct compaction *c, struct source *s, uint64_t number, bool newest,
			bool only_empty, struct error *err)
{
	const struct collected_pack *pack = collect_find_pack(c->collection, number);

	if (only_empty != (!pack || pack->live_count == 0)) {
		return 0;
	}
	int rc = pack_claim_to_remove(c->collection->local, number, &s->pack, err);

	if (rc == 0 && pack && pack->end > PACK_HEADER_SIZE) {
		s->pack.end = pack->end;
		c->collection->result->packs_in_use += !is_mostly_used(s, pack->live_bytes);
	}
	if (rc <= 0) {
		return rc;
	}
	cut_off(c, s);
	rc = compact_claimed(c, s, pack, newest, err);
	pack_release(c->collection->local, s->pack.fd, number);
	return rc;
}

int compact_packs(struct collection *collection, struct error *err)
{
	uint64_t *numbers cleanup(cleanup_free) = NULL;
	uint8_t *window cleanup(cleanup_free) = xmalloc(WINDOW_SIZE);
	struct move *moves cleanup(cleanup_free) = xcalloc(MOVES_AT_ONCE, sizeof(*moves));
	struct compaction c = {.collection = collection, .target.fd = -1, .moves = moves};
	struct source s = {.window = window};
	size_t count = 0;
	int rc = pack_list(collection->local, &numbers, &count, err);

	/* First what gives room without taking any. */
	for (unsigned pass = 0; rc == 0 && pass < 2; pass++) {
		for (size_t i = 0; rc == 0 && i < count && !collect_has_enough(collection);
		     i++) {
			rc = compact_pack(&c, &s, numbers[i], i == 0, pass == 0, err);
		}
	}
	end_target(&c);
	collection->result->freed_bytes -= MIN(c.taken, collection->result->freed_bytes);
	buffer_done(&c.out);
	return rc;
}
