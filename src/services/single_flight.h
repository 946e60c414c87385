#pragma once

/*
 * What many threads want at once is fetched once: the first one fetches, those who come
 * meanwhile wait for it and share what it got, the failure too. Whoever comes later begins
 * anew. Shared and thread-safe.
 */

#include "services/lru_map.h"
#include "services/object_table.h"

struct single_flight {
	pthread_mutex_t lock; /* guards flights */
	struct lru_map flights;
};

void single_flight_init(struct single_flight *f);
/* Nobody may be in flight. */
void single_flight_done(struct single_flight *f);

/* Asker; *out is a reference, or stays NULL where being found says it all. */
typedef int (*single_flight_fetch)(void *context, struct object **out, struct error *err);

/* For tests: how many threads look at the flight of a key. */
unsigned single_flight_users(struct single_flight *f, struct bytes key);

/* Asker: what fetch gives, called by this thread or by another with the same key. */
int single_flight_get(struct single_flight *f, struct bytes key, single_flight_fetch fetch,
		      void *context, struct object **out, struct error *err);
