/*
 * Names and records of a cache.
 *
 * A record is the same for as long as anybody looks: near answers first. A name may stand for
 * something else tomorrow: far is asked, and near answers only when far cannot be reached. What
 * near gets to know is given to it in the background, since it syncs for each.
 */

#include <stdatomic.h>

#include "base/endian.h"
#include "base/moment.h"
#include "services/cache/cache_internal.h"

/* For so long after far could not be reached, near answers at once where it can. */
#define FAR_PAUSE_NS ((int64_t)5 * 1000 * 1000 * 1000)

struct cache_roots {
	struct root_nodes base;
	struct cache *cache; /* a reference */
};

struct cache_records {
	struct record_table base;
	struct cache *cache; /* a reference */
};

static uint64_t changes_now(struct cache *c)
{
	pthread_mutex_lock(&c->names_lock);
	uint64_t changes = c->changes;

	pthread_mutex_unlock(&c->names_lock);
	return changes;
}

/* ---- What near is to learn ---- */

struct lesson {
	struct background_job job;
	struct cache *cache; /* borrowed: it outlives its threads */
	uint64_t changes;    /* when far was asked */
	struct buffer name;
	struct buffer value; /* of a record */
	struct root_node node;
	bool is_record;
	bool is_absent; /* a name that far does not have */
};

static void free_lesson(struct background_job *j)
{
	struct lesson *l = container_of(j, struct lesson, job);

	buffer_done(&l->name);
	buffer_done(&l->value);
	root_node_done(&l->node);
	free(l);
}

static int learn(const struct lesson *l, struct error *err)
{
	struct record_entry entry = {.key = buffer_bytes(&l->name),
				     .value = buffer_bytes(&l->value)};
	const struct store *near = &l->cache->near;

	if (l->is_record) {
		return record_table_put(near->path_infos, &entry, 1, err);
	}
	return l->is_absent ? root_nodes_remove(near->roots, entry.key, err)
			    : root_nodes_put(near->roots, entry.key, &l->node.node, true, err);
}

static void run_lesson(struct background_job *j, struct background *b unused)
{
	struct lesson *l = container_of(j, struct lesson, job);
	struct cache *c = l->cache;
	struct error err;

	pthread_mutex_lock(&c->names_lock);
	if (l->changes == c->changes && learn(l, &err) < 0) {
		cache_near_failed(c, &err);
	}
	pthread_mutex_unlock(&c->names_lock);
	free_lesson(j);
}

static struct lesson *lesson_new(struct cache *c, struct bytes name, uint64_t changes)
{
	struct lesson *l = xcalloc(1, sizeof(*l));

	l->job.run = run_lesson;
	l->job.free = free_lesson;
	l->cache = c;
	l->changes = changes;
	buffer_append(&l->name, name.ptr, name.len);
	return l;
}

/* ---- Names ---- */

static struct cache *cache_of_roots(struct root_nodes *r)
{
	return container_of(r, struct cache_roots, base)->cache;
}

static void roots_destroy(struct root_nodes *r)
{
	cache_unref(cache_of_roots(r));
	free(container_of(r, struct cache_roots, base));
}

/* node: NULL where far has no such name. */
static void teach_name(struct cache *c, struct bytes name, const struct node *node,
		       uint64_t changes)
{
	struct root_node known cleanup(root_node_done) = {.node.size = 0};
	int rc = root_nodes_lookup(c->near.roots, name, &known, NULL);

	if (node ? rc > 0 && root_node_same(&known.node, node) : rc == 0) {
		return;
	}
	struct lesson *l = lesson_new(c, name, changes);

	l->is_absent = !node;
	if (node) {
		root_node_set(&l->node, node);
	}
	background_add(c->keeper, &l->job);
}

static bool is_unreachable(int rc)
{
	return rc == -ERROR_UNAVAILABLE || rc == -ERROR_TIMEOUT;
}

static int look_up_far(struct cache *c, struct bytes name, struct root_node *out,
		       struct error *err)
{
	uint64_t changes = changes_now(c);
	int rc = root_nodes_lookup(c->far.roots, name, out, err);

	atomic_store(&c->far_failed_at, is_unreachable(rc) ? (int64_t)moment_now_ns() : 0);
	if (rc >= 0) {
		teach_name(c, name, rc > 0 ? &out->node : NULL, changes);
	}
	return rc;
}

static int roots_lookup(struct root_nodes *r, struct bytes name, struct root_node *out,
			struct error *err)
{
	struct cache *c = cache_of_roots(r);
	int64_t failed_at = atomic_load(&c->far_failed_at);

