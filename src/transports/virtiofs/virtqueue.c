#include "transports/virtiofs/virtqueue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

/* Offsets within the rings; u16 flags and u16 index are in front of both. */
#define RING_FLAGS 0
#define RING_INDEX 2
#define RING_ENTRIES 4
#define USED_ENTRY_SIZE 8u
#define DESCRIPTOR_SIZE 16u

static uint16_t load16(const uint8_t *p)
{
	return le16toh(atomic_load_explicit((const _Atomic uint16_t *)(const void *)p,
					    memory_order_acquire));
}

static void store16(uint8_t *p, uint16_t v)
{
	atomic_store_explicit((_Atomic uint16_t *)(void *)p, htole16(v), memory_order_release);
}

void virtqueue_init(struct virtqueue *q)
{
	*q = (struct virtqueue){.call_fd = -1};
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->drained, NULL);
}

void virtqueue_done(struct virtqueue *q)
{
	virtqueue_set_call(q, -1);
	virtqueue_set_log(q, NULL);
	pthread_cond_destroy(&q->drained);
	pthread_mutex_destroy(&q->lock);
}

/* ---- Where the rings are ---- */

struct places {
	uint64_t descriptors;
	uint8_t *available;
	struct guest_span used;
};

static size_t available_size(const struct virtqueue_setup *s)
{
	return RING_ENTRIES + (size_t)s->size * 2 + 2;
}

static size_t used_size(const struct virtqueue_setup *s)
{
	return RING_ENTRIES + (size_t)s->size * USED_ENTRY_SIZE + 2;
}

static int find_part(const struct guest_memory *m, const char *what, uint64_t user_address,
		     size_t size, size_t alignment, struct guest_span *out, struct error *err)
{
	out->ptr = guest_memory_at_user(m, user_address, size, &out->address);
	out->len = size;
	if (!out->ptr || (uintptr_t)out->ptr % alignment != 0 ||
	    out->address % alignment != 0) {
		return error_set(err, ERROR_INVALID,
				 "the %s of %zu bytes at user address %#jx is not in the "
				 "guest's memory, or not aligned",
				 what, size, (uintmax_t)user_address);
	}
	return 0;
}

static int find_places(const struct virtqueue_setup *s, const struct guest_memory *m,
		       struct places *out, struct error *err)
{
	struct guest_span descriptors = {.len = 0};
	struct guest_span available = {.len = 0};
	struct guest_span used = {.len = 0};

	if (s->size == 0 || s->size > VIRTQUEUE_SIZE_MAX || (s->size & (s->size - 1)) != 0) {
		return error_set(err, ERROR_INVALID,
				 "a queue of %u descriptors: it must be a power of two up to "
				 "%u",
				 s->size, VIRTQUEUE_SIZE_MAX);
	}
	int rc = find_part(m, "table of descriptors", s->descriptors,
			   (size_t)s->size * DESCRIPTOR_SIZE, 16, &descriptors, err);

	if (rc == 0) {
		rc = find_part(m, "ring of available chains", s->available, available_size(s),
			       2, &available, err);
	}
	if (rc == 0) {
		rc = find_part(m, "ring of used chains", s->used, used_size(s), 4, &used, err);
	}
	if (rc == 0) {
		*out = (struct places){.descriptors = descriptors.address,
				       .available = available.ptr,
				       .used = used};
	}
	return rc;
}

int virtqueue_move(struct virtqueue *q, const struct virtqueue_setup *setup,
		   struct guest_memory *memory, struct error *err)
{
	struct places p = {.available = NULL};
	int rc = find_places(setup, memory, &p, err);

	if (rc != 0) {
		return rc;
	}
	struct guest_memory *old = q->memory;

	q->memory = guest_memory_ref(memory);
	q->descriptors = p.descriptors;
	pthread_mutex_lock(&q->lock);
	q->setup = *setup;
	q->available = p.available;
	q->used = p.used.ptr;
	q->used_address = p.used.address;
	pthread_mutex_unlock(&q->lock);
	guest_memory_unref(old);
	return 0;
}

int virtqueue_start(struct virtqueue *q, const struct virtqueue_setup *setup,
		    struct guest_memory *memory, struct error *err)
{
	int rc = virtqueue_move(q, setup, memory, err);

	if (rc == 0) {
		q->next = setup->base;
		/* What was used before us, perhaps by another device, stays used. */
		q->used_next = load16(q->used + RING_INDEX);
		q->called = false;
	}
	return rc;
}

void virtqueue_stop(struct virtqueue *q)
{
	pthread_mutex_lock(&q->lock);
	while (q->in_flight > 0) {
		pthread_cond_wait(&q->drained, &q->lock);
	}
	q->available = NULL;
	q->used = NULL;
	pthread_mutex_unlock(&q->lock);
	guest_memory_unref(q->memory);
	q->memory = NULL;
}

