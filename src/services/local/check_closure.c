/*
 * What all names need: a walk over every Directory that they lead to, each once, which finds
 * what the store lacks and tells whom each fault affects.
 */

#include <stdio.h>

#include "services/local/check.h"

/* Of a Directory in the map. */
enum tree_state { TREE_WHOLE = 1, TREE_LACKS = 2 };

struct frame {
	struct directory *directory;
	size_t next;
	bool lacks;
};

struct closures {
	struct check *check;
	struct directory_service *directories;
	struct digest_map states; /* enum tree_state of all that was walked */
	struct frame *frames;
	size_t depth, capacity;
	/* What was missing below the name at hand, told of when the name is still there. */
	struct store_fault *missing;
	size_t missing_count;
};

static void note_missing(struct closures *w, const struct digest *digest, bool is_directory)
{
	if ((w->missing_count & (w->missing_count - 1)) == 0) {
		w->missing = xrealloc(w->missing, MAX(2 * w->missing_count, (size_t)1) *
							  sizeof(*w->missing));
	}
	w->missing[w->missing_count++] = (struct store_fault){.kind = STORE_FAULT_MISSING,
							      .has_digest = true,
							      .is_directory = is_directory,
							      .digest = *digest};
}

/* Asker: is this object there, and without fault? */
static int is_whole(struct closures *w, const struct digest *digest, bool is_directory,
		    struct error *err)
{
	struct check *c = w->check;
	uint64_t size;

	if (digest_map_get(is_directory ? &c->bad_directories : &c->bad_blobs, digest)) {
		return 0;
	}
	if (!is_directory && digest_equal(digest, &digest_empty)) {
		return 1;
	}
	int rc = local_object_size(&c->store->view,
				   is_directory ? INDEX_DIRECTORIES : INDEX_BLOBS, digest,
				   &size, err);

	if (rc == 0) {
		note_missing(w, digest, is_directory);
	}
	return rc;
}

/* Asker: opens a Directory to be walked; 0 when it is not whole. */
static int push_directory(struct closures *w, const struct digest *digest, struct error *err)
{
	struct directory *d;
	struct error why;
	int rc = is_whole(w, digest, true, err);

	if (rc <= 0) {
		return rc;
	}
	rc = directory_service_get(w->directories, digest, &d, &why);
	if (rc < 0 && why.code != ERROR_CORRUPT && why.code != ERROR_IO) {
		*err = why;
		return rc;
	}
	if (rc < 0) {
		/* The objects were looked at without their content. */
		check_add_object(w->check, STORE_FAULT_OBJECT, INDEX_DIRECTORIES, digest, NULL,
				 &why);
		return 0;
	}
	if (rc == 0) {
		note_missing(w, digest, true);
		return 0;
	}
	if (w->depth == w->capacity) {
		w->capacity = w->capacity ? 2 * w->capacity : 64;
		w->frames = xrealloc(w->frames, w->capacity * sizeof(*w->frames));
	}
	w->frames[w->depth++] = (struct frame){.directory = d};
	return 1;
}

/* Goes on with the Directory on top: one entry, or its end. */
static int step(struct closures *w, struct error *err)
{
	struct frame *top = &w->frames[w->depth - 1];
	struct directory_entry entry;
	int rc;

	if (top->next == directory_count(top->directory)) {
		bool lacks = top->lacks;

		digest_map_put(&w->states, directory_digest(top->directory),
			       lacks ? TREE_LACKS : TREE_WHOLE);
		directory_unref(top->directory);
		w->depth--;
		if (w->depth) {
			w->frames[w->depth - 1].lacks |= lacks;
		}
		return 0;
	}
	directory_entry(top->directory, top->next++, &entry);
	if (entry.node.kind == NODE_SYMLINK) {
		return 0;
	}
	if (entry.node.kind == NODE_FILE) {
		rc = is_whole(w, &entry.node.digest, false, err);
		top->lacks |= rc == 0;
		return MIN(rc, 0);
	}
	const uint64_t *state = digest_map_get(&w->states, &entry.node.digest);

	if (state) {
		top->lacks |= *state == TREE_LACKS;
		return 0;
	}
	rc = push_directory(w, &entry.node.digest, err);
	if (rc == 0) {
		digest_map_put(&w->states, &entry.node.digest, TREE_LACKS);
		/* push_directory() has not moved the frames. */
		top->lacks = true;
	}
	return MIN(rc, 0);
}

/* Asker: is all there that the node needs? */
static int walk_node(struct closures *w, const struct node *node, struct error *err)
{
	if (node->kind == NODE_SYMLINK) {
		return 1;
	}
	if (node->kind == NODE_FILE) {
		return is_whole(w, &node->digest, false, err);
	}
	const uint64_t *state = digest_map_get(&w->states, &node->digest);

	if (state) {
		return *state == TREE_WHOLE;
	}
	int rc = push_directory(w, &node->digest, err);

	if (rc == 0) {
		digest_map_put(&w->states, &node->digest, TREE_LACKS);
	}
	while (rc >= 0 && w->depth) {
		rc = check_canceled(w->check, err);
		rc = rc ? rc : step(w, err);
	}
	if (rc < 0) {
		return rc;
	}
	return *digest_map_get(&w->states, &node->digest) == TREE_WHOLE;
}

