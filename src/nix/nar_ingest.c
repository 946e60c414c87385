#include "nix/nar_ingest.h"

#include "base/pipeline.h"
#include "nix/nar_blocks.h"

/*
 * The source is read into blocks, and parsed where it was read. What the parser finds in a
 * block it notes as steps, for others to do: contents that lie in one block are hashed and put
 * in any order, those that go on in the next one are streamed, and in the end the Directories
 * are built, in the order of the NAR.
 */
#define BLOCK_SIZE ((size_t)1 << 20)
#define SLOTS 8
/* What an entry takes besides its name and target. */
#define ENTRY_WEIGHT 64

enum step_kind {
	STEP_BLOB,      /* a file whose content is here */
	STEP_PART,      /* content that goes on in the next block */
	STEP_LAST_PART, /* the end of such content, and its file */
	STEP_SYMLINK,
	STEP_DIRECTORY,
	STEP_DIRECTORY_END,
};

struct step {
	enum step_kind kind;
	bool executable;
	uint16_t name_len, target_len;
	size_t text;          /* where name and target are, one behind the other */
	struct bytes content; /* in the block */
	uint64_t size;        /* of the whole file */
	struct digest digest; /* of the whole file, when it is stored */
};

struct block {
	uint8_t *data;
	size_t len;
	struct step *steps;
	size_t count, capacity;
	struct buffer text;
};

/* A directory whose end has not come. */
struct level {
	struct directory_builder *builder;
	size_t name; /* where its own is in names */
	size_t weight;
};

struct ingest {
	struct store *store;
	struct nar_source *source;
	struct nar_stats *stats, uncounted;
	struct pipeline *pipeline;
	struct block blocks[SLOTS];
	struct nar_blocks feed; /* of the parser */
	struct block *current;  /* that is parsed */

	/* Of the stage that hashes. */
	struct hash_stream *sha256;
	uint64_t size;
	/* Of the stage that streams; NULL between files. */
	struct blob_writer *writer;
	/* Of the stage that builds. */
	struct level *levels;
	size_t depth, capacity;
	struct buffer names;
	size_t weight;
	struct root_node root;
};

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- Parsing ---- */

static struct ingest *ingest_of(struct nar_blocks *feed)
{
	return container_of(feed, struct ingest, feed);
}

/* Gives the block that was parsed to the stages, and reads the next one. */
static int next_block(struct nar_blocks *feed, struct bytes *out, struct error *err)
{
	struct ingest *in = ingest_of(feed);
	size_t slot;

	if (in->current) {
		pipeline_publish(in->pipeline);
		in->current = NULL;
	}
	int rc = pipeline_claim(in->pipeline, &slot, err);

	if (rc) {
		return rc;
	}
	struct block *b = &in->blocks[slot];

	if (!b->data) {
		b->data = xmalloc(BLOCK_SIZE);
		buffer_reserve(&b->text, NODE_NAME_MAX);
	}
	b->count = b->text.len = 0;
	rc = nar_source_fill(in->source, b->data, BLOCK_SIZE, &b->len, err);
	if (rc || b->len == 0) {
		return rc;
	}
	in->current = b;
	*out = bytes_of(b->data, b->len);
	return 1;
}

static struct step *add_step(struct ingest *in, enum step_kind kind,
			     const struct nar_item *item)
{
	struct block *b = in->current;

	if (b->count == b->capacity) {
		b->capacity = MAX(b->capacity * 2, (size_t)64);
		b->steps = xrealloc(b->steps, b->capacity * sizeof(*b->steps));
	}
	struct step *s = &b->steps[b->count++];

	*s = (struct step){.kind = kind,
			   .executable = item->executable,
			   .name_len = (uint16_t)item->name.len,
			   .target_len = (uint16_t)item->target.len,
			   .text = b->text.len,
			   .size = item->size};
	buffer_append(&b->text, item->name.ptr, item->name.len);
	buffer_append(&b->text, item->target.ptr, item->target.len);
	return s;
}

static int parse_file(struct ingest *in, struct nar_reader *r, const struct nar_item *item,
		      struct error *err)
{
	uint64_t left = item->size;
	int rc;

