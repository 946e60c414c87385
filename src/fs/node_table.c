#include <malloc.h>
#include <sys/random.h>
#include <time.h>

#include "fs/node_id.h"
#include "fs/node_table_internal.h"

/* Freed since the last time, before memory is handed back: that costs milliseconds. */
#define TRIM_THRESHOLD ((size_t)16 << 20)

static uint64_t place_hash(uint64_t seed, uint32_t parent, uint32_t entry)
{
	uint64_t h = ((uint64_t)parent << 32 | entry) ^ seed;

	h = (h ^ h >> 33) * 0xff51afd7ed558ccdULL;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 33;
}

static uint64_t directory_node_hash(const void *item, const void *context)
{
	const struct directory_node *n = item;
	const struct node_table *t = context;

	return place_hash(t->seed, n->parent, n->entry);
}

static uint64_t random_number(void)
{
	uint64_t n;

	/* It only fails before the system has had any chance event. */
	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != sizeof(n)) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		n = place_hash((uintptr_t)&n, (uint32_t)now.tv_sec, (uint32_t)now.tv_nsec);
	}
	return n;
}

struct node_table *node_table_new(struct root_table *roots)
{
	struct node_table *t = xcalloc(1, sizeof(*t));

	t->roots = roots;
	/* Which names meet in a bucket is not for the maker of a tree to choose. */
	t->seed = random_number();
	t->salt = random_number();
	pthread_mutex_init(&t->lock, NULL);
	slot_table_init(&t->nodes, sizeof(struct directory_node), NODE_TABLE_MAX,
			directory_node_hash, t);
	content_table_init(&t->contents);
	return t;
}

