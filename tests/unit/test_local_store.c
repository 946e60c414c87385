/* The local store beyond its contracts: what is on disk, several processes, damage, failure. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "test_local_driver.h"

static void put_root(struct store *s, const char *name, const struct digest *file, bool replace)
{
	struct node node = {.kind = NODE_FILE, .digest = *file, .size = 1};
	struct error err = {0};

	if (root_nodes_put(s->roots, bytes_of_string(name), &node, replace, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

/* Flips one byte of a file below the store. */
static void flip(const char *name, off_t offset)
{
	char path[512];
	uint8_t byte;

	snprintf(path, sizeof(path), "%s/%s", store_path, name);
	chmod(path, 0644);
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

static void large_name(char *out, size_t size, const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(hex, d);
	snprintf(out, size, "files/%.2s/%s", hex, hex);
}

static void test_damage_is_found(void **state unused)
{
	uint8_t *buf = xmalloc(LARGE);
	struct error err = {0};
	struct store s;
	char name[128];
	size_t n;

	open_store(&s, STORE_CREATE);
	struct digest small = put_blob(&s, 5000, 1), large = put_blob(&s, LARGE, 2);

	assert_int_equal(store_sync(&s, &err), 0);
	store_close(&s);

	large_name(name, sizeof(name), &large);
	flip(name, 1500000);
	flip("packs/00000001.pack", 64 + 56 + 4999);
	open_store(&s, 0);
	assert_int_equal(blob_service_read(s.blobs, &small, 0, buf, 10, 0, &n, &err),
			 -ERROR_CORRUPT);
	assert_int_equal(blob_service_read(s.blobs, &small, 0, buf, 5000, 0, &n, &err),
			 -ERROR_CORRUPT);
	/* The group that is damaged is refused, alone. */
	assert_int_equal(blob_service_read(s.blobs, &large, 1499999, buf, 3, 0, &n, &err),
			 -ERROR_CORRUPT);
	assert_int_equal(blob_service_read(s.blobs, &large, 0, buf, LARGE, 0, &n, &err),
			 -ERROR_CORRUPT);
	assert_int_equal(blob_service_read(s.blobs, &large, 0, buf, 1400000, 0, &n, &err), 1);
	assert_int_equal(blob_service_read(s.blobs, &large, 1600000, buf, 1, 0, &n, &err), 1);
	store_close(&s);

	char path[512];

	snprintf(path, sizeof(path), "%s/%s", store_path, name);
	assert_int_equal(truncate(path, LARGE - 1), 0);
	open_store(&s, 0);
	assert_int_equal(blob_service_read(s.blobs, &large, 0, buf, 1, 0, &n, &err),
			 -ERROR_CORRUPT);
	store_close(&s);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	assert_int_equal(unlink(path), 0);
	open_store(&s, 0);
	/* Lost is not absent. */
	assert_int_equal(blob_service_read(s.blobs, &large, 0, buf, 1, 0, &n, &err),
			 -ERROR_CORRUPT);
	assert_int_equal(blob_service_read(s.blobs, &small, 0, buf, 1, 0, &n, &err),
			 -ERROR_CORRUPT);
	store_close(&s);
	free(buf);
}

static void remove_index(void)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/index/data.mdb", store_path);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/index/lock.mdb", store_path);
	unlink(path);
}

