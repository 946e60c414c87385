/* Stores on disk: what one process put, another finds; what was synced stays. */

#include "suite.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t sizes[] = {1, 4096, 131073, 262145, 3000000};

static void put_all(struct store *s)
{
	struct directory *leaf cleanup(cleanup_directory) = make_leaf("leaf");
	struct directory *parent cleanup(cleanup_directory) = make_parent(&leaf, 1);
	struct node node = directory_node(parent);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i);

		expect(0, blob_service_put(s->blobs, bytes_of(content, sizes[i]), NULL, &err));
		free(content);
	}
	expect(0, directory_service_put(s->directories, leaf, &err));
	expect(0, directory_service_put(s->directories, parent, &err));
	expect(0, root_nodes_put(s->roots, bytes_of_string("root"), &node, false, &err));
}

static void check_all(struct store *s)
{
	struct directory *leaf cleanup(cleanup_directory) = make_leaf("leaf");
	struct directory *parent cleanup(cleanup_directory) = make_parent(&leaf, 1);
	struct directory *found cleanup(cleanup_directory) = NULL;
	struct node node = directory_node(parent);
	struct root_node root = {0};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i);

		check_blob(s->blobs, bytes_of(content, sizes[i]));
		free(content);
	}
	expect(1, directory_service_has(s->directories, directory_digest(leaf), &err));
	expect(1, directory_service_get(s->directories, &node.digest, &found, &err));
	assert_true(bytes_equal(directory_encoding(found), directory_encoding(parent)));
	expect(1, root_nodes_lookup(s->roots, bytes_of_string("root"), &root, &err));
	assert_true(node_equal(&root.node, &node));
	root_node_done(&root);
}

static void test_reopen(void **state)
{
	struct fixture *f = *state;

	expect(0, store_open(&f->store, f->address, STORE_CREATE, &err));
	put_all(&f->store);
	expect(0, store_sync(&f->store, &err));
	store_close(&f->store);
	expect(0, store_open(&f->store, f->address, 0, &err));
	check_all(&f->store);
	store_close(&f->store);
	expect(0, store_open(&f->store, f->address, STORE_CREATE, &err));
	check_all(&f->store);
	put_all(&f->store);
	store_close(&f->store);
	expect(0, store_open(&f->store, f->address, STORE_READ_ONLY, &err));
	check_all(&f->store);
}

static void test_counts(void **state)
{
	struct fixture *f = *state;
	struct blob_counts counts;
	const size_t lens[] = {1, 1000, 255 << 10, 256 << 10, 1 << 20};

	expect(0, store_open(&f->store, f->address, STORE_CREATE, &err));
	expect(0, blob_service_count(f->store.blobs, &counts, &err));
	assert_int_equal(counts.blobs + counts.plain_files, 0);
	/* The same contents a second time change nothing. */
	for (size_t i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		size_t size = lens[i % ARRAY_SIZE(lens)];
		uint8_t *content = make_content(size, size);

		expect(0,
		       blob_service_put(f->store.blobs, bytes_of(content, size), NULL, &err));
		free(content);
	}
	expect(0, store_sync(&f->store, &err));
	expect(0, blob_service_count(f->store.blobs, &counts, &err));
	assert_int_equal(counts.blobs, 5);
	assert_int_equal(counts.plain_files, 2);
}

static void test_missing(void **state)
{
	struct fixture *f = *state;

	expect_error(ERROR_NOT_FOUND, store_open(&f->store, f->address, 0, &err));
	expect_error(ERROR_NOT_FOUND, store_open(&f->store, f->address, STORE_READ_ONLY, &err));
	assert_null(f->store.blobs);
	/* Asking made nothing. */
	expect_error(ERROR_NOT_FOUND, store_open(&f->store, f->address, 0, &err));
}

/* Some call on the way must refuse, and none for another reason. */
static void check_writer_denied(struct blob_service *s)
{
	struct blob_writer *w = NULL;
	struct digest digest;
	struct error why = {0};
	int rc = blob_service_create(s, &w, &why);

	if (rc == 0) {
		rc = blob_writer_write(w, bytes_of_string("refused"), &why);
		if (rc < 0) {
			blob_writer_free(w);
		} else {
			rc = blob_writer_commit(w, &digest, NULL, &why);
		}
	}
	expect_at(-ERROR_DENIED, rc, &why, "writing a blob", __FILE__, __LINE__);
}

static void check_batch_denied(struct directory_service *s, struct directory *d)
{
	struct directory_batch *b = NULL;
	struct digest root;
	struct error why = {0};
	int rc = directory_service_put_batch(s, &b, &why);

	if (rc == 0) {
		expect(0, directory_batch_add(b, d, &err));
		rc = directory_batch_commit(b, &root, &why);
	}
	expect_at(-ERROR_DENIED, rc, &why, "committing a batch", __FILE__, __LINE__);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;
	struct bytes content = bytes_of_string("refused");
	struct directory *d = make_leaf("refused");
	struct node node = directory_node(d);
	struct digest digest;

	expect(0, store_open(&f->store, f->address, STORE_CREATE, &err));
	put_all(&f->store);
	expect(0, store_sync(&f->store, &err));
	store_close(&f->store);
	expect(0, store_open(&f->store, f->address, STORE_READ_ONLY, &err));
	check_all(&f->store);
	expect_error(ERROR_DENIED, blob_service_put(f->store.blobs, content, &digest, &err));
	check_writer_denied(f->store.blobs);
	expect_error(ERROR_DENIED, directory_service_put(f->store.directories, d, &err));
	check_batch_denied(f->store.directories, d);
	expect_error(ERROR_DENIED, root_nodes_put(f->store.roots, bytes_of_string("refused"),
						  &node, true, &err));
	expect_error(ERROR_DENIED,
		     root_nodes_remove(f->store.roots, bytes_of_string("root"), &err));
	digest_of(&digest, content);
	check_blob_absent(f->store.blobs, &digest);
	expect(0, directory_service_has(f->store.directories, &node.digest, &err));
	check_all(&f->store);
	directory_unref(d);
}

