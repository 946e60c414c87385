#include "transports/virtiofs/vhost_device.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

static const uint64_t offered_features = VIRTIO_F_RING_INDIRECT_DESC | VIRTIO_F_RING_EVENT_IDX |
					 VHOST_F_PROTOCOL_FEATURES | VIRTIO_F_VERSION_1;

static const uint64_t offered_protocol_features =
	VHOST_PROTOCOL_MQ | VHOST_PROTOCOL_REPLY_ACK | VHOST_PROTOCOL_BACKEND_REQ |
	VHOST_PROTOCOL_RESET_DEVICE | VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS;

static void close_fd(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}

/* ---- Rings ---- */

static void ring_init(struct vhost_ring *r)
{
	virtqueue_init(&r->queue);
	r->kick_fd = -1;
	r->error_fd = -1;
}

static void unwatch(const struct vhost_device *d, struct vhost_ring *r)
{
	if (r->kick_fd >= 0) {
		/* The front end has the same eventfd open, so closing ours does not do this. */
		(void)epoll_ctl(d->events, EPOLL_CTL_DEL, r->kick_fd, NULL);
		close_fd(&r->kick_fd);
	}
}

static int watch(const struct vhost_device *d, struct vhost_ring *r, int fd, struct error *err)
{
	/* Every kick is an edge, so nobody has to read what was written. */
	struct epoll_event e = {.events = EPOLLIN | EPOLLET,
				.data.u32 = (uint32_t)(r - d->rings)};

	unwatch(d, r);
	if (epoll_ctl(d->events, EPOLL_CTL_ADD, fd, &e) != 0) {
		return error_set_errno(err, errno, "cannot wait for kicks");
	}
	r->kick_fd = fd;
	return 0;
}

static void ring_stop(const struct vhost_device *d, struct vhost_ring *r)
{
	unwatch(d, r);
	if (r->started) {
		virtqueue_stop(&r->queue);
		r->setup.base = r->queue.next;
		r->started = false;
	}
	r->broken = false;
}

static void ring_reset(const struct vhost_device *d, struct vhost_ring *r)
{
	ring_stop(d, r);
	r->setup = (struct virtqueue_setup){.size = 0};
	r->enabled = false;
}

bool vhost_ring_runs(const struct vhost_ring *r)
{
	return r->started && r->enabled && !r->broken;
}

void vhost_ring_break(struct vhost_ring *r)
{
	r->broken = true;
	virtqueue_signal(r->error_fd);
}

static int ring_start(struct vhost_device *d, struct vhost_ring *r, struct error *err)
{
	if (!(d->features & VIRTIO_F_VERSION_1)) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "the guest's driver is too old: it does not know virtio 1");
	}
	r->setup.indirect = d->features & VIRTIO_F_RING_INDIRECT_DESC;
	r->setup.event_idx = d->features & VIRTIO_F_RING_EVENT_IDX;
	int rc = virtqueue_start(&r->queue, &r->setup, d->memory, err);

	if (rc == 0) {
		r->started = true;
		/* Without protocol features nobody will say so. */
		r->enabled = r->enabled || !(d->features & VHOST_F_PROTOCOL_FEATURES);
	}
	if (rc == 0 && r->setup.base != 0) {
		d->owner.resume(d->owner.context);
	}
	return rc;
}

/* ---- The device ---- */

struct vhost_device *vhost_device_new(int socket, int events,
				      const struct vhost_device_owner *owner)
{
	struct vhost_device *d = xcalloc(1, sizeof(*d));

	d->socket = socket;
	d->events = events;
	d->owner = *owner;
	d->backend_fd = -1;
	d->memory = guest_memory_new();
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		ring_init(&d->rings[i]);
	}
	return d;
}

void vhost_device_free(struct vhost_device *d)
{
	if (!d) {
		return;
	}
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		ring_stop(d, &d->rings[i]);
		close_fd(&d->rings[i].error_fd);
		virtqueue_done(&d->rings[i].queue);
	}
	guest_memory_unref(d->memory);
	close_fd(&d->backend_fd);
	close_fd(&d->socket);
	free(d);
}

/*
 * A new map takes the place of the old one, which lives on as long as somebody works in it.
 * Rings that are not in it stand still from now on.
 */
static void take_memory(struct vhost_device *d, struct guest_memory *memory)
{
	struct error err;

	guest_memory_unref(d->memory);
	d->memory = memory;
	for (unsigned i = 0; i < d->ring_count; i++) {
		struct vhost_ring *r = &d->rings[i];

		if (r->started &&
		    virtqueue_move(&r->queue, &r->queue.setup, memory, &err) < 0) {
			log_warning("queue %u of a guest stops, its memory was taken away: %s",
				    i, err.text);
			vhost_ring_break(r);
		}
	}
}

