/*
 * Lines make a tree. Of each object two of them are kept: the innermost line below which all
 * its occurrences are, and the line of the last occurrence. Lines are walked in the order of
 * their tree. So a line has as many objects as there are occurrences in the lines below it,
 * less one for each two that follow each other, counted off where both are below one line.
 */

#include "services/usage.h"

#include "castore/prefix_map.h"

/* Trees of other programs may be deeper than what can be imported here. */
#define DEPTH_MAX 65536
#define LINES_MAX ((size_t)UINT32_MAX)

/* Above all; above all that is asked about; and what the other names refer to. */
enum { LINE_TOP = 1, LINE_TOTAL, LINE_REST, LINE_FIRST };

struct line {
	char *path; /* below the line above; NULL of the fixed ones */
	uint32_t above;
	uint32_t depth;
	struct usage_figures figures; /* in the end; before it, what it adds to those above */
};

/* A path that was asked about, or that leads to one. */
struct place {
	struct buffer name; /* of the entry, or the name of a tree */
	struct place *above, *next, *below;
	bool asked;
};

struct question {
	struct place *place;
	struct root_node node;
	char *path;
};

/* A directory that is being walked. */
struct level {
	struct directory *directory;
	size_t next;
	const struct place *place; /* NULL: nothing below it was asked about */
	uint32_t line;
	unsigned depth; /* so many levels below it are lines */
	bool own_line;
	bool open;       /* parts of it may be in other lines */
	size_t path_len; /* of the path from the name to it */
	size_t line_len; /* of the path from the name to the line that it is in */
	uint64_t size;   /* of the files that were seen below it */
};

/* An open directory. It may also stand, whole, elsewhere in the line: so it is counted last. */
struct open_directory {
	struct directory *directory;
	uint32_t line;
};

struct usage {
	struct store *store;
	bool knows_stored, summed;
	struct prefix_map blobs, directories; /* the two lines of each object */
	struct prefix_map sizes;              /* of the files below a directory, plus 1 */
	struct prefix_map names;              /* of the outermost places: number, plus 1 */
	struct line *lines;                   /* from 1 */
	size_t line_count, line_capacity;
	struct question *questions;
	size_t question_count, question_capacity;
	struct place **places; /* all of them */
	size_t place_count, place_capacity;
	struct level *levels;
	size_t level_count, level_capacity;
	struct open_directory *open;
	size_t open_count, open_capacity;
	struct buffer path;
};

struct object {
	bool directory;
	bool absent; /* a directory that was looked for */
	struct digest digest;
	uint64_t content;
};

/* Room for one more item. */
static void *reserve(void *items, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity) {
		return items;
	}
	*capacity = MAX(*capacity * 2, (size_t)16);
	return xrealloc(items, *capacity * size);
}

static uint32_t add_line(struct usage *u, uint32_t above, char *path)
{
	u->lines = reserve(u->lines, u->line_count, &u->line_capacity, sizeof(*u->lines));
	u->lines[u->line_count] = (struct line){
		.path = path, .above = above, .depth = above ? u->lines[above].depth + 1 : 0};
	return (uint32_t)u->line_count++;
}

struct usage *usage_new(struct store *store)
{
	struct usage *u = xcalloc(1, sizeof(*u));
	struct error err;
	uint64_t stored;

	u->store = store;
	/* Number 0 stands for none. */
	add_line(u, 0, NULL);
	add_line(u, 0, NULL);
	add_line(u, LINE_TOP, NULL);
	add_line(u, LINE_TOP, NULL);
	/* None has this digest: what is told is whether it could know. */
	u->knows_stored = blob_service_stored(store->blobs, &(struct digest){0}, &stored,
					      &err) != -ERROR_UNSUPPORTED;
	return u;
}

