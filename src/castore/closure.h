#pragma once

/*
 * Closures: a directory and every directory below it, each once, as they travel.
 *
 * Leaves to root (uploads): a child comes before anything that refers to it; the last is the
 * root. Root to leaves (downloads): first the root; each later one is referred to by an earlier
 * one. Both are checked on receipt. Duplicates may be left out, and are accepted; what is not
 * connected to the root is refused. Sizes in references are not compared (other implementations
 * count differently).
 */

#include "castore/directory.h"

/* Directories that one closure may hold: bounds the memory of a validator. */
#define CLOSURE_DIRECTORIES_MAX ((size_t)1 << 24)

enum closure_order { CLOSURE_LEAVES_TO_ROOT, CLOSURE_ROOT_TO_LEAVES };

/* Checks a stream. Memory: one table entry per distinct directory, no directory is kept. */
struct closure_validator;

/* expected_root may be NULL: any root (root to leaves: the first one given). */
struct closure_validator *closure_validator_new(enum closure_order order,
						const struct digest *expected_root);
void closure_validator_free(struct closure_validator *v);
DEFINE_CLEANUP(cleanup_closure_validator, struct closure_validator *, closure_validator_free)
/* ERROR_INVALID when this directory cannot come here. The validator is then of no more use. */
int closure_validator_add(struct closure_validator *v, const struct directory *d,
			  struct error *err);
/* At the end: complete, connected, the right root. Its digest goes to root (may be NULL). */
int closure_validator_finish(struct closure_validator *v, struct digest *root,
			     struct error *err);

/*
 * Walks a closure in either order, each directory once, getting directories through a callback
 * (an asker; absent is turned into ERROR_UNAVAILABLE naming the digest). The memory is that of
 * the digests seen and of the way from the root down (leaves to root) or of the digests waiting
 * (root to leaves). Belongs to one thread.
 */
typedef int (*closure_get)(void *context, const struct digest *digest, struct directory **out,
			   struct error *err);

struct closure_walk;

struct closure_walk *closure_walk_new(enum closure_order order, const struct digest *root,
				      closure_get get, void *context);
void closure_walk_free(struct closure_walk *w);
DEFINE_CLEANUP(cleanup_closure_walk, struct closure_walk *, closure_walk_free)
/* Asker: 1 and the next directory (a reference for the caller), 0 at the end. */
int closure_walk_next(struct closure_walk *w, struct directory **out, struct error *err);
