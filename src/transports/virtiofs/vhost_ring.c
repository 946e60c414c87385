#include <errno.h>
#include <sys/epoll.h>

#include "transports/virtiofs/vhost_device_internal.h"

void vhost_ring_init(struct vhost_ring *r)
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
		vhost_close_fd(&r->kick_fd);
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

void vhost_ring_stop(const struct vhost_device *d, struct vhost_ring *r)
{
	unwatch(d, r);
	if (r->started) {
		virtqueue_stop(&r->queue);
		r->setup.base = r->queue.next;
		r->started = false;
	}
	r->broken = false;
}

void vhost_ring_reset(const struct vhost_device *d, struct vhost_ring *r)
{
	vhost_ring_stop(d, r);
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

/* ---- Messages ---- */

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

int vhost_set_vring_num(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_stopped_ring(d, m->payload.state.index, &r, err);

	if (rc == 0) {
		r->setup.size = m->payload.state.num;
	}
	return rc;
}

int vhost_set_vring_base(struct vhost_device *d, struct vhost_message *m, struct error *err)
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

int vhost_set_vring_addr(struct vhost_device *d, struct vhost_message *m, struct error *err)
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
int vhost_get_vring_base(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_ring(d, m->payload.state.index, &r, err);

	if (rc == 0) {
		vhost_ring_stop(d, r);
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
		*fd = none ? -1 : vhost_take_fd(m);
	}
	return rc;
}

int vhost_set_vring_kick(struct vhost_device *d, struct vhost_message *m, struct error *err)
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

int vhost_set_vring_call(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int fd = -1;
	int rc = take_ring_fd(d, m, &r, &fd, err);

	if (rc == 0) {
		virtqueue_set_call(&r->queue, fd);
	}
	return rc;
}

int vhost_set_vring_err(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int fd = -1;
	int rc = take_ring_fd(d, m, &r, &fd, err);

	if (rc == 0) {
		vhost_close_fd(&r->error_fd);
		r->error_fd = fd;
	}
	return rc;
}

int vhost_set_vring_enable(struct vhost_device *d, struct vhost_message *m, struct error *err)
{
	struct vhost_ring *r = NULL;
	int rc = find_ring(d, m->payload.state.index, &r, err);

	if (rc == 0) {
		r->enabled = m->payload.state.num != 0;
	}
	return rc;
}