void usage_free(struct usage *u)
{
	if (!u) {
		return;
	}
	for (size_t i = 0; i < u->line_count; i++) {
		free(u->lines[i].path);
	}
	for (size_t i = 0; i < u->place_count; i++) {
		buffer_done(&u->places[i]->name);
		free(u->places[i]);
	}
	for (size_t i = 0; i < u->question_count; i++) {
		root_node_done(&u->questions[i].node);
		free(u->questions[i].path);
	}
	for (size_t i = 0; i < u->level_count; i++) {
		directory_unref(u->levels[i].directory);
	}
	for (size_t i = 0; i < u->open_count; i++) {
		directory_unref(u->open[i].directory);
	}
	prefix_map_done(&u->blobs);
	prefix_map_done(&u->directories);
	prefix_map_done(&u->sizes);
	prefix_map_done(&u->names);
	buffer_done(&u->path);
	free(u->lines);
	free(u->places);
	free(u->questions);
	free(u->levels);
	free(u->open);
	free(u);
}

bool usage_knows_stored(const struct usage *u)
{
	return u->knows_stored;
}

/* ---- Places ---- */

static struct place *add_place(struct usage *u, struct place *above, struct bytes name)
{
	struct place *p = xcalloc(1, sizeof(*p));

	buffer_append(&p->name, name.ptr, name.len);
	p->above = above;
	if (above) {
		p->next = above->below;
		above->below = p;
	}
	u->places = reserve(u->places, u->place_count, &u->place_capacity, sizeof(*u->places));
	u->places[u->place_count++] = p;
	return p;
}

static struct place *find_below(const struct place *above, struct bytes name)
{
	struct place *p = above ? above->below : NULL;

	while (p && !bytes_equal(buffer_bytes(&p->name), name)) {
		p = p->next;
	}
	return p;
}

/* The outermost place of a name, or NULL. */
static struct place *find_name(const struct usage *u, struct bytes name)
{
	struct digest key;

	digest_of(&key, name);
	const uint64_t *number = prefix_map_get(&u->names, &key);

	return number ? u->places[*number - 1] : NULL;
}

static struct place *find_or_add_name(struct usage *u, struct bytes name)
{
	struct place *p = find_name(u, name);
	struct digest key;

	if (!p) {
		digest_of(&key, name);
		uint64_t *number = prefix_map_put(&u->names, &key);

		p = add_place(u, NULL, name);
		if (number) {
			*number = u->place_count;
		}
	}
	return p;
}

static struct place *find_or_add_path(struct usage *u, struct place *p, struct bytes path)
{
	while (path.len) {
		const uint8_t *slash = memchr(path.ptr, '/', path.len);
		size_t n = slash ? (size_t)(slash - path.ptr) : path.len;
		struct bytes name = bytes_of(path.ptr, n);
		struct place *below = find_below(p, name);

		p = below ? below : add_place(u, p, name);
		n += slash != NULL;
		path = bytes_of(path.ptr + n, path.len - n);
	}
	return p;
}

void usage_ask(struct usage *u, struct bytes name, struct bytes path, const struct node *node)
{
	struct buffer label = {0};
	struct place *p;

	buffer_append(&label, name.ptr, name.len);
	if (name.len && path.len) {
		buffer_append_byte(&label, '/');
	}
	buffer_append(&label, path.ptr, path.len);
	if (name.len) {
		p = find_or_add_path(u, find_or_add_name(u, name), path);
	} else {
		/* No name of a store has a NUL. */
		struct buffer key cleanup(buffer_done) = {0};

		buffer_append_byte(&key, 0);
		buffer_append(&key, path.ptr, path.len);
		p = find_or_add_name(u, buffer_bytes(&key));
	}
	if (p->asked) {
		buffer_done(&label);
		return;
	}
	p->asked = true;
	buffer_append_byte(&label, 0);
	u->questions = reserve(u->questions, u->question_count, &u->question_capacity,
			       sizeof(*u->questions));
	struct question *q = &u->questions[u->question_count++];

	*q = (struct question){.place = p, .path = (char *)label.ptr};
	root_node_set(&q->node, node);
}

/* ---- Counting ---- */

static void amount_add(struct usage_amount *a, const struct usage_amount *b)
{
	a->objects += b->objects;
	a->content += b->content;
	a->files += b->files;
	a->stored += b->stored;
	a->missing += b->missing;
}

/* What is in between may be "negative": the sums in the end are not. */
static void amount_subtract(struct usage_amount *a, const struct usage_amount *b)
{
	a->objects -= b->objects;
	a->content -= b->content;
	a->files -= b->files;
	a->stored -= b->stored;
	a->missing -= b->missing;
}

