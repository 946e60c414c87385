#include "nix/nar_view.h"

#include "castore/digest_map.h"
#include "nix/nar_format.h"

/* What is known of a Directory from the start. */
struct measure {
	uint64_t size;   /* of its entries in a NAR */
	unsigned height; /* directories below each other, itself included */
};

/* A Directory on the way to the place read last. */
struct frame {
	struct directory *directory;
	uint64_t start, end; /* of its entries, in the NAR */
	uint64_t *offsets;   /* of each entry from start */
};

/* A node with all that is around it: the whole NAR, or an entry of a directory. */
struct region {
	uint64_t start, end;
	struct node node;
	struct bytes name; /* empty: the whole NAR */
};

struct nar_view {
	struct store *store;
	struct root_node root;
	uint64_t size;
	struct digest_map known; /* digest -> index in measures */
	struct measure *measures;
	size_t count, capacity;
	struct frame *frames;
	size_t depth, frame_capacity;
	/* The blob read last. */
	struct blob_reader *reader;
	struct digest reader_digest;
};

/* ---- Sizes ---- */

static int add_size(uint64_t *sum, uint64_t more, struct error *err)
{
	if (more > NAR_SIZE_MAX - *sum) {
		return error_set(err, ERROR_LIMIT, "the NAR would have more than %ju bytes",
				 (uintmax_t)NAR_SIZE_MAX);
	}
	*sum += more;
	return 0;
}

static const struct measure *measure_of(const struct nar_view *v, const struct digest *digest)
{
	return &v->measures[*digest_map_get(&v->known, digest)];
}

/* What is before a node's body: the content of a file, the entries of a directory. */
static size_t head_size(const struct node *node, struct bytes name)
{
	return (name.len ? nar_entry_size(name) : NAR_MAGIC_SIZE) + nar_node_size(node);
}

/* And behind it. */
static size_t tail_size(const struct node *node, struct bytes name)
{
	size_t padding = node->kind == NODE_FILE ? (size_t)NAR_PAD(node->size) : 0;

	return padding + NAR_CLOSE_SIZE * (name.len ? 2 : 1);
}

static uint64_t body_size(const struct nar_view *v, const struct node *node)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
		return measure_of(v, &node->digest)->size;
	case NODE_FILE:
		return node->size;
	case NODE_SYMLINK:
		return 0;
	}
	return 0;
}

/* Adds the size of a region; its directory, if it is one, has been measured. */
static int add_region(const struct nar_view *v, uint64_t *sum, const struct node *node,
		      struct bytes name, struct error *err)
{
	int rc = add_size(sum, head_size(node, name) + tail_size(node, name), err);

	return rc ? rc : add_size(sum, body_size(v, node), err);
}

static int measure(struct nar_view *v, const struct directory *d, struct error *err)
{
	struct measure m = {.height = 1};
	struct directory_entry e;

	for (size_t i = 0; i < directory_count(d); i++) {
		directory_entry(d, i, &e);
		int rc = add_region(v, &m.size, &e.node, e.name, err);

		if (rc) {
			return rc;
		}
		if (e.node.kind == NODE_DIRECTORY) {
			m.height = MAX(m.height, measure_of(v, &e.node.digest)->height + 1);
		}
	}
	if (m.height > NAR_DEPTH_MAX) {
		return error_set(
			err, ERROR_LIMIT,
			"more than %d directories below each other do not go into a NAR",
			NAR_DEPTH_MAX);
	}
	if (v->count == v->capacity) {
		v->capacity = MAX(v->capacity * 2, (size_t)16);
		v->measures = xrealloc(v->measures, v->capacity * sizeof(*v->measures));
	}
	digest_map_put(&v->known, directory_digest(d), v->count);
	v->measures[v->count++] = m;
	return 0;
}

static int get_directory(void *context, const struct digest *digest, struct directory **out,
			 struct error *err)
{
	const struct nar_view *v = context;

	return directory_service_get(v->store->directories, digest, out, err);
}

