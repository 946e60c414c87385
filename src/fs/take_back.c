/* Replies that the kernel has not taken. */

#include "fs/fs_internal.h"

static void take_back_lookup(struct fs *fs, const struct fs_reply *reply)
{
	struct fuse_entry_out out;

	memcpy(&out, reply->fixed, sizeof(out));
	if (out.nodeid != 0) {
		const struct fuse_forget_one one = {.nodeid = out.nodeid, .nlookup = 1};

		node_table_forget(fs->nodes, &one, 1);
	}
}

static void take_back_open(struct fs *fs, const struct fs_reply *reply)
{
	struct fuse_open_out out;

	memcpy(&out, reply->fixed, sizeof(out));
	if (out.fh != 0 && fs->backings) {
		backing_table_release(fs->backings, out.fh);
	}
}

/* The dots have no node id. */
static void take_back_listing(struct fs *fs, const struct fs_reply *reply)
{
	const uint8_t *data = reply->data;
	struct fuse_forget_one one = {.nlookup = 1};
	struct fuse_entry_out entry;
	struct fuse_dirent d;

	for (size_t at = 0; at < reply->data_len;) {
		memcpy(&entry, data + at, sizeof(entry));
		memcpy(&d, data + at + sizeof(entry), FUSE_NAME_OFFSET);
		at += FUSE_REC_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + (size_t)d.namelen);
		one.nodeid = entry.nodeid;
		if (one.nodeid != 0) {
			node_table_forget(fs->nodes, &one, 1);
		}
	}
}

void fs_take_back(struct fs *fs, struct bytes request, const struct fs_reply *reply)
{
	struct fuse_in_header header;

	if (request.len < sizeof(header) || reply->header.error != 0) {
		return;
	}
	memcpy(&header, request.ptr, sizeof(header));
	if (header.opcode == FUSE_LOOKUP) {
		take_back_lookup(fs, reply);
	} else if (header.opcode == FUSE_OPEN) {
		take_back_open(fs, reply);
	} else if (header.opcode == FUSE_READDIRPLUS) {
		take_back_listing(fs, reply);
	}
}
