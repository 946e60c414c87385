#pragma once

/*
 * For tests of clients: a server over the fixture's store whose large blobs are wrong in a
 * place, or do not come, or do not arrive; and a client of it.
 */

#include "rpc_fixture.h"

/* Places in bytes of a blob, 0: nowhere. Changed by odd_peer_set(). */
struct odd_blobs {
	struct blob_service base;
	struct blob_service *inner;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	uint64_t wrong_at;
	uint64_t read_fails_at; /* ERROR_IO */
	uint64_t read_stalls_at;
	uint64_t write_fails_at; /* ERROR_NO_SPACE */
	uint64_t write_stalls_at;
	const struct digest *releases; /* who asks for this blob ends the stall of writes */
	unsigned waiting;
	unsigned committed;
};

struct odd_peer {
	struct rpc_fixture *server;
	struct odd_blobs *blobs;
	struct store client;
};

/* Over the store that the fixture of a test has, and what is in it. */
void odd_peer_start(struct odd_peer *p, void **state);
void odd_peer_stop(struct odd_peer *p);
void odd_peer_set(struct odd_peer *p, uint64_t *place, uint64_t value);
/* Waits until somebody waits at one of the places. */
void odd_peer_await_stall(struct odd_peer *p);
/* Blobs that were written to their end. */
unsigned odd_peer_committed(struct odd_peer *p);
/* Bytes for a blob, for the caller to free. */
uint8_t *odd_peer_content(size_t size);
