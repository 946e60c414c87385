/* Collecting garbage from a local store, and all that may happen meanwhile. */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "services/local/logged_table.h"
#include "services/local/name_guard.h"
#include "services/mark.h"
#include "test_local_driver.h"

/* ---- Sets of marks ---- */

static void number(struct digest *d, uint64_t n)
{
	digest_of(d, bytes_of(&n, sizeof(n)));
}

static void test_mark_set(void **state unused)
{
	struct error err = {0};
	struct mark_set m;
	struct digest d;

	assert_int_equal(mark_set_init(&m, 10, &err), 0);
	for (uint64_t i = 0; i < 20000; i += 2) {
		number(&d, i);
		assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 1);
		assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 0);
		if (i % 3 == 0) {
			assert_int_equal(mark_set_add(&m, NODE_DIRECTORY, &d, &err), 1);
		}
	}
	for (uint64_t i = 0; i < 20000; i++) {
		number(&d, i);
		assert_int_equal(mark_set_has(&m, NODE_FILE, &d), i % 2 == 0);
		assert_int_equal(mark_set_has(&m, NODE_DIRECTORY, &d), i % 6 == 0);
	}
	mark_set_done(&m);
	/* So many as were expected find room at once. */
	assert_int_equal(mark_set_init(&m, 5005, &err), 0);
	size_t capacity = m.capacity;

	for (uint64_t i = 0; i < 5005; i++) {
		number(&d, i);
		assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 1);
	}
	assert_int_equal(m.capacity, capacity);
	/* A digest of zeros is one like others. */
	memset(&d, 0, sizeof(d));
	assert_false(mark_set_has(&m, NODE_FILE, &d));
	assert_int_equal(mark_set_add(&m, NODE_FILE, &d, &err), 1);
	assert_true(mark_set_has(&m, NODE_FILE, &d));
	assert_false(mark_set_has(&m, NODE_DIRECTORY, &d));
	mark_set_done(&m);
}

/* ---- Names ---- */

static struct local_store *local_of(struct store *s)
{
	return container_of(s->seen, struct local_store, seen);
}

static void raise_epoch(struct store *s)
{
	struct error err = {0};
	struct index_write *w;

	assert_int_equal(index_write_begin(local_of(s)->index, &w, &err), 0);
	assert_int_equal(epoch_raise(w, &err), 0);
	assert_int_equal(index_write_commit(w, &err), 0);
}

/* A Directory with one file in it. */
static struct node put_tree(struct store *s, const struct digest *file, uint64_t size)
{
	struct directory *d = make_directory(file, size);
	struct error err = {0};

	assert_int_equal(directory_service_put(s->directories, d, &err), 0);
	struct node node = directory_node(d);

	directory_unref(d);
	return node;
}

static int put_name(struct store *s, const char *name, const struct node *node)
{
	struct error err = {0};

	return root_nodes_put(s->roots, bytes_of_string(name), node, true, &err);
}

static int put_record(struct store *s, const char *key, const struct node *tree)
{
	struct record_entry e = {
		.key = bytes_of_string(key), .value = bytes_of_string("value"), .tree = tree};
	struct error err = {0};

	return record_table_put(s->path_infos, &e, 1, &err);
}

/* What was found in the store and is not there any more when its tree gets a name. */
static void test_name_of_what_was_collected(void **state unused)
{
	struct error err = {0};
	struct store s, incomplete;

	open_store(&s, STORE_CREATE);
	open_store(&incomplete, STORE_INCOMPLETE);
	struct digest file = put_blob(&s, 1000, 1), empty = put_blob(&s, 0, 2);
	struct node tree = put_tree(&s, &file, 1000), nothing = put_tree(&s, &empty, 0);

	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(blob_service_discard(s.blobs, &file, &err), 0);
	/* Nobody collects: there is no reason to look. */
	assert_int_equal(put_name(&s, "unseen", &tree), 0);
	raise_epoch(&s);
	assert_int_equal(put_name(&s, "name", &tree), -ERROR_COLLECTED);
	assert_int_equal(put_record(&s, "key", &tree), -ERROR_COLLECTED);
	assert_int_equal(put_record(&s, "key", NULL), 0);
	assert_int_equal(put_name(&s, "empty", &nothing), 0);
	/* The store near a cache never has all. */
	assert_int_equal(put_name(&incomplete, "name", &tree), 0);
	assert_int_equal(put_record(&incomplete, "other", &tree), 0);

	/* Once more, as the error says. */
	put_blob(&s, 1000, 1);
	assert_int_equal(put_name(&s, "again", &tree), 0);
	assert_int_equal(put_record(&s, "again", &tree), 0);
	assert_int_equal(directory_service_discard(s.directories, &tree.digest, &err), 0);
	assert_int_equal(put_name(&s, "no directory", &tree), -ERROR_COLLECTED);
	store_close(&incomplete);
	store_close(&s);

	/* Who comes later knows nothing of what was there. */
	open_store(&s, 0);
	assert_int_equal(put_name(&s, "later", &tree), 0);
	store_close(&s);
}