	if (failed_at && (int64_t)moment_now_ns() - failed_at < FAR_PAUSE_NS &&
	    root_nodes_lookup(c->near.roots, name, out, NULL) > 0) {
		return 1;
	}
	int rc = look_up_far(c, name, out, err);

	/* What near does not know may be there all the same. */
	if (is_unreachable(rc) && root_nodes_lookup(c->near.roots, name, out, NULL) > 0) {
		return 1;
	}
	return rc;
}

/* Near knows only the names that were asked for. */
static int roots_list(struct root_nodes *r, struct bytes after, root_nodes_visit visit,
		      void *context, struct error *err)
{
	return root_nodes_list(cache_of_roots(r)->far.roots, after, visit, context, err);
}

/* What near does not learn here is found out with the next lookup. */
static int roots_put(struct root_nodes *r, struct bytes name, const struct node *node,
		     bool replace, struct error *err)
{
	struct cache *c = cache_of_roots(r);
	struct error why;
	int rc = root_nodes_put(c->far.roots, name, node, replace, err);

	pthread_mutex_lock(&c->names_lock);
	c->changes++;
	if (rc == 0 && root_nodes_put(c->near.roots, name, node, true, &why) < 0) {
		cache_near_failed(c, &why);
	}
	pthread_mutex_unlock(&c->names_lock);
	return rc;
}

static int roots_remove(struct root_nodes *r, struct bytes name, struct error *err)
{
	struct cache *c = cache_of_roots(r);
	struct error why;
	int rc = root_nodes_remove(c->far.roots, name, err);

	pthread_mutex_lock(&c->names_lock);
	c->changes++;
	if (rc >= 0 && root_nodes_remove(c->near.roots, name, &why) < 0) {
		cache_near_failed(c, &why);
	}
	pthread_mutex_unlock(&c->names_lock);
	return rc;
}

static const struct root_nodes_ops roots_ops = {
	.name = "cache",
	.may_grow = true,
	.destroy = roots_destroy,
	.lookup = roots_lookup,
	.list = roots_list,
	.put = roots_put,
	.remove = roots_remove,
};

struct root_nodes *cache_roots_new(struct cache *c)
{
	struct cache_roots *r = xcalloc(1, sizeof(*r));

	root_nodes_init(&r->base, &roots_ops);
	r->base.is_local = root_nodes_is_local(c->far.roots);
	r->cache = cache_ref(c);
	return &r->base;
}

/* ---- Records ---- */

static struct cache *cache_of_records(struct record_table *t)
{
	return container_of(t, struct cache_records, base)->cache;
}

static void records_destroy(struct record_table *t)
{
	cache_unref(cache_of_records(t));
	free(container_of(t, struct cache_records, base));
}

static void set_buffer(struct buffer *out, struct bytes b)
{
	out->len = 0;
	buffer_append(out, b.ptr, b.len);
}

struct record_fetch {
	struct cache *cache;
	struct bytes name;
	uint64_t changes;
};

/* Nobody may join those who asked before a change. */
static struct cache_key flight_key(const struct record_fetch *f)
{
	uint8_t name[8 + RECORD_KEY_MAX];

	put_le64(name, f->changes);
	memcpy(name + 8, f->name.ptr, f->name.len);
	return cache_key_of(CACHE_RECORD_FLIGHT, bytes_of(name, 8 + f->name.len));
}

static int fetch_record(void *context, struct object **out, struct error *err)
{
	const struct record_fetch *f = context;
	struct cache *c = f->cache;
	struct buffer value cleanup(buffer_done) = {0};
	struct cache_key key = cache_key_of(CACHE_RECORD, f->name);
	uint64_t kept_changes;

	*out = object_lru_get(c->recent, cache_key_bytes(&key), &kept_changes);
	if (*out) {
		return 1;
	}
	int rc = record_table_get(c->far.path_infos, f->name, &value, err);

	if (rc <= 0) {
		return rc;
	}
	*out = object_copy(buffer_bytes(&value));
	if (!*out) {
		return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", value.len);
	}
	object_lru_put(c->recent, cache_key_bytes(&key), *out, &kept_changes);
	struct lesson *l = lesson_new(c, f->name, f->changes);

	l->is_record = true;
	buffer_append(&l->value, value.ptr, value.len);
	background_add(c->keeper, &l->job);
	return 1;
}

