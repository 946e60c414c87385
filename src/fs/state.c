/*
 * What a session knows, written down, for another server of the same store to go on with: node
 * ids mean there what they mean here. Directory objects are named by their digests and fetched
 * again.
 *
 * All numbers are little-endian. A header (see struct state_header), then
 *   entries of the root, by number:     u32 length, protobuf Node (castore/node.h)
 *   contents, by slot, ascending:       u32 slot, u32 generation, u64 lookups, digest
 *   directory nodes, by slot, ascending: u32 slot, u32 generation, u64 lookups, u64 inode
 * number, u32 parent, u32 entry, u32 content (see node_table.c)
 *
 * It comes from outside: whatever does not fit together is refused. Digests are taken as they
 * are; who can name one may see what it stands for.
 */

#include "base/endian.h"
#include "fs/fs_internal.h"
#include "fs/node_table_internal.h"

#define STATE_MAGIC 0x316574617473666eULL /* "nfstate1" */

#define HEADER_SIZE 44u
#define CONTENT_SIZE (16u + DIGEST_SIZE)
#define NODE_SIZE 36u

struct state_header {
	uint64_t magic;
	uint32_t flags;
	uint64_t salt;
	uint32_t roots;
	uint32_t contents;
	uint32_t nodes;
	uint32_t content_generation; /* none has reached these */
	uint32_t node_generation;
	uint32_t reserved; /* 0 */
};

/* ---- Writing ---- */

static void add32(struct buffer *out, uint32_t v)
{
	put_le32(buffer_reserve(out, sizeof(v)), v);
	out->len += sizeof(v);
}

static void add64(struct buffer *out, uint64_t v)
{
	put_le64(buffer_reserve(out, sizeof(v)), v);
	out->len += sizeof(v);
}

static void save_header(const struct state_header *h, struct buffer *out)
{
	add64(out, h->magic);
	add32(out, h->flags);
	add64(out, h->salt);
	add32(out, h->roots);
	add32(out, h->contents);
	add32(out, h->nodes);
	add32(out, h->content_generation);
	add32(out, h->node_generation);
	add32(out, h->reserved);
}

static uint32_t save_roots(struct root_table *roots, struct buffer *out)
{
	struct buffer encoded = {.ptr = NULL};
	const struct root_entry *e;
	uint32_t n = 0;

	for (; (e = root_table_get(roots, n)); n++) {
		encoded.len = 0;
		node_encode(&encoded, e->name, &e->node);
		add32(out, (uint32_t)encoded.len);
		buffer_append(out, encoded.ptr, encoded.len);
	}
	buffer_done(&encoded);
	return n;
}

static void save_contents(const struct slot_table *slots, struct buffer *out)
{
	uint32_t slot = slot_table_scan(slots, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(slots, slot + 1)) {
		const struct content *c = slot_table_get(slots, slot);

		add32(out, slot);
		add32(out, slot_table_generation(slots, slot));
		add64(out, c->lookups);
		buffer_append(out, c->digest.bytes, DIGEST_SIZE);
	}
}

static void save_nodes(const struct slot_table *slots, struct buffer *out)
{
	uint32_t slot = slot_table_scan(slots, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(slots, slot + 1)) {
		const struct directory_node *n = slot_table_get(slots, slot);

		add32(out, slot);
		add32(out, slot_table_generation(slots, slot));
		add64(out, n->lookups);
		add64(out, n->ino);
		add32(out, n->parent);
		add32(out, n->entry);
		add32(out, n->content);
	}
}

uint32_t state_flags(const struct fs *fs)
{
	return (atomic_load(&fs->session) ? (uint32_t)STATE_SESSION : 0) |
	       (atomic_load(&fs->no_open) ? (uint32_t)STATE_NO_OPEN : 0) |
	       (atomic_load(&fs->no_opendir) ? (uint32_t)STATE_NO_OPENDIR : 0) |
	       (atomic_load(&fs->root_is_dated) ? (uint32_t)STATE_ROOT_IS_DATED : 0);
}

void state_take_flags(struct fs *fs, uint32_t flags)
{
	atomic_store(&fs->passthrough, (flags & STATE_PASSTHROUGH) != 0);
	atomic_store(&fs->no_open, (flags & STATE_NO_OPEN) != 0);
	atomic_store(&fs->no_opendir, (flags & STATE_NO_OPENDIR) != 0);
	atomic_store(&fs->root_is_dated, (flags & STATE_ROOT_IS_DATED) != 0);
	atomic_store(&fs->session, (flags & STATE_SESSION) != 0);
}