static void test_rebuild(void **state unused)
{
	struct store_rebuilt result;
	struct root_node root = {0};
	struct error err = {0};
	struct store s;

	open_store(&s, STORE_CREATE);
	struct digest a = put_blob(&s, 100, 1), b = put_blob(&s, 200, 2);
	struct digest large = put_blob(&s, LARGE, 3);
	struct directory *d = make_directory(&a, 100), *got;

	assert_int_equal(directory_service_put(s.directories, d, &err), 0);
	put_root(&s, "one", &a, false);
	put_root(&s, "two", &a, false);
	put_root(&s, "two", &b, true);
	put_root(&s, "gone", &large, false);
	assert_int_equal(root_nodes_remove(s.roots, bytes_of_string("gone"), &err), 1);
	/* Not while somebody uses it. */
	pid_t child = fork();

	if (child == 0) {
		_exit(local_store_rebuild(store_path, &result, &err) == -ERROR_UNAVAILABLE ? 0
											   : 1);
	}
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	store_close(&s);

	/* A gap as a crash may leave it. */
	flip("packs/00000001.pack", 64 + 3);
	remove_index();
	assert_int_equal(local_store_open(&s, store_path, 0, &err), -ERROR_CORRUPT);
	assert_int_equal(local_store_rebuild(store_path, &result, &err), 0);
	assert_int_equal(result.blobs, 2);
	assert_int_equal(result.directories, 1);
	assert_int_equal(result.roots, 2);
	assert_int_equal(result.damaged_bytes, 56 + 104);

	open_store(&s, 0);
	assert_int_equal(blob_service_has(s.blobs, &a, &err), 0);
	check_blob(&s, 200, 2);
	check_blob(&s, LARGE, 3);
	assert_int_equal(directory_service_get(s.directories, directory_digest(d), &got, &err),
			 1);
	directory_unref(got);
	directory_unref(d);
	assert_int_equal(root_nodes_lookup(s.roots, bytes_of_string("two"), &root, &err), 1);
	assert_true(digest_equal(&root.node.digest, &b));
	assert_int_equal(root_nodes_lookup(s.roots, bytes_of_string("gone"), &root, &err), 0);
	/* And it goes on: new objects, and the order of roots. */
	a = put_blob(&s, 100, 1);
	put_root(&s, "two", &a, true);
	store_close(&s);
	remove_index();
	assert_int_equal(local_store_rebuild(store_path, &result, &err), 0);
	open_store(&s, 0);
	assert_int_equal(root_nodes_lookup(s.roots, bytes_of_string("two"), &root, &err), 1);
	assert_true(digest_equal(&root.node.digest, &a));
	check_blob(&s, 100, 1);
	root_node_done(&root);
	store_close(&s);
}

/* One writing process: blobs of its own and blobs that all write. */
static void write_many(unsigned self)
{
	struct error err = {0};
	struct store s;

	if (local_store_open(&s, store_path, STORE_CREATE, &err) != 0) {
		_exit(1);
	}
	for (unsigned i = 0; i < 300; i++) {
		put_blob(&s, 1000 + i, 10000 * self + i);
		put_blob(&s, 2000 + i, i);
		if (i % 50 == 0) {
			put_blob(&s, LARGE / 4 + i, i);
			if (store_sync(&s, &err) != 0) {
				_exit(2);
			}
		}
	}
	struct digest d = put_blob(&s, 10, self);
	char name[16];

	snprintf(name, sizeof(name), "writer-%u", self);
	put_root(&s, name, &d, false);
	store_close(&s);
	_exit(0);
}

