#include "services/local/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/logged_table.h"

/* Names that are read at once: what they stand for is marked between. */
#define NAMES_AT_ONCE 4096

static const struct logged_table *const name_tables[] = {&logged_roots, &logged_path_infos};

/* ---- What to keep ---- */

int collect_check_cancel(const struct collection *c, struct error *err)
{
	const atomic_bool *cancel = c->options->cancel;

	return cancel && atomic_load_explicit(cancel, memory_order_relaxed)
		       ? error_set(err, ERROR_CANCELED, "interrupted")
		       : 0;
}

void collect_freed(struct collection *c, uint64_t bytes)
{
	c->result->freed_bytes += bytes;
	atomic_fetch_add_explicit(&c->options->stats->freed, bytes, memory_order_relaxed);
}

bool collect_has_enough(const struct collection *c)
{
	return c->options->max_freed && c->result->freed_bytes >= c->options->max_freed;
}

bool collect_is_young(const struct collection *c, uint64_t changed)
{
	uint64_t age = c->options->older_than;

	return age && (age > c->now || changed > c->now - age);
}

static int compare_packs(const void *a, const void *b)
{
	uint64_t x = ((const struct collected_pack *)a)->number,
		 y = ((const struct collected_pack *)b)->number;

	return (x > y) - (x < y);
}

struct collected_pack *collect_find_pack(struct collection *c, uint64_t number)
{
	const struct collected_pack key = {.number = number};

	return c->pack_count
		       ? bsearch(&key, c->packs, c->pack_count, sizeof(key), compare_packs)
		       : NULL;
}

bool collect_is_protected(struct collection *c, const struct location *l)
{
	const struct collected_pack *pack = collect_find_pack(c, l->pack);

	/* Committed since the marking began: a name may be on its way. */
	if (!pack || l->offset >= pack->end) {
		return true;
	}
	if (l->kind == LOCATION_PACK && collect_is_young(c, pack->changed)) {
		return true;
	}
	for (size_t i = 0; i < c->leases.note_count; i++) {
		const struct lease_note *n = &c->leases.notes[i];

		if (n->pack == l->pack && l->offset >= n->offset) {
			return true;
		}
	}
	return false;
}

static bool note_pack(void *context, struct bytes key, struct bytes value)
{
	struct collection *c = context;
	char name[LOCAL_NAME_SIZE];
	struct stat st;

	if (key.len != 8 || value.len != 8) {
		return true;
	}
	struct collected_pack pack = {.number = get_be64(key.ptr), .end = get_le64(value.ptr)};

	local_pack_name(name, pack.number);
	if (fstatat(c->local->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		pack.changed = (uint64_t)st.st_mtime;
	}
	c->packs = xrealloc(c->packs, (c->pack_count + 1) * sizeof(*c->packs));
	c->packs[c->pack_count++] = pack;
	return true;
}

static int note_packs(struct collection *c, struct error *err)
{
	return index_scan(c->local->index, INDEX_PACKS, bytes_of(NULL, 0), note_pack, c, err);
}

/* ---- Marking ---- */

/* Names, read some at a time: so that no read of the index lasts, and little is in memory. */
struct name_list {
	struct collection *collection;
	struct node nodes[NAMES_AT_ONCE]; /* without targets */
	size_t count;
	struct buffer last; /* name */
	struct error *err;
	int rc;
};

static bool add_node(struct name_list *l, struct bytes name, const struct node *node)
{
	l->last.len = 0;
	buffer_append(&l->last, name.ptr, name.len);
	if (node) {
		l->nodes[l->count] = *node;
		l->nodes[l->count++].target = bytes_of(NULL, 0);
	}
	return l->count < NAMES_AT_ONCE;
}

static bool add_root(void *context, struct bytes name, const struct node *node)
{
	return add_node(context, name, node);
}

static bool add_path_info(void *context, struct bytes key, struct bytes value)
{
	struct name_list *l = context;
	const struct store_collect_options *o = l->collection->options;
	struct root_node tree cleanup(root_node_done) = {.node.size = 0};

	l->rc = o->tree_of(o->context, key, value, &tree, l->err);
	return l->rc >= 0 && add_node(l, key, l->rc > 0 ? &tree.node : NULL);
}

static int list_names(struct name_list *l, enum index_table table, struct error *err)
{
	struct store *s = l->collection->store;
	struct bytes after = buffer_bytes(&l->last);
	struct buffer copy cleanup(buffer_done) = {0};

	buffer_append(&copy, after.ptr, after.len);
	after = buffer_bytes(&copy);
	l->count = 0;
	l->err = err;
	l->rc = 0;
	int rc = table == INDEX_ROOTS
			 ? root_nodes_list(s->roots, after, add_root, l, err)
			 : record_table_list(s->path_infos, after, add_path_info, l, err);

	return l->rc < 0 ? l->rc : rc;
}

static int mark_table(struct collection *c, enum index_table table, struct error *err)
{
	struct name_list *l cleanup(cleanup_free) = xcalloc(1, sizeof(*l));
	int rc;

	l->collection = c;
	do {
		rc = list_names(l, table, err);
		for (size_t i = 0; rc == 0 && i < l->count; i++) {
			rc = mark_node(&c->mark, &l->nodes[i], err);
		}
	} while (rc == 0 && l->count == NAMES_AT_ONCE);
	buffer_done(&l->last);
	return rc;
}

/* A table without a sequence was never changed. */
static int read_sequences(struct collection *c, uint8_t out[2][8], struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < ARRAY_SIZE(name_tables); i++) {
		memset(out[i], 0, 8);
		rc = index_get(c->local->index, INDEX_META,
			       bytes_of_string(name_tables[i]->sequence), out[i], 8, err);
	}
	return MIN(rc, 0);
}

