/* Import into a store in memory. */

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "ingest/export.h"
#include "ingest/ingest.h"
#include "test_ingest_tree.h"

static void test_kinds(void **state unused)
{
	struct root_node root;
	struct ingest_stats stats = {0};

	tree_make_text("plain", "content");
	tree_make_file("run", "#!", 2, 0744);
	tree_make_file("group-may-run", "#!", 2, 0654);
	tree_make_text("empty", "");
	assert_int_equal(symlink("plain", tree_at("link")), 0);
	assert_int_equal(mkdir(tree_at("sub"), 0700), 0);
	tree_make_text("sub/inner", "inner");
	assert_int_equal(mkdir(tree_at("void"), 0700), 0);
	tree_import_well(tree_path, NULL, &root, &stats);

	struct directory *d cleanup(cleanup_directory) = tree_get_directory(&root.node);
	struct node node;

	assert_int_equal(directory_count(d), 7);
	assert_int_equal(root.node.size, 8);
	node = tree_get_entry(d, "plain");
	tree_assert_blob(&node, "content", 7);
	assert_false(node.executable);
	assert_true(tree_get_entry(d, "run").executable);
	assert_false(tree_get_entry(d, "group-may-run").executable);
	node = tree_get_entry(d, "empty");
	tree_assert_blob(&node, "", 0);
	node = tree_get_entry(d, "link");
	assert_true(bytes_equal(node.target, bytes_of_string("plain")));
	assert_int_equal(tree_get_entry(d, "sub").size, 1);
	node = tree_get_entry(d, "void");
	assert_int_equal(node.size, 0);
	assert_true(digest_equal(&node.digest, &digest_empty));
	assert_int_equal(stats.files, 5);
	assert_int_equal(stats.directories, 3);
	assert_int_equal(stats.symlinks, 1);
	assert_int_equal(stats.bytes, 7 + 2 + 2 + 5);
	root_node_done(&root);
}

static void test_single(void **state unused)
{
	struct root_node root;
	char path[128];

	tree_make_text("file", "x");
	tree_import_well(tree_at("file"), NULL, &root, NULL);
	tree_assert_blob(&root.node, "x", 1);
	root_node_done(&root);

	/* A symlink as path is itself imported; with a slash behind it, what it points to. */
	assert_int_equal(
		symlink("tree", (snprintf(path, sizeof(path), "%s/link", tree_folder), path)),
		0);
	tree_import_well(path, NULL, &root, NULL);
	assert_int_equal(root.node.kind, NODE_SYMLINK);
	assert_true(bytes_equal(root.node.target, bytes_of_string("tree")));
	root_node_done(&root);
	snprintf(path, sizeof(path), "%s/link/", tree_folder);
	tree_import_well(path, NULL, &root, NULL);
	assert_int_equal(root.node.kind, NODE_DIRECTORY);
	root_node_done(&root);
	tree_import_badly(tree_at("missing"), NULL, ERROR_NOT_FOUND, "/tree/missing");
	tree_import_badly("", NULL, ERROR_NOT_FOUND, "No such file");
}

static void make_socket(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", tree_at(name));
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	close(fd);
}

static void test_special(void **state unused)
{
	struct ingest_options skip = {.skip_special = true};
	struct ingest_stats stats = {0};
	struct root_node root, clean;

	tree_make_text("file", "x");
	tree_import_well(tree_path, NULL, &clean, NULL);
	assert_int_equal(mkfifo(tree_at("pipe"), 0644), 0);
	tree_import_badly(tree_path, NULL, ERROR_UNSUPPORTED, "/tree/pipe: this is a FIFO");
	tree_import_badly(tree_at("pipe"), &skip, ERROR_UNSUPPORTED, "/tree/pipe");
	unlink(tree_at("pipe"));
	make_socket("socket");
	tree_import_badly(tree_path, NULL, ERROR_UNSUPPORTED, "/tree/socket: this is a socket");
	tree_import_well(tree_path, &skip, &root, &stats);
	assert_true(node_equal(&root.node, &clean.node));
	assert_int_equal(stats.skipped, 1);
	root_node_done(&root);
	root_node_done(&clean);
}