	if (left == 0) {
		add_step(in, STEP_BLOB, item);
		return 0;
	}
	do {
		struct bytes piece;

		rc = nar_reader_content(r, &piece, err);
		if (rc < 0) {
			return rc;
		}
		left -= piece.len;
		enum step_kind kind = piece.len == item->size ? STEP_BLOB
				      : left                  ? STEP_PART
							      : STEP_LAST_PART;

		add_step(in, kind, item)->content = piece;
	} while (left);
	return 0;
}

static int parse_item(struct ingest *in, struct nar_reader *r, const struct nar_item *item,
		      struct error *err)
{
	switch (item->event) {
	case NAR_FILE:
		return parse_file(in, r, item, err);
	case NAR_SYMLINK:
		add_step(in, STEP_SYMLINK, item);
		return 0;
	case NAR_DIRECTORY:
		add_step(in, STEP_DIRECTORY, item);
		return 0;
	case NAR_DIRECTORY_END:
		add_step(in, STEP_DIRECTORY_END, item);
		return 0;
	}
	return 0;
}

static int parse(struct ingest *in, struct error *err)
{
	struct nar_reader *r cleanup(cleanup_nar_reader) = nar_reader_new_of_blocks(&in->feed);
	struct nar_item item;
	int rc;

	while ((rc = nar_reader_next(r, &item, err)) > 0) {
		rc = parse_item(in, r, &item, err);
		if (rc < 0) {
			break;
		}
	}
	return rc;
}

/* ---- Stages ---- */

static int run_hash(void *context, size_t slot, struct error *err unused)
{
	struct ingest *in = context;
	const struct block *b = &in->blocks[slot];

	hash_stream_update(in->sha256, bytes_of(b->data, b->len));
	in->size += b->len;
	count(&in->stats->bytes, b->len);
	return 0;
}

static int run_put(void *context, size_t slot, struct error *err)
{
	const struct ingest *in = context;
	const struct block *b = &in->blocks[slot];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < b->count; i++) {
		struct step *s = &b->steps[i];

		if (s->kind == STEP_BLOB) {
			rc = blob_service_put(in->store->blobs, s->content, &s->digest, err);
		}
	}
	return rc;
}

static int stream_part(struct ingest *in, struct step *s, struct error *err)
{
	int rc = in->writer ? 0 : blob_service_create(in->store->blobs, &in->writer, err);

	if (rc == 0) {
		rc = blob_writer_write(in->writer, s->content, err);
	}
	if (rc == 0 && s->kind == STEP_LAST_PART) {
		rc = blob_writer_commit(in->writer, &s->digest, NULL, err);
		in->writer = NULL;
	}
	return rc;
}

static int run_stream(void *context, size_t slot, struct error *err)
{
	struct ingest *in = context;
	const struct block *b = &in->blocks[slot];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < b->count; i++) {
		struct step *s = &b->steps[i];

		if (s->kind == STEP_PART || s->kind == STEP_LAST_PART) {
			rc = stream_part(in, s, err);
		}
	}
	return rc;
}

/* The node becomes an entry of the innermost directory, or the root. */
static int add_node(struct ingest *in, struct bytes name, const struct node *node,
		    struct error *err)
{
	size_t weight = ENTRY_WEIGHT + name.len + node->target.len;

	if (in->depth == 0) {
		root_node_set(&in->root, node);
		return 0;
	}
	struct level *l = &in->levels[in->depth - 1];

	if (weight > NAR_OPEN_ENTRIES_MAX - in->weight) {
		return error_set(err, ERROR_LIMIT,
				 "the NAR has more than %zu bytes of names in directories that "
				 "are inside of each other",
				 NAR_OPEN_ENTRIES_MAX);
	}
	in->weight += weight;
	l->weight += weight;
	return directory_builder_add(l->builder, name, node, err);
}

static void open_level(struct ingest *in, struct bytes name)
{
	if (in->depth == in->capacity) {
		in->capacity = MAX(in->capacity * 2, (size_t)16);
		in->levels = xrealloc(in->levels, in->capacity * sizeof(*in->levels));
	}
	in->levels[in->depth++] =
		(struct level){.builder = directory_builder_new(), .name = in->names.len};
	buffer_append(&in->names, name.ptr, name.len);
}

