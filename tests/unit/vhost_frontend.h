#pragma once

/*
 * For tests of virtiofs: a server, and front ends with guests that are played by hand. Each has
 * real shared memory, rings and eventfds. What is said wrong on purpose goes through the same
 * functions as what is said right.
 *
 * The guest's memory is two regions, one after the other for the guest; their order in the file
 * and at the front end's (made up) addresses is another, so that nothing can be mixed up
 * unseen.
 */

#include <pthread.h>

#include "fs/fs.h"
#include "transports/virtiofs.h"
#include "transports/virtiofs/vhost_protocol.h"

#define FRONTEND_REGION_SIZE ((size_t)8 << 20)
#define FRONTEND_MEMORY (2 * FRONTEND_REGION_SIZE)
/* Guest address of the first byte. */
#define FRONTEND_BASE 0x40000000ull
#define FRONTEND_QUEUES 4u
#define FRONTEND_QUEUE_SIZE 256u
#define FRONTEND_FEATURES                                                               \
	(VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES | VIRTIO_F_RING_INDIRECT_DESC | \
	 VIRTIO_F_RING_EVENT_IDX)

/* ---- The server ---- */

struct server {
	struct virtiofs_server *server;
	int listener;
	char path[64];
	pthread_t thread;
	int rc;
};

void server_start(struct server *s, const struct fs_options *fs, unsigned threads, bool once);
/* Waits for the end of run; fails the test when that was no success. */
void server_join(struct server *s);
/* Stops and joins. */
void server_stop(struct server *s);

/* ---- A front end and its guest ---- */

struct frontend_queue {
	uint32_t size;
	uint64_t base; /* guest address: descriptors, available, used, one after the other */
	uint16_t available; /* index of the next one to offer */
	uint16_t used;      /* seen so far */
	int kick;
	int call;
	int error;
};

struct frontend {
	int socket;
	int file; /* of the memory */
	uint8_t *memory;
	uint64_t features;
	uint64_t protocol_features;
	uint64_t next; /* where the next buffer goes */
	uint64_t unique;
	unsigned stride; /* descriptors that each request under way has in the queue's table */
	struct frontend_queue queues[FRONTEND_QUEUES];
};

/* Connected, nothing said yet. */
void frontend_open(struct frontend *f, const struct server *s);
/* Breaks the connection off and makes another one. The guest knows nothing of it. */
void frontend_reconnect(struct frontend *f, const struct server *s);
/* Goes away without a word. */
void frontend_close(struct frontend *f);

void frontend_send(struct frontend *f, uint32_t request, uint32_t flags, const void *payload,
		   size_t size, const int *fds, size_t fd_count);
/* Any bytes. */
void frontend_send_raw(struct frontend *f, const void *bytes, size_t len);
/* The next message, which must be the answer to this request, of this size. */
void frontend_receive(struct frontend *f, uint32_t request, void *payload, size_t size);
/* True when the server closes the connection; false when it answers something. */
bool frontend_dropped(struct frontend *f);

/* Sends with the wish for an answer, which is returned: 0 is success. */
uint64_t frontend_ask(struct frontend *f, uint32_t request, const void *payload, size_t size,
		      const int *fds, size_t fd_count);
/* A question without a payload whose answer is a number. */
uint64_t frontend_get(struct frontend *f, uint32_t request);

struct vhost_single_region frontend_region(unsigned which);
uint64_t frontend_user_address(uint64_t address);
void *frontend_at(struct frontend *f, uint64_t address);

/* Features, protocol features, owner. */
void frontend_negotiate(struct frontend *f, uint64_t features);
void frontend_share_memory(struct frontend *f);
/* Sets a ring up at this base and enables it. */
void frontend_start_queue(struct frontend *f, unsigned index, uint16_t base);
/* Stops it; returns where it stands. */
uint16_t frontend_stop_queue(struct frontend *f, unsigned index);
/* The driver begins anew with a ring that is stopped. */
void frontend_forget_queue(struct frontend *f, unsigned index);
/* All of that, with queues 0 and 1, and a FUSE session. */
void frontend_boot(struct frontend *f);

/* ---- Requests of the guest ---- */

/* Room for a buffer, guest address; wraps around after some megabytes. */
uint64_t frontend_alloc(struct frontend *f, size_t size);

struct frontend_descriptor {
	uint64_t address;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* Writes one into a table. */
void frontend_put_descriptor(struct frontend *f, uint64_t table, unsigned index,
			     struct frontend_descriptor d);
/* Makes a chain available, and kicks if the device asks for that. */
void frontend_offer(struct frontend *f, unsigned queue, uint16_t head);
/* Only the first half of that. */
void frontend_offer_quietly(struct frontend *f, unsigned queue, uint16_t head);
void frontend_kick(struct frontend *f, unsigned queue);
/* Waits for the next used chain: its head. */
uint16_t frontend_wait(struct frontend *f, unsigned queue, uint32_t *written);
/* True when nothing was used although the server has had the time to. */
bool frontend_nothing_used(struct frontend *f, unsigned queue);

enum frontend_shape {
	SHAPE_DIRECT,
	SHAPE_INDIRECT,
	SHAPE_MIXED,     /* the first descriptor direct, the rest in a table */
	SHAPE_SCATTERED, /* indirect, and the room in pieces all over memory */
	SHAPE_ACROSS,    /* direct, and the room across the border of the regions */
};

struct frontend_reply {
	int error;
	size_t len; /* of data */
	uint8_t data[FS_DATA_MAX];
};

/*
 * Starts a request, and finishes it. Descriptors of request number `tag` of those that are
 * under way at one time have their own place.
 */
void frontend_request(struct frontend *f, unsigned queue, unsigned tag,
		      enum frontend_shape shape, uint32_t opcode, uint64_t nodeid,
		      const void *arg, size_t len, size_t room);
/* Waits for any: its tag. The reply is checked. */
unsigned frontend_finish(struct frontend *f, unsigned queue, struct frontend_reply *out);
/* One request on queue 1 from start to end: 0 or a negative errno. */
int frontend_call(struct frontend *f, enum frontend_shape shape, uint32_t opcode,
		  uint64_t nodeid, const void *arg, size_t len, size_t room,
		  struct frontend_reply *out);

int frontend_init(struct frontend *f);
/* Node id of a path; 0 when there is no such name. */
uint64_t frontend_walk(struct frontend *f, const char *path);
int frontend_getattr(struct frontend *f, uint64_t nodeid);
int frontend_read(struct frontend *f, enum frontend_shape shape, uint64_t nodeid,
		  uint64_t offset, uint32_t size, struct frontend_reply *out);
