#include "services/local/direct_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/disk.h"
#include "base/io.h"
#include "base/moment.h"
#include "base/thread.h"
#include "castore/outboard.h"
#include "services/local/large_file.h"

/* Of a file: the span before the one that is read, that one, and those ahead. */
#define SLOTS 8u
#define SPANS_AHEAD 6u
/* Some wait for the disk, which wants more than one request at a time, while others check. */
#define THREADS 4u
/* Smaller files are read before reading ahead gets anywhere. */
#define SIZE_MIN (4 * OUTBOARD_SPAN)
/* So much has to be read in order before it counts as such; requests may overtake each other.
 */
#define RUN_MIN ((uint64_t)256 << 10)
#define OVERTAKING ((uint64_t)512 << 10)
/* Unused for so long, a file's buffers are given back; sooner if another file wants them. */
#define IDLE_MS 1000
#define IDLE_WANTED_MS 100

#define HUGE_PAGE ((size_t)2 << 20)
/* With room to begin at a huge page. */
#define MAPPING_SIZE (SLOTS * OUTBOARD_SPAN + HUGE_PAGE)
#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/enabled"

enum slot_state { SLOT_EMPTY, SLOT_WANTED, SLOT_LOADING, SLOT_READY, SLOT_FAILED };

struct slot {
	enum slot_state state;
	uint64_t span;
	unsigned users; /* who copy from it */
};

struct stream {
	struct cached_file *file; /* a reference; NULL: this stream is free */
	struct location location;
	int fd;
	void *mapping;
	uint8_t *memory;          /* of all slots, in the mapping */
	struct slot slots[SLOTS]; /* a span's is the one of its number, modulo */
	uint64_t used;            /* moment_now() */
};

struct direct_reader {
	struct local_store *store;
	bool possible;
	pthread_mutex_t lock; /* guards what follows, and the runs of files */
	pthread_cond_t work;  /* for the threads */
	pthread_cond_t loaded;
	struct stream streams[DIRECT_READER_STREAMS];
	pthread_t threads[THREADS];
	unsigned thread_count;
	bool stop;
};

/* ---- What the kernel has and can ---- */

static bool has_huge_pages(void)
{
	struct buffer setting cleanup(buffer_done) = {0};
	const char never[] = "[never]";

	return read_small_file(AT_FDCWD, HUGE_PAGES, 256, &setting, NULL) > 0 &&
	       !memmem(setting.ptr, setting.len, never, sizeof(never) - 1);
}

static bool is_cold(int fd, uint64_t span, uint64_t size)
{
	uint64_t start = span * OUTBOARD_SPAN, len = MIN(OUTBOARD_SPAN, size - start);
	int64_t cached = disk_cached(fd, start, len);

	return cached >= 0 && (uint64_t)cached < len / 2;
}

/* ---- The threads ---- */

static uint8_t *place_of(const struct stream *t, const struct slot *slot)
{
	return t->memory + (size_t)(slot - t->slots) * OUTBOARD_SPAN;
}

static int load(const struct direct_reader *d, const struct stream *t, const struct slot *slot)
{
	uint64_t start = slot->span * OUTBOARD_SPAN;
	size_t len = (size_t)MIN(OUTBOARD_SPAN, t->location.size - start);
	uint8_t *place = place_of(t, slot);
	struct error err;
	ssize_t n;

	/* Whole blocks, of which the file may end in the last one. */
	do {
		n = pread(t->fd, place, OUTBOARD_SPAN, (off_t)start);
	} while (n < 0 && errno == EINTR);
	/* What went wrong is found out and said by who reads it in the ordinary way. */
	return n >= (ssize_t)len ? large_file_verify(d->store, t->file, &t->location, place,
						     len, start, &err)
				 : -1;
}

/* The wanted span that comes first in its file. */
static struct slot *next_wanted_locked(struct direct_reader *d, struct stream **of)
{
	struct slot *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(d->streams); i++) {
		struct stream *t = &d->streams[i];

		for (size_t k = 0; k < SLOTS; k++) {
			struct slot *slot = &t->slots[k];

			if (slot->state == SLOT_WANTED &&
			    (!found || (t == *of && slot->span < found->span))) {
				found = slot;
				*of = t;
			}
		}
	}
	return found;
}

static bool is_busy_locked(const struct stream *t)
{
	bool busy = false;

	for (size_t k = 0; k < SLOTS; k++) {
		busy |= t->slots[k].users > 0 || t->slots[k].state == SLOT_WANTED ||
			t->slots[k].state == SLOT_LOADING;
	}
	return busy;
}

static void end_stream_locked(struct direct_reader *d, struct stream *t)
{
	file_cache_release(&d->store->files, t->file);
	close(t->fd);
	munmap(t->mapping, MAPPING_SIZE);
	*t = (struct stream){.fd = -1};
}