static int close_level(struct ingest *in, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct level l = in->levels[in->depth - 1];
	int rc = directory_builder_finish(l.builder, &d, err);

	if (rc == 0) {
		rc = directory_service_put(in->store->directories, d, err);
	}
	if (rc) {
		return rc;
	}
	struct node node = directory_node(d);
	struct bytes name = bytes_of(in->names.ptr + l.name, in->names.len - l.name);

	directory_builder_free(l.builder);
	in->depth--;
	in->weight -= l.weight;
	rc = add_node(in, name, &node, err);
	in->names.len = l.name;
	count(&in->stats->directories, 1);
	return rc;
}

static int build_step(struct ingest *in, const struct block *b, const struct step *s,
		      struct error *err)
{
	struct bytes name = bytes_of(b->text.ptr + s->text, s->name_len);
	struct node node = {.kind = NODE_FILE,
			    .executable = s->executable,
			    .digest = s->digest,
			    .size = s->size};

	switch (s->kind) {
	case STEP_PART:
		return 0;
	case STEP_BLOB:
	case STEP_LAST_PART:
		count(&in->stats->files, 1);
		return add_node(in, name, &node, err);
	case STEP_SYMLINK:
		count(&in->stats->symlinks, 1);
		node = (struct node){.kind = NODE_SYMLINK,
				     .target = bytes_of(name.ptr + name.len, s->target_len)};
		return add_node(in, name, &node, err);
	case STEP_DIRECTORY:
		open_level(in, name);
		return 0;
	case STEP_DIRECTORY_END:
		return close_level(in, err);
	}
	return 0;
}

static int run_build(void *context, size_t slot, struct error *err)
{
	struct ingest *in = context;
	const struct block *b = &in->blocks[slot];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < b->count; i++) {
		rc = build_step(in, b, &b->steps[i], err);
	}
	return rc;
}

/* ---- All of it ---- */

enum { STAGE_HASH, STAGE_PUT, STAGE_STREAM, STAGE_BUILD };

static int run(struct ingest *in, const struct nar_options *options, struct error *err)
{
	const struct pipeline_plan plan = {
		.stages = {[STAGE_HASH] = {.run = run_hash, .ordered = true},
			   [STAGE_PUT] = {.run = run_put},
			   [STAGE_STREAM] = {.run = run_stream, .ordered = true},
			   [STAGE_BUILD] = {.run = run_build,
					    .ordered = true,
					    .after = 1u << STAGE_PUT | 1u << STAGE_STREAM}},
		.stage_count = STAGE_BUILD + 1,
		.slot_count = SLOTS,
		.context = in,
		.cancel = options ? options->cancel : NULL,
	};

	in->stats = options && options->stats ? options->stats : &in->uncounted;
	buffer_reserve(&in->names, NODE_NAME_MAX);
	in->pipeline = pipeline_new(&plan);
	int rc = parse(in, err);

	if (rc == 0) {
		rc = pipeline_finish(in->pipeline, err);
	}
	pipeline_free(in->pipeline);
	return rc;
}

static void ingest_done(struct ingest *in)
{
	for (size_t i = 0; i < SLOTS; i++) {
		free(in->blocks[i].data);
		free(in->blocks[i].steps);
		buffer_done(&in->blocks[i].text);
	}
	for (size_t i = 0; i < in->depth; i++) {
		directory_builder_free(in->levels[i].builder);
	}
	free(in->levels);
	buffer_done(&in->names);
	blob_writer_free(in->writer);
	hash_stream_free(in->sha256);
	root_node_done(&in->root);
}

int nar_ingest(struct store *store, struct nar_source *source,
	       const struct nar_options *options, struct nar_read *out, struct error *err)
{
	struct ingest in cleanup(ingest_done) = {.store = store,
						 .source = source,
						 .feed.next = next_block,
						 .sha256 = hash_stream_new(HASH_SHA256)};
	struct hash hash;
	int rc = run(&in, options, err);

	if (rc == 0) {
		hash_stream_finish(in.sha256, &hash);
		root_node_set(&out->node, &in.root.node);
		out->size = in.size;
		memcpy(out->sha256, hash.bytes, SHA256_SIZE);
	}
	return rc;
}