/* ---- Chains that are available ---- */

struct descriptor {
	uint64_t address;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* Where the descriptors of a chain are read from: the queue's table, or an indirect one. */
struct table {
	uint64_t address;
	uint32_t count;
	bool indirect;
};

static int read_descriptor(const struct virtqueue *q, const struct table *t, uint32_t index,
			   struct descriptor *out, struct error *err)
{
	struct vring_desc d;

	if (index >= t->count) {
		return error_set(err, ERROR_INVALID, "descriptor %u of %u", index, t->count);
	}
	if (!guest_memory_read(q->memory, t->address + (uint64_t)index * DESCRIPTOR_SIZE, &d,
			       sizeof(d))) {
		return error_set(err, ERROR_INVALID,
				 "a table of descriptors outside of memory");
	}
	*out = (struct descriptor){.address = le64toh(d.addr),
				   .len = le32toh(d.len),
				   .flags = le16toh(d.flags),
				   .next = le16toh(d.next)};
	return 0;
}

/* The memory of one descriptor, which may lie across regions. */
static int add_spans(const struct virtqueue *q, const struct descriptor *d, struct chain *c,
		     struct error *err)
{
	bool writable = d->flags & VRING_DESC_F_WRITE;
	uint64_t address = d->address;
	size_t left = d->len;

