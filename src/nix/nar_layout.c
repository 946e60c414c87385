#include "nix/nar_layout.h"

#include "nix/nar_format.h"

#define PIECE_CAPACITY (NAR_PIECE_CONTENT + NAR_OPENING_MAX + NAR_CLOSING_MAX)

struct frame {
	struct directory *directory;
	size_t next; /* entry */
};

struct nar_layout {
	struct store *store;
	struct nar_stats *stats;
	struct root_node root;
	struct frame *frames; /* the directories that are open, the root first */
	size_t depth, capacity;
	bool begun;
	bool in_file;
	struct node file;
	uint64_t file_done; /* bytes that are laid out */
};

void nar_piece_done(struct nar_piece *p)
{
	free(p->data);
	free(p->holes);
	*p = (struct nar_piece){0};
}

int nar_layout_new(struct store *store, const struct node *node, struct nar_stats *stats,
		   struct nar_layout **out, struct error *err)
{
	if (node->kind == NODE_SYMLINK && !node_target_valid(node->target)) {
		return error_set(err, ERROR_INVALID, "the target of a symlink is not valid");
	}
	struct nar_layout *l = xcalloc(1, sizeof(*l));

	l->store = store;
	l->stats = stats;
	root_node_set(&l->root, node);
	*out = l;
	return 0;
}

void nar_layout_free(struct nar_layout *l)
{
	if (!l) {
		return;
	}
	for (size_t i = 0; i < l->depth; i++) {
		directory_unref(l->frames[i].directory);
	}
	free(l->frames);
	root_node_done(&l->root);
	free(l);
}

static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void count_node(struct nar_stats *stats, enum node_kind kind)
{
	switch (kind) {
	case NODE_DIRECTORY:
		count(&stats->directories);
		break;
	case NODE_FILE:
		count(&stats->files);
		break;
	case NODE_SYMLINK:
		count(&stats->symlinks);
		break;
	}
}

static int open_directory(struct nar_layout *l, const struct digest *digest, struct error *err)
{
	struct directory *d;

	if (l->depth == NAR_DEPTH_MAX) {
		return error_set(
			err, ERROR_LIMIT,
			"more than %d directories below each other do not go into a NAR",
			NAR_DEPTH_MAX);
	}
	int rc = directory_service_get(l->store->directories, digest, &d, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_UNAVAILABLE,
					  "directory %s is not in the store",
					  digest_text(digest));
	}
	if (l->depth == l->capacity) {
		l->capacity = MAX(l->capacity * 2, (size_t)16);
		l->frames = xrealloc(l->frames, l->capacity * sizeof(*l->frames));
	}
	l->frames[l->depth++] = (struct frame){.directory = d};
	return 0;
}

static uint8_t *piece_end(struct nar_piece *p)
{
	return p->data + p->len;
}

static void set_end(struct nar_piece *p, const uint8_t *end)
{
	p->len = (size_t)(end - p->data);
}

/* What is behind a node: its parenthesis, and in a directory that of its entry. */
static void close_node(const struct nar_layout *l, struct nar_piece *p)
{
	set_end(p, nar_put_close(piece_end(p), l->depth ? 2 : 1));
}

/* Lays out what can be of a node: a file's content and a directory's entries follow. */
static int lay_node(struct nar_layout *l, struct nar_piece *p, const struct node *node,
		    struct error *err)
{
	set_end(p, nar_put_node(piece_end(p), node));
	count_node(l->stats, node->kind);
	switch (node->kind) {
	case NODE_DIRECTORY:
		return open_directory(l, &node->digest, err);
	case NODE_FILE:
		l->in_file = true;
		l->file = *node;
		l->file_done = 0;
		return 0;
	case NODE_SYMLINK:
		close_node(l, p);
		return 0;
	}
	return 0;
}

/* The next entry of the innermost directory, or its end. */
static int lay_entry(struct nar_layout *l, struct nar_piece *p, struct error *err)
{
	struct frame *f = &l->frames[l->depth - 1];
	struct directory_entry e;

	if (f->next == directory_count(f->directory)) {
		directory_unref(f->directory);
		l->depth--;
		close_node(l, p);
		return 0;
	}
	directory_entry(f->directory, f->next++, &e);
	set_end(p, nar_put_entry(piece_end(p), e.name));
	return lay_node(l, p, &e.node, err);
}

static void add_hole(struct nar_layout *l, struct nar_piece *p, size_t len, bool last)
{
	if (p->hole_count == p->hole_capacity) {
		p->hole_capacity = MAX(p->hole_capacity * 2, (size_t)64);
		p->holes = xrealloc(p->holes, p->hole_capacity * sizeof(*p->holes));
	}
	p->holes[p->hole_count++] = (struct nar_hole){.digest = l->file.digest,
						      .offset = l->file_done,
						      .at = p->len,
						      .len = len,
						      .last = last};
	p->len += len;
	l->file_done += len;
}

/*
 * Content of the file that is open; false when it has to wait for the next piece. A large file
 * has pieces of its own, which begin where the groups of its outboard do, so that nothing of it
 * is read twice to be checked.
 */
static bool lay_content(struct nar_layout *l, struct nar_piece *p)
{
	uint64_t left = l->file.size - l->file_done;

	if (left > NAR_PIECE_CONTENT - MIN(p->len, NAR_PIECE_CONTENT)) {
		if (p->len) {
			return false;
		}
		if (left > NAR_PIECE_CONTENT) {
			add_hole(l, p, NAR_PIECE_CONTENT, false);
			return false;
		}
	}
	add_hole(l, p, (size_t)left, true);
	set_end(p, nar_put_padding(piece_end(p), l->file.size));
	close_node(l, p);
	l->in_file = false;
	return true;
}

static int begin(struct nar_layout *l, struct nar_piece *p, struct error *err)
{
	l->begun = true;
	set_end(p, nar_put_magic(piece_end(p)));
	return lay_node(l, p, &l->root.node, err);
}

int nar_layout_next(struct nar_layout *l, struct nar_piece *piece, struct error *err)
{
	int rc = 0;

	if (!piece->data) {
		piece->data = xmalloc(PIECE_CAPACITY);
	}
	piece->len = piece->hole_count = 0;
	if (!l->begun) {
		rc = begin(l, piece, err);
	}
	while (rc == 0 && (l->in_file || l->depth) &&
	       piece->len + NAR_OPENING_MAX + NAR_CLOSING_MAX <= PIECE_CAPACITY) {
		if (!l->in_file) {
			rc = lay_entry(l, piece, err);
		} else if (!lay_content(l, piece)) {
			break;
		}
	}
	return rc < 0 ? rc : piece->len > 0;
}