/* True while there are streams that may become idle. */
static bool end_idle_locked(struct direct_reader *d)
{
	uint64_t now = moment_now();
	bool some = false;

	for (size_t i = 0; i < ARRAY_SIZE(d->streams); i++) {
		struct stream *t = &d->streams[i];

		if (t->file && !is_busy_locked(t) && now - t->used >= IDLE_MS) {
			end_stream_locked(d, t);
		}
		some |= t->file != NULL;
	}
	return some;
}

static void wait_for_work_locked(struct direct_reader *d)
{
	if (end_idle_locked(d)) {
		struct timespec until = moment_after(IDLE_MS);

		pthread_cond_timedwait(&d->work, &d->lock, &until);
	} else {
		pthread_cond_wait(&d->work, &d->lock);
	}
}

static void *thread_main(void *context)
{
	struct direct_reader *d = context;
	struct stream *t = NULL;

	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		struct slot *slot = next_wanted_locked(d, &t);

		if (!slot) {
			wait_for_work_locked(d);
			continue;
		}
		slot->state = SLOT_LOADING;
		pthread_mutex_unlock(&d->lock);
		int rc = load(d, t, slot);

		pthread_mutex_lock(&d->lock);
		slot->state = rc == 0 ? SLOT_READY : SLOT_FAILED;
		pthread_cond_broadcast(&d->loaded);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* False when there is not even one. */
static bool start_threads_locked(struct direct_reader *d)
{
	while (d->thread_count < THREADS &&
	       thread_start(&d->threads[d->thread_count], 0, thread_main, d) == 0) {
		d->thread_count++;
	}
	return d->thread_count > 0;
}

/* ---- Beginning ---- */

struct direct_reader *direct_reader_new(struct local_store *s)
{
	struct direct_reader *d = xcalloc(1, sizeof(*d));

	d->store = s;
	d->possible = has_huge_pages();
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->work, NULL);
	pthread_cond_init(&d->loaded, NULL);
	return d;
}

void direct_reader_free(struct direct_reader *d)
{
	if (!d) {
		return;
	}
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_broadcast(&d->work);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < d->thread_count; i++) {
		pthread_join(d->threads[i], NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(d->streams); i++) {
		if (d->streams[i].file) {
			end_stream_locked(d, &d->streams[i]);
		}
	}
	pthread_cond_destroy(&d->work);
	pthread_cond_destroy(&d->loaded);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static struct stream *find_stream_locked(struct direct_reader *d, const struct cached_file *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->streams); i++) {
		if (d->streams[i].file == f) {
			return &d->streams[i];
		}
	}
	return NULL;
}

static struct stream *free_stream_locked(struct direct_reader *d)
{
	uint64_t now = moment_now();

	for (size_t i = 0; i < ARRAY_SIZE(d->streams); i++) {
		struct stream *t = &d->streams[i];

		if (t->file && !is_busy_locked(t) && now - t->used >= IDLE_WANTED_MS) {
			end_stream_locked(d, t);
		}
		if (!t->file) {
			return t;
		}
	}
	return NULL;
}