static int find_ring(struct vhost_device *d, uint64_t index, struct vhost_ring **out,
		     struct error *err)
{
	if (index >= VHOST_RINGS_MAX) {
		return error_set(err, ERROR_INVALID, "ring %ju of %u", (uintmax_t)index,
				 VHOST_RINGS_MAX);
	}
	d->ring_count = MAX(d->ring_count, (unsigned)index + 1);
	*out = &d->rings[index];
	return 0;
}

static int take_fd(struct vhost_message *m)
{
	int fd = m->fds[0];

	m->fds[0] = -1;
	return fd;
}

/* ---- Messages ---- */

static int get_features(struct vhost_device *d unused, struct vhost_message *m,
			struct error *err unused)
{
	m->payload.number = offered_features;
	return 0;
}

static int get_protocol_features(struct vhost_device *d unused, struct vhost_message *m,
				 struct error *err unused)
{
	m->payload.number = offered_protocol_features;
	return 0;
}

static int choose_features(uint64_t chosen, uint64_t offered, uint64_t *out, struct error *err)
{
	if (chosen & ~offered) {
		return error_set(err, ERROR_INVALID, "features %#jx were not offered",
				 (uintmax_t)(chosen & ~offered));
	}
	*out = chosen;
	return 0;
}

static int set_features(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	return choose_features(m->payload.number, offered_features, &d->features, err);
}

static int set_protocol_features(struct vhost_device *d, struct vhost_message *m,
				 struct error *err)
{
	return choose_features(m->payload.number, offered_protocol_features,
			       &d->protocol_features, err);
}

static int get_queue_num(struct vhost_device *d unused, struct vhost_message *m,
			 struct error *err unused)
{
	m->payload.number = VHOST_RINGS_MAX;
	return 0;
}

static int get_max_mem_slots(struct vhost_device *d unused, struct vhost_message *m,
			     struct error *err unused)
{
	m->payload.number = GUEST_REGIONS_MAX;
	return 0;
}

/* Deprecated, and to be ignored. */
static int do_nothing(struct vhost_device *d unused, struct vhost_message *m unused,
		      struct error *err unused)
{
	return 0;
}

static struct guest_region region_of(const struct vhost_region *r)
{
	return (struct guest_region){.address = r->address,
				     .size = r->size,
				     .user_address = r->user_address,
				     .offset = r->offset};
}

/* Replaces all regions, or none. */
static int set_mem_table(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	const struct vhost_region_table *t = &m->payload.table;
	size_t size = offsetof(struct vhost_region_table, regions);

	if (m->header.size < size || t->count > VHOST_TABLE_REGIONS_MAX ||
	    m->header.size < size + t->count * sizeof(t->regions[0]) ||
	    m->fd_count != t->count) {
		return error_set(err, ERROR_INVALID,
				 "a table of %u regions in %u bytes with %zu descriptors",
				 t->count, m->header.size, m->fd_count);
	}
	struct guest_memory *memory = guest_memory_new();
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < t->count; i++) {
		const struct guest_region region = region_of(&t->regions[i]);
		struct guest_memory *grown;

		rc = guest_memory_add(memory, &region, m->fds[i], &grown, err);
		if (rc == 0) {
			guest_memory_unref(memory);
			memory = grown;
		}
	}
	if (rc != 0) {
		guest_memory_unref(memory);
		return rc;
	}
	take_memory(d, memory);
	return 0;
}

static int add_mem_reg(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	const struct guest_region region = region_of(&m->payload.region.region);
	struct guest_memory *memory;
	int rc = guest_memory_add(d->memory, &region, m->fds[0], &memory, err);

	if (rc == 0) {
		take_memory(d, memory);
	}
	return rc;
}

static int rem_mem_reg(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	const struct guest_region region = region_of(&m->payload.region.region);
	struct guest_memory *memory;
	int rc = guest_memory_remove(d->memory, &region, &memory, err);

	if (rc == 0) {
		take_memory(d, memory);
	}
	return rc;
}

/* A ring that does not run: only then may its size and base change. */
static int find_stopped_ring(struct vhost_device *d, uint32_t index, struct vhost_ring **out,
			     struct error *err)
{
	int rc = find_ring(d, index, out, err);

