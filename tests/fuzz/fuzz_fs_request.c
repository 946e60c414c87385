/*
 * A kernel, or a guest, that sends anything to the file system.
 *
 * Input: records of a length byte and that many bytes: opcode, a byte that chooses the node id,
 * flags, room for data (in units of 16 bytes), arguments. Opcode 0xff sends the arguments as
 * the whole request, header and all. Node ids: 0 the root, below 0x80 one that an earlier reply
 * gave, else the next eight bytes.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "services/memory.h"

#include "fuzz.h"

#define IDS_MAX 64
#define RECORD_HEAD 4

struct fuzz {
	struct fs *fs;
	uint64_t ids[IDS_MAX];
	size_t id_count;
};

static void add(struct directory_builder *b, const char *name, struct node node)
{
	check(directory_builder_add(b, bytes_of_string(name), &node, NULL) == 0);
}

static struct node finish(struct store *s, struct directory_builder *b)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	check(directory_builder_finish(b, &d, NULL) == 0);
	check(directory_service_put(s->directories, d, NULL) == 0);
	return directory_node(d);
}

static void put_root(struct store *s, const char *name, struct node node)
{
	check(root_nodes_put(s->roots, bytes_of_string(name), &node, false, NULL) == 0);
}

/* Large enough to be passed through. */
static struct node put_large(struct store *s)
{
	static const uint8_t content[256 << 10];
	struct node n = {.kind = NODE_FILE, .size = sizeof(content)};

	check(blob_service_put(s->blobs, bytes_of(content, sizeof(content)), &n.digest, NULL) ==
	      0);
	return n;
}

static int no_backing_open(void *context, int fd, uint32_t *id, struct error *err)
{
	(void)context, (void)fd, (void)id;
	return error_set(err, ERROR_UNSUPPORTED, "no");
}

static void no_backing_close(void *context, uint32_t id)
{
	(void)context, (void)id;
	abort();
}

static const struct fs_backing no_backing = {.open = no_backing_open,
					     .close = no_backing_close};

/* Nodes that lie, objects that are damaged, and names and targets as long as they can be. */
static struct node put_odd(struct store *s, struct digest hello)
{
	static uint8_t name[NODE_NAME_MAX], target[NODE_TARGET_MAX];
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node file = {.kind = NODE_FILE, .digest = hello, .executable = true};
	struct node link = {.kind = NODE_SYMLINK, .target = bytes_of(target, sizeof(target))};
	struct node damaged = {.kind = NODE_FILE, .size = 6};

	memset(name, 0xff, sizeof(name));
	memset(target, '/', sizeof(target));
	check(directory_builder_add(b, bytes_of(name, sizeof(name)), &link, NULL) == 0);
	file.size = 3;
	add(b, "shorter", file);
	file.size = 9000;
	add(b, "longer", file);
	file.size = UINT64_MAX;
	add(b, "longest", file);
	check(blob_service_put(s->blobs, bytes_of_string("intact"), &damaged.digest, NULL) ==
	      0);
	check(memory_blob_corrupt(s->blobs, &damaged.digest, bytes_of_string("broken")));
	add(b, "damaged", damaged);
	add(b, "\n", (struct node){.kind = NODE_DIRECTORY, .digest = hello, .size = 1});
	struct node inner = finish(s, b);

	add(b, "inner", inner);
	inner.size += 77;
	add(b, "size", inner);
	struct node outer = finish(s, b);

	add(b, "x", (struct node){.kind = NODE_FILE, .digest = digest_empty});
	struct node broken = finish(s, b);

	check(memory_directory_corrupt(s->directories, &broken.digest, bytes_of_string("x")));
	put_root(s, "b", broken);
	return outer;
}

/* One store for all inputs: it never changes. */
static struct store *the_store(void)
{
	static struct store s;
	static bool filled;

	if (filled) {
		return &s;
	}
	filled = true;
	memory_store_open(&s);
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node file = {.kind = NODE_FILE, .size = 5};
	struct node absent = {.kind = NODE_FILE, .size = UINT64_MAX, .digest.bytes = {1}};
	struct node link = {.kind = NODE_SYMLINK, .target = bytes_of_string("d/f")};