/* Not by malloc, which would keep it for later. */
static bool map_memory(struct stream *t)
{
	void *p = mmap(NULL, MAPPING_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED) {
		return false;
	}
	t->mapping = p;
	t->memory = (uint8_t *)p + (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
	madvise(t->memory, SLOTS * OUTBOARD_SPAN, MADV_HUGEPAGE);
	return true;
}

/* NULL when all are in use, or this file cannot be read so. */
static struct stream *begin_stream_locked(struct direct_reader *d, struct cached_file *f,
					  const struct location *l)
{
	struct stream *t = free_stream_locked(d);
	char name[LOCAL_NAME_SIZE];

	if (!t || !start_threads_locked(d)) {
		return NULL;
	}
	/* Found at once: it is open already, by another description. */
	local_file_name(name, &f->key);
	t->fd = openat_quietly(d->store->dirfd, name, O_NOFOLLOW | O_DIRECT);
	if (t->fd < 0) {
		d->possible = errno != EINVAL;
		return NULL;
	}
	if (!map_memory(t)) {
		close(t->fd);
		return NULL;
	}
	/* This one, even if others do not find it any more. */
	t->file = file_cache_ref(&d->store->files, f);
	t->location = *l;
	return t;
}

/* ---- Reading ---- */

/* True when this goes on with what was read of the file before, and enough of it. */
static bool note_run_locked(struct cached_file *f, uint64_t offset, size_t len)
{
	uint64_t end = offset + len;
	bool goes_on = offset + OVERTAKING >= f->run_end && offset <= f->run_end + OVERTAKING;

	if (!goes_on) {
		f->run = 0;
		f->run_end = offset;
	}
	if (end > f->run_end) {
		f->run += MIN(len, end - f->run_end);
		f->run_end = end;
	}
	return f->run >= RUN_MIN;
}

/* Those that are of use to who reads at this span. */
static bool is_near(uint64_t span, uint64_t at)
{
	return span + 1 >= at && span <= at + SPANS_AHEAD;
}

/* The span's slot, which has it, or is to get it; NULL when it is needed for another one. */
static struct slot *want_locked(struct direct_reader *d, struct stream *t, uint64_t span)
{
	uint64_t head = (t->file->run_end - 1) / OUTBOARD_SPAN;
	struct slot *slot = &t->slots[span % SLOTS];

	if (slot->state != SLOT_EMPTY && slot->span == span) {
		return slot->state == SLOT_FAILED ? NULL : slot;
	}
	if (slot->state == SLOT_LOADING || slot->users > 0 ||
	    (slot->state != SLOT_EMPTY && is_near(slot->span, head))) {
		return NULL;
	}
	slot->state = SLOT_WANTED;
	slot->span = span;
	pthread_cond_signal(&d->work);
	return slot;
}

static void want_ahead_locked(struct direct_reader *d, struct stream *t, uint64_t span)
{
	uint64_t count = outboard_span_count(t->location.size);

	for (uint64_t i = span + 1; i < count && i <= span + SPANS_AHEAD; i++) {
		want_locked(d, t, i);
	}
}

/* As direct_reader_read(), of a range inside of one span. */
static int read_span_locked(struct direct_reader *d, struct stream *t, void *buf, size_t len,
			    uint64_t offset, unsigned flags, struct error *err)
{
	uint64_t span = offset / OUTBOARD_SPAN;
	struct slot *slot = want_locked(d, t, span);

	if (!slot) {
		return 0;
	}
	if (slot->state != SLOT_READY && (flags & LOCAL_READ_NOWAIT)) {
		return error_set(err, ERROR_WOULD_BLOCK, "a large blob is not in memory");
	}
	slot->users++;
	while (slot->state == SLOT_WANTED || slot->state == SLOT_LOADING) {
		pthread_cond_wait(&d->loaded, &d->lock);
	}
	bool ready = slot->state == SLOT_READY;

	if (ready) {
		pthread_mutex_unlock(&d->lock);
		memcpy(buf, place_of(t, slot) + offset % OUTBOARD_SPAN, len);
		pthread_mutex_lock(&d->lock);
	}
	slot->users--;
	return ready;
}

static int read_range_locked(struct direct_reader *d, struct stream *t, uint8_t *buf,
			     size_t len, uint64_t offset, unsigned flags, struct error *err)
{
	int rc = 1;

	for (size_t done = 0; rc > 0 && done < len;) {
		uint64_t at = offset + done;
		size_t part = (size_t)MIN(len - done, OUTBOARD_SPAN - at % OUTBOARD_SPAN);

		rc = read_span_locked(d, t, buf + done, part, at, flags, err);
		done += part;
	}
	return rc;
}

/* Asker: 0 when it is no case for this. */
static int find_or_begin_locked(struct direct_reader *d, struct cached_file *f,
				const struct location *l, uint64_t offset, bool in_order,
				unsigned flags, struct stream **out, struct error *err)
{
	uint64_t span = offset / OUTBOARD_SPAN;

	*out = find_stream_locked(d, f);
	if (*out || (!in_order && offset != 0) || !is_cold(f->fd, span, l->size)) {
		return *out != NULL && (in_order || offset == 0);
	}
	if (flags & LOCAL_READ_NOWAIT) {
		return error_set(err, ERROR_WOULD_BLOCK, "a large blob is not in memory");
	}
	*out = begin_stream_locked(d, f, l);
	return *out != NULL;
}

static int read_locked(struct direct_reader *d, struct cached_file *f, const struct location *l,
		       void *buf, size_t len, uint64_t offset, unsigned flags,
		       struct error *err)
{
	struct stream *t;
	bool in_order = note_run_locked(f, offset, len);
	int rc = find_or_begin_locked(d, f, l, offset, in_order, flags, &t, err);

	if (rc <= 0) {
		return rc;
	}
	t->used = moment_now();
	if (in_order) {
		want_ahead_locked(d, t, (offset + len - 1) / OUTBOARD_SPAN);
	}
	return read_range_locked(d, t, buf, len, offset, flags, err);
}

int direct_reader_read(struct direct_reader *d, struct cached_file *f, const struct location *l,
		       void *buf, size_t len, uint64_t offset, unsigned flags,
		       struct error *err)
{
	if (l->size < SIZE_MIN) {
		return 0;
	}
	pthread_mutex_lock(&d->lock);
	int rc = d->possible ? read_locked(d, f, l, buf, len, offset, flags, err) : 0;

	pthread_mutex_unlock(&d->lock);
	return rc;
}