	if (rc == 0 && (*out)->started) {
		rc = error_set(err, ERROR_INVALID, "ring %u is running", index);
	}
	return rc;
}

static int set_vring_num(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_stopped_ring(d, m->payload.state.index, &r, err);

	if (rc == 0) {
		r->setup.size = m->payload.state.num;
	}
	return rc;
}

static int set_vring_base(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_stopped_ring(d, m->payload.state.index, &r, err);

	if (rc == 0 && m->payload.state.num > UINT16_MAX) {
		rc = error_set(err, ERROR_INVALID, "ring %u begins at %u",
			       m->payload.state.index, m->payload.state.num);
	}
	if (rc == 0) {
		r->setup.base = (uint16_t)m->payload.state.num;
	}
	return rc;
}

static int set_vring_addr(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	const struct vhost_vring_addr *a = &m->payload.addr;
	struct vhost_ring *r = NULL;
	int rc = find_ring(d, a->index, &r, err);

	if (rc != 0) {
		return rc;
	}
	struct virtqueue_setup setup = r->setup;

	setup.descriptors = a->descriptors;
	setup.available = a->available;
	setup.used = a->used;
	if (r->started) {
		rc = virtqueue_move(&r->queue, &setup, d->memory, err);
	}
	if (rc == 0) {
		r->setup = setup;
	}
	return rc;
}

/* Stops the ring; the answer is where to go on. */
static int get_vring_base(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_ring(d, m->payload.state.index, &r, err);

	if (rc == 0) {
		ring_stop(d, r);
		m->payload.state.num = r->setup.base;
	}
	return rc;
}

/* The ring that a message brings a descriptor for; *fd is -1 when it says that there is none.
 */
static int take_ring_fd(struct vhost_device *d, struct vhost_message *m,
			struct vhost_ring **out, int *fd, struct error *err)
{
	uint64_t number = m->payload.number;
	bool none = number & VHOST_VRING_NO_FD;
	int rc = find_ring(d, number & VHOST_VRING_INDEX_MASK, out, err);

	if (rc == 0 && m->fd_count != (none ? 0 : 1)) {
		rc = error_set(err, ERROR_INVALID, "%zu descriptors for ring %#jx", m->fd_count,
			       (uintmax_t)number);
	}
	if (rc == 0) {
		*fd = none ? -1 : take_fd(m);
	}
	return rc;
}

static int set_vring_kick(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int fd = -1;
	int rc = take_ring_fd(d, m, &r, &fd, err);

	if (rc == 0 && fd < 0) {
		rc = error_set(err, ERROR_UNSUPPORTED, "a ring without kicks");
	}
	if (rc == 0) {
		rc = watch(d, r, fd, err);
	}
	if (rc != 0) {
		cleanup_close(&fd);
		return rc;
	}
	rc = r->started ? 0 : ring_start(d, r, err);
	if (rc != 0) {
		unwatch(d, r);
	}
	return rc;
}

static int set_vring_call(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int fd = -1;
	int rc = take_ring_fd(d, m, &r, &fd, err);

	if (rc == 0) {
		virtqueue_set_call(&r->queue, fd);
	}
	return rc;
}

static int set_vring_err(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int fd = -1;
	int rc = take_ring_fd(d, m, &r, &fd, err);

	if (rc == 0) {
		close_fd(&r->error_fd);
		r->error_fd = fd;
	}
	return rc;
}

static int set_vring_enable(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_ring(d, m->payload.state.index, &r, err);

	if (rc == 0) {
		r->enabled = m->payload.state.num != 0;
	}
	return rc;
}

static int set_backend_req_fd(struct vhost_device *d, struct vhost_message *m,
			      struct error *err unused)
{
	close_fd(&d->backend_fd);
	d->backend_fd = take_fd(m);
	return 0;
}

/* Memory stays: the front end does not send it again. */
static int reset_device(struct vhost_device *d, struct vhost_message *m unused,
			struct error *err unused)
{
	for (unsigned i = 0; i < d->ring_count; i++) {
		ring_reset(d, &d->rings[i]);
	}
	d->owner.reset(d->owner.context);
	return 0;
}

/* ---- Taking messages in ---- */

#define SIZE_VARIES UINT32_MAX
#define FDS_VARY UINT32_MAX

struct vhost_operation {
	int (*handle)(struct vhost_device *d, struct vhost_message *m, struct error *err);
	uint32_t size; /* of its payload */
	uint32_t fds;
	uint32_t answer; /* size of an answer that belongs to it; 0: none */
};