/* The innermost line that has both. */
static uint32_t common_line(const struct usage *u, uint32_t a, uint32_t b)
{
	while (a != b) {
		if (u->lines[a].depth >= u->lines[b].depth) {
			a = u->lines[a].above;
		} else {
			b = u->lines[b].above;
		}
	}
	return a;
}

static int measure(struct usage *u, const struct object *o, struct usage_amount *out,
		   struct error *err)
{
	uint64_t stored = 0;
	int rc = 1;

	if (u->knows_stored && o->directory) {
		rc = directory_service_stored(u->store->directories, &o->digest, &stored, err);
	} else if (u->knows_stored) {
		rc = blob_service_stored(u->store->blobs, &o->digest, &stored, err);
	}
	if (rc < 0) {
		return rc;
	}
	*out = (struct usage_amount){.objects = 1, .content = o->content, .stored = stored};
	out->files = o->directory ? 0 : o->content;
	out->missing = rc == 0 || o->absent;
	return 0;
}

/* Counts an object in a line, unless it is counted there already. */
static int count_object(struct usage *u, const struct object *o, uint32_t line,
			struct error *err)
{
	struct prefix_map *map = o->directory ? &u->directories : &u->blobs;
	/* Of the blobs of other names, only those matter that are known. */
	bool known_only = line == LINE_REST && !o->directory;
	uint64_t *lines =
		known_only ? prefix_map_get(map, &o->digest) : prefix_map_put(map, &o->digest);
	struct usage_amount amount;

	if (!o->directory && digest_equal(&o->digest, &digest_empty)) {
		return 0;
	}
	if (!lines) {
		return known_only ? 0
				  : error_set(err, ERROR_LIMIT,
					      "no memory to count so many objects");
	}
	uint32_t all = (uint32_t)(*lines >> 32), last = (uint32_t)*lines;
	uint32_t all_now = all ? common_line(u, all, line) : line;

	*lines = (uint64_t)all_now << 32 | line;
	if (last == line || (line == LINE_REST && !last)) {
		return 0;
	}
	int rc = measure(u, o, &amount, err);

	if (rc) {
		return rc;
	}
	amount_add(&u->lines[line].figures.all, &amount);
	if (last) {
		amount_subtract(&u->lines[common_line(u, last, line)].figures.all, &amount);
	}
	if (all_now != all) {
		amount_add(&u->lines[all_now].figures.only, &amount);
		amount_subtract(&u->lines[all].figures.only, &amount);
	}
	return 0;
}

static int count_directory(struct usage *u, struct directory *d, uint32_t line,
			   struct error *err)
{
	struct object o = {.directory = true,
			   .digest = *directory_digest(d),
			   .content = directory_encoding(d).len};

	return count_object(u, &o, line, err);
}

/* ---- Walking ---- */

static int remember_size(struct usage *u, const struct level *l, struct error *err)
{
	if (l->line == LINE_REST) {
		return 0;
	}
	uint64_t *size = prefix_map_put(&u->sizes, directory_digest(l->directory));

	if (!size) {
		return error_set(err, ERROR_LIMIT, "no memory to count so many directories");
	}
	*size = l->size + 1;
	return 0;
}

/* The files of a tree, to all that it is part of. */
static void add_size(struct usage *u, uint32_t line, uint64_t size)
{
	if (u->level_count) {
		u->levels[u->level_count - 1].size += size;
	} else if (line == LINE_TOTAL || u->lines[line].above == LINE_TOTAL) {
		u->lines[LINE_TOTAL].figures.size += size;
	}
}

/* Counts the open directories of the line, which are the last ones. */
static int count_open(struct usage *u, uint32_t line, struct error *err)
{
	int rc = 0;

	while (rc == 0 && u->open_count && u->open[u->open_count - 1].line == line) {
		struct directory *d cleanup(cleanup_directory) =
			u->open[--u->open_count].directory;

		rc = count_directory(u, d, line, err);
	}
	return rc;
}

