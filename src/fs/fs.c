#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "fs/fs_internal.h"

int fs_new(const struct fs_options *options, struct fs **out, struct error *err)
{
	if (!options->blobs || !options->directories || !options->roots) {
		return error_set(err, ERROR_INVALID, "a file system needs all three services");
	}
	struct fs *fs = xcalloc(1, sizeof(*fs));

	fs->blobs = blob_service_ref(options->blobs);
	fs->directories = directory_service_ref(options->directories);
	fs->roots = root_nodes_ref(options->roots);
	fs->list_root = options->list_root;
	fs->show_xattr = options->show_xattr;
	fs->inodes_by_path = options->inodes_by_path;
	fs->touched = options->touched;
	fs->touched_context = options->touched_context;
	fs->roots_may_grow = root_nodes_may_grow(fs->roots);
	fs->root_table = root_table_new();
	fs->nodes = node_table_new(fs->root_table);
	*out = fs;
	return 0;
}

void fs_free(struct fs *fs)
{
	if (!fs) {
		return;
	}
	backing_table_free(fs->backings);
	node_table_free(fs->nodes);
	root_table_free(fs->root_table);
	keep_close(&fs->keep);
	root_nodes_unref(fs->roots);
	directory_service_unref(fs->directories);
	blob_service_unref(fs->blobs);
	free(fs);
}

bool fs_has_session(const struct fs *fs)
{
	return atomic_load(&fs->session);
}

void fs_reset(struct fs *fs)
{
	atomic_store(&fs->session, false);
	if (fs->keep.header) {
		fs->keep.header->flags = 0;
		keep_order();
	}
	if (fs->backings) {
		backing_table_clear(fs->backings);
	}
	node_table_clear(fs->nodes);
}

void fs_set_backing(struct fs *fs, const struct fs_backing *backing)
{
	backing_table_free(fs->backings);
	const struct keep *keep = fs->keep.header ? &fs->keep : NULL;

	fs->backings = backing ? backing_table_new(backing, keep) : NULL;
}

bool fs_passes_through(const struct fs *fs)
{
	return atomic_load(&fs->passthrough);
}

void fs_get_stats(struct fs *fs, struct fs_stats *out)
{
	struct node_table_stats s;

	node_table_stats(fs->nodes, &s);
	*out = (struct fs_stats){
		.directories = s.directories,
		.contents = s.contents,
		.memory = s.memory,
		.backings = fs->backings ? backing_table_count(fs->backings) : 0,
	};
}

void fs_complain(struct fs *fs, const struct digest *digest, const char *fmt, ...)
{
	uint64_t hash = digest_hash(digest);
	_Atomic uint64_t *slot = &fs->complaints[hash % FS_COMPLAINTS];
	char text[1200];
	va_list args;

	if (atomic_exchange(slot, hash) == hash) {
		return;
	}
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_error("%s", text);
}

bool request_avoids_peers(const struct request *r)
{
	return (r->flags & (FS_NOWAIT | FS_LOCAL)) != 0;
}

/* Gets a Directory object that the tree refers to: absent is a fault like any other. */
static int load_directory(struct request *r, const struct digest *digest,
			  struct directory **out)
{
	struct fs *fs = r->fs;
	struct error err = {.code = ERROR_NONE};
	bool wait = !request_avoids_peers(r);
	int rc = wait ? directory_service_get(fs->directories, digest, out, &err)
		      : directory_service_get_nowait(fs->directories, digest, out, &err);

	if (rc == -ERROR_WOULD_BLOCK && !wait) {
		return HANDLED_BLOCKED;
	}
	if (rc == 0) {
		fs_complain(fs, digest, "directory %s is absent", digest_text(digest));
	} else if (rc < 0) {
		fs_complain(fs, digest, "cannot read directory %s: %s", digest_text(digest),
			    err.text);
	}
	return rc > 0 ? 0 : EIO;
}

static int folder_load(struct request *r, struct folder *folder)
{
	struct fs *fs = r->fs;
	struct error err = {.code = ERROR_NONE};

	if (fs->touched && folder->parent_ino == NODE_ID_ROOT) {
		fs->touched(fs->touched_context, &folder->digest);
	}
	int rc = load_directory(r, &folder->digest, &folder->directory);

	if (rc != 0) {
		return rc;
	}
	rc = node_table_load(fs->nodes, r->header.nodeid, folder->directory, &err);
	if (rc < 0) {
		return error_to_errno(&err);
	}
	return rc > 0 ? 0 : ESTALE;
}

int request_folder(struct request *r, struct folder *out)
{
	int rc = node_table_folder(r->fs->nodes, r->header.nodeid, out);

	if (rc == 0) {
		struct object o cleanup(object_done);

		return request_object(r, &o) == 0 ? ENOTDIR : ESTALE;
	}
	rc = out->directory ? 0 : folder_load(r, out);
	if (rc != 0) {
		folder_done(out);
	}
	return rc;
}
