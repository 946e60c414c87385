#include "test_fs_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

struct node put_blob(struct driver *d, const void *content, size_t len, bool executable)
{
	struct node n = {.kind = NODE_FILE, .size = len, .executable = executable};

	assert_int_equal(
		blob_service_put(d->store.blobs, bytes_of(content, len), &n.digest, NULL), 0);
	return n;
}

void add_entry(struct directory_builder *b, const char *name, struct node node)
{
	assert_int_equal(directory_builder_add(b, bytes_of_string(name), &node, NULL), 0);
}

struct node put_directory(struct driver *d, struct directory_builder *b)
{
	struct directory *dir cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_builder_finish(b, &dir, NULL), 0);
	assert_int_equal(directory_service_put(d->store.directories, dir, NULL), 0);
	return directory_node(dir);
}

void put_root(struct driver *d, const char *name, struct node node)
{
	assert_int_equal(
		root_nodes_put(d->store.roots, bytes_of_string(name), &node, true, NULL), 0);
}

struct node symlink_node(const char *target)
{
	return (struct node){.kind = NODE_SYMLINK, .target = bytes_of_string(target)};
}

static struct node put_big(struct driver *d)
{
	uint8_t *content = xmalloc(BIG_SIZE);

	for (size_t i = 0; i < BIG_SIZE; i++) {
		content[i] = (uint8_t)(i >> 8 ^ i);
	}
	struct node n = put_blob(d, content, BIG_SIZE, false);

	free(content);
	return n;
}

static struct node put_tree(struct driver *d, struct node hello)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node executable = hello;

	executable.executable = true;
	add_entry(b, "deep", hello);
	struct node in = put_directory(d, b);

	add_entry(b, "in", in);
	struct node sub = put_directory(d, b);

	add_entry(b, "a", hello);
	add_entry(b, "b", executable);
	add_entry(b, "big", d->big);
	add_entry(b, "c", hello);
	add_entry(b, "link", symlink_node("a"));
	add_entry(b, "link2", symlink_node("a"));
	add_entry(b, "sub", sub);
	add_entry(b, "sub2", sub);
	return put_directory(d, b);
}

static struct node put_many(struct driver *d)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node empty = {.kind = NODE_FILE, .digest = digest_empty};
	char name[64];

	for (unsigned i = 0; i < MANY_FILES; i++) {
		snprintf(name, sizeof(name), "%0*u", (int)(1 + i % 40), i + 1000);
		if (i % 40 < 4) {
			snprintf(name, sizeof(name), "n%u", i);
		}
		add_entry(b, name, empty);
	}
	return put_directory(d, b);
}

static void fill_store(struct driver *d)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node hello = put_blob(d, "hello", 5, false);
	struct node longer = hello;
	struct node lost_file = hello;

	d->hello = hello.digest;
	d->big = put_big(d);
	struct node tree = put_tree(d, hello);

	d->tree = tree.digest;
	add_entry(b, "nothing", hello);
	struct node lost = put_directory(d, b);

	d->lost = lost.digest;
	assert_true(memory_directory_remove(d->store.directories, &lost.digest));
	longer.size = 4000;
	add_entry(b, "longer", longer);
	struct node lies = put_directory(d, b);

	memset(lost_file.digest.bytes, 7, DIGEST_SIZE);
	put_root(d, "file", hello);
	put_root(d, "lost", lost);
	put_root(d, "lostfile", lost_file);
	put_root(d, "lies", lies);
	put_root(d, "link", symlink_node("tree/a"));
	put_root(d, "many", put_many(d));
	put_root(d, "tree", tree);
}

struct driver *driver_new(void)
{
	struct driver *d = xcalloc(1, sizeof(*d));

	memory_store_open(&d->store);
	fill_store(d);
	d->reply.data = xmalloc(FS_DATA_MAX);
	d->reply.data_capacity = FS_DATA_MAX;
	d->options = (struct fs_options){
		.blobs = d->store.blobs,
		.directories = d->store.directories,
		.roots = d->store.roots,
		.list_root = true,
		.show_xattr = true,
	};
	driver_remount(d);
	return d;
}

void driver_remount(struct driver *d)
{
	fs_free(d->fs);
	assert_int_equal(fs_new(&d->options, &d->fs, NULL), 0);
	assert_int_equal(driver_init(d, FUSE_INIT_EXT), 0);
}

void driver_free(struct driver *d)
{
	fs_free(d->fs);
	store_close(&d->store);
	free(d->reply.data);
	free(d);
}

int driver_init(struct driver *d, uint64_t flags)
{
	const struct fuse_init_in in = {
		.major = 7,
		.minor = 45,
		.max_readahead = 131072,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
	};

	return request(d, FUSE_INIT, 0, &in, sizeof(in));
}