/* For root nothing is unreadable, so that it becomes somebody else for a moment. */
static void test_unreadable(void **state unused)
{
	bool root = geteuid() == 0;

	tree_make_file("secret", "x", 1, 0);
	assert_int_equal(chmod(tree_folder, 0755), 0);
	assert_int_equal(root ? seteuid(1) : 0, 0);
	tree_import_badly(tree_path, NULL, ERROR_DENIED,
			  "/tree/secret: cannot open: Permission denied");
	assert_int_equal(root ? seteuid(0) : 0, 0);
	unlink(tree_at("secret"));
	assert_int_equal(mkdir(tree_at("closed"), 0), 0);
	assert_int_equal(root ? seteuid(1) : 0, 0);
	tree_import_badly(tree_path, NULL, ERROR_DENIED,
			  "/tree/closed: cannot open the directory: Permission denied");
	assert_int_equal(root ? seteuid(0) : 0, 0);
}

static void test_store_inside(void **state unused)
{
	struct stat st;

	assert_int_equal(mkdir(tree_at("store"), 0755), 0);
	assert_int_equal(stat(tree_at("store"), &st), 0);

	struct ingest_options options = {.store_device = st.st_dev, .store_inode = st.st_ino};

	tree_import_badly(tree_path, &options, ERROR_INVALID, "/tree/store");
}

/*
 * A blob service in front of the store's: calls a hook before each blob that is put and each
 * piece that is written, so that tests can meddle with the tree at a known moment.
 */
struct hooked {
	struct blob_service base;
	struct blob_service *inner;
	void (*hook)(void);
};

struct hooked_writer {
	struct blob_writer base;
	struct blob_writer *inner;
	void (*hook)(void);
};

static struct hooked *hooked_of(struct blob_service *s)
{
	return container_of(s, struct hooked, base);
}

static void hooked_destroy(struct blob_service *s)
{
	blob_service_unref(hooked_of(s)->inner);
	free(hooked_of(s));
}

static int hooked_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		       struct error *err)
{
	return blob_service_size(hooked_of(s)->inner, digest, size, err);
}

static int hooked_open(struct blob_service *s, const struct digest *digest,
		       struct blob_reader **out, struct error *err)
{
	return blob_service_open(hooked_of(s)->inner, digest, out, err);
}

static int hooked_put(struct blob_service *s, struct bytes content, const struct digest *digest,
		      struct error *err)
{
	hooked_of(s)->hook();
	return blob_service_put_hashed(hooked_of(s)->inner, content, digest, err);
}

static int hooked_write(struct blob_writer *w, struct bytes data, struct error *err)
{
	struct hooked_writer *h = container_of(w, struct hooked_writer, base);

	h->hook();
	return blob_writer_write(h->inner, data, err);
}

static int hooked_commit(struct blob_writer *w, struct digest *digest, uint64_t *size,
			 struct error *err)
{
	struct hooked_writer *h = container_of(w, struct hooked_writer, base);
	struct blob_writer *inner = h->inner;

	free(h);
	return blob_writer_commit(inner, digest, size, err);
}

static void hooked_free(struct blob_writer *w)
{
	struct hooked_writer *h = container_of(w, struct hooked_writer, base);

	blob_writer_free(h->inner);
	free(h);
}

static int hooked_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	static const struct blob_writer_ops ops = {
		.write = hooked_write, .commit = hooked_commit, .free = hooked_free};
	struct hooked_writer *h = xcalloc(1, sizeof(*h));

	h->base.ops = &ops;
	h->hook = hooked_of(s)->hook;
	*out = &h->base;
	return blob_service_create(hooked_of(s)->inner, &h->inner, err);
}

static int hooked_sync(struct blob_service *s, struct error *err)
{
	return blob_service_sync(hooked_of(s)->inner, err);
}

static void hook_blobs(void (*hook)(void))
{
	static const struct blob_service_ops ops = {
		.name = "hooked",
		.verifies_ranges = true,
		.destroy = hooked_destroy,
		.size = hooked_size,
		.open = hooked_open,
		.create = hooked_create,
		.put_hashed = hooked_put,
		.put_file = blob_service_put_file_by_writer,
		.read = blob_service_read_by_open,
		.chunks = blob_service_no_chunks,
		.count = blob_service_no_counts,
		.sync = hooked_sync,
	};
	struct hooked *h = xcalloc(1, sizeof(*h));

	blob_service_init(&h->base, &ops);
	h->inner = tree_store.blobs;
	h->hook = hook;
	tree_store.blobs = &h->base;
}