int fs_save(struct fs *fs, struct buffer *out, struct error *err)
{
	struct node_table *t = fs->nodes;
	struct buffer roots = {.ptr = NULL};

	if (atomic_load(&fs->passthrough)) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "a session with passthrough cannot go elsewhere");
	}
	struct state_header h = {
		.magic = STATE_MAGIC,
		.flags = state_flags(fs),
		.salt = t->salt,
		.roots = save_roots(fs->root_table, &roots),
	};

	pthread_mutex_lock(&t->lock);
	h.contents = t->contents.slots.count;
	h.nodes = t->nodes.count;
	h.content_generation = slot_table_next_generation(&t->contents.slots);
	h.node_generation = slot_table_next_generation(&t->nodes);
	bool fits =
		roots.len + (size_t)h.contents * CONTENT_SIZE + (size_t)h.nodes * NODE_SIZE <=
		FS_STATE_MAX - HEADER_SIZE;

	if (fits) {
		save_header(&h, out);
		buffer_append(out, roots.ptr, roots.len);
		save_contents(&t->contents.slots, out);
		save_nodes(&t->nodes, out);
	}
	pthread_mutex_unlock(&t->lock);
	buffer_done(&roots);
	return fits ? 0 : error_set(err, ERROR_LIMIT, "too many directories are in use");
}

/* ---- Reading ---- */

static uint32_t take32(struct bytes *in)
{
	uint32_t v = get_le32(in->ptr);

	*in = bytes_of(in->ptr + sizeof(v), in->len - sizeof(v));
	return v;
}

static uint64_t take64(struct bytes *in)
{
	uint64_t v = get_le64(in->ptr);

	*in = bytes_of(in->ptr + sizeof(v), in->len - sizeof(v));
	return v;
}

static int damaged(const char *what, struct error *err)
{
	return error_set(err, ERROR_INVALID, "the state of a session is damaged: %s", what);
}

static int restore_header(struct bytes *in, struct state_header *h, struct error *err)
{
	if (in->len < HEADER_SIZE) {
		return damaged("it is too short", err);
	}
	h->magic = take64(in);
	h->flags = take32(in);
	h->salt = take64(in);
	h->roots = take32(in);
	h->contents = take32(in);
	h->nodes = take32(in);
	h->content_generation = take32(in);
	h->node_generation = take32(in);
	h->reserved = take32(in);
	if (h->magic != STATE_MAGIC) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "the state of a session is of another version");
	}
	if ((h->flags & ~(uint32_t)STATE_FLAGS) || h->reserved != 0) {
		return damaged("it has unknown flags", err);
	}
	return 0;
}

static int restore_root(struct root_table *roots, struct bytes *in, uint32_t expected,
			struct error *err)
{
	uint32_t len = in->len < sizeof(len) ? UINT32_MAX : take32(in);
	struct bytes name = {.len = 0};
	struct node node;
	uint32_t number = UINT32_MAX;

	if (len > in->len) {
		return damaged("a name of the root is cut off", err);
	}
	int rc = node_decode(bytes_of(in->ptr, len), &name, &node, err);

	if (rc == 0 && name.len == 0) {
		rc = damaged("a name of the root is empty", err);
	}
	if (rc == 0) {
		rc = root_table_intern(roots, name, &node, &number, err);
	}
	if (rc == 0 && number != expected) {
		rc = damaged("a name of the root is there twice", err);
	}
	*in = bytes_of(in->ptr + len, in->len - len);
	return rc;
}

/* Fetches the Directory object of one content and gives it its slot. */
static int restore_content(struct fs *fs, struct bytes *in, struct error *err)
{
	struct content_table *t = &fs->nodes->contents;
	struct directory *d cleanup(cleanup_directory) = NULL;
	uint32_t slot = take32(in);
	uint32_t generation = take32(in);
	struct content c = {.lookups = take64(in)};
	struct digest digest;

	memcpy(digest.bytes, in->ptr, DIGEST_SIZE);
	*in = bytes_of(in->ptr + DIGEST_SIZE, in->len - DIGEST_SIZE);
	int rc = directory_service_get(fs->directories, &digest, &d, err);

	if (rc == 0) {
		rc = error_set(err, ERROR_UNAVAILABLE,
			       "directory %s, which is in use, is not in this store",
			       digest_text(&digest));
	}
	if (rc < 0) {
		return rc;
	}
	c.digest = digest;
	c.directory = d;
	if (c.lookups > LOOKUPS_MAX || content_table_find(t, &digest) != SLOT_NONE ||
	    !slot_table_restore(&t->slots, slot, generation, &c)) {
		return damaged("a directory has no place", err);
	}
	directory_ref(d);
	t->held += directory_memory(d);
	return 0;
}