/* Names that come while this looks have another sequence. */
static int mark_names(struct collection *c, struct error *err)
{
	uint64_t absent = c->mark.absent;
	int rc = read_sequences(c, c->sequences, err);

	if (rc == 0) {
		rc = mark_table(c, INDEX_ROOTS, err);
	}
	if (rc == 0 && c->options->tree_of) {
		rc = mark_table(c, INDEX_PATH_INFOS, err);
	}
	c->result->absent += c->mark.absent - absent;
	return rc;
}

/* Held trees are remembered here first: the folder of leases is locked meanwhile. */
static int note_held(void *context, const struct node *node, struct error *err unused)
{
	struct collection *c = context;

	if (!mark_has(&c->mark, node->kind, &node->digest)) {
		buffer_append_byte(&c->newcomers, (uint8_t)node->kind);
		buffer_append(&c->newcomers, node->digest.bytes, DIGEST_SIZE);
	}
	return 0;
}

static int read_leases(struct collection *c, struct error *err)
{
	return lease_reader_read(&c->leases, c->now, note_held, c, err);
}

/*
 * An importer holds its tree before it puts once more what was taken under its hands: what it
 * finds then is below a Directory that was missing when the lease was read.
 */
static int mark_missing(struct collection *c, struct error *err)
{
	struct buffer again cleanup(buffer_done) = c->missing;

	c->missing = (struct buffer){0};
	return again.len ? mark_found(&c->mark, again.ptr, again.len / DIGEST_SIZE, err) : 0;
}

/* Asker: is one of them there? */
static int found_missing(struct collection *c, struct error *err)
{
	struct digest digest;
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < c->missing.len; at += DIGEST_SIZE) {
		memcpy(digest.bytes, c->missing.ptr + at, DIGEST_SIZE);
		rc = directory_service_has(c->store->directories, &digest, err);
	}
	return rc;
}

static int mark_newcomers(struct collection *c, struct error *err)
{
	c->mark.missing = &c->missing;
	int rc = mark_missing(c, err);

	for (size_t at = 0; rc == 0 && at < c->newcomers.len; at += 1 + DIGEST_SIZE) {
		struct node node = {.kind = (enum node_kind)c->newcomers.ptr[at]};

		memcpy(node.digest.bytes, c->newcomers.ptr + at + 1, DIGEST_SIZE);
		rc = mark_node(&c->mark, &node, err);
	}
	c->newcomers.len = 0;
	c->mark.missing = NULL;
	return rc;
}

