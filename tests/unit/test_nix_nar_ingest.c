/* nix/nar_ingest.h: NARs into a store. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/text.h"
#include "nar_tree.h"
#include "nix/nar_ingest.h"
#include "nix/nar_source.h"
#include "nix/nar_writer.h"
#include "nix_vectors.h"
#include "services/memory.h"

static int ingest(struct store *store, struct bytes nar, size_t piece, struct nar_read *out,
		  struct error *err)
{
	struct bytes_source source = bytes_source_of(nar, piece);

	return nar_ingest(store, &source.base, NULL, out, err);
}

/* ---- What is right ---- */

/* Into an empty store: the NAR comes out of it again. Returns nothing that lives longer. */
static void assert_ingested(struct bytes nar, size_t piece, const struct node *root)
{
	struct buffer_sink sink = buffer_sink_of(0);
	struct nar_read read = {0};
	struct store empty;
	struct hash hash;

	memory_store_open(&empty);
	assert_int_equal(ingest(&empty, nar, piece, &read, NULL), 0);
	if (root) {
		assert_true(node_equal(&read.node.node, root));
	}
	hash_of(HASH_SHA256, nar, &hash);
	assert_int_equal(read.size, nar.len);
	assert_memory_equal(read.sha256, hash.bytes, SHA256_SIZE);
	assert_int_equal(nar_write(&empty, &read.node.node, &sink.base, NULL, NULL), 0);
	assert_true(bytes_equal(buffer_bytes(&sink.data), nar));
	buffer_done(&sink.data);
	root_node_done(&read.node);
	store_close(&empty);
}

static void test_vectors(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		struct buffer nar cleanup(cleanup_buffer) = {0};

		craft_hex(&nar, nar_vectors[i].hex);
		assert_ingested(buffer_bytes(&nar), 0, NULL);
		assert_ingested(buffer_bytes(&nar), 3, NULL);
	}
}

/* The nodes that other implementations of the castore have for these NARs. */
static void test_roots(void **state unused)
{
	static const char *const digests[] = {
		NULL,
		"5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c",
		"5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c",
		"8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e",
		"3f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a",
	};
	struct nar_read read = {0};

	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		struct buffer nar cleanup(cleanup_buffer) = {0};
		char hex[DIGEST_HEX_SIZE];

		craft_hex(&nar, nar_vectors[i].hex);
		assert_int_equal(ingest(&nar_store, buffer_bytes(&nar), 0, &read, NULL), 0);
		if (!digests[i]) {
			assert_int_equal(read.node.node.kind, NODE_SYMLINK);
			assert_true(bytes_equal(read.node.node.target,
						bytes_of_string("/nix/store/somewhereelse")));
			continue;
		}
		digest_to_hex(hex, &read.node.node.digest);
		assert_string_equal(hex, digests[i]);
		assert_int_equal(read.node.node.executable, i == 2);
	}
	root_node_done(&read.node);
}

static void test_random_trees(void **state unused)
{
	for (uint64_t seed = 200; seed < 210; seed++) {
		struct dice dice = {.state = seed};
		struct node tree = nar_put_random_tree(&dice, 4);
		struct buffer nar cleanup(cleanup_buffer) = {0};

		nar_expected(&nar, &tree);
		assert_ingested(buffer_bytes(&nar), 0, &tree);
		assert_ingested(buffer_bytes(&nar), 1 + dice_below(&dice, 9000), &tree);
	}
}

/* Files that end, or begin, around the ends of blocks. */
static void test_block_ends(void **state unused)
{
	struct dice dice = {.state = 20};

	for (size_t less = 0; less < 400; less += 8) {
		struct directory_builder *b cleanup(cleanup_directory_builder) =
			directory_builder_new();
		struct buffer nar cleanup(cleanup_buffer) = {0};

		nar_add(b, "a", nar_put_random_blob(&dice, 1048576 - less));
		nar_add(b, "b", nar_put_random_blob(&dice, 1));
		nar_add(b, "c", nar_put_blob(bytes_of(NULL, 0), false));
		nar_add(b, "d", craft_symlink_node("target"));
		nar_add(b, "e", nar_put_random_blob(&dice, 3));
		struct node tree = nar_put_directory(b);

		nar_expected(&nar, &tree);
		assert_ingested(buffer_bytes(&nar), 0, &tree);
	}
}