/* ---- Collections ---- */

struct run {
	struct store_collect_options options;
	struct store_collect_stats stats;
	struct store_collected result;
	struct error err;
	int rc;
};

static void collect_with(struct run *r)
{
	r->options.stats = &r->stats;
	r->result = (struct store_collected){0};
	r->rc = store_collect(store_path, &r->options, &r->result, &r->err);
}

static struct store_collected collect(void)
{
	struct run r = {.rc = 0};

	collect_with(&r);
	if (r.rc != 0) {
		fail_msg("%s", r.err.text);
	}
	return r.result;
}

/* Calls something in the middle of a marking, when names have been marked already. */
struct interruption {
	struct store *store;
	void (*act)(struct interruption *i);
	struct node tree;
	bool done;
};

static int act_once(void *context, struct bytes key unused, struct bytes value unused,
		    struct root_node *out unused, struct error *err unused)
{
	struct interruption *i = context;

	if (!i->done) {
		i->done = true;
		i->act(i);
	}
	return 0;
}

/* A tree that nothing refers to, of a small and a large blob, which no process holds. */
static struct node put_garbage(unsigned seed)
{
	struct error err = {0};
	struct store s;

	open_store(&s, STORE_CREATE);
	struct digest large = put_blob(&s, LARGE, seed);

	put_blob(&s, 5000, seed + 1);
	struct node tree = put_tree(&s, &large, LARGE);

	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(put_record(&s, "record", NULL), 0);
	store_close(&s);
	return tree;
}

static void check_tree(struct store *s, const struct node *tree, unsigned seed)
{
	struct directory *d = NULL;
	struct error err = {0};

	assert_int_equal(directory_service_get(s->directories, &tree->digest, &d, &err), 1);
	directory_unref(d);
	check_blob(s, LARGE, seed);
}

static bool is_there(struct store *s, const struct digest *blob)
{
	struct error err = {0};
	int rc = blob_service_has(s->blobs, blob, &err);

	assert_true(rc >= 0);
	return rc;
}

static uint64_t disk_bytes(const char *name)
{
	char path[512];
	uint64_t bytes = 0;
	struct dirent *entry;
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", store_path, name);
	DIR *dir = opendir(path);

	while (dir && (entry = readdir(dir))) {
		char below[300];

		snprintf(below, sizeof(below), "%s/%s", name, entry->d_name);
		assert_int_equal(fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW),
				 0);
		if (S_ISREG(st.st_mode)) {
			bytes += (uint64_t)st.st_blocks * 512;
		} else if (entry->d_name[0] != '.') {
			bytes += disk_bytes(below);
		}
	}
	if (dir) {
		closedir(dir);
	}
	return bytes;
}

static uint64_t disk_used(void)
{
	return disk_bytes("packs") + disk_bytes("files") + disk_bytes("tmp");
}

