#include "fs/fs_internal.h"

/* A READ that begins at the start of a file: its node id goes to *id. */
static bool begins_file(struct bytes request, uint64_t *id)
{
	struct fuse_in_header header;
	struct fuse_read_in in;

	if (request.len < sizeof(header) + sizeof(in)) {
		return false;
	}
	memcpy(&header, request.ptr, sizeof(header));
	memcpy(&in, request.ptr + sizeof(header), sizeof(in));
	*id = header.nodeid;
	return header.opcode == FUSE_READ && in.offset == 0;
}

int fs_push_begin(struct fs *fs, struct bytes request, struct fs_push *out)
{
	uint64_t id;

	if (!begins_file(request, &id)) {
		return 0;
	}
	struct directory *d = node_table_siblings(fs->nodes, id);

	if (!d) {
		return 0;
	}
	struct sweep_stretch s =
		sweep_table_note(fs->sweeps, node_id_sibling(id, 0), d, node_id_leaf_entry(id));

	if (s.first == s.end) {
		directory_unref(d);
		return 0;
	}
	*out = (struct fs_push){.directory = d, .id = id, .next = s.first, .end = s.end};
	return 1;
}

/* A fault is not ours to tell: whoever reads the file will hear of it. */
static bool read_whole(struct fs *fs, const struct node *file, struct fs_reply *out)
{
	struct error err = {.code = ERROR_NONE};
	size_t len = (size_t)file->size;
	size_t got = 0;

	return len <= out->data_capacity &&
	       blob_service_read(fs->blobs, &file->digest, 0, out->data, len, BLOB_READ_NOWAIT,
				 &got, &err) > 0 &&
	       got == len;
}

static void make_notice(struct fs_reply *out, uint64_t id, size_t len)
{
	const struct fuse_notify_store_out store = {.nodeid = id, .size = (uint32_t)len};

	memcpy(out->fixed, &store, sizeof(store));
	out->fixed_len = sizeof(store);
	out->data_len = len;
	out->header = (struct fuse_out_header){
		.len = (uint32_t)(sizeof(out->header) + sizeof(store) + len),
		.error = FUSE_NOTIFY_STORE,
	};
}

int fs_push_next(struct fs *fs, struct fs_push *push, struct fs_reply *out)
{
	struct directory_entry e;

	for (; push->next < push->end; push->next++) {
		directory_entry(push->directory, push->next, &e);
		/* What is being read is locked until the reply, which comes after this. */
		if (push->next == node_id_leaf_entry(push->id) || !sweep_sends(&e.node)) {
			continue;
		}
		if (!read_whole(fs, &e.node, out)) {
			return 0;
		}
		make_notice(out, node_id_sibling(push->id, push->next), (size_t)e.node.size);
		push->next++;
		atomic_fetch_add_explicit(&fs->pushes, 1, memory_order_relaxed);
		return 1;
	}
	return 0;
}

void fs_push_done(struct fs *fs, struct fs_push *push, bool refused)
{
	uint64_t id = node_id_sibling(push->id, 0);

	if (refused) {
		sweep_table_refuse(fs->sweeps, id);
	} else if (push->next < push->end) {
		sweep_table_stop(fs->sweeps, id, push->next);
	}
	directory_unref(push->directory);
	push->directory = NULL;
}
