#pragma once

/*
 * A split virtqueue (virtio 1.2, section 2.7), seen from the device: chains of descriptors come
 * out, and go back when they are used.
 *
 * One thread owns a queue; virtqueue_push may be called by any. All that is in the rings was
 * written by a guest and may change at any time: each field is read once, and checked.
 */

#include <pthread.h>

#include "transports/virtiofs/dirty_log.h"
#include "transports/virtiofs/guest_memory.h"

#define VIRTQUEUE_SIZE_MAX 1024u
/* Pieces of a chain: as many descriptors, of which a few may lie across regions. */
#define CHAIN_SPANS_MAX (VIRTQUEUE_SIZE_MAX + 16u)

/* A piece of guest memory that lies in one piece here. */
struct guest_span {
	uint8_t *ptr;
	size_t len;
	uint64_t address; /* of the guest */
};

/* What a guest offers: bytes for us to read, and then room to write. */
struct chain {
	uint16_t head; /* names it when it goes back */
	unsigned readable;
	unsigned writable;
	size_t readable_len;
	size_t writable_len;
	struct guest_span spans[CHAIN_SPANS_MAX]; /* the readable ones first */
};

struct virtqueue_setup {
	uint32_t size;        /* descriptors: a power of two */
	uint16_t base;        /* of the ring of available chains: where to go on */
	uint64_t descriptors; /* these are user addresses */
	uint64_t available;
	uint64_t used;
	bool indirect; /* tables of descriptors are allowed */
	bool event_idx;
};

struct virtqueue {
	/* The owner's. */
	struct guest_memory *memory; /* NULL: stopped */
	uint64_t descriptors;        /* guest address */
	uint16_t next;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t drained;
	/* Changed by the owner only, who therefore may look without the lock. */
	struct virtqueue_setup setup;
	const uint8_t *available;
	uint8_t *used;
	uint64_t used_address; /* of the guest */
	struct dirty_log *log; /* a reference, or NULL */
	uint16_t used_next;
	uint16_t called_at; /* used_next when the guest was last told or wanted not to be */
	bool called;        /* called_at means something */
	unsigned in_flight;
	int call_fd; /* -1: the guest looks by itself */
};

void virtqueue_init(struct virtqueue *q);
/* Stopped. */
void virtqueue_done(struct virtqueue *q);

/* From here on chains come. Refuses what is not wholly in memory, and keeps a reference to it.
 */
int virtqueue_start(struct virtqueue *q, const struct virtqueue_setup *setup,
		    struct guest_memory *memory, struct error *err);
/* The same queue after memory or addresses changed, between two chains. */
int virtqueue_move(struct virtqueue *q, const struct virtqueue_setup *setup,
		   struct guest_memory *memory, struct error *err);
/* Waits for what is in flight. Where to go on is in q->next. */
void virtqueue_stop(struct virtqueue *q);

/*
 * Asker: the next chain, which the caller pushes sooner or later; its spans are in the queue's
 * memory. Negative: the guest has broken the rules, and nothing can be had from this queue.
 */
int virtqueue_pop(struct virtqueue *q, struct chain *out, struct error *err);
bool virtqueue_has_work(const struct virtqueue *q);

/* The room of a chain. */
struct room {
	const struct guest_span *spans;
	unsigned count;
};

/* The chain was used, and this many bytes of its room written. Any thread. */
void virtqueue_push(struct virtqueue *q, uint16_t head, const struct room *room,
		    uint32_t written);

/* The guest need not kick: somebody is looking anyway. */
void virtqueue_quiet(struct virtqueue *q);
/* It must kick. True when there is work that came before it could know. */
bool virtqueue_listen(struct virtqueue *q);

/* Where to note what is written to guest memory from now on, or NULL. At any time. */
void virtqueue_set_log(struct virtqueue *q, struct dirty_log *log);

/* How to tell the guest: takes over an eventfd, or -1. At any time. */
void virtqueue_set_call(struct virtqueue *q, int fd);

/* Wakes whoever has the other end of an eventfd, without ever waiting. -1 is allowed. */
void virtqueue_signal(int fd);