static void test_takes_what_nothing_refers_to(void **state unused)
{
	struct seen_value seen = {.size = 5000}, found;
	struct seen_key key = {.device = 1, .inode = 2};
	struct node garbage = put_garbage(1);
	struct error err = {0};
	struct store s;
	bool was_seen;

	open_store(&s, 0);
	struct digest large = put_blob(&s, LARGE, 10), small = digest_of_blob(5000, 2);
	struct node tree = put_tree(&s, &large, LARGE);

	seen.digest = small;
	assert_int_equal(seen_cache_remember(s.seen, &key, &seen, &err), 0);
	put_blob(&s, 6000, 11);
	assert_int_equal(put_name(&s, "kept", &tree), 0);
	store_close(&s);

	uint64_t before = disk_used();
	struct run dry = {.options.dry_run = true};

	collect_with(&dry);
	assert_int_equal(dry.rc, 0);
	assert_int_equal(disk_used(), before);
	struct store_collected r = collect();

	assert_int_equal(r.live, 2);
	assert_int_equal(r.blobs, 3);
	assert_int_equal(r.directories, 1);
	assert_int_equal(r.files, 1);
	assert_int_equal(r.packs, 1);
	assert_int_equal(r.freed_bytes, before - disk_used());
	assert_int_equal(dry.result.blobs, r.blobs);
	assert_int_equal(dry.result.packs, r.packs);
	assert_int_equal(dry.result.files, r.files);
	open_store(&s, 0);
	check_tree(&s, &tree, 10);
	assert_false(is_there(&s, &small));
	assert_int_equal(directory_service_has(s.directories, &garbage.digest, &err), 0);
	assert_int_equal(seen_cache_lookup(s.seen, &key, 1, &found, &was_seen, &err), 0);
	assert_false(was_seen);
	store_close(&s);
	r = collect();
	assert_int_equal(r.blobs + r.directories + r.files + r.packs + r.freed_bytes, 0);
}

static void name_it(struct interruption *i)
{
	assert_int_equal(put_name(i->store, "late", &i->tree), 0);
}

static void hold_it(struct interruption *i)
{
	assert_true(store_hold(&i->tree));
	assert_false(store_hold(&i->tree));
}

static void put_again(struct interruption *i)
{
	struct error err = {0};

	/* Nothing is written: all of it is there. */
	put_blob(i->store, LARGE, 1);
	put_blob(i->store, 5000, 2);
	assert_int_equal(store_sync(i->store, &err), 0);
}

static void interrupt(struct interruption *i, struct store *s,
		      void (*act)(struct interruption *i))
{
	struct run r = {.options = {.tree_of = act_once, .context = i}};

	i->tree = put_garbage(1);
	open_store(s, 0);
	i->store = s;
	i->act = act;
	collect_with(&r);
	assert_int_equal(r.rc, 0);
	assert_true(i->done);
}

static void test_name_between_mark_and_sweep(void **state unused)
{
	struct interruption i = {.done = false};
	struct digest other = digest_of_blob(5000, 2);
	struct store s;

	interrupt(&i, &s, name_it);
	check_tree(&s, &i.tree, 1);
	/* This was not in the tree. */
	assert_false(is_there(&s, &other));
	store_close(&s);
	open_store(&s, 0);
	check_tree(&s, &i.tree, 1);
	store_close(&s);
}

static void test_hold_between_mark_and_sweep(void **state unused)
{
	struct interruption i = {.done = false};
	struct digest large = digest_of_blob(LARGE, 1);
	struct store s;

	interrupt(&i, &s, hold_it);
	check_tree(&s, &i.tree, 1);
	collect();
	check_tree(&s, &i.tree, 1);
	store_close(&s);
	/* With the process, here its store, the lease ends. */
	assert_int_equal(collect().files, 1);
	open_store(&s, 0);
	assert_false(is_there(&s, &large));
	store_close(&s);
}

/* What was there when it was put, and is not when it gets a name. */
static void test_found_and_swept(void **state unused)
{
	struct interruption i = {.done = false};
	struct digest large = digest_of_blob(LARGE, 1);
	struct store s;

	interrupt(&i, &s, put_again);
	assert_false(is_there(&s, &large));
	assert_int_equal(put_name(&s, "name", &i.tree), -ERROR_COLLECTED);
	put_blob(&s, LARGE, 1);
	assert_int_equal(put_name(&s, "name", &i.tree), -ERROR_COLLECTED);
	put_tree(&s, &large, LARGE);
	assert_int_equal(put_name(&s, "name", &i.tree), 0);
	collect();
	check_tree(&s, &i.tree, 1);
	store_close(&s);
}

