#include "castore/closure.h"

#include "castore/digest_map.h"

/* ---- validators ---- */

/*
 * Leaves to root: value of a digest is 1 when something given refers to it, 0 when nothing does
 * yet; at the end only the root may be left with 0. Root to leaves: 1 when it was given, 0 when
 * it was referred to and is still to come.
 */
struct closure_validator {
	enum closure_order order;
	struct digest_map seen;
	size_t open; /* leaves to root: unreferred; root to leaves: still to come */
	bool has_root, expects;
	struct digest root; /* leaves to root: the last one given */
	struct digest expected;
};

struct closure_validator *closure_validator_new(enum closure_order order,
						const struct digest *expected_root)
{
	struct closure_validator *v = xcalloc(1, sizeof(*v));

	v->order = order;
	if (expected_root) {
		v->expects = true;
		v->expected = *expected_root;
	}
	return v;
}

void closure_validator_free(struct closure_validator *v)
{
	if (v) {
		digest_map_done(&v->seen);
		free(v);
	}
}

static int check_limit(const struct digest_map *m, struct error *err)
{
	return m->count < CLOSURE_DIRECTORIES_MAX
		       ? 0
		       : error_set(err, ERROR_LIMIT, "a closure of more than %zu directories",
				   CLOSURE_DIRECTORIES_MAX);
}

/* Next child directory at or after entry *i. */
static bool next_child(const struct directory *d, size_t *i, struct digest *out)
{
	struct directory_entry e;

	while (*i < directory_count(d)) {
		directory_entry(d, (*i)++, &e);
		if (e.node.kind == NODE_DIRECTORY) {
			*out = e.node.digest;
			return true;
		}
	}
	return false;
}

static int add_leaf_first(struct closure_validator *v, const struct directory *d,
			  struct error *err)
{
	struct digest child;
	size_t i = 0;

	while (next_child(d, &i, &child)) {
		uint64_t *referred = digest_map_get(&v->seen, &child);

		if (!referred) {
			return error_set(err, ERROR_INVALID,
					 "directory %s comes before %s, which it contains",
					 digest_text(directory_digest(d)), digest_text(&child));
		}
		v->open -= *referred == 0;
		*referred = 1;
	}
	int rc = check_limit(&v->seen, err);

	if (rc) {
		return rc;
	}
	v->open += digest_map_put(&v->seen, directory_digest(d), 0);
	v->root = *directory_digest(d);
	v->has_root = true;
	return 0;
}

/* Notes one child of a directory that comes root first; it is still to come unless known. */
static int expect_child(struct closure_validator *v, const struct digest *child,
			struct error *err)
{
	int rc = check_limit(&v->seen, err);

	if (rc == 0) {
		v->open += digest_map_put(&v->seen, child, 0);
	}
	return rc;
}

static int add_root_first(struct closure_validator *v, const struct directory *d,
			  struct error *err)
{
	const struct digest *digest = directory_digest(d);
	struct digest child;
	size_t i = 0;
	int rc = 0;

	if (!v->has_root) {
		v->has_root = true;
		v->root = *digest;
		if (v->expects && !digest_equal(digest, &v->expected)) {
			return error_set(err, ERROR_INVALID,
					 "the closure begins with %s, not with %s",
					 digest_text(digest), digest_text(&v->expected));
		}
		digest_map_put(&v->seen, digest, 0);
		v->open = 1;
	}
	uint64_t *given = digest_map_get(&v->seen, digest);

	if (!given) {
		return error_set(err, ERROR_INVALID,
				 "nothing before directory %s in the closure refers to it",
				 digest_text(digest));
	}
	if (*given) {
		return 0;
	}
	*given = 1;
	v->open--;
	while (rc == 0 && next_child(d, &i, &child)) {
		rc = expect_child(v, &child, err);
	}
	return rc;
}

int closure_validator_add(struct closure_validator *v, const struct directory *d,
			  struct error *err)
{
	return v->order == CLOSURE_LEAVES_TO_ROOT ? add_leaf_first(v, d, err)
						  : add_root_first(v, d, err);
}

int closure_validator_finish(struct closure_validator *v, struct digest *root,
			     struct error *err)
{
	if (!v->has_root) {
		return error_set(err, ERROR_INVALID, "a closure without directories");
	}
	if (v->order == CLOSURE_LEAVES_TO_ROOT) {
		const uint64_t *referred = digest_map_get(&v->seen, &v->root);

		if (v->open != 1 || !referred || *referred != 0) {
			return error_set(
				err, ERROR_INVALID,
				"the closure has directories that are not below its last "
				"one, %s",
				digest_text(&v->root));
		}
		if (v->expects && !digest_equal(&v->root, &v->expected)) {
			return error_set(err, ERROR_INVALID,
					 "the closure ends with %s, not with %s",
					 digest_text(&v->root), digest_text(&v->expected));
		}
	} else if (v->open) {
		return error_set(err, ERROR_INVALID,
				 "%zu directories of the closure of %s are missing", v->open,
				 digest_text(&v->root));
	}
	if (root) {
		*root = v->root;
	}
	return 0;
}