/* Every Directory once, those below before those above. */
static int measure_all(struct nar_view *v, struct error *err)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = closure_walk_new(
		CLOSURE_LEAVES_TO_ROOT, &v->root.node.digest, get_directory, v);
	struct directory *d;
	int rc;

	while ((rc = closure_walk_next(walk, &d, err)) > 0) {
		rc = measure(v, d, err);
		directory_unref(d);
		if (rc < 0) {
			break;
		}
	}
	return rc;
}

int nar_view_new(struct store *store, const struct node *node, struct nar_view **out,
		 struct error *err)
{
	if (node->kind == NODE_SYMLINK && !node_target_valid(node->target)) {
		return error_set(err, ERROR_INVALID, "the target of a symlink is not valid");
	}
	struct nar_view *v = xcalloc(1, sizeof(*v));

	v->store = store;
	root_node_set(&v->root, node);
	int rc = node->kind == NODE_DIRECTORY ? measure_all(v, err) : 0;

	if (rc == 0) {
		rc = add_region(v, &v->size, node, bytes_of(NULL, 0), err);
	}
	if (rc) {
		nar_view_free(v);
		return rc;
	}
	*out = v;
	return 0;
}

static void pop_frame(struct nar_view *v)
{
	struct frame *f = &v->frames[--v->depth];

	directory_unref(f->directory);
	free(f->offsets);
}

void nar_view_free(struct nar_view *v)
{
	if (!v) {
		return;
	}
	while (v->depth) {
		pop_frame(v);
	}
	free(v->frames);
	free(v->measures);
	digest_map_done(&v->known);
	blob_reader_free(v->reader);
	root_node_done(&v->root);
	free(v);
}

uint64_t nar_view_size(const struct nar_view *v)
{
	return v->size;
}

/* ---- Finding a place ---- */

/* Where each entry begins; sized by what a stranger made. */
static int make_offsets(const struct nar_view *v, struct frame *f, struct error *err)
{
	size_t count = directory_count(f->directory);
	uint64_t at = 0;

	f->offsets = calloc(MAX(count, (size_t)1), sizeof(*f->offsets));
	if (!f->offsets) {
		return error_set(err, ERROR_LIMIT, "no memory for a directory of %zu entries",
				 count);
	}
	for (size_t i = 0; i < count; i++) {
		struct directory_entry e;

		directory_entry(f->directory, i, &e);
		f->offsets[i] = at;
		/* Measured before, so it fits. */
		(void)add_region(v, &at, &e.node, e.name, NULL);
	}
	f->end = f->start + at;
	return 0;
}

static int push_frame(struct nar_view *v, const struct digest *digest, uint64_t start,
		      struct error *err)
{
	struct frame f = {.start = start};
	int rc = directory_service_get(v->store->directories, digest, &f.directory, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_UNAVAILABLE,
					  "directory %s is not in the store",
					  digest_text(digest));
	}
	rc = make_offsets(v, &f, err);
	if (rc) {
		directory_unref(f.directory);
		return rc;
	}
	if (v->depth == v->frame_capacity) {
		v->frame_capacity = MAX(v->frame_capacity * 2, (size_t)16);
		v->frames = xrealloc(v->frames, v->frame_capacity * sizeof(*v->frames));
	}
	v->frames[v->depth++] = f;
	return 0;
}

/* The entry at a place in a frame. */
static void find_entry(const struct frame *f, uint64_t offset, struct region *out)
{
	size_t count = directory_count(f->directory), low = 0, high = count;
	struct directory_entry e;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (f->offsets[middle] <= offset - f->start) {
			low = middle;
		} else {
			high = middle;
		}
	}
	directory_entry(f->directory, low, &e);
	*out = (struct region){
		.start = f->start + f->offsets[low],
		.end = low + 1 < count ? f->start + f->offsets[low + 1] : f->end,
		.node = e.node,
		.name = e.name,
	};
}

static bool in_body(const struct region *r, uint64_t offset)
{
	return offset >= r->start + head_size(&r->node, r->name) &&
	       offset < r->end - tail_size(&r->node, r->name);
}

