#pragma once

/*
 * A set of objects that need little memory each: 16 bytes of the digest, in a table that is at
 * most four fifths full. To find two objects that it takes for one, somebody would have to try
 * 2^64 of them. Belongs to one thread at a time.
 */

#include "castore/node.h"

struct mark_set {
	struct mark_slot *slots; /* anonymous memory */
	size_t capacity;
	size_t count;
};

/* expected: so many objects go in before it has to grow, which takes both tables at once. */
int mark_set_init(struct mark_set *m, size_t expected, struct error *err);
void mark_set_done(struct mark_set *m);
/* Asker: 1 when it is new. kind: files and directories may have the same digest. */
int mark_set_add(struct mark_set *m, enum node_kind kind, const struct digest *digest,
		 struct error *err);
bool mark_set_has(const struct mark_set *m, enum node_kind kind, const struct digest *digest);