static void remove_b(void)
{
	unlink(tree_at("b"));
	rmdir(tree_at("b"));
}

/* One thread takes files in order, so that b is looked at after a was put. */
static const struct ingest_options one_thread = {.threads = 1};

static void test_vanished(void **state unused)
{
	tree_make_text("a", "a");
	tree_make_text("b", "b");
	hook_blobs(remove_b);
	tree_import_badly(tree_path, &one_thread, ERROR_CHANGED, "/tree/b: vanished");
	assert_int_equal(mkdir(tree_at("b"), 0755), 0);
	unlink(tree_at("a"));
	tree_make_text("a", "something else");
	tree_import_badly(tree_path, &one_thread, ERROR_CHANGED, "/tree/b: vanished");
}

static void replace_b(void)
{
	remove_b();
	assert_int_equal(symlink("/etc/passwd", tree_at("b")), 0);
}

static void replace_b_by_pipe(void)
{
	remove_b();
	assert_int_equal(mkfifo(tree_at("b"), 0644), 0);
}

/* What was a file when listed is neither followed nor waited for. */
static void test_replaced(void **state unused)
{
	tree_make_text("a", "a");
	tree_make_text("b", "b");
	hook_blobs(replace_b);
	tree_import_badly(tree_path, &one_thread, ERROR_CHANGED, "/tree/b: was replaced");
	hooked_of(tree_store.blobs)->hook = replace_b_by_pipe;
	unlink(tree_at("a"));
	tree_make_text("a", "another a");
	replace_b();
	unlink(tree_at("b"));
	tree_make_text("b", "b");
	tree_import_badly(tree_path, &one_thread, ERROR_CHANGED, "/tree/b: changed");
}

