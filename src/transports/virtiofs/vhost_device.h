#pragma once

/*
 * The vhost-user side of a device: what the front end (the hypervisor) says about features,
 * memory and rings, message by message. What is in the rings is for whoever owns the device.
 *
 * A message that breaks the protocol ends the connection. One that asks for the impossible is
 * refused where the front end waits for an answer, and ends the connection where it does not.
 * A ring whose guest breaks the rules stands still until it is started anew.
 *
 * One thread, except for the queues themselves (virtqueue_push).
 */

#include "transports/virtiofs/vhost_socket.h"
#include "transports/virtiofs/virtqueue.h"

/* One of high priority, and request queues. */
#define VHOST_RINGS_MAX 65u

struct vhost_ring {
	struct virtqueue queue;
	struct virtqueue_setup setup; /* for when it starts */
	int kick_fd;                  /* -1: none */
	int error_fd;
	bool started;
	bool enabled;
	bool broken;
};

struct vhost_device_owner {
	void *context;
	/* Everything is to be as it was when the front end connected. No chain is in flight. */
	void (*reset)(void *context);
	/* A ring goes on where it was: this guest has been running, perhaps with another
	 * device. */
	void (*resume)(void *context);
	/* What another device has to know to go on; no ring runs. */
	int (*save)(void *context, struct buffer *out, struct error *err);
	int (*restore)(void *context, struct bytes state, struct error *err);
};

struct vhost_device {
	int socket; /* owned */
	/* An epoll descriptor (borrowed): kicks are watched here, edge-triggered, with the
	 * number of the ring as data. */
	int events;
	struct vhost_device_owner owner;
	uint64_t features;
	uint64_t protocol_features;
	struct guest_memory *memory;
	struct dirty_log *log; /* for when LOG_ALL is agreed on; or NULL */
	/* A transfer of state that begins when its message is answered; -1: none. */
	int transfer_fd;
	uint32_t transfer_direction;
	bool transfer_failed; /* the last one */
	int backend_fd;       /* for requests of our own, of which there are none; or -1 */
	unsigned ring_count;  /* beyond it no ring was ever spoken of */
	struct vhost_ring rings[VHOST_RINGS_MAX];
};

/* Takes over the socket. */
struct vhost_device *vhost_device_new(int socket, int events,
				      const struct vhost_device_owner *owner);
/* Stops all rings, and so waits for what is in flight. NULL is allowed. */
void vhost_device_free(struct vhost_device *d);

/* Asker: waits for one message and does what it says; 0: the front end has gone. */
int vhost_device_receive(struct vhost_device *d, struct error *err);

/* True when memory that the front end shares was cut off (guest_memory_broken()). */
bool vhost_device_memory_broken(const struct vhost_device *d);

/* True when chains may be taken from this ring. */
bool vhost_ring_runs(const struct vhost_ring *r);
/* Its guest has broken the rules. */
void vhost_ring_break(struct vhost_ring *r);