	if (!writable && c->writable > 0) {
		return error_set(err, ERROR_INVALID, "bytes to read behind room to write");
	}
	while (left > 0) {
		size_t n = left;
		uint8_t *ptr = guest_memory_at(q->memory, address, &n);

		if (!ptr) {
			return error_set(err, ERROR_INVALID,
					 "a descriptor for %u bytes at %#jx, outside of memory",
					 d->len, (uintmax_t)d->address);
		}
		if (c->readable + c->writable == CHAIN_SPANS_MAX) {
			return error_set(err, ERROR_LIMIT, "a chain of too many pieces");
		}
		c->spans[c->readable + c->writable] =
			(struct guest_span){.ptr = ptr, .len = n, .address = address};
		*(writable ? &c->writable : &c->readable) += 1;
		*(writable ? &c->writable_len : &c->readable_len) += n;
		address += n;
		left -= n;
	}
	return 0;
}

/* Goes over from a descriptor to the table that it refers to. */
static int enter_table(const struct virtqueue *q, const struct descriptor *d, struct table *t,
		       struct error *err)
{
	if (!q->setup.indirect || t->indirect) {
		return error_set(err, ERROR_INVALID, "an indirect table that is not allowed");
	}
	if ((d->flags & VRING_DESC_F_NEXT) || d->len == 0 || d->len % DESCRIPTOR_SIZE != 0) {
		return error_set(err, ERROR_INVALID,
				 "an indirect table of %u bytes, with flags %#x", d->len,
				 d->flags);
	}
	*t = (struct table){
		.address = d->address, .count = d->len / DESCRIPTOR_SIZE, .indirect = true};
	return 0;
}

static int read_chain(const struct virtqueue *q, struct chain *c, struct error *err)
{
	struct table t = {.address = q->descriptors, .count = q->setup.size};
	struct descriptor d = {.len = 0};
	uint32_t index = c->head;
	/* Ends loops: a chain is never longer than the largest queue. */
	unsigned left = VIRTQUEUE_SIZE_MAX + 1;

	for (;;) {
		int rc = left-- > 0 ? read_descriptor(q, &t, index, &d, err)
				    : error_set(err, ERROR_LIMIT, "a chain without end");

		if (rc == 0 && (d.flags & VRING_DESC_F_INDIRECT)) {
			rc = enter_table(q, &d, &t, err);
			index = 0;
		} else if (rc == 0) {
			rc = add_spans(q, &d, c, err);
			index = d.next;
			if (rc == 0 && !(d.flags & VRING_DESC_F_NEXT)) {
				return 0;
			}
		}
		if (rc != 0) {
			return rc;
		}
	}
}

bool virtqueue_has_work(const struct virtqueue *q)
{
	return load16(q->available + RING_INDEX) != q->next;
}

/* Counts a chain as in flight: no more than there are descriptors. */
static bool take_off(struct virtqueue *q)
{
	pthread_mutex_lock(&q->lock);
	bool room = q->in_flight < q->setup.size;

	q->in_flight += room;
	pthread_mutex_unlock(&q->lock);
	return room;
}

static void land(struct virtqueue *q)
{
	q->in_flight--;
	if (q->in_flight == 0) {
		pthread_cond_broadcast(&q->drained);
	}
}

int virtqueue_pop(struct virtqueue *q, struct chain *out, struct error *err)
{
	uint16_t available = (uint16_t)(load16(q->available + RING_INDEX) - q->next);

	if (available == 0) {
		return 0;
	}
	if (available > q->setup.size) {
		return error_set(err, ERROR_INVALID, "%u chains in a ring of %u", available,
				 q->setup.size);
	}
	size_t entry = q->next & (q->setup.size - 1);

	out->head = load16(q->available + RING_ENTRIES + entry * 2);
	out->readable = 0;
	out->writable = 0;
	out->readable_len = 0;
	out->writable_len = 0;
	int rc = read_chain(q, out, err);

	if (rc == 0 && !take_off(q)) {
		rc = error_set(err, ERROR_INVALID, "more chains than descriptors");
	}
	if (rc != 0) {
		return rc;
	}
	q->next++;
	return 1;
}

/* ---- Chains that were used ---- */

/* True when the guest wants to be told of what was put into the ring since the last time. */
static bool wants_call(struct virtqueue *q)
{
	uint16_t old = q->called_at;
	bool called = q->called;

	/* The index must be there before we look at what the guest wants. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->setup.event_idx) {
		return !(load16(q->available + RING_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT);
	}
	uint16_t event = load16(q->available + available_size(&q->setup) - 2);

	q->called_at = q->used_next;
	q->called = true;
	return !called || vring_need_event(event, q->used_next, old);
}

/* Notes a write to the used ring. */
static void mark_used(struct virtqueue *q, size_t offset, size_t len)
{
	dirty_log_mark(q->log, q->used_address + offset, len);
}

static void mark_room(struct virtqueue *q, const struct room *room, size_t written)
{
	for (unsigned i = 0; i < room->count && written > 0; i++) {
		size_t n = MIN(written, room->spans[i].len);

		dirty_log_mark(q->log, room->spans[i].address, n);
		written -= n;
	}
}

void virtqueue_push(struct virtqueue *q, uint16_t head, const struct room *room,
		    uint32_t written)
{
	pthread_mutex_lock(&q->lock);
	size_t entry = q->used_next & (q->setup.size - 1);
	const struct vring_used_elem e = {.id = htole32(head), .len = htole32(written)};

	memcpy(q->used + RING_ENTRIES + entry * USED_ENTRY_SIZE, &e, sizeof(e));
	q->used_next++;
	store16(q->used + RING_INDEX, q->used_next);
	if (q->log) {
		mark_room(q, room, written);
		mark_used(q, RING_ENTRIES + entry * USED_ENTRY_SIZE, sizeof(e));
		mark_used(q, RING_INDEX, sizeof(uint16_t));
	}
	if (wants_call(q)) {
		virtqueue_signal(q->call_fd);
	}
	land(q);
	pthread_mutex_unlock(&q->lock);
}

void virtqueue_quiet(struct virtqueue *q)
{
	/* With event indexes it is enough not to move ours on. */
	if (!q->setup.event_idx) {
		store16(q->used + RING_FLAGS, VRING_USED_F_NO_NOTIFY);
		mark_used(q, RING_FLAGS, sizeof(uint16_t));
	}
}

bool virtqueue_listen(struct virtqueue *q)
{
	if (q->setup.event_idx) {
		store16(q->used + used_size(&q->setup) - 2, q->next);
		mark_used(q, used_size(&q->setup) - 2, sizeof(uint16_t));
	} else {
		store16(q->used + RING_FLAGS, 0);
		mark_used(q, RING_FLAGS, sizeof(uint16_t));
	}
	/* A guest that did not see this has put its chain there before we look. */
	atomic_thread_fence(memory_order_seq_cst);
	return virtqueue_has_work(q);
}

void virtqueue_set_call(struct virtqueue *q, int fd)
{
	pthread_mutex_lock(&q->lock);
	int old = q->call_fd;

	q->call_fd = fd;
	pthread_mutex_unlock(&q->lock);
	if (old >= 0) {
		close(old);
	}
}

void virtqueue_set_log(struct virtqueue *q, struct dirty_log *log)
{
	pthread_mutex_lock(&q->lock);
	struct dirty_log *old = q->log;

	q->log = log ? dirty_log_ref(log) : NULL;
	pthread_mutex_unlock(&q->lock);
	dirty_log_unref(old);
}

void virtqueue_signal(int fd)
{
	const uint64_t one = 1;
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	/* One that is full has been signalled often enough, and writing would wait. */
	if (fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLOUT)) {
		ssize_t n = write(fd, &one, sizeof(one));
		(void)n;
	}
}