static int records_get(struct record_table *t, struct bytes name, struct buffer *out,
		       struct error *err)
{
	struct cache *c = cache_of_records(t);
	struct record_fetch f = {.cache = c, .name = name, .changes = changes_now(c)};
	struct cache_key key = cache_key_of(CACHE_RECORD, name);
	struct object *o cleanup(cleanup_object) =
		object_lru_get(c->recent, cache_key_bytes(&key), NULL);
	struct error why;
	int rc = o ? 0 : record_table_get(c->near.path_infos, name, out, &why);

	if (rc > 0) {
		return rc;
	}
	if (rc < 0) {
		cache_near_unread(c, &why);
	}
	if (!o) {
		key = flight_key(&f);
		rc = single_flight_get(&c->flights, cache_key_bytes(&key), fetch_record, &f, &o,
				       err);
	}
	if (o) {
		set_buffer(out, bytes_of(o->content, o->len));
		return 1;
	}
	return rc;
}

static void forget_records(struct cache *c, const struct bytes *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct cache_key key = cache_key_of(CACHE_RECORD, names[i]);

		object_lru_change(c->recent, cache_key_bytes(&key));
	}
}

/* Asker. */
static int near_has_any(struct cache *c, const struct bytes *names, size_t count,
			struct error *err)
{
	struct buffer value cleanup(buffer_done) = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = record_table_get(c->near.path_infos, names[i], &value, err);
	}
	return rc;
}

/* What near does not have it need not forget, even where it can write no more. */
static int remove_near(struct cache *c, const struct bytes *names, size_t count,
		       struct error *err)
{
	size_t removed;

	c->changes++;
	forget_records(c, names, count);
	int rc = near_has_any(c, names, count, err);

	return rc > 0 ? record_table_remove_many(c->near.path_infos, names, count, &removed,
						 err)
		      : rc;
}

/*
 * Near must not go on with what it had, so its failure counts here; and it forgets before far
 * changes, since nobody would find out later.
 */
static int forget_everywhere(struct cache *c, const struct bytes *names, size_t count,
			     struct error *err)
{
	pthread_mutex_lock(&c->names_lock);
	int rc = remove_near(c, names, count, err);

	pthread_mutex_unlock(&c->names_lock);
	if (rc < 0) {
		error_wrap(err, "the near store of a cache");
	}
	return rc < 0 ? rc : 0;
}

static int records_put(struct record_table *t, const struct record_entry *entries, size_t count,
		       struct error *err)
{
	struct cache *c = cache_of_records(t);
	struct bytes *names cleanup(cleanup_free) = xmalloc(count * sizeof(*names));
	struct error why;

	for (size_t i = 0; i < count; i++) {
		names[i] = entries[i].key;
	}
	int rc = forget_everywhere(c, names, count, err);

	if (rc == 0) {
		rc = record_table_put(c->far.path_infos, entries, count, err);
	}
	/* Also after a failure: some of it may have come through, and been read since. */
	pthread_mutex_lock(&c->names_lock);
	c->changes++;
	forget_records(c, names, count);
	if (rc == 0 && record_table_put(c->near.path_infos, entries, count, &why) < 0) {
		cache_near_failed(c, &why);
	}
	pthread_mutex_unlock(&c->names_lock);
	return rc;
}

static int records_remove(struct record_table *t, const struct bytes *names, size_t count,
			  size_t *removed, struct error *err)
{
	struct cache *c = cache_of_records(t);
	int rc = forget_everywhere(c, names, count, err);

	if (rc == 0) {
		rc = record_table_remove_many(c->far.path_infos, names, count, removed, err);
	}
	/* Somebody may have read it from far meanwhile. */
	int again = forget_everywhere(c, names, count, rc < 0 ? NULL : err);

	return rc < 0 ? rc : again;
}

static int records_list(struct record_table *t, struct bytes after, record_visit visit,
			void *context, struct error *err)
{
	return record_table_list(cache_of_records(t)->far.path_infos, after, visit, context,
				 err);
}

static const struct record_table_ops records_ops = {
	.name = "cache",
	.destroy = records_destroy,
	.get = records_get,
	.put = records_put,
	.remove = records_remove,
	.list = records_list,
};

struct record_table *cache_records_new(struct cache *c)
{
	struct cache_records *r = xcalloc(1, sizeof(*r));

	record_table_init(&r->base, &records_ops);
	r->base.is_local = record_table_is_local(c->far.path_infos);
	r->cache = cache_ref(c);
	return &r->base;
}