int collect_mark_news(struct collection *c, struct error *err)
{
	int rc = mark_newcomers(c, err);

	return rc ? rc : mark_names(c, err);
}

int collect_catch_up(struct collection *c, struct index_write *w, struct error *err)
{
	bool changed = false;
	int rc = read_leases(c, err);

	for (size_t i = 0; rc >= 0 && i < ARRAY_SIZE(name_tables); i++) {
		struct bytes now = bytes_of(NULL, 0);

		rc = index_write_get(w, INDEX_META, bytes_of_string(name_tables[i]->sequence),
				     &now, err);
		changed |= rc > 0 && !bytes_equal(now, bytes_of(c->sequences[i], 8));
	}
	if (rc >= 0) {
		rc = found_missing(c, err);
		changed |= rc > 0;
	}
	return rc < 0 ? rc : changed || c->newcomers.len;
}

static int mark_all(struct collection *c, struct error *err)
{
	uint64_t blobs, directories;
	int rc = index_count(c->local->index, INDEX_BLOBS, &blobs, err);

	if (rc == 0) {
		rc = index_count(c->local->index, INDEX_DIRECTORIES, &directories, err);
	}
	if (rc == 0) {
		rc = mark_init(&c->mark, (size_t)(blobs + directories), err);
	}
	if (rc) {
		return rc;
	}
	c->mark.directories = c->store->directories;
	c->mark.cancel = c->options->cancel;
	c->mark.counter = &c->options->stats->objects;
	rc = note_packs(c, err);
	if (rc == 0) {
		rc = read_leases(c, err);
	}
	return rc ? rc : collect_mark_news(c, err);
}

/* ---- All of it ---- */

static int collect_marked(struct collection *c, struct error *err)
{
	int rc = sweep_objects(c, err);

	if (rc == 0 && !c->options->dry_run) {
		rc = sweep_seen(c, err);
	}
	if (rc == 0 && !collect_has_enough(c)) {
		rc = sweep_files(c, err);
	}
	if (rc == 0 && c->swept && !collect_has_enough(c)) {
		rc = compact_packs(c, err);
	}
	return rc;
}

/* The only one at work: holds the flock of a file in the folder of leases. */
static int be_alone(struct collection *c, int *lock, struct error *err)
{
	*lock = openat(c->leases.folder_fd, "gc", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (*lock < 0) {
		return error_set_errno(err, errno, "cannot open %s/" LEASE_FOLDER "/gc",
				       c->local->path);
	}
	return flock(*lock, LOCK_EX | LOCK_NB) == 0
		       ? 0
		       : error_set(err, ERROR_UNAVAILABLE,
				   "garbage of %s is being collected by another process",
				   c->local->path);
}

static int collect_open(struct collection *c, struct error *err)
{
	int lock cleanup(cleanup_close) = -1;
	int rc = lease_reader_init(&c->leases, c->local->dirfd, err);

	if (rc == 0) {
		rc = be_alone(c, &lock, err);
	}
	if (rc == 0) {
		rc = mark_all(c, err);
	}
	if (rc == 0) {
		rc = collect_marked(c, err);
	}
	c->result->live = c->mark.set.count;
	mark_done(&c->mark);
	lease_reader_done(&c->leases);
	buffer_done(&c->newcomers);
	buffer_done(&c->missing);
	free(c->packs);
	return rc;
}

int local_store_collect(const char *path, const struct store_collect_options *options,
			struct store_collected *out, struct error *err)
{
	struct store store cleanup(store_close) = {0};
	int rc = local_store_open(&store, path, 0, err);

	if (rc) {
		return rc;
	}
	struct collection c = {.store = &store,
			       .local = container_of(store.seen, struct local_store, seen),
			       .options = options,
			       .result = out,
			       .now = lease_clock()};

	return collect_open(&c, err);
}