static int restore_node(struct node_table *t, struct bytes *in, struct error *err)
{
	uint32_t slot = take32(in);
	uint32_t generation = take32(in);
	struct directory_node n = {.lookups = take64(in)};

	n.ino = take64(in);
	n.parent = take32(in);
	n.entry = take32(in);
	n.content = take32(in);
	if (n.lookups > LOOKUPS_MAX || node_find(t, n.parent, n.entry) != SLOT_NONE ||
	    !slot_table_restore(&t->nodes, slot, generation, &n)) {
		return damaged("a node has no place", err);
	}
	return 0;
}

/* Ties a node to its parent and its content, now that all of them are there. */
static int connect_node(struct node_table *t, struct directory_node *n, struct error *err)
{
	uint32_t slot = n->content;

	if (!node_place_is_directory(t, n)) {
		return damaged("a node is at no directory's place", err);
	}
	if (n->parent != PARENT_ROOT) {
		struct directory_node *parent = slot_table_get(&t->nodes, n->parent);

		parent->children++;
	}
	if (slot == SLOT_NONE) {
		return 0;
	}
	if (!node_content_is_own(t, n)) {
		return damaged("a node has the content of another", err);
	}
	node_attach_content(t, n, slot);
	return 0;
}

/* What nothing keeps would stay for ever. */
static int check_kept(const struct node_table *t, struct error *err)
{
	uint32_t slot = slot_table_scan(&t->nodes, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		const struct directory_node *n = slot_table_get(&t->nodes, slot);

		if (n->lookups == 0 && n->children == 0) {
			return damaged("nobody needs a node", err);
		}
	}
	slot = slot_table_scan(&t->contents.slots, 0);
	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->contents.slots, slot + 1)) {
		const struct content *c = content_table_get(&t->contents, slot);

		if (c->lookups == 0 && c->users == 0) {
			return damaged("nobody needs a directory", err);
		}
	}
	return 0;
}

static int restore_nodes(struct node_table *t, struct bytes *in, uint32_t count,
			 struct error *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		rc = restore_node(t, in, err);
	}
	uint32_t slot = slot_table_scan(&t->nodes, 0);

	for (; rc == 0 && slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		rc = connect_node(t, slot_table_get(&t->nodes, slot), err);
	}
	return rc ? rc : check_kept(t, err);
}

static int restore(struct fs *fs, struct bytes in, struct error *err)
{
	struct state_header h = {.magic = 0};
	int rc = restore_header(&in, &h, err);

	if (rc != 0) {
		return rc;
	}
	for (uint32_t i = 0; rc == 0 && i < h.roots; i++) {
		rc = restore_root(fs->root_table, &in, i, err);
	}
	if (rc == 0 &&
	    in.len != (uint64_t)h.contents * CONTENT_SIZE + (uint64_t)h.nodes * NODE_SIZE) {
		rc = damaged("it has not the length that it says", err);
	}
	slot_table_begin_at(&fs->nodes->contents.slots, h.content_generation);
	slot_table_begin_at(&fs->nodes->nodes, h.node_generation);
	for (uint32_t i = 0; rc == 0 && i < h.contents; i++) {
		rc = restore_content(fs, &in, err);
	}
	if (rc == 0) {
		rc = restore_nodes(fs->nodes, &in, h.nodes, err);
	}
	if (rc != 0) {
		return rc;
	}
	fs->nodes->salt = h.salt;
	state_take_flags(fs, h.flags);
	return 0;
}

int fs_restore(struct fs *fs, struct bytes state, struct error *err)
{
	if (root_table_get(fs->root_table, 0) || atomic_load(&fs->session)) {
		return error_set(err, ERROR_INVALID,
				 "a session cannot take the place of another one");
	}
	int rc = restore(fs, state, err);

	if (rc != 0) {
		fs_reset(fs);
	}
	return rc;
}
