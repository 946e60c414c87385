#pragma once

/* Shared by the device and its rings. */

#include "base/io.h"
#include "transports/virtiofs/vhost_device.h"

static inline void vhost_close_fd(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}

/* The first descriptor of a message. */
static inline int vhost_take_fd(struct vhost_message *m)
{
	int fd = m->fds[0];

	m->fds[0] = -1;
	return fd;
}

void vhost_ring_init(struct vhost_ring *r);
/* Waits for what is in flight. It can be started again. */
void vhost_ring_stop(const struct vhost_device *d, struct vhost_ring *r);
/* As it was at first. */
void vhost_ring_reset(const struct vhost_device *d, struct vhost_ring *r);

/* What messages say to rings: the payload becomes the answer, if there is one. */
int vhost_set_vring_num(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_set_vring_base(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_set_vring_addr(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_get_vring_base(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_set_vring_kick(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_set_vring_call(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_set_vring_err(struct vhost_device *d, struct vhost_message *m, struct error *err);
int vhost_set_vring_enable(struct vhost_device *d, struct vhost_message *m, struct error *err);
