#pragma once

/*
 * Turns to write to a store that many callers share. After a failure, such as a full disk, a
 * store takes no more writes until it recovers, which it can do when nobody is writing
 * (blob_service_recover()): the first writer that finds itself alone has it recover.
 */

#include <pthread.h>

#include "services/store.h"

struct write_turns {
	struct blob_service *blobs; /* borrowed */
	pthread_mutex_t lock;       /* guards what follows */
	size_t writing;
	bool failed; /* somebody's write did, since it recovered */
};

void write_turns_init(struct write_turns *t, struct blob_service *blobs);
void write_turns_done(struct write_turns *t);

/* Begins and ends what puts something into the store and relies on it. */
int write_turn_begin(struct write_turns *t, struct error *err);
/* rc: how it went. */
void write_turn_end(struct write_turns *t, int rc);