static void test_many_processes(void **state unused)
{
	struct error err = {0};
	pid_t children[4];
	struct store s;

	for (unsigned i = 0; i < 4; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			write_many(i + 1);
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		int status;

		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	open_store(&s, STORE_READ_ONLY);
	for (unsigned i = 0; i < 300; i++) {
		for (unsigned self = 1; self <= 4; self++) {
			check_blob(&s, 1000 + i, 10000 * self + i);
		}
		check_blob(&s, 2000 + i, i);
		if (i % 50 == 0) {
			check_blob(&s, LARGE / 4 + i, i);
		}
	}
	for (unsigned self = 1; self <= 4; self++) {
		struct root_node root = {0};
		char name[16];

		snprintf(name, sizeof(name), "writer-%u", self);
		assert_int_equal(root_nodes_lookup(s.roots, bytes_of_string(name), &root, &err),
				 1);
		root_node_done(&root);
	}
	store_close(&s);
}

/* A store with two blobs, into which more went than the disk has room for. */
static void overfill(struct store *s)
{
	struct rlimit old, small = {.rlim_cur = 8 << 20};
	struct error err = {0};

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	open_store(s, STORE_CREATE);
	put_blob(s, 1000, 1);
	put_blob(s, LARGE, 2);
	assert_int_equal(store_sync(s, &err), 0);

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	uint8_t *data = xmalloc(200000);
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 200; i++) {
		fill(data, 200000, 100 + i);
		rc = blob_service_put(s->blobs, bytes_of(data, 200000), NULL, &err);
	}
	rc = rc ? rc : store_sync(s, &err);
	assert_true(rc < 0);
	assert_int_equal(err.os_errno, EFBIG);
	/* It stays an error: nothing is acknowledged that was dropped. Reading goes on. */
	assert_true(store_sync(s, NULL) < 0);
	check_blob(s, 1000, 1);
	check_blob(s, LARGE, 2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	free(data);
}

static void fill_again(struct store *s)
{
	struct error err = {0};

	check_blob(s, 1000, 1);
	for (unsigned i = 0; i < 200; i++) {
		put_blob(s, 200000, 100 + i);
	}
	assert_int_equal(store_sync(s, &err), 0);
	check_blob(s, 200000, 100);
	check_blob(s, 200000, 299);
}

static void test_full_disk_loses_nothing(void **state unused)
{
	struct store s;

	overfill(&s);
	store_close(&s);
	open_store(&s, 0);
	fill_again(&s);
	store_close(&s);
}

static void test_recovers_from_full_disk(void **state unused)
{
	struct error err = {0};
	struct store s;

	overfill(&s);
	assert_int_equal(blob_service_recover(s.blobs, &err), 0);
	/* Nothing came back by it. */
	struct digest lost = digest_of_blob(200000, 299);

	assert_int_equal(blob_service_has(s.blobs, &lost, &err), 0);
	fill_again(&s);
	store_close(&s);
	open_store(&s, 0);
	check_blob(&s, 200000, 299);
	store_close(&s);
}

static void test_uncommitted_is_given_back(void **state unused)
{
	struct error err = {0};
	struct stat before, after;
	struct store s;
	char path[512];

	open_store(&s, STORE_CREATE);
	put_blob(&s, 1000, 1);
	assert_int_equal(store_sync(&s, &err), 0);
	snprintf(path, sizeof(path), "%s/packs/00000001.pack", store_path);
	assert_int_equal(stat(path, &before), 0);
	for (unsigned i = 0; i < 100; i++) {
		put_blob(&s, 100000, 100 + i);
	}
	put_blob(&s, LARGE, 2);
	store_close(&s);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
	snprintf(path, sizeof(path), "%s/tmp", store_path);
	assert_int_equal(rmdir(path), 0); /* empty */
}

static void test_refused(void **state unused)
{
	struct error err = {0};
	struct store s;
	char path[512];

	assert_int_equal(local_store_open(&s, store_path, 0, &err), -ERROR_NOT_FOUND);
	assert_int_equal(mkdir(store_path, 0755), 0);
	assert_int_equal(local_store_open(&s, store_path, 0, &err), -ERROR_NOT_FOUND);
	snprintf(path, sizeof(path), "%s/precious", store_path);
	close(open(path, O_WRONLY | O_CREAT, 0644));
	assert_int_equal(local_store_open(&s, store_path, STORE_CREATE, &err), -ERROR_INVALID);
	assert_int_equal(unlink(path), 0);
	open_store(&s, STORE_CREATE);
	store_close(&s);

	snprintf(path, sizeof(path), "%s/format", store_path);
	int fd = open(path, O_RDWR);

	assert_int_equal(pwrite(fd, "9", 1, 12), 1);
	assert_int_equal(local_store_open(&s, store_path, 0, &err), -ERROR_UNSUPPORTED);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	assert_int_equal(local_store_open(&s, store_path, 0, &err), -ERROR_INVALID);
	close(fd);
}

static void test_writer_killed(void **state unused)
{
	struct error err = {0};
	struct store s;

	open_store(&s, STORE_CREATE);
	store_close(&s);
	for (unsigned round = 0; round < 10; round++) {
		int ready[2];
		char byte;

		assert_int_equal(pipe(ready), 0);
		pid_t child = fork();

		if (child == 0) {
			open_store(&s, 0);
			put_blob(&s, 3000, round);
			put_blob(&s, LARGE, round);
			if (store_sync(&s, &err) != 0 || write(ready[1], "x", 1) != 1) {
				_exit(1);
			}
			put_blob(&s, LARGE, 1000 + round);
			for (unsigned i = 0;; i++) {
				put_blob(&s, 50000, 1000000 + round * 100000 + i);
			}
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], &byte, 1), 1);
		close(ready[0]);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
	}
	open_store(&s, 0);
	for (unsigned round = 0; round < 10; round++) {
		check_blob(&s, 3000, round);
		check_blob(&s, LARGE, round);
	}
	put_blob(&s, 4000, 77);
	/* The first large file clears away what the dead left. */
	put_blob(&s, LARGE, 78);
	assert_int_equal(store_sync(&s, &err), 0);
	check_blob(&s, 4000, 77);
	store_close(&s);

	char path[512];

	snprintf(path, sizeof(path), "%s/tmp", store_path);
	assert_int_equal(rmdir(path), 0); /* empty */
}