static int leave_directory(struct usage *u, struct error *err)
{
	struct level l = u->levels[--u->level_count];
	int rc = remember_size(u, &l, err);

	if (rc == 0 && l.own_line) {
		u->lines[l.line].figures.size = l.size;
		rc = count_open(u, l.line, err);
	}
	add_size(u, l.line, l.size);
	directory_unref(l.directory);
	return rc;
}

/* Of level, directory is not set. */
static int enter_directory(struct usage *u, const struct digest *digest, struct level *level,
			   struct error *err)
{
	const uint64_t *seen = prefix_map_get(&u->directories, digest);

	level->open = level->depth || (level->place && level->place->below);
	if (!level->open && seen && (uint32_t)*seen == level->line) {
		const uint64_t *size = prefix_map_get(&u->sizes, digest);

		add_size(u, level->line, size ? *size - 1 : 0);
		return 0;
	}
	int rc = u->level_count == DEPTH_MAX
			 ? error_set(err, ERROR_LIMIT,
				     "more than %d directories below each other", DEPTH_MAX)
			 : directory_service_get(u->store->directories, digest,
						 &level->directory, err);

	if (rc == 0) {
		return count_object(
			u,
			&(struct object){.directory = true, .absent = true, .digest = *digest},
			level->line, err);
	}
	if (rc < 0) {
		return rc;
	}
	u->levels = reserve(u->levels, u->level_count, &u->level_capacity, sizeof(*u->levels));
	u->levels[u->level_count++] = *level;
	if (!level->open) {
		return count_directory(u, level->directory, level->line, err);
	}
	u->open = reserve(u->open, u->open_count, &u->open_capacity, sizeof(*u->open));
	u->open[u->open_count++] = (struct open_directory){
		.directory = directory_ref(level->directory), .line = level->line};
	return 0;
}

/* What a level is like that stands for a node is in `level`, also where it is no directory. */
static int visit_node(struct usage *u, const struct node *node, struct level *level,
		      struct error *err)
{
	int rc = 0;

	switch (node->kind) {
	case NODE_DIRECTORY:
		return enter_directory(u, &node->digest, level, err);
	case NODE_FILE:
		rc = count_object(
			u, &(struct object){.digest = node->digest, .content = node->size},
			level->line, err);
		if (level->own_line) {
			u->lines[level->line].figures.size = node->size;
		}
		add_size(u, level->line, node->size);
		break;
	case NODE_SYMLINK:
		break;
	}
	return rc;
}

/* Gives the level a line of its own, below the one that it has. */
static int begin_line(struct usage *u, struct level *level, char *path, struct error *err)
{
	if (u->line_count >= LINES_MAX) {
		free(path);
		return error_set(err, ERROR_LIMIT, "more than %zu lines", LINES_MAX);
	}
	level->line = add_line(u, level->line, path);
	level->line_len = level->path_len;
	level->own_line = true;
	return 0;
}

static int visit_entry(struct usage *u, const struct level *above,
		       const struct directory_entry *e, unsigned depth, struct error *err)
{
	const struct place *place = find_below(above->place, e->name);
	struct level level = {.place = place, .line = above->line, .line_len = above->line_len};
	bool asked = place && place->asked;
	int rc = 0;

	if (asked && above->line == LINE_REST) {
		return 0;
	}
	u->path.len = above->path_len;
	buffer_append_byte(&u->path, '/');
	buffer_append(&u->path, e->name.ptr, e->name.len);
	level.path_len = u->path.len;
	if (asked || (above->depth && e->node.kind == NODE_DIRECTORY)) {
		size_t from = above->line_len + 1;

		level.depth = asked ? depth : above->depth - 1;
		rc = begin_line(u, &level,
				xasprintf("%.*s", (int)(u->path.len - from),
					  (const char *)u->path.ptr + from),
				err);
	}
	return rc ? rc : visit_node(u, &e->node, &level, err);
}

/* Goes on until all that was entered is left again. */
static int walk_levels(struct usage *u, unsigned depth, struct error *err)
{
	int rc = 0;

	while (rc == 0 && u->level_count) {
		struct level *level = &u->levels[u->level_count - 1];
		struct directory_entry e;

		if (level->next == directory_count(level->directory)) {
			rc = leave_directory(u, err);
			continue;
		}
		directory_entry(level->directory, level->next++, &e);
		struct level above = *level;

		rc = visit_entry(u, &above, &e, depth, err);
	}
	return rc;
}