static void test_large(void **state unused)
{
	struct dice dice = {.state = 21};
	struct node node = nar_put_random_blob(&dice, 20000003);
	struct buffer nar cleanup(cleanup_buffer) = {0};

	nar_expected(&nar, &node);
	assert_ingested(buffer_bytes(&nar), 0, &node);
	assert_ingested(buffer_bytes(&nar), 65536, &node);
}

/* Many small files, in more blocks than there are slots. */
static void test_wide(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct dice dice = {.state = 22};
	struct buffer nar cleanup(cleanup_buffer) = {0};
	char name[32];

	for (unsigned i = 0; i < 60000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		nar_add(b, name, nar_put_random_blob(&dice, dice_below(&dice, 100)));
	}
	struct node tree = nar_put_directory(b);

	nar_expected(&nar, &tree);
	assert_ingested(buffer_bytes(&nar), 0, &tree);
}

static void test_depth(void **state unused)
{
	struct node deepest = nar_put_deep(NAR_DEPTH_MAX);
	struct buffer nar cleanup(cleanup_buffer) = {0};

	nar_expected(&nar, &deepest);
	assert_ingested(buffer_bytes(&nar), 0, &deepest);
}

static void test_stats(void **state unused)
{
	struct nar_stats stats = {0};
	struct nar_options options = {.stats = &stats};
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct nar_read read = {0};

	craft_hex(&nar, nar_vectors[4].hex);
	struct bytes_source source = bytes_source_of(buffer_bytes(&nar), 0);

	assert_int_equal(nar_ingest(&nar_store, &source.base, &options, &read, NULL), 0);
	assert_int_equal(stats.directories, 2);
	assert_int_equal(stats.files, 2);
	assert_int_equal(stats.symlinks, 1);
	assert_int_equal(stats.bytes, 840);
	root_node_done(&read.node);
}

/* ---- What is wrong ---- */

/* out stays what it was. */
static void assert_refused(struct store *store, struct bytes nar, enum error_code code,
			   const char *blamed)
{
	struct nar_read read = {.size = 77};
	struct error err = {0};

	assert_int_equal(ingest(store, nar, 0, &read, &err), -(int)code);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.text, blamed));
	assert_int_equal(read.size, 77);
	assert_null(read.node.storage.ptr);
}

/* Cut anywhere near the ends of blocks, and at random places. */
static void test_cut(void **state unused)
{
	struct dice dice = {.state = 23};
	struct node tree = nar_put_random_tree(&dice, 4);
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct buffer nar cleanup(cleanup_buffer) = {0};

	nar_add(b, "a", nar_put_random_blob(&dice, 2500000));
	nar_add(b, "b", tree);
	tree = nar_put_directory(b);
	nar_expected(&nar, &tree);
	for (unsigned i = 0; i < 60; i++) {
		size_t block = 1048576 * dice_below(&dice, nar.len / 1048576 + 1);
		size_t len = i % 2 ? dice_below(&dice, nar.len)
				   : block + dice_below(&dice, 100) - MIN(block, 50u);

		assert_refused(&nar_store, bytes_of(nar.ptr, MIN(len, nar.len - 1)),
			       ERROR_INVALID, "it ends too early");
	}
	buffer_append_byte(&nar, 0);
	assert_refused(&nar_store, buffer_bytes(&nar), ERROR_INVALID, "it goes on behind");
}

static void test_too_deep(void **state unused)
{
	struct node deeper = nar_put_deep(NAR_DEPTH_MAX + 1);
	struct buffer nar cleanup(cleanup_buffer) = {0};

	nar_expected(&nar, &deeper);
	assert_refused(&nar_store, buffer_bytes(&nar), ERROR_LIMIT, "directories below");
}

static void test_failing_source(void **state unused)
{
	struct dice dice = {.state = 24};
	struct node node = nar_put_random_blob(&dice, 5000000);
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct nar_read read = {0};
	struct error err = {0};

	nar_expected(&nar, &node);
	struct bytes_source source = bytes_source_of(bytes_of(nar.ptr, 4000000), 0);

	source.fails = true;
	assert_int_equal(nar_ingest(&nar_store, &source.base, NULL, &read, &err), -ERROR_IO);
	assert_string_equal(err.text, "the source failed");
}

