#include "services/directory_roots.h"

struct directory_roots {
	struct root_nodes base;
	struct directory *directory; /* a reference */
};

static struct directory *directory_of(struct root_nodes *r)
{
	return container_of(r, struct directory_roots, base)->directory;
}

static void roots_destroy(struct root_nodes *r)
{
	directory_unref(directory_of(r));
	free(container_of(r, struct directory_roots, base));
}

static int roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err unused)
{
	const struct directory *d = directory_of(r);
	struct directory_entry e;
	ssize_t i = directory_find(d, name);

	if (i < 0) {
		return 0;
	}
	directory_entry(d, (size_t)i, &e);
	root_node_set(out, &e.node);
	return 1;
}

/* The first entry whose name is greater. */
static size_t find_after(const struct directory *d, struct bytes after)
{
	size_t low = 0, high = directory_count(d);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (bytes_compare(directory_entry_name(d, middle), after) > 0) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return low;
}

static int roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err unused)
{
	const struct directory *d = directory_of(r);
	struct directory_entry e;

	for (size_t i = find_after(d, after); i < directory_count(d); i++) {
		directory_entry(d, i, &e);
		if (!visit(context, e.name, &e.node)) {
			break;
		}
	}
	return 0;
}

static int roots_put(struct root_nodes *r unused, struct bytes name unused,
		     const struct node *node unused, bool replace unused, struct error *err)
{
	return error_set(err, ERROR_UNSUPPORTED, "a directory does not change");
}

static int roots_remove(struct root_nodes *r unused, struct bytes name unused,
			struct error *err)
{
	return error_set(err, ERROR_UNSUPPORTED, "a directory does not change");
}

static const struct root_nodes_ops roots_ops = {
	.name = "directory",
	.may_grow = false,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *directory_roots_new(struct directory *d)
{
	struct directory_roots *r = xcalloc(1, sizeof(*r));

	root_nodes_init(&r->base, &roots_ops);
	r->base.is_local = true;
	r->directory = directory_ref(d);
	return &r->base;
}
