#include "services/synced_names.h"

#include "services/forward.h"

/* References. */
struct objects {
	struct blob_service *blobs;
	struct directory_service *directories;
};

struct synced_roots {
	struct forward_roots forward;
	struct objects objects;
};

struct synced_records {
	struct forward_records forward;
	struct objects objects;
};

static struct objects objects_ref(const struct store *s)
{
	return (struct objects){
		.blobs = blob_service_ref(s->blobs),
		.directories = directory_service_ref(s->directories),
	};
}

static void objects_unref(struct objects *o)
{
	blob_service_unref(o->blobs);
	directory_service_unref(o->directories);
}

static int objects_sync(const struct objects *o, struct error *err)
{
	int rc = blob_service_sync(o->blobs, err);

	return rc < 0 ? rc : directory_service_sync(o->directories, err);
}

/* ---- Names ---- */

static struct synced_roots *roots_of(struct root_nodes *r)
{
	return container_of(r, struct synced_roots, forward.base);
}

static void roots_destroy(struct root_nodes *r)
{
	struct synced_roots *s = roots_of(r);

	forward_roots_done(&s->forward);
	objects_unref(&s->objects);
	free(s);
}

static int roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	struct synced_roots *s = roots_of(r);
	int rc = objects_sync(&s->objects, err);

	return rc < 0 ? rc : root_nodes_put(s->forward.inner, name, node, replace, err);
}

static int roots_remove(struct root_nodes *r, struct bytes name, struct error *err)
{
	return root_nodes_remove(roots_of(r)->forward.inner, name, err);
}

static const struct root_nodes_ops roots_ops = {
	.name = "synced",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = forward_roots_lookup,
	.list = forward_roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

/* ---- Records ---- */

static struct synced_records *records_of(struct record_table *t)
{
	return container_of(t, struct synced_records, forward.base);
}

static void records_destroy(struct record_table *t)
{
	struct synced_records *s = records_of(t);

	forward_records_done(&s->forward);
	objects_unref(&s->objects);
	free(s);
}

static int records_put(struct record_table *t, const struct record_entry *entries, size_t count,
		       struct error *err)
{
	struct synced_records *s = records_of(t);
	int rc = objects_sync(&s->objects, err);

	return rc < 0 ? rc : record_table_put(s->forward.inner, entries, count, err);
}

static int records_remove(struct record_table *t, const struct bytes *keys, size_t count,
			  size_t *removed, struct error *err)
{
	return record_table_remove_many(records_of(t)->forward.inner, keys, count, removed,
					err);
}

static const struct record_table_ops records_ops = {
	.name = "synced",
	.destroy = records_destroy,
	.get = forward_records_get,
	.put = records_put,
	.remove = records_remove,
	.list = forward_records_list,
};

void synced_names_wrap(struct store *s)
{
	struct synced_roots *roots = xcalloc(1, sizeof(*roots));
	struct synced_records *records = xcalloc(1, sizeof(*records));

	forward_roots_init(&roots->forward, &roots_ops, s->roots);
	forward_records_init(&records->forward, &records_ops, s->path_infos);
	roots->objects = objects_ref(s);
	records->objects = objects_ref(s);
	root_nodes_unref(s->roots);
	record_table_unref(s->path_infos);
	s->roots = &roots->forward.base;
	s->path_infos = &records->forward.base;
}
