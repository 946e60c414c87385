#include "services/local/committer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/thread.h"
#include "services/blob_service.h"
#include "services/local/batch.h"
#include "services/local/local_stage.h"
#include "services/local/pack_claim.h"

/* Payloads from here on do not pass through the buffer. */
#define DIRECT_WRITE_MIN (PACK_BUFFER_SIZE / 4)
/* Directories up to this size are held; and so much of them at once. */
#define HELD_RECORD_MAX ((size_t)64 << 10)
#define HELD_MAX PACK_BUFFER_SIZE

void committer_init(struct committer *c, struct local_store *s, struct local_stage *stage)
{
	*c = (struct committer){.store = s, .stage = stage, .pack_fd = -1, .next_batch = 1};
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
}

static struct batch *open_batch_locked(struct committer *c)
{
	if (!c->open) {
		c->open = batch_new(c->next_batch++);
	}
	return c->open;
}

int committer_fail_locked(struct committer *c, const struct error *why)
{
	if (!c->failure) {
		c->failure = xmalloc(sizeof(*c->failure));
		*c->failure = *why;
	}
	pthread_cond_broadcast(&c->changed);
	return -(int)c->failure->code;
}

int committer_failure_locked(struct committer *c, struct error *err)
{
	if (c->failure && err) {
		*err = *c->failure;
	}
	return c->failure ? -(int)c->failure->code : 0;
}

/*
 * Directories are few and small beside what they name, but a walk reads them all: those of a
 * batch go into the pack one behind the other, where a few reads of the disk find them.
 */
static bool is_held(const struct record *r)
{
	return r->kind == RECORD_DIRECTORY && r->stored <= HELD_RECORD_MAX;
}

/* The entry that was added last. */
static void hold(struct batch *b, const struct record *r, struct bytes payload)
{
	struct pending *p = &b->entries[b->count - 1];

	p->held = true;
	p->location.offset = b->held.len;
	record_append(&b->held, r, payload);
}

/* Sends what a batch holds to the pack; the buffer must be empty. */
static int place_held_locked(struct committer *c, struct batch *b, struct error *err)
{
	struct buffer held cleanup(buffer_done) = b->held;
	uint64_t offset = committer_reserve_locked(c, held.len);

	b->held = (struct buffer){0};
	for (size_t i = b->held_from; i < b->count; i++) {
		struct pending *p = &b->entries[i];

		if (p->held) {
			p->location.pack = (uint32_t)c->pack_number;
			p->location.offset += offset;
			p->held = false;
		}
	}
	b->held_from = b->count;
	return committer_write_locked(c, b, buffer_bytes(&held), bytes_of(NULL, 0), offset,
				      err);
}

/* ---- adding ---- */

static bool is_pending_locked(const struct committer *c, enum index_table table,
			      const struct digest *digest)
{
	return batch_find(c->open, table, digest) >= 0 ||
	       batch_find(c->closing, table, digest) >= 0;
}

static void *committer_main(void *arg);

static int start_locked(struct committer *c, struct error *err)
{
	if (!c->started) {
		int rc = thread_start(&c->thread, 0, committer_main, c);

		if (rc) {
			return error_set_errno(err, rc, "cannot start a thread");
		}
		c->started = true;
	}
	return 0;
}

/* Waits until the open batch may take more, and has a batch close when it is full. */
static int make_room_locked(struct committer *c, struct error *err)
{
	for (;;) {
		int rc = committer_failure_locked(c, err);

		if (rc || !c->open || !batch_full(c->open)) {
			return rc;
		}
		rc = start_locked(c, err);
		if (rc) {
			return rc;
		}
		c->wanted = MAX(c->wanted, c->open->number);
		pthread_cond_broadcast(&c->changed);
		pthread_cond_wait(&c->changed, &c->lock);
	}
}

/* What one put adds: a record, and for a large blob its file. */
struct addition {
	enum index_table table;
	struct record record;
	struct bytes payload;
	const char *temporary; /* NULL: the record is the object */
};

/* Notes the object at the end of the pack, before the lock is dropped, so that it comes in
 * once. */
static struct batch *register_locked(struct committer *c, const struct addition *a)
{
	struct batch *b = open_batch_locked(c);
	struct location l = {.kind = a->temporary ? LOCATION_FILE : LOCATION_PACK,
			     .encoding = a->record.encoding,
			     .pack = (uint32_t)c->pack_number,
			     .offset = c->pack_end,
			     .stored = a->record.stored,
			     .size = a->record.size};

