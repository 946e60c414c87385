#pragma once

/*
 * What trees cost: how long their content is, how much room it takes in the store, and what of
 * that nothing else refers to.
 *
 * The trees that are asked about are places: of a name, or of a path below one. Places lie
 * below each other like their paths, and each is a line of the result; so may the directories
 * in them be, down to some depth. All other names of the store are walked as well, for what
 * they share.
 *
 * An object is counted once in each line below which it is. The objects are read once for each
 * line that has something of its own, so that the time is that of all these trees together. The
 * memory is about 36 bytes for each object in the trees that are asked about, and for each
 * Directory of the others. Belongs to one thread.
 */

#include "services/store.h"

/*
 * Of objects: blobs and Directories, each once. The empty blob, which every store has and none
 * has to keep, is not counted.
 */
struct usage_amount {
	uint64_t objects;
	uint64_t content; /* how long they are together, not compressed */
	uint64_t files;   /* of that, the blobs */
	uint64_t stored;  /* the room they take in the store */
	uint64_t missing; /* of the objects, those that the store does not have */
};

struct usage_figures {
	uint64_t size; /* of all files, each as often as it is there: what an export writes */
	struct usage_amount all;
	struct usage_amount only; /* of all, what nothing outside of the line refers to */
};

struct usage;

/* Borrows the store. */
struct usage *usage_new(struct store *store);
void usage_free(struct usage *u);
DEFINE_CLEANUP(cleanup_usage, struct usage *, usage_free)
/* False where the store does not know the room that objects take: `stored` is 0, as is
 * `missing`.
 */
bool usage_knows_stored(const struct usage *u);

/*
 * Asks about what is at a path below a name (empty: all of it). Where it comes to other names
 * of the store, a name stands for itself; one that begins with a '/' is of the caller's making.
 * An empty name asks about something without a name, which path is to be called. All before the
 * walk.
 */
void usage_ask(struct usage *u, struct bytes name, struct bytes path, const struct node *node);
/*
 * Walks what was asked about. Directories down to `depth` below a place are lines as well.
 * ERROR_LIMIT when the memory does not suffice.
 */
int usage_walk(struct usage *u, unsigned depth, struct error *err);
/* After it, for every name that the store has. */
int usage_walk_name(struct usage *u, struct bytes name, const struct node *node,
		    struct error *err);
/* Walks one more tree into the total, without a line of its own: sums for many. */
int usage_add(struct usage *u, const struct node *node, struct error *err);

/*
 * At the end, visits the lines, what is below a line before it, until visit returns false. The
 * last one has no path: it is the total of all.
 */
typedef bool (*usage_visit)(void *context, struct bytes path, const struct usage_figures *f);
int usage_each(struct usage *u, usage_visit visit, void *context, struct error *err);
