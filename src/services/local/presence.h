#pragma once

/*
 * Which blobs an index has, in memory. Hardly two digests that somebody asks for lie on the
 * same page, so that LMDB takes a microsecond for each; and an import of what was seen before
 * asks for one for each file. After the first of them, all that the index has are read once in
 * their order.
 *
 * That holds for one state of the index, and is used while nobody has committed another one:
 * the answers are those that the index would give.
 */

#include <pthread.h>

#include "services/local/index.h"
#include "services/mark_set.h"

struct presence {
	pthread_mutex_t lock;  /* guards the rest */
	struct mark_set blobs; /* whose location is one; no slots: not read yet */
	uint64_t state;        /* of the index, when they were read */
	uint64_t asked_state;
	uint64_t asked; /* of the index itself, in that state */
};

void presence_init(struct presence *p);
void presence_done(struct presence *p);
/* For `count` digests: is there such a blob, as far as the index knows? Any thread may ask. */
int presence_find(struct presence *p, struct index *ix, const struct digest *digests,
		  size_t count, bool *there, struct error *err);