	batch_add(b, a->table, &a->record.digest, &l);
	if (a->table == INDEX_BLOBS) {
		c->put_bytes += l.size;
		c->put_stored += record_total(l.stored) + (a->temporary ? l.size : 0);
	}
	if (a->temporary) {
		batch_add_file(b, &a->record.digest, a->temporary);
	}
	return b;
}

static bool has_room_locked(const struct committer *c, bool held, bool direct, uint64_t total)
{
	if (held) {
		return !c->open || c->open->held.len + total <= HELD_MAX;
	}
	return direct ? c->buffer.len == 0 : c->buffer.len + total <= PACK_BUFFER_SIZE;
}

/*
 * One step towards an empty buffer and, if wanted, nothing held; the lock may be given away
 * meanwhile. Asker: 1 when the state has to be looked at again.
 */
static int empty_step_locked(struct committer *c, struct batch *b, bool held, struct error *err)
{
	int rc = 0;

	if (c->buffer.len) {
		rc = committer_write_buffer_locked(c, b, err);
		return rc < 0 ? rc : 1;
	}
	if (held && b->held.len) {
		rc = place_held_locked(c, b, err);
		return rc < 0 ? rc : 1;
	}
	return 0;
}

/* Asker: 0 when a batch has the object already. */
static int add_locked(struct committer *c, const struct addition *a, struct error *err)
{
	uint8_t header[RECORD_HEADER_SIZE];
	uint64_t total = record_total(a->payload.len);
	bool direct = a->payload.len >= DIRECT_WRITE_MIN;
	bool held = is_held(&a->record);

	record_encode(header, &a->record);
	for (;;) {
		int rc = make_room_locked(c, err);

		if (rc == 0 && is_pending_locked(c, a->table, &a->record.digest)) {
			return 0;
		}
		if (rc == 0) {
			rc = committer_claim_locked(c, err);
		}
		if (rc) {
			return rc;
		}
		if (has_room_locked(c, held, direct, total)) {
			break;
		}
		rc = empty_step_locked(c, open_batch_locked(c), held, err);
		if (rc < 0) {
			return rc;
		}
	}
	struct batch *b = register_locked(c, a);

	if (held) {
		hold(b, &a->record, a->payload);
		return 1;
	}
	if (direct) {
		uint64_t offset = committer_reserve_locked(c, total);
		int rc = committer_write_locked(c, b, bytes_of(header, sizeof(header)),
						a->payload, offset, err);

		return rc ? rc : 1;
	}
	committer_buffer_locked(c, header, a->payload);
	return 1;
}

static int committer_put(struct committer *c, const struct addition *a, struct error *err)
{
	if (a->payload.len > RECORD_PAYLOAD_MAX) {
		return error_set(err, ERROR_LIMIT,
				 "an object of %zu bytes is too large for a pack",
				 a->payload.len);
	}
	pthread_mutex_lock(&c->lock);
	int rc = add_locked(c, a, err);

	pthread_mutex_unlock(&c->lock);
	return rc;
}

int committer_add(struct committer *c, const struct record *r, struct bytes payload,
		  struct error *err)
{
	struct addition a = {.table = r->kind == RECORD_BLOB ? INDEX_BLOBS : INDEX_DIRECTORIES,
			     .record = *r,
			     .payload = payload};
	int rc = committer_put(c, &a, err);

	return rc < 0 ? rc : 0;
}

int committer_add_file(struct committer *c, const struct digest *digest, uint64_t size,
		       struct bytes outboard, const char *temporary, struct error *err)
{
	struct addition a = {.table = INDEX_BLOBS,
			     .record = {.kind = RECORD_OUTBOARD,
					.encoding = ENCODING_RAW,
					.stored = (uint32_t)outboard.len,
					.size = size,
					.digest = *digest},
			     .payload = outboard,
			     .temporary = temporary};
	int rc = committer_put(c, &a, err);

	if (rc <= 0) {
		unlinkat(c->store->dirfd, temporary, 0);
	}
	return rc < 0 ? rc : 0;
}