static void append_to_large(void)
{
	int fd = open(tree_at("large"), O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_int_equal(write_full(fd, "x", 1), 0);
	close(fd);
}

static void shrink_large(void)
{
	assert_int_equal(truncate(tree_at("large"), 5 << 20), 0);
}

static void test_large_changes(void **state unused)
{
	tree_make_large(9 << 20);
	hook_blobs(append_to_large);
	tree_import_badly(tree_path, NULL, ERROR_CHANGED,
			  "/tree/large: changed while it was being read");
	tree_make_large(9 << 20);
	hooked_of(tree_store.blobs)->hook = shrink_large;
	tree_import_badly(tree_path, NULL, ERROR_CHANGED,
			  "/tree/large: changed while it was being read");
}

struct grower {
	char path[128];
	atomic_bool stop;
};

/* Grows and shrinks a file for as long as it is told to. */
static void *grow(void *arg)
{
	struct grower *g = arg;
	int fd = open(g->path, O_WRONLY | O_APPEND | O_CLOEXEC);

	for (unsigned i = 0; fd >= 0 && !atomic_load(&g->stop); i++) {
		if (write_full(fd, "more", 4) != 0 ||
		    (i % 1000 == 0 && ftruncate(fd, 1 << 20) != 0)) {
			break;
		}
	}
	close(fd);
	return NULL;
}

/* A file that is read whole: nothing can meddle at a known moment, so a thread does all the
 * time. */
static void test_small_changes(void **state unused)
{
	struct grower g = {0};
	struct root_node out;
	struct error err;
	pthread_t thread;
	int r = 0;

	tree_make_text("grows", "x");
	snprintf(g.path, sizeof(g.path), "%s", tree_at("grows"));
	assert_int_equal(pthread_create(&thread, NULL, grow, &g), 0);
	for (unsigned tries = 0; r == 0 && tries < 100000; tries++) {
		r = tree_import(tree_path, NULL, &out, NULL, &err);
		root_node_done(&out);
	}
	atomic_store(&g.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(r, -ERROR_CHANGED);
	assert_non_null(strstr(err.text, "/tree/grows: changed while it was being read"));
}

static atomic_bool cancel;

static void set_cancel(void)
{
	atomic_store(&cancel, true);
}

static void test_cancel(void **state unused)
{
	struct ingest_options options = {.cancel = &cancel};

	tree_make_text("a", "a");
	tree_make_large(9 << 20);
	hook_blobs(set_cancel);
	tree_import_badly(tree_path, &options, ERROR_CANCELED, "interrupted");
	/* It was no accident: also when asked for before the start, and in the middle of a
	 * file. */
	tree_import_badly(tree_path, &options, ERROR_CANCELED, "interrupted");
	atomic_store(&cancel, false);
	tree_import_badly(tree_at("large"), &options, ERROR_CANCELED, "interrupted");
	atomic_store(&cancel, false);
}

static void test_sparse(void **state unused)
{
	const size_t size = (20 << 20) + 5;
	char *content cleanup(cleanup_free) = xcalloc(1, size);
	int fd = open(tree_at("sparse"), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	struct root_node root;

	memcpy(content + (7 << 20) - 2, "middle", 6);
	assert_int_equal(pwrite_full(fd, "middle", 6, (7 << 20) - 2), 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	tree_import_well(tree_at("sparse"), NULL, &root, NULL);
	tree_assert_blob(&root.node, content, size);
	root_node_done(&root);
	/* Data at the very end, and no data at all. */
	memcpy(content + size - 3, "end", 3);
	assert_int_equal(pwrite_full(fd, "end", 3, (off_t)size - 3), 0);
	tree_import_well(tree_at("sparse"), NULL, &root, NULL);
	tree_assert_blob(&root.node, content, size);
	root_node_done(&root);
	memset(content, 0, size);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
	tree_import_well(tree_at("sparse"), NULL, &root, NULL);
	tree_assert_blob(&root.node, content, size);
	root_node_done(&root);
}

/* Sizes on both sides of what is read whole. */
static void test_sizes(void **state unused)
{
	static const size_t sizes[] = {4095,    4096,          (4 << 20) - 1,
				       4 << 20, (4 << 20) + 1, (5 << 20) + 17};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct root_node root, file;
		struct buffer content cleanup(buffer_done) = {0};

		tree_make_large(sizes[i]);
		assert_int_equal(
			read_small_file(AT_FDCWD, tree_at("large"), 16 << 20, &content, NULL),
			1);
		tree_import_well(tree_at("large"), NULL, &file, NULL);
		tree_assert_blob(&file.node, (const char *)content.ptr, sizes[i]);
		tree_import_well(tree_path, NULL, &root, NULL);

		struct directory *d cleanup(cleanup_directory) = tree_get_directory(&root.node);
		struct node node = tree_get_entry(d, "large");

		assert_true(node_equal(&node, &file.node));
		root_node_done(&root);
		root_node_done(&file);
	}
}

static void test_symlink_targets(void **state unused)
{
	char target[NODE_TARGET_MAX + 2];
	struct root_node root;

	memset(target, 't', sizeof(target));
	target[NODE_TARGET_MAX] = '\0';
	assert_int_equal(symlink(target, tree_at("longest")), 0);
	tree_import_well(tree_at("longest"), NULL, &root, NULL);
	assert_int_equal(root.node.target.len, NODE_TARGET_MAX);
	assert_memory_equal(root.node.target.ptr, target, NODE_TARGET_MAX);
	root_node_done(&root);
}

/* ---- Seen files ---- */

struct seen_slot {
	struct seen_key key;
	struct seen_value value;
};

struct seen_table {
	struct seen_cache base;
	struct seen_slot slots[16];
	size_t count;
	unsigned hits;
};

static struct seen_slot *find_slot(struct seen_table *t, const struct seen_key *key)
{
	for (size_t i = 0; i < t->count; i++) {
		if (t->slots[i].key.device == key->device &&
		    t->slots[i].key.inode == key->inode) {
			return &t->slots[i];
		}
	}
	return NULL;
}

static int seen_lookup(struct seen_cache *c, const struct seen_key *keys, size_t count,
		       struct seen_value *out, bool *found, struct error *err unused)
{
	struct seen_table *t = container_of(c, struct seen_table, base);

	assert_true(count <= SEEN_KEYS_MAX);
	for (size_t i = 0; i < count; i++) {
		struct seen_slot *slot = find_slot(t, &keys[i]);

		found[i] = slot != NULL;
		if (slot) {
			t->hits++;
			out[i] = slot->value;
		}
	}
	return 0;
}

static int seen_remember(struct seen_cache *c, const struct seen_key *key,
			 const struct seen_value *value, struct error *err unused)
{
	struct seen_table *t = container_of(c, struct seen_table, base);
	struct seen_slot *slot = find_slot(t, key);

	slot = slot ? slot : &t->slots[t->count++];
	*slot = (struct seen_slot){.key = *key, .value = *value};
	return 0;
}

/* What the importer would remember of a file, without waiting until its times are old enough.
 */
static void plant(struct seen_table *t, const char *name, const char *content)
{
	struct seen_slot *slot = &t->slots[t->count++];
	struct stat st;

	assert_int_equal(stat(tree_at(name), &st), 0);
	slot->key = (struct seen_key){.device = st.st_dev, .inode = st.st_ino};
	slot->value.size = (uint64_t)st.st_size;
	slot->value.mtime_ns = st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	slot->value.ctime_ns = st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	digest_of(&slot->value.digest, bytes_of_string(content));
}

static void test_seen(void **state unused)
{
	static const struct seen_cache_ops ops = {.lookup = seen_lookup,
						  .remember = seen_remember};
	struct seen_table t = {.base.ops = &ops};
	struct ingest_options trust = {.use_seen = true, .threads = 1};
	struct ingest_stats stats = {0};
	struct root_node root;

	tree_store.seen = &t.base;
	tree_make_text("file", "true");
	/* New files are not remembered: they may change within the same tick of the clock. */
	tree_import_well(tree_path, &trust, &root, NULL);
	assert_int_equal(t.count, 0);
	root_node_done(&root);

	/* A lie shows whether the file was read. */
	assert_int_equal(
		blob_service_put(tree_store.blobs, bytes_of_string("lies"), NULL, NULL), 0);
	plant(&t, "file", "lies");
	tree_import_well(tree_at("file"), &trust, &root, &stats);
	tree_assert_blob(&root.node, "lies", 4);
	assert_int_equal(t.hits, 1);
	assert_int_equal(stats.bytes, 4);
	assert_int_equal(stats.bytes_read, 0);
	root_node_done(&root);

	/* Not trusted when told so, nor when anything about the file differs. */
	tree_import_well(tree_at("file"), &one_thread, &root, NULL);
	tree_assert_blob(&root.node, "true", 4);
	root_node_done(&root);
	t.slots[0].value.ctime_ns++;
	tree_import_well(tree_at("file"), &trust, &root, NULL);
	tree_assert_blob(&root.node, "true", 4);
	root_node_done(&root);
	t.slots[0].value.ctime_ns--;
	t.slots[0].value.size++;
	tree_import_well(tree_at("file"), &trust, &root, NULL);
	tree_assert_blob(&root.node, "true", 4);
	root_node_done(&root);
}

/* Installed long ago and changed by nobody: this is remembered. */
static void test_seen_remembers(void **state unused)
{
	static const struct seen_cache_ops ops = {.lookup = seen_lookup,
						  .remember = seen_remember};
	struct seen_table t = {.base.ops = &ops};
	struct ingest_options trust = {.use_seen = true};
	struct root_node root;
	struct stat st;

	tree_store.seen = &t.base;
	char *shell cleanup(cleanup_free) = realpath("/bin/sh", NULL);

	assert_non_null(shell);
	assert_int_equal(stat(shell, &st), 0);
	tree_import_well(shell, &trust, &root, NULL);
	assert_int_equal(t.count, 1);
	assert_int_equal(t.slots[0].key.inode, st.st_ino);
	assert_int_equal(t.slots[0].value.size, st.st_size);
	assert_true(digest_equal(&t.slots[0].value.digest, &root.node.digest));
	root_node_done(&root);
}

/* ---- Shapes ---- */

static void test_deep(void **state unused)
{
	const int depth = 300;
	struct root_node root;
	struct ingest_stats stats = {0};
	char dest[128];
	int fd = open(tree_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(fd, "n", 0755), 0);
		int next = openat(fd, "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = next;
	}
	assert_int_equal(mkfifoat(fd, "pipe", 0644), 0);
	tree_import_badly(tree_path, NULL, ERROR_UNSUPPORTED, "n/n/n/n/pipe: this is a FIFO");
	assert_int_equal(unlinkat(fd, "pipe", 0), 0);
	close(fd);
	tree_import_well(tree_path, NULL, &root, &stats);
	assert_int_equal(stats.directories, depth + 1);
	assert_int_equal(root.node.size, depth);
	snprintf(dest, sizeof(dest), "%s/out", tree_folder);

	struct export_stats written = {0};

	assert_int_equal(export_tree(&tree_store, &root.node, dest, NULL, &written, NULL), 0);
	assert_int_equal(written.directories, depth + 1);
	root_node_done(&root);
}

static void test_wide(void **state unused)
{
	const size_t count = 5000;
	char name[32];
	struct root_node root, again;
	struct ingest_stats stats = {0};

	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "f%zu", i);
		tree_make_text(name, name);
		snprintf(name, sizeof(name), "d%zu", i);
		if (i % 10 == 0) {
			assert_int_equal(mkdir(tree_at(name), 0755), 0);
		}
	}
	tree_import_well(tree_path, NULL, &root, &stats);
	assert_int_equal(stats.files, count);
	assert_int_equal(root.node.size, count + count / 10);

	struct directory *d cleanup(cleanup_directory) = tree_get_directory(&root.node);

	assert_int_equal(directory_count(d), count + count / 10);
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "f%zu", i);
		struct node node = tree_get_entry(d, name);

		tree_assert_blob(&node, name, strlen(name));
	}
	tree_import_well(tree_path, &(struct ingest_options){.threads = 16}, &again, NULL);
	assert_true(node_equal(&again.node, &root.node));
	root_node_done(&again);
	root_node_done(&root);
}

