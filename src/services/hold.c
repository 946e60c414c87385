/* Holding what is read, so that no collection of garbage takes it (store.h). */

#include "services/forward.h"
#include "services/local/local_store.h"
#include "services/mark.h"

bool store_hold(const struct node *node)
{
	return local_stores_hold(node);
}

void store_hold_nothing_yet(void)
{
	local_stores_hold(NULL);
}

static int find_blob(void *context, enum node_kind kind, const struct digest *digest,
		     struct error *err)
{
	struct store *s = context;
	int rc = kind == NODE_FILE ? blob_service_has(s->blobs, digest, err) : 0;

	return rc ? MIN(rc, 0)
		  : error_set(err, ERROR_COLLECTED,
			      "%s was collected as garbage while it was needed again",
			      digest_text(digest));
}

static int find_all(struct store *s, const struct node *node, struct error *err)
{
	struct mark m;
	int rc = mark_init(&m, 0, err);

	if (rc == 0) {
		m.directories = s->directories;
		m.met = find_blob;
		m.context = s;
		rc = mark_node(&m, node, err);
		mark_done(&m);
	}
	return rc;
}

int store_hold_put(struct store *s, const struct node *node, struct error *err)
{
	/* What waits to be committed, nobody else could find below what is held. */
	int rc = store_sync(s, err);

	if (rc == 0) {
		store_hold(node);
		rc = local_stores_collected(err);
	}
	/* Where nothing had gone before it was held, all of it is there. */
	return rc > 0 ? find_all(s, node, err) : rc;
}

int store_written(const struct node *node, uint64_t *seconds)
{
	return local_stores_written(node, seconds);
}

static void roots_destroy(struct root_nodes *r)
{
	struct forward_roots *f = container_of(r, struct forward_roots, base);

	forward_roots_done(f);
	free(f);
}

static int roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err)
{
	int rc;

	do {
		rc = forward_roots_lookup(r, name, out, err);
	} while (rc > 0 && store_hold(&out->node));
	return rc;
}

struct listing {
	root_nodes_visit visit;
	void *context;
};

/* A name that goes while it is listed was there, and need not be there to be looked into. */
static bool hold_listed(void *context, struct bytes name, const struct node *node)
{
	const struct listing *l = context;

	store_hold(node);
	return l->visit(l->context, name, node);
}

static int roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	struct listing l = {.visit = visit, .context = context};

	return root_nodes_list(container_of(r, struct forward_roots, base)->inner, after,
			       hold_listed, &l, err);
}

static int roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	return root_nodes_put(container_of(r, struct forward_roots, base)->inner, name, node,
			      replace, err);
}

static int roots_remove(struct root_nodes *r, struct bytes name, struct error *err)
{
	return root_nodes_remove(container_of(r, struct forward_roots, base)->inner, name, err);
}

static const struct root_nodes_ops roots_ops = {
	.name = "held",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *store_hold_roots(struct root_nodes *roots)
{
	struct forward_roots *f = xcalloc(1, sizeof(*f));

	forward_roots_init(f, &roots_ops, roots);
	root_nodes_unref(roots);
	return &f->base;
}
