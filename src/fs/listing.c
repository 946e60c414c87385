#include "fs/attributes.h"
#include "fs/fs_internal.h"

/*
 * Positions, as the kernel hands them back: 0 is the start, 1 is after ".", 2 after "..". In a
 * directory, 3 + i is after entry number i. In the root, 3 + n is after the name with number n
 * in the root table, wherever that name stands among those that there are by then.
 */
#define AFTER_DOT 1
#define AFTER_DOT_DOT 2
#define FIRST_ENTRY 3

struct listing {
	struct request *request;
	size_t len;
	size_t capacity;
	size_t entries; /* beside the dots */
	bool plus;
	bool full;    /* an entry did not fit */
	int fault;    /* an errno */
	uint64_t ino; /* of the directory */
};

static size_t record_size(const struct listing *l, struct bytes name)
{
	size_t head = l->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;

	return FUSE_REC_ALIGN(head + name.len);
}

static bool listing_has_room(struct listing *l, struct bytes name)
{
	l->full = record_size(l, name) > l->capacity - l->len;
	return !l->full;
}

/* entry: for the "plus" form. The room has been checked. */
static void listing_put(struct listing *l, struct bytes name, uint32_t mode, uint64_t ino,
			uint64_t position, const struct fuse_entry_out *entry)
{
	const struct fuse_dirent d = {
		.ino = ino,
		.off = position,
		.namelen = (uint32_t)name.len,
		.type = mode >> 12, /* as in struct dirent */
	};
	uint8_t *start = (uint8_t *)l->request->reply->data + l->len;
	uint8_t *p = start;

	l->len += record_size(l, name);
	uint8_t *end = (uint8_t *)l->request->reply->data + l->len;

	if (l->plus) {
		memcpy(p, entry, sizeof(*entry));
		p += sizeof(*entry);
	}
	memcpy(p, &d, FUSE_NAME_OFFSET);
	p += FUSE_NAME_OFFSET;
	memcpy(p, name.ptr, name.len);
	p += name.len;
	memset(p, 0, (size_t)(end - p));
}

/* "." and "..": without attributes, and no lookup is counted. */
static bool listing_add_dot(struct listing *l, const char *name, uint64_t ino,
			    uint64_t position)
{
	static const struct fuse_entry_out none;
	static const struct node directory = {.kind = NODE_DIRECTORY};

	if (!listing_has_room(l, bytes_of_string(name))) {
		return false;
	}
	listing_put(l, bytes_of_string(name), attributes_mode(&directory), ino, position,
		    &none);
	return true;
}

static bool listing_add(struct listing *l, uint32_t index, const struct directory_entry *e)
{
	const struct request *r = l->request;
	struct fuse_entry_out entry;
	uint64_t ino;

	/* First of all: what is not in the reply must not be counted as looked up. */
	if (!listing_has_room(l, e->name)) {
		return false;
	}
	if (l->plus) {
		l->fault = entry_enter(r->fs, r->header.nodeid, l->ino, index, e, &entry);
		if (l->fault != 0) {
			return false;
		}
		ino = entry.attr.ino;
	} else {
		ino = entry_ino(r->fs, l->ino, e);
	}
	listing_put(l, e->name, attributes_mode(&e->node), ino, (uint64_t)index + FIRST_ENTRY,
		    &entry);
	l->entries++;
	return true;
}

static bool listing_add_dots(struct listing *l, uint64_t offset, uint64_t parent_ino)
{
	return (offset >= AFTER_DOT || listing_add_dot(l, ".", l->ino, AFTER_DOT)) &&
	       (offset >= AFTER_DOT_DOT || listing_add_dot(l, "..", parent_ino, AFTER_DOT_DOT));
}

static int list_folder(struct listing *l, uint64_t offset)
{
	struct folder folder cleanup(folder_done);
	struct directory_entry e;
	int rc = request_folder(l->request, &folder);

	if (rc != 0) {
		return rc;
	}
	l->ino = folder.ino;
	if (!listing_add_dots(l, offset, folder.parent_ino)) {
		return 0;
	}
	size_t count = directory_count(folder.directory);
	uint64_t i = offset < FIRST_ENTRY ? 0 : offset - FIRST_ENTRY + 1;

	for (; i < count; i++) {
		directory_entry(folder.directory, (size_t)i, &e);
		if (!listing_add(l, (uint32_t)i, &e)) {
			break;
		}
	}
	return 0;
}

