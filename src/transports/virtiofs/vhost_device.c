#include "transports/virtiofs/vhost_device_internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/fs.h"

static const uint64_t offered_features = VHOST_F_LOG_ALL | VIRTIO_F_RING_INDIRECT_DESC |
					 VIRTIO_F_RING_EVENT_IDX | VHOST_F_PROTOCOL_FEATURES |
					 VIRTIO_F_VERSION_1;

static const uint64_t offered_protocol_features =
	VHOST_PROTOCOL_MQ | VHOST_PROTOCOL_LOG_SHMFD | VHOST_PROTOCOL_REPLY_ACK |
	VHOST_PROTOCOL_BACKEND_REQ | VHOST_PROTOCOL_RESET_DEVICE |
	VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS | VHOST_PROTOCOL_DEVICE_STATE;

/* ---- The device ---- */

struct vhost_device *vhost_device_new(int socket, int events,
				      const struct vhost_device_owner *owner)
{
	struct vhost_device *d = xcalloc(1, sizeof(*d));

	d->socket = socket;
	d->events = events;
	d->owner = *owner;
	d->backend_fd = -1;
	d->transfer_fd = -1;
	d->memory = guest_memory_new();
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		vhost_ring_init(&d->rings[i]);
	}
	return d;
}

void vhost_device_free(struct vhost_device *d)
{
	if (!d) {
		return;
	}
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		vhost_ring_stop(d, &d->rings[i]);
		vhost_close_fd(&d->rings[i].error_fd);
		virtqueue_done(&d->rings[i].queue);
	}
	guest_memory_unref(d->memory);
	dirty_log_unref(d->log);
	vhost_close_fd(&d->transfer_fd);
	vhost_close_fd(&d->backend_fd);
	vhost_close_fd(&d->socket);
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

/* From when this returns, what is written is noted, or is not. */
static void apply_log(struct vhost_device *d)
{
	struct dirty_log *log = d->features & VHOST_F_LOG_ALL ? d->log : NULL;

	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		virtqueue_set_log(&d->rings[i].queue, log);
	}
}

static int set_features(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	int rc = choose_features(m->payload.number, offered_features, &d->features, err);

	if (rc == 0) {
		apply_log(d);
	}
	return rc;
}