/* Whoever takes a blob away is killed before he forgets where it was seen. */
static void test_seen_and_gone(void **state unused)
{
	struct seen_value seen = {.size = 5000}, empty = {.digest = digest_empty}, out[3];
	struct seen_key keys[3] = {{1, 2}, {1, 3}, {1, 4}};
	struct error err = {0};
	bool found[3];
	struct store s;

	open_store(&s, STORE_CREATE);
	seen.digest = put_blob(&s, 5000, 1);
	assert_int_equal(seen_cache_remember(s.seen, &keys[0], &seen, &err), 0);
	assert_int_equal(seen_cache_remember(s.seen, &keys[2], &empty, &err), 0);
	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(seen_cache_lookup(s.seen, keys, 3, out, found, &err), 0);
	assert_true(found[0] && !found[1] && found[2]);
	assert_int_equal(blob_service_discard(s.blobs, &seen.digest, &err), 0);
	assert_int_equal(seen_cache_lookup(s.seen, keys, 3, out, found, &err), 0);
	assert_true(!found[0] && !found[1] && found[2]);
	store_close(&s);
}

static void test_what_is_being_written_stays(void **state unused)
{
	struct error err = {0};
	struct store s;

	put_garbage(20);
	open_store(&s, 0);
	put_blob(&s, LARGE, 1);
	put_blob(&s, 5000, 2);
	assert_int_equal(store_sync(&s, &err), 0);
	/* The pack is in use, but what others left in it is not. */
	assert_int_equal(collect().blobs, 2);
	check_blob(&s, LARGE, 1);
	check_blob(&s, 5000, 2);
	store_close(&s);
	assert_int_equal(collect().blobs, 2);
}

/* ---- Packs ---- */

/* A live blob and garbage in one pack. */
static struct node put_mixed(struct digest *live)
{
	struct error err = {0};
	struct store s;

	put_garbage(1);
	open_store(&s, 0);
	*live = put_blob(&s, LARGE, 10);
	struct node tree = put_tree(&s, live, LARGE);

	for (unsigned i = 0; i < 20; i++) {
		put_blob(&s, 100000, 100 + i);
	}
	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(put_name(&s, "kept", &tree), 0);
	store_close(&s);
	return tree;
}

static void test_readers_of_a_pack_that_moved(void **state unused)
{
	struct blob_reader *reader;
	struct location at, was;
	struct digest live;
	struct node tree = put_mixed(&live);
	uint8_t buf[4096], header[64];
	struct error err = {0};
	struct store s;
	size_t got;

	open_store(&s, 0);
	struct local_view *view = &local_of(&s)->view;

	assert_int_equal(blob_service_open(s.blobs, &live, &reader, &err), 1);
	assert_int_equal(local_locate(view, INDEX_DIRECTORIES, &tree.digest, &at, &err), 1);
	assert_true(at.size <= sizeof(buf));
	was = at;
	check_tree(&s, &tree, 10);

	assert_int_equal(collect().packs, 1);
	/* The old pack is empty, also for who has it open. */
	int rc = local_record_read(view->store, &at, RECORD_DIRECTORY, &tree.digest, buf, 0,
				   &err);

	assert_int_equal(rc, -ERROR_CORRUPT);
	assert_int_equal(local_relocate(view, INDEX_DIRECTORIES, &tree.digest, &at, rc, &err),
			 1);
	assert_int_not_equal(at.pack, was.pack);
	assert_int_equal(local_record_read(view->store, &at, RECORD_DIRECTORY, &tree.digest,
					   buf, 0, &err),
			 0);
	/* It is where it should be: then the failure stands. */
	assert_int_equal(local_relocate(view, INDEX_DIRECTORIES, &tree.digest, &at,
					-ERROR_CORRUPT, &err),
			 -ERROR_CORRUPT);
	struct digest gone = digest_of_blob(5000, 2);

	assert_int_equal(local_relocate(view, INDEX_BLOBS, &gone, &was, -ERROR_CORRUPT, &err),
			 0);
	/* Its outboard was in the pack. */
	assert_int_equal(blob_reader_pread(reader, header, sizeof(header), 70000, &got, &err),
			 0);
	assert_int_equal(got, sizeof(header));
	blob_reader_free(reader);
	check_tree(&s, &tree, 10);
	store_close(&s);
}