static bool asked_above(const struct place *p)
{
	while (p->above) {
		p = p->above;
		if (p->asked) {
			return true;
		}
	}
	return false;
}

static int walk_question(struct usage *u, struct question *q, unsigned depth, struct error *err)
{
	struct level level = {.place = q->place, .line = LINE_TOTAL, .depth = depth};

	u->path.len = 0;
	buffer_append_string(&u->path, q->path);
	level.path_len = u->path.len;
	int rc = begin_line(u, &level, q->path, err);

	q->path = NULL;
	if (rc == 0) {
		rc = visit_node(u, &q->node.node, &level, err);
	}
	return rc ? rc : walk_levels(u, depth, err);
}

int usage_walk(struct usage *u, unsigned depth, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < u->question_count; i++) {
		/* What is below another place comes with it. */
		if (!asked_above(u->questions[i].place)) {
			rc = walk_question(u, &u->questions[i], depth, err);
		}
	}
	return rc;
}

static int walk_into(struct usage *u, uint32_t line, const struct place *place,
		     const struct node *node, struct error *err)
{
	struct level level = {.place = place, .line = line};
	int rc = visit_node(u, node, &level, err);

	return rc ? rc : walk_levels(u, 0, err);
}

int usage_walk_name(struct usage *u, struct bytes name, const struct node *node,
		    struct error *err)
{
	const struct place *place = find_name(u, name);

	u->path.len = 0;
	return place && place->asked ? 0 : walk_into(u, LINE_REST, place, node, err);
}

int usage_add(struct usage *u, const struct node *node, struct error *err)
{
	return walk_into(u, LINE_TOTAL, NULL, node, err);
}

/* ---- The result ---- */

/* Less than nothing, where the store changed meanwhile. */
static void not_negative(uint64_t *n)
{
	*n = *n > INT64_MAX ? 0 : *n;
}

static void amount_settle(struct usage_amount *a)
{
	not_negative(&a->objects);
	not_negative(&a->content);
	not_negative(&a->files);
	not_negative(&a->stored);
	not_negative(&a->missing);
}

static void sum_up(struct usage *u)
{
	for (size_t i = u->line_count - 1; !u->summed && i >= LINE_FIRST; i--) {
		struct line *l = &u->lines[i], *above = &u->lines[l->above];

		amount_add(&above->figures.all, &l->figures.all);
		amount_add(&above->figures.only, &l->figures.only);
	}
	for (size_t i = LINE_TOTAL; !u->summed && i < u->line_count; i++) {
		amount_settle(&u->lines[i].figures.all);
		amount_settle(&u->lines[i].figures.only);
	}
	u->summed = true;
}

static void visit_lines(struct usage *u, usage_visit visit, void *context)
{
	struct buffer path cleanup(buffer_done) = {0};
	uint32_t at = LINE_TOTAL;
	bool go_on = true;

	for (uint32_t i = LINE_FIRST; go_on && i <= u->line_count; i++) {
		uint32_t above = i < u->line_count ? u->lines[i].above : LINE_TOTAL;

		/* What was gone into before, and this is not below. */
		while (go_on && at != above) {
			const struct line *l = &u->lines[at];

			go_on = visit(context, buffer_bytes(&path), &l->figures);
			path.len -= strlen(l->path) + (l->above != LINE_TOTAL);
			at = l->above;
		}
		if (i < u->line_count) {
			if (path.len) {
				buffer_append_byte(&path, '/');
			}
			buffer_append_string(&path, u->lines[i].path);
			at = i;
		}
	}
	if (go_on) {
		visit(context, (struct bytes){0}, &u->lines[LINE_TOTAL].figures);
	}
}

int usage_each(struct usage *u, usage_visit visit, void *context, struct error *err)
{
	int rc = count_open(u, LINE_REST, err);

	if (rc == 0) {
		sum_up(u);
		visit_lines(u, visit, context);
	}
	return rc;
}