static void check_reply(const struct driver *d)
{
	const struct fs_reply *r = &d->reply;

	assert_int_equal(r->header.unique, d->unique);
	assert_int_equal(r->header.len, sizeof(r->header) + r->fixed_len + r->data_len);
	assert_true(r->fixed_len <= FS_FIXED_MAX);
	assert_true(r->data_len <= r->data_capacity);
	assert_true(r->header.error <= 0 && r->header.error > -512);
	if (r->header.error != 0) {
		assert_int_equal(r->header.len, sizeof(r->header));
	}
}

int request(struct driver *d, uint32_t opcode, uint64_t nodeid, const void *arg, size_t len)
{
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + len),
		.opcode = opcode,
		.unique = ++d->unique,
		.nodeid = nodeid,
	};
	/* exactly as long as the request, for the sanitizer to see what reads past it */
	uint8_t *bytes = xmalloc(sizeof(header) + len);

	memcpy(bytes, &header, sizeof(header));
	if (len > 0) {
		memcpy(bytes + sizeof(header), arg, len);
	}
	d->outcome =
		fs_handle(d->fs, bytes_of(bytes, sizeof(header) + len), d->flags, &d->reply);
	free(bytes);
	if (d->outcome != FS_REPLY) {
		return 1;
	}
	check_reply(d);
	return d->reply.header.error;
}

int lookup(struct driver *d, uint64_t parent, const char *name, struct fuse_entry_out *out)
{
	int rc = request(d, FUSE_LOOKUP, parent, name, strlen(name) + 1);

	memset(out, 0, sizeof(*out));
	if (rc == 0) {
		assert_int_equal(d->reply.fixed_len, sizeof(*out));
		memcpy(out, d->reply.fixed, sizeof(*out));
	}
	return rc;
}

struct fuse_entry_out walk(struct driver *d, const char *path)
{
	struct fuse_entry_out e = {.nodeid = FUSE_ROOT_ID};
	char name[256];

	while (*path) {
		size_t len = strcspn(path, "/");

		assert_true(len < sizeof(name));
		memcpy(name, path, len);
		name[len] = '\0';
		assert_int_equal(lookup(d, e.nodeid, name, &e), 0);
		assert_int_not_equal(e.nodeid, 0);
		path += len + (path[len] == '/');
	}
	return e;
}

int getattr(struct driver *d, uint64_t nodeid, struct fuse_attr *out)
{
	const struct fuse_getattr_in in = {.getattr_flags = 0};
	struct fuse_attr_out reply;
	int rc = request(d, FUSE_GETATTR, nodeid, &in, sizeof(in));

	if (rc == 0) {
		assert_int_equal(d->reply.fixed_len, sizeof(reply));
		memcpy(&reply, d->reply.fixed, sizeof(reply));
		*out = reply.attr;
	}
	return rc;
}

void forget(struct driver *d, uint64_t nodeid, uint64_t count)
{
	const struct fuse_forget_in in = {.nlookup = count};

	assert_int_equal(request(d, FUSE_FORGET, nodeid, &in, sizeof(in)), 1);
	assert_int_equal(d->outcome, FS_NO_REPLY);
}

int read_at(struct driver *d, uint32_t opcode, uint64_t nodeid, uint64_t offset, uint32_t size)
{
	const struct fuse_read_in in = {.offset = offset, .size = size};

	return request(d, opcode, nodeid, &in, sizeof(in));
}

const char *const known_paths[KNOWN_PATHS] = {
	"tree",         "tree/a", "tree/big", "tree/link", "tree/sub",         "tree/sub/in",
	"tree/sub2/in", "file",   "link",     "many",      "tree/sub/in/deep", "lost",
	"tree/sub2",
};

void know_paths(struct driver *d, struct known *out)
{
	for (size_t i = 0; i < KNOWN_PATHS; i++) {
		out->ids[i] = walk(d, known_paths[i]).nodeid;
		assert_int_equal(getattr(d, out->ids[i], &out->attributes[i]), 0);
	}
}

void check_known(struct driver *d, const struct known *k)
{
	for (size_t i = 0; i < KNOWN_PATHS; i++) {
		struct fuse_attr now;

		assert_int_equal(getattr(d, k->ids[i], &now), 0);
		assert_memory_equal(&now, &k->attributes[i], sizeof(now));
		assert_int_equal(walk(d, known_paths[i]).nodeid, k->ids[i]);
	}
	assert_int_equal(read_at(d, FUSE_READ, k->ids[1], 0, 10), 0);
	assert_memory_equal(d->reply.data, "hello", 5);
	assert_int_equal(request(d, FUSE_READLINK, k->ids[3], NULL, 0), 0);
	assert_memory_equal(d->reply.data, "a", 1);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, k->ids[0], 0, 4096), 0);
}