/* A pack may be made under the number of one that was removed, which a reader has open. */
static void test_number_of_a_removed_pack(void **state unused)
{
	struct digest live;
	struct node tree = put_mixed(&live);
	struct location at;
	struct error err = {0};
	char old[600], copy[600];
	struct stat st;
	struct store s;

	open_store(&s, 0);
	assert_int_equal(
		local_locate(&local_of(&s)->view, INDEX_DIRECTORIES, &tree.digest, &at, &err),
		1);
	check_tree(&s, &tree, 10);
	snprintf(old, sizeof(old), "%s/packs/%08u.pack", store_path, (unsigned)at.pack);
	snprintf(copy, sizeof(copy), "%s/copy", store_path);
	int from = open(old, O_RDWR | O_CLOEXEC);
	int to = open(copy, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(fstat(from, &st), 0);
	assert_int_equal(copy_file_range(from, NULL, to, NULL, (size_t)st.st_size, 0),
			 st.st_size);
	assert_int_equal(rename(copy, old), 0);
	assert_int_equal(ftruncate(from, 0), 0);
	close(from);
	close(to);
	check_tree(&s, &tree, 10);
	store_close(&s);
}

static void lose_index(void)
{
	struct store_rebuilt result;
	struct error err = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/index/data.mdb", store_path);
	assert_int_equal(unlink(path), 0);
	if (local_store_rebuild(store_path, &result, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

/* In another process, which has a pack of its own: says when it is done, and waits. */
static pid_t other_process(void (*act)(struct store *s), int pipes[2])
{
	int ready[2], end[2];
	uint8_t byte = 0;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(end), 0);
	pid_t pid = fork();

	if (pid == 0) {
		struct store s;

		close(end[1]);
		open_store(&s, 0);
		act(&s);
		(void)!write(ready[1], &byte, 1);
		(void)!read(end[0], &byte, 1);
		store_close(&s);
		_exit(0);
	}
	close(ready[1]);
	close(end[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	pipes[0] = end[1];
	return pid;
}

static void end_process(pid_t pid, const int pipes[2])
{
	int status;

	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void put_doomed_names(struct store *s)
{
	struct digest file = put_blob(s, 5000, 50);
	struct node tree = put_tree(s, &file, 5000);

	assert_int_equal(put_name(s, "doomed", &tree), 0);
	assert_int_equal(put_name(s, "changed", &tree), 0);
}

/* A change that was given up is none for who makes the index again either. */
static void test_changes_given_up(void **state unused)
{
	const size_t size = 20 << 20; /* in a pack before the write ends */
	struct buffer got cleanup(buffer_done) = {0};
	struct root_node found = {0};
	struct error err = {0};
	struct logged_write w;
	struct store s;

	open_store(&s, STORE_CREATE);
	struct digest file = put_blob(&s, 5000, 50);
	struct node tree = put_tree(&s, &file, 5000);
	uint8_t *value = xcalloc(1, size);

	assert_int_equal(logged_write_begin(&w, &logged_path_infos, local_of(&s), false, &err),
			 0);
	assert_int_equal(
		logged_write_put(&w, bytes_of_string("given up"), bytes_of(value, size), &err),
		0);
	free(value);
	assert_int_not_equal(w.appended.len, 0);
	assert_int_equal(logged_write_end(&w, -ERROR_IO, &err), -ERROR_IO);
	assert_int_equal(put_name(&s, "kept", &tree), 0);
	store_close(&s);

	lose_index();
	open_store(&s, 0);
	assert_int_equal(
		record_table_get(s.path_infos, bytes_of_string("given up"), &got, &err), 0);
	assert_int_equal(root_nodes_lookup(s.roots, bytes_of_string("kept"), &found, &err), 1);
	root_node_done(&found);
	store_close(&s);
}

/* Of names, packs have each change: what is left must give the same names again. */
static void test_changes_of_names_stay(void **state unused)
{
	struct root_node node = {0};
	struct error err = {0};
	struct digest live;
	struct node tree = put_mixed(&live);
	int pipes[2];
	struct store s;

	pid_t other = other_process(put_doomed_names, pipes);

	/* The first pack may be the other one's. */
	open_store(&s, 0);
	for (unsigned i = 0; i < 20; i++) {
		put_blob(&s, 100000, 200 + i);
	}
	assert_int_equal(root_nodes_remove(s.roots, bytes_of_string("doomed"), &err), 1);
	assert_int_equal(put_name(&s, "changed", &tree), 0);
	store_close(&s);
	/* Its pack goes, the older one with the put stays. */
	assert_true(collect().packs >= 1);
	end_process(other, pipes);

	for (unsigned round = 0; round < 3; round++) {
		lose_index();
		open_store(&s, 0);
		assert_int_equal(
			root_nodes_lookup(s.roots, bytes_of_string("doomed"), &node, &err), 0);
		assert_int_equal(
			root_nodes_lookup(s.roots, bytes_of_string("changed"), &node, &err), 1);
		assert_true(digest_equal(&node.node.digest, &tree.digest));
		assert_int_equal(
			root_nodes_lookup(s.roots, bytes_of_string("kept"), &node, &err), 1);
		check_tree(&s, &tree, 10);
		store_close(&s);
		collect();
	}
	root_node_done(&node);
}

/* ---- What a dead one left ---- */

static void large_path(char *out, size_t size, const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(hex, d);
	snprintf(out, size, "%s/files/%.2s/%s", store_path, hex, hex);
}

/* A collection that was killed between its transaction and the unlinking. */
static void test_files_without_a_blob(void **state unused)
{
	struct digest large = digest_of_blob(LARGE, 1);
	char path[512], aside[512];
	struct store s;

	put_garbage(1);
	large_path(path, sizeof(path), &large);
	snprintf(aside, sizeof(aside), "%s/aside", folder);
	assert_int_equal(link(path, aside), 0);
	assert_int_equal(collect().files, 1);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rename(aside, path), 0);

	uint64_t before = disk_used();
	struct store_collected r = collect();

	assert_int_equal(r.files, 1);
	assert_int_equal(r.blobs, 0);
	assert_int_equal(r.freed_bytes, before - disk_used());
	assert_int_equal(access(path, F_OK), -1);

	/* Whoever put it again in that moment learns of it. */
	struct error err = {0};

	open_store(&s, 0);
	assert_int_equal(local_file_check_placed(local_of(&s), &large, &err), -ERROR_COLLECTED);
	put_blob(&s, LARGE, 1);
	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(local_file_check_placed(local_of(&s), &large, &err), 0);
	store_close(&s);
}

/* ---- Bounds ---- */

static void test_bounds(void **state unused)
{
	atomic_bool cancel = true;
	struct run r = {.options.older_than = 3600};
	struct store s;
	struct error err = {0};

	open_store(&s, STORE_CREATE);
	for (unsigned i = 0; i < 100; i++) {
		put_blob(&s, 300000, i);
	}
	assert_int_equal(store_sync(&s, &err), 0);
	store_close(&s);
	collect_with(&r);
	assert_int_equal(r.rc, 0);
	assert_int_equal(r.result.blobs, 0);

	r = (struct run){.options.cancel = &cancel};
	collect_with(&r);
	assert_int_equal(r.rc, -ERROR_CANCELED);
	assert_int_equal(r.result.blobs, 0);

	r = (struct run){.options.max_freed = 1000000};
	collect_with(&r);
	assert_int_equal(r.rc, 0);
	assert_true(r.result.freed_bytes >= 1000000);
	assert_in_range(r.result.blobs, 4, 99);
	uint64_t first = r.result.blobs;

	assert_int_equal(collect().blobs, 100 - first);
}

/* Below something damaged, nobody knows what is needed. */
static void test_damage_stops_it(void **state unused)
{
	struct digest live;
	struct node tree = put_mixed(&live);
	struct run r = {.rc = 0};
	struct location at;
	struct error err = {0};
	struct store s;
	char path[512];

	open_store(&s, 0);
	assert_int_equal(
		local_locate(&local_of(&s)->view, INDEX_DIRECTORIES, &tree.digest, &at, &err),
		1);
	store_close(&s);
	snprintf(path, sizeof(path), "%s/packs/%08x.pack", store_path, at.pack);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, "x", 1, (off_t)(at.offset + RECORD_HEADER_SIZE + 5)), 1);
	close(fd);
	uint64_t before = disk_used();

	collect_with(&r);
	assert_int_equal(r.rc, -ERROR_CORRUPT);
	assert_int_equal(disk_used(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark_set),
		cmocka_unit_test_setup_teardown(test_name_of_what_was_collected, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_takes_what_nothing_refers_to, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_name_between_mark_and_sweep, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_hold_between_mark_and_sweep, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_found_and_swept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seen_and_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_being_written_stays, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_readers_of_a_pack_that_moved, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_number_of_a_removed_pack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_of_names_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_without_a_blob, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage_stops_it, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