int committer_add_seen(struct committer *c, struct bytes key, struct bytes value,
		       struct error *err)
{
	pthread_mutex_lock(&c->lock);
	int rc = make_room_locked(c, err);

	if (rc == 0) {
		struct batch *b = open_batch_locked(c);

		buffer_append(&b->seen, key.ptr, key.len);
		buffer_append(&b->seen, value.ptr, value.len);
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

/* ---- asking ---- */

static bool find_pending(const struct batch *b, enum index_table table,
			 const struct digest *digest, uint64_t *size)
{
	ssize_t i = batch_find(b, table, digest);

	if (i >= 0) {
		*size = b->entries[i].location.size;
	}
	return i >= 0;
}

int committer_pending(struct committer *c, enum index_table table, const struct digest *digest,
		      uint64_t *size)
{
	pthread_mutex_lock(&c->lock);
	bool found = !c->failure && (find_pending(c->open, table, digest, size) ||
				     find_pending(c->closing, table, digest, size));
	pthread_mutex_unlock(&c->lock);
	return found;
}

void committer_count(struct committer *c, struct blob_counts *out)
{
	pthread_mutex_lock(&c->lock);
	out->put_bytes = c->put_bytes;
	out->put_stored = c->put_stored;
	pthread_mutex_unlock(&c->lock);
}

static bool has_file_of_size(const struct batch *b, uint64_t size)
{
	for (size_t i = 0; b && b->file_count && i < b->count; i++) {
		const struct location *l = &b->entries[i].location;

		if (l->kind == LOCATION_FILE && l->size == size) {
			return true;
		}
	}
	return false;
}

int committer_pending_size(struct committer *c, uint64_t size)
{
	pthread_mutex_lock(&c->lock);
	bool found = has_file_of_size(c->open, size) || has_file_of_size(c->closing, size);
	pthread_mutex_unlock(&c->lock);
	return found;
}

/* ---- committing ---- */

/* Takes the open batch out of the way of new objects, its bytes on their way to the pack. */
static int close_batch_locked(struct committer *c, struct error *err)
{
	int rc;

	/* Others go on adding while a buffer is written, until the batch is full. */
	while ((rc = empty_step_locked(c, c->open, true, err)) > 0) {
	}
	if (rc < 0) {
		return rc;
	}
	struct batch *b = c->open;

	c->open = NULL;
	c->closing = b;
	b->pack_fd = c->pack_fd;
	b->pack_number = c->pack_number;
	b->pack_end = c->pack_end;
	if (c->pack_fd >= 0 && c->pack_end >= PACK_SIZE_TARGET) {
		b->close_pack = true;
		c->pack_fd = -1;
	}
	pthread_cond_broadcast(&c->changed);
	while (b->writes) {
		pthread_cond_wait(&c->changed, &c->lock);
	}
	return committer_failure_locked(c, err);
}

static void commit_open_locked(struct committer *c)
{
	struct error why;
	int rc = close_batch_locked(c, &why);
	struct batch *b = c->closing;

	if (rc == 0) {
		pthread_mutex_unlock(&c->lock);
		rc = c->stage ? local_stage_keep(c->stage, b, &why)
			      : batch_commit(b, c->store, &why);
		pthread_mutex_lock(&c->lock);
	}
	if (rc) {
		committer_fail_locked(c, &why);
	} else {
		c->committed = b->number;
		c->closing = NULL;
		batch_free(b, c->store->dirfd);
	}
	pthread_cond_broadcast(&c->changed);
}

static void *committer_main(void *arg)
{
	struct committer *c = arg;

	pthread_mutex_lock(&c->lock);
	while (!c->stopping) {
		if (!c->failure && c->open && c->wanted >= c->open->number) {
			commit_open_locked(c);
		} else {
			pthread_cond_wait(&c->changed, &c->lock);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int committer_sync(struct committer *c, struct error *err)
{
	pthread_mutex_lock(&c->lock);
	uint64_t target = c->next_batch - 1;
	int rc = committer_failure_locked(c, err);

	if (rc == 0 && c->open) {
		rc = start_locked(c, err);
	}
	if (c->open || c->closing) {
		c->wanted = MAX(c->wanted, target);
		pthread_cond_broadcast(&c->changed);
	}
	while (rc == 0 && c->committed < target) {
		pthread_cond_wait(&c->changed, &c->lock);
		rc = committer_failure_locked(c, err);
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int committer_check(struct committer *c, struct error *err)
{
	pthread_mutex_lock(&c->lock);
	int rc = committer_failure_locked(c, err);

	pthread_mutex_unlock(&c->lock);
	return rc;
}

int committer_close(struct committer *c, struct batch **out, struct error *err)
{
	pthread_mutex_lock(&c->lock);
	int rc = committer_failure_locked(c, err);

	while (rc == 0 && c->closing) {
		pthread_cond_wait(&c->changed, &c->lock);
		rc = committer_failure_locked(c, err);
	}
	if (rc == 0 && c->open) {
		rc = close_batch_locked(c, err);
	}
	*out = c->closing;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

/* On success a pack is claimed and nothing waits in the buffer. */
static int empty_buffer_locked(struct committer *c, struct error *err)
{
	for (;;) {
		int rc = committer_failure_locked(c, err);

		if (rc == 0) {
			rc = committer_claim_locked(c, err);
		}
		if (rc || c->buffer.len == 0) {
			return rc;
		}
		rc = committer_write_buffer_locked(c, open_batch_locked(c), err);
		if (rc < 0) {
			return rc;
		}
	}
}

int committer_append_now(struct committer *c, struct index_write *w, struct bytes records,
			 struct appended *out, struct error *err)
{
	int fd cleanup(cleanup_close) = -1;
	uint64_t number = 0, end = 0;

	*out = (struct appended){0};
	pthread_mutex_lock(&c->lock);
	int rc = empty_buffer_locked(c, err);

	if (rc == 0) {
		uint64_t offset = committer_reserve_locked(c, records.len);

		fd = fcntl(c->pack_fd, F_DUPFD_CLOEXEC, 0);
		number = c->pack_number;
		end = c->pack_end;
		*out = (struct appended){.pack = number, .offset = offset, .len = records.len};
		rc = fd < 0 ? error_set_errno(err, errno, "cannot use a pack")
			    : committer_write_locked(c, open_batch_locked(c), records,
						     bytes_of(NULL, 0), offset, err);
	}
	pthread_mutex_unlock(&c->lock);
	if (rc) {
		return rc;
	}
	rc = local_pack_sync(c->store, fd, err);
	return rc ? rc : index_write_pack_end(w, number, end, err);
}

void committer_take_back(struct committer *c, const struct appended *a)
{
	static const uint8_t zeros[4096];

	pthread_mutex_lock(&c->lock);
	/* A pack that was released meanwhile was cut off where it was committed to. */
	bool ours = c->pack_fd >= 0 && c->pack_number == a->pack;

	for (uint64_t done = 0; ours && done < a->len; done += sizeof(zeros)) {
		size_t n = (size_t)MIN(a->len - done, (uint64_t)sizeof(zeros));

		if (pwrite_full(c->pack_fd, zeros, n, (off_t)(a->offset + done)) != 0) {
			break;
		}
	}
	pthread_mutex_unlock(&c->lock);
}

static void drop_batch(struct committer *c, struct batch **batch)
{
	struct batch *b = *batch;

	*batch = NULL;
	if (b && b->close_pack) {
		pack_release(c->store, b->pack_fd, b->pack_number);
		b->close_pack = false;
	}
	batch_free(b, c->store->dirfd);
}

void committer_end(struct committer *c, const struct error *why)
{
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	committer_fail_locked(c, why);
	pthread_mutex_unlock(&c->lock);
	if (c->started) {
		pthread_join(c->thread, NULL);
	}
	pthread_mutex_lock(&c->lock);
	c->started = false;
	drop_batch(c, &c->open);
	drop_batch(c, &c->closing);
	committer_release_pack_locked(c);
	pthread_mutex_unlock(&c->lock);
}

void committer_recover(struct committer *c)
{
	const struct error why = {.code = ERROR_IO,
				  .text = "what was not committed is dropped"};

	committer_end(c, &why);
	pthread_mutex_lock(&c->lock);
	free(c->failure);
	c->failure = NULL;
	c->stopping = false;
	c->committed = c->next_batch - 1;
	pthread_mutex_unlock(&c->lock);
}

void committer_done(struct committer *c)
{
	const struct error why = {.code = ERROR_INVALID, .text = "the store is closed"};

	committer_end(c, &why);
	free(c->failure);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}