static int set_log_base(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct dirty_log *log;
	int rc =
		dirty_log_new(m->fds[0], m->payload.log.size, m->payload.log.offset, &log, err);

	if (rc == 0) {
		dirty_log_unref(d->log);
		d->log = log;
		apply_log(d);
		m->payload.number = 0;
	}
	return rc;
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

static int set_backend_req_fd(struct vhost_device *d, struct vhost_message *m,
			      struct error *err unused)
{
	vhost_close_fd(&d->backend_fd);
	d->backend_fd = vhost_take_fd(m);
	return 0;
}

/* Memory stays: the front end does not send it again. */
static int reset_device(struct vhost_device *d, struct vhost_message *m unused,
			struct error *err unused)
{
	for (unsigned i = 0; i < d->ring_count; i++) {
		vhost_ring_reset(d, &d->rings[i]);
	}
	d->owner.reset(d->owner.context);
	return 0;
}

/* ---- State that moves to another device ---- */

static bool any_ring_started(const struct vhost_device *d)
{
	for (unsigned i = 0; i < d->ring_count; i++) {
		if (d->rings[i].started) {
			return true;
		}
	}
	return false;
}

/*
 * The transfer itself begins when the front end has its answer: it has to be at the other end
 * of the pipe by then.
 */
static int set_device_state_fd(struct vhost_device *d, struct vhost_message *m,
			       struct error *err unused)
{
	const struct vhost_transfer t = m->payload.transfer;
	bool possible =
		t.phase == VHOST_TRANSFER_PHASE_STOPPED && !any_ring_started(d) &&
		(t.direction == VHOST_TRANSFER_SAVE || t.direction == VHOST_TRANSFER_LOAD);

	if (possible) {
		d->transfer_fd = vhost_take_fd(m);
		d->transfer_direction = t.direction;
	}
	d->transfer_failed = !possible;
	m->payload.number = VHOST_TRANSFER_NO_FD | !possible;
	return 0;
}

static int check_device_state(struct vhost_device *d, struct vhost_message *m,
			      struct error *err unused)
{
	m->payload.number = d->transfer_failed;
	d->transfer_failed = false;
	return 0;
}

static int save_state(struct vhost_device *d, struct error *err)
{
	struct buffer state = {.ptr = NULL};
	int rc = d->owner.save(d->owner.context, &state, err);

	if (rc == 0 && write_full(d->transfer_fd, state.ptr, state.len) != 0) {
		rc = error_set_errno(err, errno, "cannot write the state of a guest");
	}
	buffer_done(&state);
	return rc;
}

static int load_state(struct vhost_device *d, struct error *err)
{
	const size_t piece = (size_t)64 << 10;
	struct buffer state = {.ptr = NULL};
	ssize_t n;
	int rc = 0;

	do {
		n = read_full(d->transfer_fd, buffer_reserve(&state, piece), piece);
		state.len += n > 0 ? (size_t)n : 0;
	} while (n > 0 && state.len <= FS_STATE_MAX);
	if (n < 0) {
		rc = error_set_errno(err, errno, "cannot read the state of a guest");
	} else if (n > 0) {
		rc = error_set(err, ERROR_LIMIT, "the state of a guest is too long");
	} else {
		rc = d->owner.restore(d->owner.context, buffer_bytes(&state), err);
	}
	buffer_done(&state);
	return rc;
}

/* The front end asks for the result when it has seen the end of the pipe. */
static void transfer(struct vhost_device *d)
{
	struct error err;
	int rc = d->transfer_direction == VHOST_TRANSFER_SAVE ? save_state(d, &err)
							      : load_state(d, &err);

	if (rc != 0) {
		log_warning("the state of a guest does not move: %s", err.text);
	}
	d->transfer_failed = rc != 0;
	vhost_close_fd(&d->transfer_fd);
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
	[VHOST_SET_LOG_BASE] = {set_log_base, sizeof(struct vhost_log), 1, sizeof(uint64_t)},
	/* An eventfd for writes to the log: whoever reads the log looks by itself. */
	[VHOST_SET_LOG_FD] = {do_nothing, 0, 1, 0},
	[VHOST_SET_VRING_NUM] = {vhost_set_vring_num, sizeof(struct vhost_vring_state), 0, 0},
	[VHOST_SET_VRING_ADDR] = {vhost_set_vring_addr, sizeof(struct vhost_vring_addr), 0, 0},
	[VHOST_SET_VRING_BASE] = {vhost_set_vring_base, sizeof(struct vhost_vring_state), 0, 0},
	[VHOST_GET_VRING_BASE] = {vhost_get_vring_base, sizeof(struct vhost_vring_state), 0,
				  sizeof(struct vhost_vring_state)},
	[VHOST_SET_VRING_KICK] = {vhost_set_vring_kick, sizeof(uint64_t), FDS_VARY, 0},
	[VHOST_SET_VRING_CALL] = {vhost_set_vring_call, sizeof(uint64_t), FDS_VARY, 0},
	[VHOST_SET_VRING_ERR] = {vhost_set_vring_err, sizeof(uint64_t), FDS_VARY, 0},
	[VHOST_GET_PROTOCOL_FEATURES] = {get_protocol_features, 0, 0, sizeof(uint64_t)},
	[VHOST_SET_PROTOCOL_FEATURES] = {set_protocol_features, sizeof(uint64_t), 0, 0},
	[VHOST_GET_QUEUE_NUM] = {get_queue_num, 0, 0, sizeof(uint64_t)},
	[VHOST_SET_VRING_ENABLE] = {vhost_set_vring_enable, sizeof(struct vhost_vring_state), 0,
				    0},
	[VHOST_SET_BACKEND_REQ_FD] = {set_backend_req_fd, 0, 1, 0},
	[VHOST_RESET_DEVICE] = {reset_device, 0, 0, 0},
	[VHOST_GET_MAX_MEM_SLOTS] = {get_max_mem_slots, 0, 0, sizeof(uint64_t)},
	[VHOST_ADD_MEM_REG] = {add_mem_reg, sizeof(struct vhost_single_region), 1, 0},
	/* Some front ends send the descriptor once more. */
	[VHOST_REM_MEM_REG] = {rem_mem_reg, sizeof(struct vhost_single_region), FDS_VARY, 0},
	[VHOST_SET_DEVICE_STATE_FD] = {set_device_state_fd, sizeof(struct vhost_transfer), 1,
				       sizeof(uint64_t)},
	[VHOST_CHECK_DEVICE_STATE] = {check_device_state, 0, 0, sizeof(uint64_t)},
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

bool vhost_device_memory_broken(const struct vhost_device *d)
{
	return guest_memory_broken(d->memory) || (d->log && dirty_log_broken(d->log));
}

int vhost_device_receive(struct vhost_device *d, struct error *err)
{
	struct vhost_message m;
	int rc = vhost_socket_receive(d->socket, &m, err);

	if (rc > 0) {
		rc = dispatch(d, &m, err) == 0 ? 1 : -(int)err->code;
	}
	vhost_message_done(&m);
	if (rc > 0 && d->transfer_fd >= 0) {
		transfer(d);
	}
	return rc;
}