static const struct vhost_operation operations[VHOST_REQUEST_COUNT] = {
	[VHOST_GET_FEATURES] = {get_features, 0, 0, sizeof(uint64_t)},
	[VHOST_SET_FEATURES] = {set_features, sizeof(uint64_t), 0, 0},
	[VHOST_SET_OWNER] = {do_nothing, 0, 0, 0},
	[VHOST_RESET_OWNER] = {do_nothing, 0, 0, 0},
	[VHOST_SET_MEM_TABLE] = {set_mem_table, SIZE_VARIES, FDS_VARY, 0},
	[VHOST_SET_VRING_NUM] = {set_vring_num, sizeof(struct vhost_vring_state), 0, 0},
	[VHOST_SET_VRING_ADDR] = {set_vring_addr, sizeof(struct vhost_vring_addr), 0, 0},
	[VHOST_SET_VRING_BASE] = {set_vring_base, sizeof(struct vhost_vring_state), 0, 0},
	[VHOST_GET_VRING_BASE] = {get_vring_base, sizeof(struct vhost_vring_state), 0,
				  sizeof(struct vhost_vring_state)},
	[VHOST_SET_VRING_KICK] = {set_vring_kick, sizeof(uint64_t), FDS_VARY, 0},
	[VHOST_SET_VRING_CALL] = {set_vring_call, sizeof(uint64_t), FDS_VARY, 0},
	[VHOST_SET_VRING_ERR] = {set_vring_err, sizeof(uint64_t), FDS_VARY, 0},
	[VHOST_GET_PROTOCOL_FEATURES] = {get_protocol_features, 0, 0, sizeof(uint64_t)},
	[VHOST_SET_PROTOCOL_FEATURES] = {set_protocol_features, sizeof(uint64_t), 0, 0},
	[VHOST_GET_QUEUE_NUM] = {get_queue_num, 0, 0, sizeof(uint64_t)},
	[VHOST_SET_VRING_ENABLE] = {set_vring_enable, sizeof(struct vhost_vring_state), 0, 0},
	[VHOST_SET_BACKEND_REQ_FD] = {set_backend_req_fd, 0, 1, 0},
	[VHOST_RESET_DEVICE] = {reset_device, 0, 0, 0},
	[VHOST_GET_MAX_MEM_SLOTS] = {get_max_mem_slots, 0, 0, sizeof(uint64_t)},
	[VHOST_ADD_MEM_REG] = {add_mem_reg, sizeof(struct vhost_single_region), 1, 0},
	/* Some front ends send the descriptor once more. */
	[VHOST_REM_MEM_REG] = {rem_mem_reg, sizeof(struct vhost_single_region), FDS_VARY, 0},
};

static const struct vhost_operation *find_operation(const struct vhost_message *m,
						    struct error *err)
{
	const struct vhost_operation *op = NULL;

	if (m->header.request < VHOST_REQUEST_COUNT && operations[m->header.request].handle) {
		op = &operations[m->header.request];
	}
	if (!op) {
		error_set(err, ERROR_UNSUPPORTED, "message %u is unknown", m->header.request);
		return NULL;
	}
	if ((op->size != SIZE_VARIES && m->header.size != op->size) ||
	    (op->fds != FDS_VARY && m->fd_count != op->fds)) {
		error_set(err, ERROR_INVALID, "message %u has %u bytes and %zu descriptors",
			  m->header.request, m->header.size, m->fd_count);
		return NULL;
	}
	return op;
}

/* 0 also when a message was refused that the front end waits for an answer to. */
static int dispatch(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	const struct vhost_operation *op = find_operation(m, err);
	bool acknowledge = (m->header.flags & VHOST_NEED_REPLY) &&
			   (d->protocol_features & VHOST_PROTOCOL_REPLY_ACK);
	int rc = op ? op->handle(d, m, err) : -(int)err->code;

	if (rc == 0 && op->answer > 0) {
		return vhost_socket_reply(d->socket, m, op->answer, err);
	}
	if (acknowledge && (!op || op->answer == 0)) {
		if (rc != 0) {
			log_warning("a front end's message is refused: %s", err->text);
		}
		m->payload.number = rc != 0;
		return vhost_socket_reply(d->socket, m, sizeof(m->payload.number), err);
	}
	return rc;
}

int vhost_device_receive(struct vhost_device *d, struct error *err)
{
	struct vhost_message m;
	int rc = vhost_socket_receive(d->socket, &m, err);

	if (rc > 0) {
		rc = dispatch(d, &m, err) == 0 ? 1 : -(int)err->code;
	}
	vhost_message_done(&m);
	return rc;
}