/* A store that takes nothing: whichever object comes first. */
static int put_nothing(struct blob_service *s unused, struct bytes content unused,
		       const struct digest *digest unused, struct error *err)
{
	return error_set(err, ERROR_NO_SPACE, "the store is full");
}

static int create_nothing(struct blob_service *s unused, struct blob_writer **out unused,
			  struct error *err)
{
	return error_set(err, ERROR_NO_SPACE, "the store is full");
}

static int put_no_directory(struct directory_service *s unused, struct directory *d unused,
			    struct error *err)
{
	return error_set(err, ERROR_NO_SPACE, "the store is full");
}

static void test_failing_store(void **state unused)
{
	static const struct blob_service_ops blob_ops = {.put_hashed = put_nothing,
							 .create = create_nothing};
	static const struct directory_service_ops directory_ops = {.put = put_no_directory};
	struct blob_service blobs;
	struct directory_service directories;
	struct store no_blobs = {.blobs = &blobs, .directories = nar_store.directories};
	struct store no_directories = {.blobs = nar_store.blobs, .directories = &directories};
	struct dice dice = {.state = 25};

	blob_service_init(&blobs, &blob_ops);
	directory_service_init(&directories, &directory_ops);
	for (unsigned i = 0; i < 3; i++) {
		struct directory_builder *b cleanup(cleanup_directory_builder) =
			directory_builder_new();
		struct buffer nar cleanup(cleanup_buffer) = {0};

		nar_add(b, "a", nar_put_random_blob(&dice, i ? 9000000 : 100));
		struct node tree = nar_put_directory(b);

		nar_expected(&nar, &tree);
		assert_refused(&no_blobs, buffer_bytes(&nar), ERROR_NO_SPACE, "is full");
		assert_refused(&no_directories, buffer_bytes(&nar), ERROR_NO_SPACE, "is full");
	}
}

static void test_cancel(void **state unused)
{
	atomic_bool cancel = true;
	struct nar_options options = {.cancel = &cancel};
	struct buffer nar cleanup(cleanup_buffer) = {0};
	struct nar_read read = {0};

	craft_hex(&nar, nar_vectors[4].hex);
	struct bytes_source source = bytes_source_of(buffer_bytes(&nar), 0);

	assert_int_equal(nar_ingest(&nar_store, &source.base, &options, &read, NULL),
			 -ERROR_CANCELED);
}

/* ---- From a descriptor ---- */

struct pipe_end {
	int fd;
	struct buffer data;
};

static void *write_pipe(void *arg)
{
	struct pipe_end *end = arg;

	assert_int_equal(write_full(end->fd, end->data.ptr, end->data.len), 0);
	close(end->fd);
	return NULL;
}

static int ingest_fd(int fd, struct nar_read *out, struct error *err)
{
	struct nar_fd_source source;

	nar_fd_source_init(&source, fd, NULL);
	return nar_ingest(&nar_store, &source.base, NULL, out, err);
}

static void test_from_pipe(void **state unused)
{
	struct dice dice = {.state = 26};
	struct node tree = nar_put_random_tree(&dice, 3);
	struct nar_read read = {0};
	struct pipe_end end = {0};
	pthread_t thread;
	int fds[2];

	nar_expected(&end.data, &tree);
	assert_int_equal(pipe(fds), 0);
	end.fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, write_pipe, &end), 0);
	assert_int_equal(ingest_fd(fds[0], &read, NULL), 0);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_true(node_equal(&read.node.node, &tree));
	assert_int_equal(read.size, end.data.len);
	root_node_done(&read.node);
	buffer_done(&end.data);
}

static void test_from_bad_descriptor(void **state unused)
{
	struct nar_read read = {0};
	struct error err = {0};

	assert_true(ingest_fd(-1, &read, &err) < 0);
	assert_int_equal(err.os_errno, EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vectors, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_roots, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_random_trees, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_block_ends, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_large, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_wide, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_depth, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_stats, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_cut, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_too_deep, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_failing_source, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_failing_store, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_from_pipe, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_from_bad_descriptor, nar_setup,
						nar_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
