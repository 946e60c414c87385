#pragma once

/*
 * Marking: all that trees consist of, each object once, however many trees share it. Memory:
 * that of the set, and 32 bytes for each Directory that waits to be read. Belongs to one
 * thread.
 */

#include <stdatomic.h>

#include "services/directory_service.h"
#include "services/mark_set.h"

struct mark {
	struct mark_set set;
	struct directory_service *directories; /* borrowed */
	/*
	 * Doer, may be NULL: told of each blob when it is marked, and of each Directory that is
	 * not there, which otherwise is only counted.
	 */
	int (*met)(void *context, enum node_kind kind, const struct digest *digest,
		   struct error *err);
	void *context;
	const atomic_bool *cancel; /* may be NULL; when it becomes true: ERROR_CANCELED */
	struct buffer waiting;     /* digests of Directories */
	struct buffer *missing;    /* likewise: those that are not there are added; or NULL */
	_Atomic uint64_t *counter; /* of objects, for a display; may be NULL */
	uint64_t absent;           /* Directories that are not there */
};

/* Call before the members above are set. expected: objects. */
int mark_init(struct mark *m, size_t expected, struct error *err);
void mark_done(struct mark *m);
/* A tree, or what of it was not marked before. After a failure, only mark_done. */
int mark_node(struct mark *m, const struct node *node, struct error *err);
/* What is below these Directories, which were missing and are not any more. */
int mark_found(struct mark *m, const uint8_t *digests, size_t count, struct error *err);
bool mark_has(const struct mark *m, enum node_kind kind, const struct digest *digest);