/* ---- walks ---- */

/* On the way down (leaves to root): a directory and the next of its entries to look at. */
struct level {
	struct directory *directory;
	size_t next;
};

struct closure_walk {
	enum closure_order order;
	closure_get get;
	void *context;
	struct digest_map seen;
	struct digest *queue; /* root to leaves: digests waiting, from head on */
	size_t head, tail, queue_capacity;
	struct level *levels;
	size_t depth, levels_capacity;
	bool started;
};

static void push_digest(struct closure_walk *w, const struct digest *digest)
{
	if (w->tail == w->queue_capacity && w->head > w->tail / 2) {
		memmove(w->queue, w->queue + w->head, (w->tail - w->head) * sizeof(*w->queue));
		w->tail -= w->head;
		w->head = 0;
	}
	if (w->tail == w->queue_capacity) {
		w->queue_capacity = w->queue_capacity ? w->queue_capacity * 2 : 64;
		w->queue = xrealloc(w->queue, w->queue_capacity * sizeof(*w->queue));
	}
	w->queue[w->tail++] = *digest;
}

struct closure_walk *closure_walk_new(enum closure_order order, const struct digest *root,
				      closure_get get, void *context)
{
	struct closure_walk *w = xcalloc(1, sizeof(*w));

	w->order = order;
	w->get = get;
	w->context = context;
	push_digest(w, root);
	digest_map_put(&w->seen, root, 0);
	return w;
}

void closure_walk_free(struct closure_walk *w)
{
	if (!w) {
		return;
	}
	while (w->depth) {
		directory_unref(w->levels[--w->depth].directory);
	}
	digest_map_done(&w->seen);
	free(w->queue);
	free(w->levels);
	free(w);
}

static int fetch(struct closure_walk *w, const struct digest *digest, struct directory **out,
		 struct error *err)
{
	int rc = w->get(w->context, digest, out, err);

	return rc ? rc
		  : error_set(err, ERROR_UNAVAILABLE, "directory %s is not in the store",
			      digest_text(digest));
}

/* Asker: 1 when this child was not seen before. */
static int is_new(struct closure_walk *w, const struct digest *child, struct error *err)
{
	int rc = check_limit(&w->seen, err);

	return rc ? rc : digest_map_put(&w->seen, child, 0);
}

static int next_root_first(struct closure_walk *w, struct directory **out, struct error *err)
{
	struct digest child;
	size_t i = 0;

	if (w->head == w->tail) {
		return 0;
	}
	struct digest digest = w->queue[w->head++];
	struct directory *d cleanup(cleanup_directory) = NULL;
	int rc = fetch(w, &digest, &d, err);

	while (rc >= 0 && next_child(d, &i, &child)) {
		rc = is_new(w, &child, err);
		if (rc > 0) {
			push_digest(w, &child);
		}
	}
	if (rc < 0) {
		return rc;
	}
	*out = d;
	d = NULL;
	return 1;
}

static int descend(struct closure_walk *w, const struct digest *digest, struct error *err)
{
	struct directory *d;
	int rc = fetch(w, digest, &d, err);

	if (rc < 0) {
		return rc;
	}
	if (w->depth == w->levels_capacity) {
		w->levels_capacity = w->levels_capacity ? w->levels_capacity * 2 : 16;
		w->levels = xrealloc(w->levels, w->levels_capacity * sizeof(*w->levels));
	}
	w->levels[w->depth++] = (struct level){.directory = d};
	return 0;
}

static int next_leaf_first(struct closure_walk *w, struct directory **out, struct error *err)
{
	int rc = 0;

	if (!w->started) {
		w->started = true;
		rc = descend(w, &w->queue[0], err);
	}
	while (rc == 0 && w->depth) {
		struct level *top = &w->levels[w->depth - 1];
		struct digest child;

		if (!next_child(top->directory, &top->next, &child)) {
			*out = top->directory;
			w->depth--;
			return 1;
		}
		rc = is_new(w, &child, err);
		if (rc > 0) {
			rc = descend(w, &child, err);
		}
	}
	return rc;
}

int closure_walk_next(struct closure_walk *w, struct directory **out, struct error *err)
{
	return w->order == CLOSURE_ROOT_TO_LEAVES ? next_root_first(w, out, err)
						  : next_leaf_first(w, out, err);
}