static void test_too_deep(void **state unused)
{
	struct root_node root;
	struct error err;
	int fd = open(tree_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < INGEST_DEPTH_MAX; i++) {
		assert_int_equal(mkdirat(fd, "n", 0755), 0);
		int next = openat(fd, "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = next;
	}
	/* ERROR_LIMIT also where fewer descriptors are allowed. */
	assert_int_equal(tree_import(tree_path, NULL, &root, NULL, &err), -ERROR_LIMIT);
	/* Paths are too long for the ordinary cleaning up. */
	for (int i = 0; i < INGEST_DEPTH_MAX; i++) {
		int up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = up;
		assert_int_equal(unlinkat(fd, "n", AT_REMOVEDIR), 0);
	}
	close(fd);
}

static void test_odd_names(void **state unused)
{
	char longest[NODE_NAME_MAX + 1];
	const char *names[] = {"\xff\xfe", "line\nbreak", " ",  "-n", "back\\slash", "\x01\x7f",
			       "a.",       "a-",          "a0", "a",  longest};
	struct root_node root;

	memset(longest, 'x', NODE_NAME_MAX);
	longest[NODE_NAME_MAX] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		tree_make_text(names[i], names[i]);
	}
	tree_import_well(tree_path, NULL, &root, NULL);

	struct directory *d cleanup(cleanup_directory) = tree_get_directory(&root.node);

	assert_int_equal(directory_count(d), ARRAY_SIZE(names));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct node node = tree_get_entry(d, names[i]);

		tree_assert_blob(&node, names[i], strlen(names[i]));
	}
	root_node_done(&root);
}

static void test_hard_links(void **state unused)
{
	struct root_node root;

	tree_make_text("one", "same");
	assert_int_equal(link(tree_at("one"), tree_at("two")), 0);
	tree_import_well(tree_path, NULL, &root, NULL);

	struct directory *d cleanup(cleanup_directory) = tree_get_directory(&root.node);
	struct node one = tree_get_entry(d, "one"), two = tree_get_entry(d, "two");

	assert_true(node_equal(&one, &two));
	root_node_done(&root);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_kinds),
		TEST(test_single),
		TEST(test_special),
		TEST(test_unreadable),
		TEST(test_store_inside),
		TEST(test_vanished),
		TEST(test_replaced),
		TEST(test_large_changes),
		TEST(test_small_changes),
		TEST(test_cancel),
		TEST(test_sparse),
		TEST(test_sizes),
		TEST(test_symlink_targets),
		TEST(test_seen),
		TEST(test_seen_remembers),
		TEST(test_deep),
		TEST(test_wide),
		TEST(test_too_deep),
		TEST(test_odd_names),
		TEST(test_hard_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
