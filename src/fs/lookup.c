#include <time.h>

#include "fs/attributes.h"
#include "fs/fs_internal.h"

/* Nothing ever changes: what the kernel knows, it may keep. */
#define FOREVER UINT64_MAX

static void entry_fill(struct fuse_entry_out *out, const struct entered *entered,
		       const struct node *node, uint64_t ino)
{
	*out = (struct fuse_entry_out){
		.nodeid = entered->id,
		.generation = entered->generation,
		.entry_valid = FOREVER,
		.attr_valid = FOREVER,
	};
	attributes_fill(&out->attr, node, ino);
}

int entry_enter(struct fs *fs, uint64_t parent, uint64_t parent_ino, uint32_t index,
		const struct directory_entry *e, struct fuse_entry_out *out)
{
	struct error err = {.code = ERROR_NONE};
	struct entered entered;
	uint64_t ino = entry_ino(fs, parent_ino, e);
	int rc = node_table_enter(fs->nodes, parent, index, e->node.kind, ino, &entered, &err);

	if (rc < 0) {
		return error_to_errno(&err);
	}
	if (rc == 0) {
		return ESTALE;
	}
	entry_fill(out, &entered, &e->node, ino);
	return 0;
}

uint64_t entry_ino(const struct fs *fs, uint64_t parent_ino, const struct directory_entry *e)
{
	if (fs->inodes_by_path && e->node.kind == NODE_DIRECTORY) {
		return attributes_ino_of_place(parent_ino, e->name);
	}
	return attributes_ino(&e->node);
}

/* The kernel may remember that there is no such name. */
static int reply_no_entry(struct request *r)
{
	const struct fuse_entry_out out = {.entry_valid = FOREVER};

	request_reply(r, &out, sizeof(out));
	return 0;
}

static int reply_entry(struct request *r, uint64_t parent_ino, uint32_t index,
		       const struct directory_entry *e)
{
	struct fuse_entry_out out;
	int rc = entry_enter(r->fs, r->header.nodeid, parent_ino, index, e, &out);

	if (rc == 0) {
		request_reply(r, &out, sizeof(out));
	}
	return rc;
}

static int lookup_in_folder(struct request *r, struct bytes name)
{
	struct folder folder cleanup(folder_done);
	struct directory_entry e;
	int rc = request_folder(r, &folder);

	if (rc != 0) {
		return rc;
	}
	ssize_t i = directory_find(folder.directory, name);

	if (i < 0) {
		return reply_no_entry(r);
	}
	directory_entry(folder.directory, (size_t)i, &e);
	return reply_entry(r, folder.ino, (uint32_t)i, &e);
}

static int root_entry_found(struct request *r, struct bytes name, const struct node *node)
{
	const struct directory_entry e = {.name = name, .node = *node};
	struct error err = {.code = ERROR_NONE};
	uint32_t number;

	if (root_table_intern(r->fs->root_table, name, node, &number, &err) < 0) {
		return error_to_errno(&err);
	}
	return reply_entry(r, NODE_ID_ROOT, number, &e);
}

static int lookup_in_root(struct request *r, struct bytes name)
{
	struct root_node node cleanup(root_node_done) = {.node.size = 0};
	struct error err = {.code = ERROR_NONE};

	if (request_avoids_peers(r) && !root_nodes_is_local(r->fs->roots)) {
		return HANDLED_BLOCKED;
	}
	int rc = root_nodes_lookup(r->fs->roots, name, &node, &err);

	if (rc > 0) {
		return root_entry_found(r, name, &node.node);
	}
	if (rc < 0) {
		struct digest of_name;

		digest_of(&of_name, name);
		fs_complain(r->fs, &of_name, "cannot look up %s: %s", bytes_printable(name),
			    err.text);
		return EIO;
	}
	return r->fs->roots_may_grow ? ENOENT : reply_no_entry(r);
}

int handle_lookup(struct request *r)
{
	struct bytes name = bytes_of(r->arg.ptr, strnlen((const char *)r->arg.ptr, r->arg.len));

	if (name.len == r->arg.len) {
		return EINVAL;
	}
	if (name.len > NODE_NAME_MAX) {
		return ENAMETOOLONG;
	}
	if (!node_name_valid(name)) {
		return EINVAL;
	}
	return r->header.nodeid == NODE_ID_ROOT ? lookup_in_root(r, name)
						: lookup_in_folder(r, name);
}

/*
 * With a shorter time the kernel would ask for the root's attributes with every path that it
 * resolves, for the permissions.
 */
#define ROOT_VALID_SECONDS 1

/* The epoch still, but another moment than when the kernel read the listing. */
static uint32_t other_nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint32_t)t.tv_nsec;
}

int handle_getattr(struct request *r)
{
	struct object o cleanup(object_done);
	struct fuse_attr_out out = {.attr_valid = FOREVER};
	int rc = request_object(r, &o);

	if (rc != 0) {
		return rc;
	}
	uint64_t ino = o.node.kind == NODE_DIRECTORY ? o.ino : attributes_ino(&o.node);

	attributes_fill(&out.attr, &o.node, ino);
	if (r->header.nodeid == NODE_ID_ROOT && atomic_load(&r->fs->root_is_dated)) {
		out.attr_valid = ROOT_VALID_SECONDS;
		out.attr.mtimensec = other_nanoseconds();
	}
	request_reply(r, &out, sizeof(out));
	return 0;
}

int handle_forget(struct request *r)
{
	struct fuse_forget_in in;

	request_arg(r, &in);
	const struct fuse_forget_one one = {.nodeid = r->header.nodeid, .nlookup = in.nlookup};

	node_table_forget(r->fs->nodes, &one, 1);
	return HANDLED_SILENTLY;
}

/* Takes what is there, when the count says more. */
int handle_batch_forget(struct request *r)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one some[64];

	request_arg(r, &in);
	struct bytes rest = bytes_of(r->arg.ptr + sizeof(in), r->arg.len - sizeof(in));
	size_t left = MIN((size_t)in.count, rest.len / sizeof(some[0]));

	while (left > 0) {
		size_t n = MIN(left, ARRAY_SIZE(some));

		memcpy(some, rest.ptr, n * sizeof(some[0]));
		node_table_forget(r->fs->nodes, some, n);
		rest.ptr += n * sizeof(some[0]);
		left -= n;
	}
	return HANDLED_SILENTLY;
}
