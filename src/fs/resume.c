/*
 * Sessions in memory that outlives the process (keep.h), and how another server of the same
 * store goes on with one. Directory objects are fetched again; what is in no slot (children,
 * users, the indexes) follows from the rest.
 *
 * Whatever does not fit together is dropped: the kernel's id for it is stale then. That is what
 * a process leaves that died in the middle of something, or of damage to its memory; and where
 * the store has lost a directory, the loss stays that directory's.
 */

#include "base/log.h"
#include "fs/fs_internal.h"
#include "fs/node_table_internal.h"

#define STATE_KNOWN (STATE_FLAGS | STATE_PASSTHROUGH)

static uint32_t kept_sizes(void)
{
	return (uint32_t)sizeof(struct directory_node) | (uint32_t)sizeof(struct content) << 8 |
	       (uint32_t)backing_table_item_size() << 16 |
	       (uint32_t)sizeof(struct keep_header) << 24;
}

int fs_keep(struct fs *fs, int fd, struct error *err)
{
	int rc = keep_open(&fs->keep, fd, kept_sizes(), err);

	if (rc != 0) {
		return rc;
	}
	const struct keep_header *h = fs->keep.header;

	slot_table_keep(&fs->nodes->nodes, &fs->keep, KEEP_NODES);
	slot_table_keep(&fs->nodes->contents.slots, &fs->keep, KEEP_CONTENTS);
	if (h->flags & STATE_SESSION) {
		atomic_store(&fs->passthrough, (h->flags & STATE_PASSTHROUGH) != 0);
		return 1;
	}
	keep_clear(&fs->keep);
	return root_table_keep(fs->root_table, &fs->keep, err);
}

void session_keep(struct fs *fs)
{
	struct keep_header *h = fs->keep.header;

	if (!h) {
		return;
	}
	h->kernel_minor = atomic_load(&fs->kernel_minor);
	h->offered = atomic_load(&fs->offered);
	h->agreed = atomic_load(&fs->agreed);
	h->salt = fs->nodes->salt;
	h->released = 0;
	keep_order();
	h->flags = state_flags(fs) |
		   (atomic_load(&fs->passthrough) ? (uint32_t)STATE_PASSTHROUGH : 0);
}

/* ---- Nodes ---- */

static bool node_fits(void *item)
{
	struct directory_node *n = item;

	n->children = 0;
	return n->lookups <= LOOKUPS_MAX;
}

static bool node_is_sound(const struct node_table *t, uint32_t slot)
{
	struct directory_node *n = slot_table_get(&t->nodes, slot);

	if (node_find(t, n->parent, n->entry) != slot || !node_place_is_directory(t, n)) {
		return false;
	}
	if (n->content != SLOT_NONE && !node_content_is_own(t, n)) {
		n->content = SLOT_NONE;
	}
	return true;
}

/* One that goes takes those below it along, in the next round. */
static uint32_t drop_unsound(struct node_table *t)
{
	uint32_t slot = slot_table_scan(&t->nodes, 0);
	uint32_t dropped = 0;

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		if (!node_is_sound(t, slot)) {
			slot_table_remove(&t->nodes, slot);
			dropped++;
		}
	}
	return dropped;
}

/* Ties nodes to their parents and contents. */
static void connect_nodes(struct node_table *t)
{
	uint32_t slot = slot_table_scan(&t->nodes, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		struct directory_node *n = slot_table_get(&t->nodes, slot);

		if (n->parent != PARENT_ROOT) {
			struct directory_node *parent = slot_table_get(&t->nodes, n->parent);

			parent->children++;
		}
		if (n->content != SLOT_NONE) {
			node_attach_content(t, n, n->content);
		}
	}
}

/* What was not counted yet, or not freed any more. */
static void drop_unneeded(struct node_table *t)
{
	uint32_t slot = slot_table_scan(&t->nodes, 0);

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		node_settle(t, slot);
	}
	slot = slot_table_scan(&t->contents.slots, 0);
	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->contents.slots, slot + 1)) {
		content_table_settle(&t->contents, slot);
	}
}

static int adopt_nodes(struct fs *fs, struct error *err)
{
	struct node_table *t = fs->nodes;
	uint32_t lost = 0, dropped;
	int rc = content_table_adopt(&t->contents, fs->directories, err);

	if (rc != 0) {
		return rc;
	}
	if (!slot_table_adopt(&t->nodes, node_fits)) {
		return error_set(err, ERROR_LIMIT, "no memory for the nodes in use");
	}
	do {
		dropped = drop_unsound(t);
		lost += dropped;
	} while (dropped > 0);
	if (lost > 0) {
		log_warning("%u directories in use are lost", lost);
	}
	connect_nodes(t);
	drop_unneeded(t);
	return 0;
}

/* ---- The session ---- */

/* The provider of the root hears again which names are in use, from this server. */
static void use_roots_again(struct fs *fs)
{
	struct node_table *t = fs->nodes;
	uint32_t slot =
		root_nodes_is_local(fs->roots) ? slot_table_scan(&t->nodes, 0) : SLOT_NONE;

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->nodes, slot + 1)) {
		const struct directory_node *n = slot_table_get(&t->nodes, slot);

		if (n->parent == PARENT_ROOT) {
			struct root_node node cleanup(root_node_done) = {.node.size = 0};

			/* A name that is gone, or another's now, is as good as any. */
			int rc = root_nodes_lookup(fs->roots,
						   root_table_get(t->roots, n->entry)->name,
						   &node, NULL);
			(void)rc;
		}
	}
}

int fs_resume(struct fs *fs, struct error *err)
{
	const struct keep_header *h = fs->keep.header;

	if (atomic_load(&fs->session) || !h || !(h->flags & STATE_SESSION) ||
	    (h->flags & ~(uint32_t)STATE_KNOWN)) {
		return error_set(err, ERROR_INVALID, "there is no session to go on with");
	}
	if (atomic_load(&fs->passthrough) && !fs->backings) {
		return error_set(err, ERROR_INVALID, "the session passes files through");
	}
	int rc = root_table_keep(fs->root_table, &fs->keep, err);

	if (rc == 0) {
		rc = adopt_nodes(fs, err);
	}
	if (rc == 0 && atomic_load(&fs->passthrough)) {
		rc = backing_table_adopt(fs->backings, err);
	}
	if (rc != 0) {
		return rc;
	}
	use_roots_again(fs);
	fs->nodes->salt = h->salt;
	negotiation_note(fs, h->kernel_minor, h->offered, h->agreed);
	state_take_flags(fs, h->flags);
	return 0;
}

bool fs_is_kept(const struct fs *fs)
{
	return fs->keep.header != NULL;
}

bool fs_can_be_resumed(const struct fs *fs)
{
	return fs->keep.header && (atomic_load(&fs->agreed) & FUSE_HAS_RESEND);
}