/* Asker: is the name still there? It may have been removed, and its tree collected. */
static int name_stays(struct closures *w, const struct checked_name *n, struct error *err)
{
	struct buffer value cleanup(buffer_done) = {0};

	return index_get_append(w->check->store->index, n->table, n->key, &value, err);
}

static void tell_missing(struct closures *w)
{
	for (size_t i = 0; i < w->missing_count; i++) {
		struct store_fault *f = &w->missing[i];
		char text[200];

		snprintf(text, sizeof(text), "%s %s is not in the store",
			 f->is_directory ? "Directory" : "blob", digest_text(&f->digest));
		f->text = text;
		check_add(w->check, f);
		f->text = NULL;
	}
	w->missing_count = 0;
}

/* ---- whom it affects ---- */

static void add_text(char ***list, size_t *count, const char *text)
{
	if (*count && strcmp((*list)[*count - 1], text) == 0) {
		return;
	}
	if ((*count & (*count - 1)) == 0) {
		*list = xrealloc(*list, MAX(2 * *count, (size_t)1) * sizeof(**list));
	}
	(*list)[(*count)++] = xstrdup(text);
}

static void affect(struct closures *w, const struct digest *digest, bool is_directory,
		   const char *name)
{
	struct check *c = w->check;
	const uint64_t *number =
		digest_map_get(is_directory ? &c->bad_directories : &c->bad_blobs, digest);

	if (number && *number < c->report->fault_count) {
		struct store_fault *f = &c->report->faults[*number];

		add_text(&f->names, &f->name_count, name);
	}
}

/* Directories to look into for the name at hand, each once. */
struct search {
	struct digest *waiting;
	size_t count;
	struct digest_map seen;
};

static void search_later(struct search *s, const struct digest *digest)
{
	if (!digest_map_put(&s->seen, digest, 0)) {
		return;
	}
	if ((s->count & (s->count - 1)) == 0) {
		s->waiting = xrealloc(s->waiting,
				      MAX(2 * s->count, (size_t)1) * sizeof(*s->waiting));
	}
	s->waiting[s->count++] = *digest;
}

static void search_directory(struct closures *w, struct search *s, const struct digest *digest,
			     const char *name)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	affect(w, digest, true, name);
	if (digest_map_get(&w->check->bad_directories, digest) ||
	    directory_service_get(w->directories, digest, &d, NULL) <= 0) {
		return;
	}
	for (size_t i = 0; i < directory_count(d); i++) {
		struct directory_entry entry;

		directory_entry(d, i, &entry);
		if (entry.node.kind == NODE_FILE) {
			affect(w, &entry.node.digest, false, name);
		} else if (entry.node.kind == NODE_DIRECTORY) {
			const uint64_t *state = digest_map_get(&w->states, &entry.node.digest);

			if (state && *state == TREE_LACKS) {
				search_later(s, &entry.node.digest);
			}
		}
	}
}

static void find_affected(struct closures *w, const struct checked_name *n)
{
	struct store_check_report *r = w->check->report;
	struct search s = {0};

	add_text(&r->affected, &r->affected_count, n->name);
	if (n->node.node.kind == NODE_FILE) {
		affect(w, &n->node.node.digest, false, n->name);
	} else if (n->node.node.kind == NODE_DIRECTORY) {
		search_later(&s, &n->node.node.digest);
	}
	while (s.count) {
		struct digest next = s.waiting[--s.count];

		search_directory(w, &s, &next, n->name);
	}
	free(s.waiting);
	digest_map_done(&s.seen);
}

static int check_name(struct closures *w, const struct checked_name *n, struct error *err)
{
	struct store_check_report *r = w->check->report;

	if (!n->understood) {
		if (n->table == INDEX_ROOTS || w->check->options->read_path_info) {
			add_text(&r->affected, &r->affected_count, n->name);
		}
		return 0;
	}
	int rc = walk_node(w, &n->node.node, err);

	if (rc != 0) {
		w->missing_count = 0;
		return MIN(rc, 0);
	}
	rc = name_stays(w, n, err);
	if (rc > 0) {
		tell_missing(w);
		find_affected(w, n);
	} else {
		/* What was found lacking on its way is not told of: it is to be found again. */
		digest_map_done(&w->states);
	}
	w->missing_count = 0;
	return MIN(rc, 0);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_texts(char **list, size_t count)
{
	if (count) {
		qsort(list, count, sizeof(*list), compare_texts);
	}
}

int check_closures(struct check *c, const struct checked_names *names, struct error *err)
{
	struct closures w = {.check = c,
			     .directories = local_directories_new(&c->store->view, true)};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < names->count; i++) {
		rc = check_name(&w, &names->items[i], err);
	}
	while (w.depth) {
		directory_unref(w.frames[--w.depth].directory);
	}
	sort_texts(c->report->affected, c->report->affected_count);
	for (size_t i = 0; i < c->report->fault_count; i++) {
		sort_texts(c->report->faults[i].names, c->report->faults[i].name_count);
	}
	directory_service_unref(w.directories);
	digest_map_done(&w.states);
	free(w.frames);
	free(w.missing);
	return rc;
}
