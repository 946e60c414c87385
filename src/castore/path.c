#include "castore/path.h"

int path_next(struct bytes *rest, struct bytes *name, struct error *err)
{
	if (rest->len == 0) {
		return 0;
	}
	if (rest->len > PATH_BYTES_MAX) {
		return error_set(err, ERROR_LIMIT, "a path of more than %zu bytes",
				 PATH_BYTES_MAX);
	}
	const uint8_t *slash = memchr(rest->ptr, '/', rest->len);
	struct bytes first =
		bytes_of(rest->ptr, slash ? (size_t)(slash - rest->ptr) : rest->len);
	int rc = node_name_check(first, err);

	if (rc) {
		return rc;
	}
	if (slash && first.len + 1 == rest->len) {
		return error_set(err, ERROR_INVALID, "a path that ends in a slash");
	}
	size_t taken = first.len + (slash ? 1 : 0);

	*name = first;
	*rest = bytes_of(rest->ptr + taken, rest->len - taken);
	return 1;
}

/* Asker: one step down from a directory node. The target of a symlink goes to storage. */
static int step(struct node *node, struct bytes name, path_get get, void *context,
		struct buffer *storage, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct directory_entry entry;

	if (node->kind != NODE_DIRECTORY) {
		return 0;
	}
	int rc = get(context, &node->digest, &d, err);

	if (rc < 0) {
		return rc;
	}
	if (rc == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "directory %s is not in the store",
				 digest_text(&node->digest));
	}
	ssize_t i = directory_find(d, name);

	if (i < 0) {
		return 0;
	}
	directory_entry(d, (size_t)i, &entry);
	*node = entry.node;
	if (node->kind == NODE_SYMLINK) {
		storage->len = 0;
		buffer_append(storage, entry.node.target.ptr, entry.node.target.len);
		node->target = buffer_bytes(storage);
	}
	return 1;
}

int path_lookup(const struct node *root, struct bytes path, path_get get, void *context,
		struct node *out, struct buffer *target_storage, struct error *err)
{
	struct node node = *root;
	struct bytes name = {0};
	int rc, found = 1;

	/* The whole path is checked, also behind a name that is absent. */
	while ((rc = path_next(&path, &name, err)) > 0) {
		if (found) {
			found = step(&node, name, get, context, target_storage, err);
		}
		if (found < 0) {
			return found;
		}
	}
	if (rc < 0 || !found) {
		return rc;
	}
	if (node.kind == NODE_SYMLINK && root->kind == NODE_SYMLINK) {
		target_storage->len = 0;
		buffer_append(target_storage, root->target.ptr, root->target.len);
		node.target = buffer_bytes(target_storage);
	}
	*out = node;
	return 1;
}
