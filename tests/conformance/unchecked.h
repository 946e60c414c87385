#pragma once

/*
 * A back end that checks nothing, in front of one that works, and that can be told to lie. For
 * tests of what blob_service.h promises whatever the back end does.
 */

#include "services/blob_service.h"

struct unchecked_service;

struct unchecked_lies {
	int64_t size_off; /* readers claim this much more (or less) than there is */
	int64_t give_off; /* each read gives this much more or less than it could */
	bool flip;        /* a bit of the byte at flip_at is wrong */
	uint64_t flip_at;
};

/* Takes over a reference. */
struct unchecked_service *unchecked_service_new(struct blob_service *inner);
struct blob_service *unchecked_service_blobs(struct unchecked_service *u);
/* Asker: a reader as the back end gives it, without the checks of blob_service_open(). */
int unchecked_service_open(struct unchecked_service *u, const struct digest *digest,
			   struct blob_reader **out, struct error *err);
/* From now on, also for readers that are open. Not while other threads use the service. */
void unchecked_service_lie(struct unchecked_service *u, struct unchecked_lies lies);
/* Reads that the back end was asked for since the last call. */
unsigned unchecked_service_reads(struct unchecked_service *u);