static bool root_visit(void *context, struct bytes name, const struct node *node)
{
	struct listing *l = context;
	const struct directory_entry e = {.name = name, .node = *node};
	struct error err = {.code = ERROR_NONE};
	uint32_t number;

	if (root_table_intern(l->request->fs->root_table, name, node, &number, &err) < 0) {
		l->fault = error_to_errno(&err);
		return false;
	}
	return listing_add(l, number, &e);
}

/* The name to go on after; false when no listing ever ended at this position. */
static bool root_resume_name(struct fs *fs, uint64_t offset, struct bytes *after)
{
	*after = bytes_of_string("");
	if (offset < FIRST_ENTRY) {
		return true;
	}
	uint64_t number = offset - FIRST_ENTRY;
	const struct root_entry *e = NULL;

	if (number < ROOT_ENTRIES_MAX) {
		e = root_table_get(fs->root_table, (uint32_t)number);
	}
	if (e) {
		*after = e->name;
	}
	return e != NULL;
}

static int list_root(struct listing *l, uint64_t offset)
{
	struct fs *fs = l->request->fs;
	struct error err = {.code = ERROR_NONE};
	struct bytes after;

	if (!fs->list_root) {
		return EPERM;
	}
	if (request_avoids_peers(l->request) && !root_nodes_is_local(fs->roots)) {
		return HANDLED_BLOCKED;
	}
	l->ino = NODE_ID_ROOT;
	if (!root_resume_name(fs, offset, &after) || !listing_add_dots(l, offset, l->ino)) {
		return 0;
	}
	int rc = root_nodes_list(fs->roots, after, root_visit, l, &err);

	if (rc < 0) {
		fs_complain(fs, &digest_empty, "cannot list the root: %s", err.text);
		l->fault = rc == -ERROR_DENIED ? EPERM : EIO;
	}
	return 0;
}

/*
 * A kernel that opens directories without asking caches the root's listing, which is complete
 * with the empty reply at its end.
 */
static bool must_not_be_cached(const struct request *r)
{
	return r->header.nodeid == NODE_ID_ROOT && r->fs->roots_may_grow &&
	       atomic_load(&r->fs->no_opendir) && !atomic_load(&r->fs->root_is_dated);
}

static int list(struct request *r, bool plus)
{
	struct fuse_read_in in;

	request_arg(r, &in);
	struct listing l = {
		.request = r,
		.plus = plus,
		.capacity = MIN((size_t)in.size, r->reply->data_capacity),
	};
	int rc = r->header.nodeid == NODE_ID_ROOT ? list_root(&l, in.offset)
						  : list_folder(&l, in.offset);

	if (rc == 0 && l.entries == 0) {
		rc = l.fault;
	}
	if (rc == 0 && l.len == 0 && l.full) {
		rc = EINVAL; /* an empty reply would mean the end */
	}
	/* A fault behind entries that were counted comes again with the next request. */
	if (rc == 0) {
		request_reply_data(r, l.len);
		r->reply->invalidate_root = l.len == 0 && must_not_be_cached(r);
	}
	return rc;
}

int handle_readdir(struct request *r)
{
	return list(r, false);
}

int handle_readdirplus(struct request *r)
{
	return list(r, true);
}

static int check_opendir(struct request *r)
{
	struct object o cleanup(object_done);
	int rc = request_object(r, &o);

	if (rc != 0) {
		return rc;
	}
	if (o.node.kind != NODE_DIRECTORY) {
		return ENOTDIR;
	}
	return o.is_root && !r->fs->list_root ? EPERM : 0;
}

int handle_opendir(struct request *r)
{
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR};
	int rc = check_opendir(r);

	if (rc != 0) {
		return rc;
	}
	if (atomic_load(&r->fs->no_opendir)) {
		return ENOSYS;
	}
	if (r->header.nodeid == NODE_ID_ROOT && r->fs->roots_may_grow) {
		out.open_flags = 0;
	}
	request_reply(r, &out, sizeof(out));
	return 0;
}