void node_table_free(struct node_table *t)
{
	if (!t) {
		return;
	}
	slot_table_done(&t->nodes);
	content_table_done(&t->contents);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void node_table_clear(struct node_table *t)
{
	pthread_mutex_lock(&t->lock);
	uint32_t slot = slot_table_scan(&t->nodes, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		slot_table_remove(&t->nodes, slot);
	}
	content_table_clear(&t->contents);
	pthread_mutex_unlock(&t->lock);
}

static struct directory_node *node_of_id(const struct node_table *t, uint64_t id)
{
	uint32_t slot = node_id_directory_slot(id);
	struct directory_node *n = slot_table_get(&t->nodes, slot);

	if (!n || node_id_directory(slot, slot_table_generation(&t->nodes, slot)) != id) {
		return NULL;
	}
	return n;
}

static struct content *content_of_leaf_id(const struct node_table *t, uint64_t id)
{
	uint32_t slot = node_id_leaf_content(id);
	struct content *c = content_table_get(&t->contents, slot);

	if (!c) {
		return NULL;
	}
	uint32_t generation = slot_table_generation(&t->contents.slots, slot);

	return node_id_leaf(slot, generation, node_id_leaf_entry(id)) == id ? c : NULL;
}

struct node node_at_place(const struct node_table *t, const struct directory_node *n)
{
	if (n->parent == PARENT_ROOT) {
		return root_table_get(t->roots, n->entry)->node;
	}
	const struct directory_node *parent = slot_table_get(&t->nodes, n->parent);
	const struct content *c = content_table_get(&t->contents, parent->content);
	struct directory_entry e;

	directory_entry(c->directory, n->entry, &e);
	return e.node;
}

bool node_place_is_directory(const struct node_table *t, const struct directory_node *n)
{
	if (n->parent == PARENT_ROOT) {
		const struct root_entry *e = root_table_get(t->roots, n->entry);

		return e && e->node.kind == NODE_DIRECTORY;
	}
	const struct directory_node *parent = slot_table_get(&t->nodes, n->parent);
	const struct content *c = NULL;
	struct directory_entry e;

	if (parent) {
		c = content_table_get(&t->contents, parent->content);
	}
	if (!c || n->entry >= directory_count(c->directory)) {
		return false;
	}
	directory_entry(c->directory, n->entry, &e);
	return e.node.kind == NODE_DIRECTORY;
}

bool node_content_is_own(const struct node_table *t, const struct directory_node *n)
{
	const struct content *c = content_table_get(&t->contents, n->content);
	const struct node node = node_at_place(t, n);

	return c && digest_equal(&c->digest, &node.digest);
}

static int get_leaf(const struct node_table *t, uint64_t id, struct object *out)
{
	const struct content *c = content_of_leaf_id(t, id);
	uint32_t entry = node_id_leaf_entry(id);

	if (!c || entry >= directory_count(c->directory)) {
		return 0;
	}
	struct directory_entry e;

	directory_entry(c->directory, entry, &e);
	/* A number made up by the other side; directories have ids of another kind. */
	if (e.node.kind == NODE_DIRECTORY) {
		return 0;
	}
	out->node = e.node;
	if (e.node.kind == NODE_SYMLINK) {
		out->holder = directory_ref(c->directory);
	}
	return 1;
}

static int get_directory(const struct node_table *t, uint64_t id, struct object *out)
{
	const struct directory_node *n = node_of_id(t, id);

	if (!n) {
		return 0;
	}
	out->node = node_at_place(t, n);
	out->ino = n->ino;
	return 1;
}

static int get_root_leaf(const struct node_table *t, uint64_t id, struct object *out)
{
	uint32_t number = (uint32_t)id;
	const struct root_entry *e = NULL;

	if (node_id_root_leaf(number) == id) {
		e = root_table_get(t->roots, number);
	}
	if (!e || e->node.kind == NODE_DIRECTORY) {
		return 0;
	}
	out->node = e->node;
	return 1;
}

int node_table_get(struct node_table *t, uint64_t id, struct object *out)
{
	int rc = 0;

	*out = (struct object){.node.kind = NODE_DIRECTORY};
	id = node_id_salted(id, t->salt);
	switch (node_id_kind(id)) {
	case NODE_ID_IS_ROOT:
		out->is_root = true;
		out->ino = NODE_ID_ROOT;
		return 1;
	case NODE_ID_IS_ROOT_LEAF:
		return get_root_leaf(t, id, out);
	case NODE_ID_IS_LEAF:
		pthread_mutex_lock(&t->lock);
		rc = get_leaf(t, id, out);
		pthread_mutex_unlock(&t->lock);
		break;
	case NODE_ID_IS_DIRECTORY:
		pthread_mutex_lock(&t->lock);
		rc = get_directory(t, id, out);
		pthread_mutex_unlock(&t->lock);
		break;
	}
	return rc;
}

void object_done(struct object *o)
{
	directory_unref(o->holder);
	o->holder = NULL;
}

void node_attach_content(struct node_table *t, struct directory_node *n, uint32_t slot)
{
	n->content = slot;
	content_table_get(&t->contents, slot)->users++;
}

static int folder_locked(struct node_table *t, uint64_t id, struct folder *out)
{
	struct directory_node *n = node_of_id(t, id);

	if (!n) {
		return 0;
	}
	struct node node = node_at_place(t, n);

	if (n->content == SLOT_NONE) {
		/* Perhaps another place shows the same directory. */
		uint32_t slot = content_table_find(&t->contents, &node.digest);

		if (slot != SLOT_NONE) {
			node_attach_content(t, n, slot);
		}
	}
	out->digest = node.digest;
	out->ino = n->ino;
	out->parent_ino = NODE_ID_ROOT;
	if (n->parent != PARENT_ROOT) {
		const struct directory_node *parent = slot_table_get(&t->nodes, n->parent);

		out->parent_ino = parent->ino;
	}
	if (n->content != SLOT_NONE) {
		out->directory =
			directory_ref(content_table_get(&t->contents, n->content)->directory);
	}
	return 1;
}

int node_table_folder(struct node_table *t, uint64_t id, struct folder *out)
{
	*out = (struct folder){.directory = NULL};
	if (node_id_kind(id) != NODE_ID_IS_DIRECTORY) {
		return 0;
	}
	id = node_id_salted(id, t->salt);
	pthread_mutex_lock(&t->lock);
	int rc = folder_locked(t, id, out);

	pthread_mutex_unlock(&t->lock);
	return rc;
}

void folder_done(struct folder *f)
{
	directory_unref(f->directory);
	f->directory = NULL;
}

static int load_locked(struct node_table *t, uint64_t id, struct directory *d,
		       struct error *err)
{
	struct directory_node *n = node_of_id(t, id);

	if (!n) {
		return 0;
	}
	if (n->content != SLOT_NONE) {
		return 1; /* another thread was first */
	}
	uint32_t slot = content_table_intern(&t->contents, d);

	if (slot == SLOT_NONE) {
		return error_set(err, ERROR_LIMIT, "no room for one more directory");
	}
	node_attach_content(t, n, slot);
	return 1;
}

int node_table_load(struct node_table *t, uint64_t id, struct directory *d, struct error *err)
{
	pthread_mutex_lock(&t->lock);
	int rc = load_locked(t, node_id_salted(id, t->salt), d, err);

	pthread_mutex_unlock(&t->lock);
	return rc;
}

uint32_t node_find(const struct node_table *t, uint32_t parent, uint32_t entry)
{
	uint32_t slot = slot_table_first(&t->nodes, place_hash(t->seed, parent, entry));

	for (; slot != SLOT_NONE; slot = slot_table_next(&t->nodes, slot)) {
		const struct directory_node *n = slot_table_get(&t->nodes, slot);

		if (n->parent == parent && n->entry == entry) {
			break;
		}
	}
	return slot;
}

/* The node at a place, new when there is none. SLOT_NONE at the limit. */
static uint32_t node_find_or_add(struct node_table *t, uint32_t parent, uint32_t entry,
				 uint64_t ino)
{
	uint32_t slot = node_find(t, parent, entry);

	if (slot != SLOT_NONE) {
		return slot;
	}
	const struct directory_node fresh = {
		.ino = ino, .parent = parent, .entry = entry, .content = SLOT_NONE};

	slot = slot_table_add(&t->nodes, &fresh);
	if (slot != SLOT_NONE && parent != PARENT_ROOT) {
		struct directory_node *above = slot_table_get(&t->nodes, parent);

		above->children++;
	}
	return slot;
}

static int enter_directory(struct node_table *t, uint32_t parent, uint32_t entry, uint64_t ino,
			   struct entered *out, struct error *err)
{
	uint32_t slot = node_find_or_add(t, parent, entry, ino);

	if (slot == SLOT_NONE) {
		return error_set(err, ERROR_LIMIT, "too many directories are in use");
	}
	struct directory_node *n = slot_table_get(&t->nodes, slot);

	n->lookups++;
	out->generation = slot_table_generation(&t->nodes, slot);
	out->id = node_id_directory(slot, (uint32_t)out->generation);
	return 1;
}

static int enter_leaf(struct node_table *t, uint32_t slot, uint32_t entry, struct entered *out)
{
	struct content *c = content_table_get(&t->contents, slot);

	c->lookups++;
	out->generation = slot_table_generation(&t->contents.slots, slot);
	out->id = node_id_leaf(slot, (uint32_t)out->generation, entry);
	return 1;
}

static int enter_locked(struct node_table *t, uint64_t parent, uint32_t entry,
			enum node_kind kind, uint64_t ino, struct entered *out,
			struct error *err)
{
	const struct directory_node *n = node_of_id(t, parent);

	if (!n || n->content == SLOT_NONE) {
		return 0;
	}
	if (kind == NODE_DIRECTORY) {
		return enter_directory(t, node_id_directory_slot(parent), entry, ino, out, err);
	}
	return enter_leaf(t, n->content, entry, out);
}

/* Ids without their salt. */
static int enter(struct node_table *t, uint64_t parent, uint32_t entry, enum node_kind kind,
		 uint64_t ino, struct entered *out, struct error *err)
{
	int rc;

	if (parent == NODE_ID_ROOT && kind != NODE_DIRECTORY) {
		/* The root table keeps its entries: nothing to count. */
		*out = (struct entered){.id = node_id_root_leaf(entry)};
		return 1;
	}
	pthread_mutex_lock(&t->lock);
	if (parent == NODE_ID_ROOT) {
		rc = enter_directory(t, PARENT_ROOT, entry, ino, out, err);
	} else {
		rc = enter_locked(t, parent, entry, kind, ino, out, err);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int node_table_enter(struct node_table *t, uint64_t parent, uint32_t entry, enum node_kind kind,
		     uint64_t ino, struct entered *out, struct error *err)
{
	int rc = enter(t, node_id_salted(parent, t->salt), entry, kind, ino, out, err);

	if (rc > 0) {
		out->id = node_id_salted(out->id, t->salt);
	}
	return rc;
}

void node_settle(struct node_table *t, uint32_t slot)
{
	while (slot != PARENT_ROOT) {
		const struct directory_node *n = slot_table_get(&t->nodes, slot);

		if (n->lookups > 0 || n->children > 0) {
			return;
		}
		uint32_t parent = n->parent;
		uint32_t content = n->content;

		slot_table_remove(&t->nodes, slot);
		t->unreturned += sizeof(*n);
		if (content != SLOT_NONE) {
			content_table_get(&t->contents, content)->users--;
			content_table_settle(&t->contents, content);
		}
		if (parent != PARENT_ROOT) {
			struct directory_node *above = slot_table_get(&t->nodes, parent);

			above->children--;
		}
		slot = parent;
	}
}

static void forget_locked(struct node_table *t, uint64_t id, uint64_t count)
{
	enum node_id_kind kind = node_id_kind(id);

	if (kind == NODE_ID_IS_DIRECTORY) {
		struct directory_node *n = node_of_id(t, id);

		if (n) {
			n->lookups -= MIN(n->lookups, count);
			node_settle(t, node_id_directory_slot(id));
		}
	} else if (kind == NODE_ID_IS_LEAF) {
		struct content *c = content_of_leaf_id(t, id);

		if (c) {
			c->lookups -= MIN(c->lookups, count);
			content_table_settle(&t->contents, node_id_leaf_content(id));
		}
	}
}

void node_table_forget(struct node_table *t, const struct fuse_forget_one *items, size_t count)
{
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < count; i++) {
		forget_locked(t, node_id_salted(items[i].nodeid, t->salt), items[i].nlookup);
	}
	t->unreturned += t->contents.freed;
	t->contents.freed = 0;
	bool trim = t->unreturned >= TRIM_THRESHOLD;

	if (trim) {
		t->unreturned = 0;
	}
	pthread_mutex_unlock(&t->lock);
	if (trim) {
		malloc_trim(0);
	}
}

void node_table_stats(struct node_table *t, struct node_table_stats *out)
{
	pthread_mutex_lock(&t->lock);
	out->directories = t->nodes.count;
	out->contents = t->contents.slots.count;
	out->memory = slot_table_memory(&t->nodes) + slot_table_memory(&t->contents.slots) +
		      t->contents.held;
	pthread_mutex_unlock(&t->lock);
}
