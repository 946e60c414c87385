#pragma once

/*
 * RootNodes: names for trees, the first level of a mount. Shared and thread-safe.
 *
 * A provider may refuse to list (listing is ERROR_DENIED) and may be read-only (put and remove
 * are ERROR_UNSUPPORTED). put makes the name visible only when all that was stored before it is
 * durable.
 */

#include "castore/node.h"

struct root_nodes;

/* An owned copy of a node, with the storage of its symlink target. */
struct root_node {
	struct node node;
	struct buffer storage;
};

void root_node_done(struct root_node *n);
/* Replaces *n by a copy of node. */
void root_node_set(struct root_node *n, const struct node *node);

/* Whether both stand for the same. */
bool root_node_same(const struct node *a, const struct node *b);

struct root_nodes *root_nodes_ref(struct root_nodes *r);
void root_nodes_unref(struct root_nodes *r);
DEFINE_CLEANUP(cleanup_root_nodes, struct root_nodes *, root_nodes_unref)

/* Asker. out is zeroed or holds an earlier node, which is replaced; root_node_done() ends it.
 */
int root_nodes_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
		      struct error *err);
/*
 * Visits names in byte order, beginning with the first one greater than `after` (empty: from
 * the start), until visit returns false. Name and node are borrowed for the call. visit must
 * not call back into this provider.
 */
typedef bool (*root_nodes_visit)(void *context, struct bytes name, const struct node *node);
int root_nodes_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		    void *context, struct error *err);
/*
 * Adds or, with replace, replaces a name; ERROR_EXISTS without replace when it has another
 * node. ERROR_COLLECTED: what the tree consists of was there, and nothing named it, so that a
 * collection of garbage has taken some of it meanwhile. Put it once more, and then the name.
 */
int root_nodes_put(struct root_nodes *r, struct bytes name, const struct node *node,
		   bool replace, struct error *err);
/* Asker: 0 when there is no such name. */
int root_nodes_remove(struct root_nodes *r, struct bytes name, struct error *err);
/* True when names may appear later: then a mount must not remember that a name is absent. */
bool root_nodes_may_grow(const struct root_nodes *r);
/* True when looking up and listing never wait for a peer. */
bool root_nodes_is_local(const struct root_nodes *r);

/* ---- For back ends ---- */

struct root_nodes_ops {
	const char *name;
	bool may_grow;
	void (*destroy)(struct root_nodes *r);
	int (*lookup)(struct root_nodes *r, struct bytes name, struct root_node *out,
		      struct error *err);
	int (*list)(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		    void *context, struct error *err);
	int (*put)(struct root_nodes *r, struct bytes name, const struct node *node,
		   bool replace, struct error *err);
	int (*remove)(struct root_nodes *r, struct bytes name, struct error *err);
};

struct root_nodes {
	const struct root_nodes_ops *ops;
	_Atomic unsigned refs;
	bool is_local; /* false, the careful answer, unless the back end sets it */
};

void root_nodes_init(struct root_nodes *r, const struct root_nodes_ops *ops);