/* ---- Two processes ---- */

struct other_process {
	pid_t pid;
	int to;   /* tell it to go on: one byte */
	int from; /* it says that it got there: one byte */
};

static void say(int fd)
{
	if (write(fd, "", 1) != 1) {
		_exit(20);
	}
}

/* False when the other side is gone. */
static bool wait_for(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 1;
}

/* 0 when all of put_all() is there. Not with cmocka's checks: they belong to the parent. */
static int look_for_all(struct store *s)
{
	struct directory *leaf cleanup(cleanup_directory) = make_leaf("leaf");
	struct root_node root = {0};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *content = make_content(sizes[i], i);
		uint8_t *buf = xmalloc(sizes[i]);
		struct digest digest;
		size_t got = 0;

		digest_of(&digest, bytes_of(content, sizes[i]));
		if (blob_service_read(s->blobs, &digest, 0, buf, sizes[i], 0, &got, NULL) !=
			    1 ||
		    got != sizes[i] || memcmp(buf, content, got) != 0) {
			return 10 + (int)i;
		}
		free(content);
		free(buf);
	}
	if (directory_service_has(s->directories, directory_digest(leaf), NULL) != 1) {
		return 2;
	}
	if (root_nodes_lookup(s->roots, bytes_of_string("root"), &root, NULL) != 1) {
		return 3;
	}
	root_node_done(&root);
	return 0;
}

/* The life of the second process: opens the store when told to, looks when told to. */
static int other_process_main(const char *address, int from_parent, int to_parent)
{
	struct store s = {0};

	if (!wait_for(from_parent) || store_open(&s, address, 0, NULL) < 0) {
		return 1;
	}
	say(to_parent);
	if (!wait_for(from_parent)) {
		return 1;
	}
	int rc = look_for_all(&s);

	store_close(&s);
	return rc;
}

/* Before this process opens the store, so that nothing of it is inherited. */
static struct other_process other_process_start(const char *address)
{
	struct other_process other;
	int down[2];
	int up[2];

	assert_int_equal(pipe(down), 0);
	assert_int_equal(pipe(up), 0);
	other.pid = fork();
	assert_true(other.pid >= 0);
	if (other.pid == 0) {
		close(down[1]);
		close(up[0]);
		_exit(other_process_main(address, down[0], up[1]));
	}
	close(down[0]);
	close(up[1]);
	other.to = down[1];
	other.from = up[0];
	return other;
}

static void other_process_end(struct other_process *other)
{
	int status = -1;

	close(other->to);
	close(other->from);
	assert_int_equal(waitpid(other->pid, &status, 0), other->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_other_process(void **state)
{
	struct fixture *f = *state;
	struct other_process early = other_process_start(f->address);
	struct other_process late = other_process_start(f->address);

	expect(0, store_open(&f->store, f->address, STORE_CREATE, &err));
	/* The first has the store open while this one fills it. */
	say(early.to);
	assert_true(wait_for(early.from));
	put_all(&f->store);
	expect(0, store_sync(&f->store, &err));
	say(early.to);
	other_process_end(&early);
	/* The second opens it only now. */
	say(late.to);
	assert_true(wait_for(late.from));
	say(late.to);
	other_process_end(&late);
	check_all(&f->store);
}

/* Killed without any goodbye: what was synced is there, and the store is in order. */
static void test_killed_writer(void **state)
{
	struct fixture *f = *state;
	int status = -1;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct store s = {0};

		if (store_open(&s, f->address, STORE_CREATE, NULL) < 0) {
			_exit(1);
		}
		put_all(&s);
		if (store_sync(&s, NULL) < 0) {
			_exit(2);
		}
		blob_service_put(s.blobs, bytes_of_string("not synced"), NULL, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	expect(0, store_open(&f->store, f->address, 0, &err));
	check_all(&f->store);
	/* There or not, but never damaged. */
	struct digest digest;
	struct bytes content = bytes_of_string("not synced");

	digest_of(&digest, content);
	if (blob_service_has(f->store.blobs, &digest, NULL) != 0) {
		check_blob(f->store.blobs, content);
	}
	expect(0, blob_service_put(f->store.blobs, content, NULL, &err));
	check_blob(f->store.blobs, content);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup_closed, fixture_teardown)

int run_file_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reopen),    TEST(test_counts),        TEST(test_missing),
		TEST(test_read_only), TEST(test_other_process), TEST(test_killed_writer),
	};

	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