static void test_put_file(void **state unused)
{
	static const size_t sizes[] = {1, 4096, 262143, 262144, LARGE, LARGE + 5};
	struct error err = {0};
	struct store s;
	char path[512];

	open_store(&s, STORE_CREATE);
	snprintf(path, sizeof(path), "%s/source", folder);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *data = xmalloc(sizes[i]);
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
		struct digest expected, got;

		fill(data, sizes[i], 5);
		digest_of(&expected, bytes_of(data, sizes[i]));
		assert_int_equal(pwrite_full(fd, data, sizes[i], 0), 0);
		/* Twice: the second time the store has it. */
		for (int turn = 0; turn < 2; turn++) {
			assert_int_equal(
				blob_service_put_file(s.blobs, fd, sizes[i], NULL, &got, &err),
				0);
			assert_true(digest_equal(&expected, &got));
			assert_int_equal(store_sync(&s, &err), 0);
		}
		check_blob(&s, sizes[i], 5);
		assert_int_equal(
			blob_service_put_file(s.blobs, fd, sizes[i] + 1, NULL, &got, &err),
			-ERROR_CHANGED);
		close(fd);
		free(data);
	}
	/* A hole of 64 MiB takes no room. */
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	struct digest got;
	char name[128], stored[512];
	struct stat st;

	assert_int_equal(ftruncate(fd, 64 << 20), 0);
	assert_int_equal(pwrite(fd, "x", 1, 32 << 20), 1);
	assert_int_equal(blob_service_put_file(s.blobs, fd, 64 << 20, NULL, &got, &err), 0);
	assert_int_equal(store_sync(&s, &err), 0);
	large_name(name, sizeof(name), &got);
	snprintf(stored, sizeof(stored), "%s/%s", store_path, name);
	assert_int_equal(stat(stored, &st), 0);
	assert_int_equal(st.st_size, 64 << 20);
	assert_true(st.st_blocks * 512 <= 1 << 20);
	close(fd);
	store_close(&s);
}

static struct seen_value seen_value_of(uint64_t inode)
{
	struct seen_value v = {.size = inode + 1,
			       .mtime_ns = -(int64_t)inode,
			       .ctime_ns = INT64_MAX - (int64_t)inode};

	digest_of(&v.digest, bytes_of(&(uint8_t){(uint8_t)inode}, 1));
	return v;
}

/* Every second inode was seen; asked for in no order. */
static void test_seen(void **state unused)
{
	struct seen_key keys[SEEN_KEYS_MAX];
	struct seen_value values[SEEN_KEYS_MAX];
	bool found[SEEN_KEYS_MAX];
	struct error err = {0};
	struct store s;

	open_store(&s, STORE_CREATE);
	for (unsigned i = 0; i < 256; i++) {
		uint8_t content = (uint8_t)i;

		assert_int_equal(blob_service_put(s.blobs, bytes_of(&content, 1), NULL, &err),
				 0);
	}
	for (uint64_t inode = 0; inode < 10000; inode += 2) {
		struct seen_key key = {.device = 7, .inode = inode};
		struct seen_value value = seen_value_of(inode);

		assert_int_equal(seen_cache_remember(s.seen, &key, &value, &err), 0);
	}
	assert_int_equal(store_sync(&s, &err), 0);
	assert_int_equal(seen_cache_lookup(s.seen, keys, 0, values, found, &err), 0);
	for (size_t i = 0; i < SEEN_KEYS_MAX; i++) {
		keys[i] = (struct seen_key){.device = 7, .inode = i * 7919 % 10000};
	}
	keys[4].device = 8;
	assert_int_equal(seen_cache_lookup(s.seen, keys, SEEN_KEYS_MAX, values, found, &err),
			 0);
	for (size_t i = 0; i < SEEN_KEYS_MAX; i++) {
		struct seen_value expected = seen_value_of(keys[i].inode);

		assert_int_equal(found[i], keys[i].device == 7 && keys[i].inode % 2 == 0);
		if (found[i]) {
			assert_int_equal(values[i].size, expected.size);
			assert_int_equal(values[i].mtime_ns, expected.mtime_ns);
			assert_int_equal(values[i].ctime_ns, expected.ctime_ns);
			assert_true(digest_equal(&values[i].digest, &expected.digest));
		}
	}
	store_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_damage_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rebuild, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk_loses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recovers_from_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_uncommitted_is_given_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writer_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seen, setup, teardown),
	};

	return cmocka_run_group_tests_name("local store", tests, NULL, NULL);
}
