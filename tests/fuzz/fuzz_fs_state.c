/*
 * A session that comes from anywhere: restored, used a little, saved, and restored again.
 * Directories that it can name: two, one with a file and the other one in it.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "services/memory.h"

#include "fuzz.h"

static struct node put_directory(struct store *s, const char *name, struct node entry)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;

	check(directory_builder_add(b, bytes_of_string(name), &entry, NULL) == 0);
	check(directory_builder_finish(b, &d, NULL) == 0);
	check(directory_service_put(s->directories, d, NULL) == 0);
	return directory_node(d);
}

static const struct fs_options *the_options(void)
{
	static struct store s;
	static struct fs_options options;
	const struct node file = {.kind = NODE_FILE, .digest = digest_empty};

	if (!options.blobs) {
		memory_store_open(&s);
		struct node top = put_directory(&s, "sub", put_directory(&s, "file", file));

		check(root_nodes_put(s.roots, bytes_of_string("top"), &top, false, NULL) == 0);
		options = (struct fs_options){.blobs = s.blobs,
					      .directories = s.directories,
					      .roots = s.roots,
					      .list_root = true};
	}
	return &options;
}

/* A lookup; the node id, or 0. */
static uint64_t lookup(struct fs *fs, uint64_t parent, const char *name)
{
	struct {
		struct fuse_in_header header;
		char name[8];
	} request = {
		.header = {.len = sizeof(request), .opcode = FUSE_LOOKUP, .nodeid = parent}};
	uint8_t data[64];
	struct fs_reply reply = {.data = data, .data_capacity = sizeof(data)};
	struct fuse_entry_out e = {.nodeid = 0};

	memcpy(request.name, name, strlen(name));
	check(fs_handle(fs, bytes_of(&request, sizeof(request)), 0, &reply) == FS_REPLY);
	if (reply.header.error == 0) {
		memcpy(&e, reply.fixed, sizeof(e));
	}
	return e.nodeid;
}

static void forget(struct fs *fs, uint64_t id)
{
	const struct {
		struct fuse_in_header header;
		struct fuse_forget_in in;
	} request = {.header = {.len = sizeof(request), .opcode = FUSE_FORGET, .nodeid = id},
		     .in = {.nlookup = 2}};
	struct fs_reply reply = {.data_capacity = 0};

	fs_handle(fs, bytes_of(&request, sizeof(request)), 0, &reply);
}

static void use(struct fs *fs)
{
	uint64_t top = lookup(fs, FUSE_ROOT_ID, "top");
	uint64_t sub = top ? lookup(fs, top, "sub") : 0;

	if (sub) {
		forget(fs, lookup(fs, sub, "file"));
		forget(fs, sub);
	}
	forget(fs, top);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer saved = {.ptr = NULL};
	struct error err = {.code = ERROR_NONE};
	struct fs *fs;

	check(fs_new(the_options(), &fs, NULL) == 0);
	if (fs_restore(fs, bytes_of(data, size), &err) == 0) {
		use(fs);
		check(fs_save(fs, &saved, NULL) == 0);
		fs_free(fs);
		check(fs_new(the_options(), &fs, NULL) == 0);
		check(fs_restore(fs, buffer_bytes(&saved), NULL) == 0);
		use(fs);
		buffer_done(&saved);
	} else {
		check(err.text[0] && !fs_has_session(fs));
	}
	fs_free(fs);
	return 0;
}