	check(blob_service_put(s.blobs, bytes_of_string("hello"), &file.digest, NULL) == 0);
	add(b, "f", file);
	add(b, "g", put_large(&s));
	add(b, "l", link);
	add(b, "x", absent);
	struct node sub = finish(&s, b);

	add(b, "d", sub);
	add(b, "e", sub);
	add(b, "f", file);
	put_root(&s, "d", finish(&s, b));
	put_root(&s, "f", file);
	put_root(&s, "l", link);
	put_root(&s, "o", put_odd(&s, file.digest));
	put_root(&s, "m", (struct node){.kind = NODE_DIRECTORY, .digest.bytes = {2}});
	return &s;
}

static uint64_t choose_id(const struct fuzz *z, uint8_t choice, struct bytes *rest)
{
	uint64_t id = FUSE_ROOT_ID;

	if (choice >= 0x80 && rest->len >= sizeof(id)) {
		memcpy(&id, rest->ptr, sizeof(id));
		*rest = bytes_of(rest->ptr + sizeof(id), rest->len - sizeof(id));
	} else if (choice > 0 && z->id_count > 0) {
		id = z->ids[choice % z->id_count];
	}
	return id;
}

static void keep_id(struct fuzz *z, const struct fs_reply *reply)
{
	struct fuse_entry_out e;

	if (reply->fixed_len == sizeof(e) && z->id_count < IDS_MAX) {
		memcpy(&e, reply->fixed, sizeof(e));
		z->ids[z->id_count++] = e.nodeid;
	}
}

/* Request and room for data are exactly as large as they claim, for the sanitizer. */
static void send(struct fuzz *z, struct bytes bytes, unsigned flags, size_t room)
{
	struct fs_reply reply = {.data = malloc(room), .data_capacity = room};
	uint8_t *request = malloc(bytes.len + 1);

	check(reply.data && request);
	memcpy(request + 1, bytes.ptr, bytes.len);
	if (fs_handle(z->fs, bytes_of(request + 1, bytes.len), flags & 3, &reply) == FS_REPLY) {
		check(reply.fixed_len <= FS_FIXED_MAX && reply.data_len <= room);
		check(reply.header.len ==
		      sizeof(reply.header) + reply.fixed_len + reply.data_len);
		check(reply.header.error <= 0 && reply.header.error > -512);
		keep_id(z, &reply);
	}
	free(request);
	free(reply.data);
}

static void send_record(struct fuzz *z, const uint8_t *record, size_t len)
{
	struct bytes rest = bytes_of(record + RECORD_HEAD, len - RECORD_HEAD);
	size_t room = (size_t)record[3] * 16 + 1;
	uint8_t request[sizeof(struct fuse_in_header) + 256];

	if (record[0] == 0xff) {
		send(z, rest, record[2], room);
		return;
	}
	uint64_t id = choose_id(z, record[1], &rest);
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + rest.len),
		.opcode = record[0],
		.nodeid = id,
	};

	memcpy(request, &header, sizeof(header));
	memcpy(request + sizeof(header), rest.ptr, rest.len);
	send(z, bytes_of(request, header.len), record[2], room);
}

static void begin_session(struct fuzz *z)
{
	struct {
		struct fuse_in_header header;
		struct fuse_init_in in;
	} init = {
		.header = {.len = sizeof(init), .opcode = FUSE_INIT},
		.in = {.major = 7,
		       .minor = 41,
		       .flags = FUSE_INIT_EXT,
		       .flags2 = (uint32_t)(FUSE_PASSTHROUGH >> 32)},
	};

	send(z, bytes_of(&init, sizeof(init)), 0, 1);
	check(fs_has_session(z->fs));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct store *s = the_store();
	const struct fs_options options = {
		.blobs = s->blobs,
		.directories = s->directories,
		.roots = s->roots,
		.list_root = true,
		.show_xattr = true,
		.inodes_by_path = size % 2 == 1,
	};
	struct fuzz z = {.id_count = 0};

	check(fs_new(&options, &z.fs, NULL) == 0);
	fs_set_backing(z.fs, size % 4 < 2 ? &no_backing : NULL);
	begin_session(&z);
	while (size > 0) {
		size_t len = data[0];

		data++;
		size--;
		if (len < RECORD_HEAD || len > size) {
			break;
		}
		send_record(&z, data, len);
		data += len;
		size -= len;
	}
	fs_free(z.fs);
	return 0;
}