/* The innermost region at a place. */
static int find_region(struct nar_view *v, uint64_t offset, struct region *out,
		       struct error *err)
{
	while (v->depth && (offset < v->frames[v->depth - 1].start ||
			    offset >= v->frames[v->depth - 1].end)) {
		pop_frame(v);
	}
	if (v->depth) {
		find_entry(&v->frames[v->depth - 1], offset, out);
	} else {
		*out = (struct region){.end = v->size, .node = v->root.node};
	}
	while (out->node.kind == NODE_DIRECTORY && in_body(out, offset)) {
		int rc = push_frame(v, &out->node.digest,
				    out->start + head_size(&out->node, out->name), err);

		if (rc) {
			return rc;
		}
		find_entry(&v->frames[v->depth - 1], offset, out);
	}
	return 0;
}

/* ---- Reading ---- */

static size_t copy_part(void *buf, size_t len, const uint8_t *from, const uint8_t *end,
			uint64_t skip)
{
	size_t n = MIN(len, (size_t)(end - from) - (size_t)skip);

	memcpy(buf, from + skip, n);
	return n;
}

static size_t read_head(const struct region *r, void *buf, size_t len, uint64_t skip)
{
	uint8_t head[NAR_OPENING_MAX];
	uint8_t *end = r->name.len ? nar_put_entry(head, r->name) : nar_put_magic(head);

	return copy_part(buf, len, head, nar_put_node(end, &r->node), skip);
}

static size_t read_tail(const struct region *r, void *buf, size_t len, uint64_t skip)
{
	uint8_t tail[NAR_CLOSING_MAX];
	uint8_t *end = tail;

	if (r->node.kind == NODE_FILE) {
		end = nar_put_padding(end, r->node.size);
	}
	return copy_part(buf, len, tail, nar_put_close(end, r->name.len ? 2 : 1), skip);
}

static int open_blob(struct nar_view *v, const struct node *file, struct error *err)
{
	const struct digest *digest = &file->digest;
	struct blob_reader *reader;

	if (v->reader && digest_equal(&v->reader_digest, digest)) {
		return 0;
	}
	int rc = blob_service_open(v->store->blobs, digest, &reader, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_UNAVAILABLE, "blob %s is not in the store",
					  digest_text(digest));
	}
	blob_reader_free(v->reader);
	v->reader = reader;
	v->reader_digest = *digest;
	return 0;
}

static int read_content(struct nar_view *v, const struct node *file, void *buf, size_t len,
			uint64_t offset, size_t *got, struct error *err)
{
	int rc = open_blob(v, file, err);

	if (rc) {
		return rc;
	}
	if (blob_reader_size(v->reader) != file->size) {
		return error_set(err, ERROR_CORRUPT,
				 "blob %s has %ju bytes, its Directory gives it %ju",
				 digest_text(&file->digest),
				 (uintmax_t)blob_reader_size(v->reader), (uintmax_t)file->size);
	}
	return blob_reader_pread(v->reader, buf, len, offset, got, err);
}

/* As much as one part of one region has. */
static int read_some(struct nar_view *v, void *buf, size_t len, uint64_t offset, size_t *got,
		     struct error *err)
{
	struct region r;
	int rc = find_region(v, offset, &r, err);

	if (rc) {
		return rc;
	}
	uint64_t body = r.start + head_size(&r.node, r.name);
	uint64_t tail = r.end - tail_size(&r.node, r.name);

	if (offset < body) {
		*got = read_head(&r, buf, len, offset - r.start);
	} else if (offset >= tail) {
		*got = read_tail(&r, buf, len, offset - tail);
	} else {
		rc = read_content(v, &r.node, buf, (size_t)MIN(len, tail - offset),
				  offset - body, got, err);
	}
	return rc;
}

int nar_view_pread(struct nar_view *v, void *buf, size_t len, uint64_t offset, size_t *got,
		   struct error *err)
{
	size_t want = (size_t)MIN(len, v->size - MIN(offset, v->size)), done = 0;

	while (done < want) {
		size_t n = 0;
		int rc = read_some(v, (uint8_t *)buf + done, want - done, offset + done, &n,
				   err);

		if (rc) {
			return rc;
		}
		done += n;
	}
	*got = done;
	return 0;
}
