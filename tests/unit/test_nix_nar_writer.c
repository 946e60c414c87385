/* nix/nar_writer.h: NARs of what is in a store. */

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
#include "nix/nar_writer.h"
#include "nix_vectors.h"
#include "services/memory.h"

static int write_to(struct buffer_sink *sink, const struct node *node, struct error *err)
{
	return nar_write(&nar_store, node, &sink->base, NULL, err);
}

static void assert_hash(const struct node *node, struct bytes nar)
{
	struct buffer_sink also = buffer_sink_of(0);
	uint8_t sha256[SHA256_SIZE];
	struct hash hash;
	uint64_t size = 0;

	hash_of(HASH_SHA256, nar, &hash);
	assert_int_equal(nar_hash(&nar_store, node, NULL, NULL, &size, sha256, NULL), 0);
	assert_int_equal(size, nar.len);
	assert_memory_equal(sha256, hash.bytes, SHA256_SIZE);
	memset(sha256, 0, sizeof(sha256));
	assert_int_equal(nar_hash(&nar_store, node, &also.base, NULL, &size, sha256, NULL), 0);
	assert_memory_equal(sha256, hash.bytes, SHA256_SIZE);
	assert_true(bytes_equal(buffer_bytes(&also.data), nar));
	buffer_done(&also.data);
}

static void assert_nar(const struct node *node)
{
	struct buffer expected cleanup(cleanup_buffer) = {0};
	struct buffer_sink sink = buffer_sink_of(0);

	nar_expected(&expected, node);
	assert_int_equal(write_to(&sink, node, NULL), 0);
	assert_true(bytes_equal(buffer_bytes(&sink.data), buffer_bytes(&expected)));
	buffer_done(&sink.data);
	assert_hash(node, buffer_bytes(&expected));
}

/* ---- What is right ---- */

static struct node vector_node(const char *name)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node target = craft_symlink_node("/nix/store/somewhereelse");

	if (strcmp(name, "SYMLINK") == 0) {
		return target;
	}
	if (strncmp(name, "HELLOWORLD", 10) == 0) {
		return nar_put_blob(bytes_of_string("Hello World!"), name[10] != '\0');
	}
	nar_add(b, ".keep", nar_put_blob(bytes_of(NULL, 0), false));
	struct node keep = nar_put_directory(b);

	if (strcmp(name, "DIRECTORY_WITH_KEEP") == 0) {
		return keep;
	}
	assert_string_equal(name, "DIRECTORY_COMPLICATED");
	nar_add(b, "keep", keep);
	nar_add(b, ".keep", nar_put_blob(bytes_of(NULL, 0), false));
	nar_add(b, "aa", target);
	return nar_put_directory(b);
}

static void test_vectors(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(nar_vectors); i++) {
		const struct nar_vector *v = &nar_vectors[i];
		struct node node = vector_node(v->name);
		struct buffer_sink sink = buffer_sink_of(0);
		struct buffer nar cleanup(cleanup_buffer) = {0};
		uint8_t expected[SHA256_SIZE], sha256[SHA256_SIZE];
		uint64_t size;

		craft_hex(&nar, v->hex);
		assert_int_equal(nar.len, v->size);
		assert_int_equal(write_to(&sink, &node, NULL), 0);
		assert_true(bytes_equal(buffer_bytes(&sink.data), buffer_bytes(&nar)));
		buffer_done(&sink.data);
		assert_true(hex_decode(expected, sizeof(expected), bytes_of_string(v->sha256)));
		assert_int_equal(nar_hash(&nar_store, &node, NULL, NULL, &size, sha256, NULL),
				 0);
		assert_int_equal(size, v->size);
		assert_memory_equal(sha256, expected, SHA256_SIZE);
		assert_nar(&node);
	}
}

static void test_empty_directory(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node empty = nar_put_directory(b);

	assert_nar(&empty);
	nar_add(b, "a", empty);
	nar_add(b, "b", empty);
	struct node two = nar_put_directory(b);

	assert_nar(&two);
}

/* Names of all kinds in one order, not kind by kind. */
static void test_order_over_kinds(void **state unused)
{
	static const char *const names[] = {"a", "B", "\xff", "\1", "a.b", "a-b", "ab", "a0"};
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node nodes[] = {nar_put_directory(b), craft_symlink_node("x"),
			       nar_put_blob(bytes_of_string("y"), true)};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		nar_add(b, names[i], nodes[i % ARRAY_SIZE(nodes)]);
	}
	struct node tree = nar_put_directory(b);

	assert_nar(&tree);
}

static void test_sizes(void **state unused)
{
	static const size_t around[] = {10, 16384, 262144, 1048576, 3 * 1048576};
	struct dice dice = {.state = 1};

	for (size_t i = 0; i < ARRAY_SIZE(around); i++) {
		for (size_t more = 0; more < 20; more += 1 + more % 3) {
			struct node node = nar_put_random_blob(&dice, around[i] + more - 10);

			assert_nar(&node);
		}
	}
}

/* More than pieces in flight, so that every slot is used again. */
static void test_wide(void **state unused)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct dice dice = {.state = 2};
	char name[32];

	for (unsigned i = 0; i < 4000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		nar_add(b, name,
			nar_put_random_blob(&dice, dice_below(&dice, i % 500 ? 3000 : 900000)));
	}
	struct node tree = nar_put_directory(b);

	assert_nar(&tree);
}

static void test_random_trees(void **state unused)
{
	for (uint64_t seed = 0; seed < 12; seed++) {
		struct dice dice = {.state = seed};
		struct node tree = nar_put_random_tree(&dice, 4);

		assert_nar(&tree);
	}
}

static void test_stats(void **state unused)
{
	struct node node = vector_node("DIRECTORY_COMPLICATED");
	struct nar_stats stats = {0};
	struct nar_options options = {.stats = &stats};
	struct buffer_sink sink = buffer_sink_of(0);

	assert_int_equal(nar_write(&nar_store, &node, &sink.base, &options, NULL), 0);
	buffer_done(&sink.data);
	assert_int_equal(stats.directories, 2);
	assert_int_equal(stats.files, 2);
	assert_int_equal(stats.symlinks, 1);
	assert_int_equal(stats.bytes, 840);
}

/* ---- What is wrong ---- */

static void assert_refused(const struct node *node, enum error_code code, const char *blamed)
{
	struct buffer_sink sink = buffer_sink_of(0);
	uint8_t sha256[SHA256_SIZE];
	struct error err = {0};
	uint64_t size = 77;

	assert_int_equal(write_to(&sink, node, &err), -(int)code);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.text, blamed));
	buffer_done(&sink.data);
	assert_int_equal(nar_hash(&nar_store, node, NULL, NULL, &size, sha256, NULL),
			 -(int)code);
	assert_int_equal(size, 77);
}

/* The node, and a directory that has it among other things. */
static void assert_refused_everywhere(struct node node, enum error_code code,
				      const char *blamed)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();

	assert_refused(&node, code, blamed);
	nar_add(b, "a", nar_put_blob(bytes_of_string("good"), false));
	nar_add(b, "b", node);
	nar_add(b, "c", nar_put_blob(bytes_of_string("good"), false));
	struct node tree = nar_put_directory(b);

	assert_refused(&tree, code, blamed);
}

static void test_absent(void **state unused)
{
	struct node file = craft_file_node(7, 100, false);
	struct node directory = craft_directory_node(8, 3);

	assert_refused_everywhere(file, ERROR_UNAVAILABLE, digest_text(&file.digest));
	assert_refused_everywhere(directory, ERROR_UNAVAILABLE, digest_text(&directory.digest));
}

static void test_wrong_sizes(void **state unused)
{
	static const size_t sizes[] = {1, 1000, 600000, 1048576, 2097152};
	struct dice dice = {.state = 3};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct node node = nar_put_random_blob(&dice, sizes[i]);

		node.size--;
		assert_refused_everywhere(node, ERROR_CORRUPT, "more than");
		node.size += 2;
		assert_refused_everywhere(node, ERROR_CORRUPT, "fewer than");
		node.size = (uint64_t)1 << 62;
		assert_refused_everywhere(node, ERROR_CORRUPT, "fewer than");
	}
	struct node empty = nar_put_blob(bytes_of(NULL, 0), false);

	empty.size = 1;
	assert_refused_everywhere(empty, ERROR_CORRUPT, "fewer than");
	struct node full = nar_put_blob(bytes_of_string("x"), false);

	full.size = 0;
	assert_refused_everywhere(full, ERROR_CORRUPT, "more than");
}

static void test_damaged(void **state unused)
{
	struct dice dice = {.state = 4};
	struct node node = nar_put_random_blob(&dice, 700000);
	uint8_t *other cleanup(cleanup_free) = xcalloc(1, 700000);

	assert_true(
		memory_blob_corrupt(nar_store.blobs, &node.digest, bytes_of(other, 700000)));
	assert_refused_everywhere(node, ERROR_CORRUPT, digest_text(&node.digest));
}

static void test_bad_target(void **state unused)
{
	struct node node = craft_symlink_node("");

	assert_refused(&node, ERROR_INVALID, "target");
}

static void test_depth(void **state unused)
{
	struct node deepest = nar_put_deep(NAR_DEPTH_MAX);
	struct node deeper = nar_put_deep(NAR_DEPTH_MAX + 1);

	assert_nar(&deepest);
	assert_refused(&deeper, ERROR_LIMIT, "2048");
}

static void test_full_sink(void **state unused)
{
	struct dice dice = {.state = 5};
	struct node node = nar_put_random_blob(&dice, 9000000);
	struct buffer_sink sink = buffer_sink_of(3000000);
	struct error err = {0};

	assert_int_equal(write_to(&sink, &node, &err), -ERROR_NO_SPACE);
	assert_string_equal(err.text, "the sink is full");
	assert_true(sink.data.len <= 3000000);
	buffer_done(&sink.data);
}

static void test_cancel(void **state unused)
{
	struct node node = vector_node("DIRECTORY_COMPLICATED");
	atomic_bool cancel = true;
	struct nar_options options = {.cancel = &cancel};
	struct buffer_sink sink = buffer_sink_of(0);

	assert_int_equal(nar_write(&nar_store, &node, &sink.base, &options, NULL),
			 -ERROR_CANCELED);
	assert_int_equal(sink.data.len, 0);
}

/* ---- From a back end that has to fetch a blob to check it ---- */

static atomic_uint whole_opens;

static int open_whole(struct blob_service *s unused, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	atomic_fetch_add(&whole_opens, 1);
	return blob_service_open(nar_store.blobs, digest, out, err);
}

static void test_without_ranges(void **state unused)
{
	static const struct blob_service_ops ops = {.verifies_ranges = false,
						    .open = open_whole,
						    .read = blob_service_read_by_open};
	struct dice dice = {.state = 7};
	struct node node = nar_put_random_blob(&dice, 9000001);
	struct buffer expected cleanup(cleanup_buffer) = {0};
	struct buffer_sink sink = buffer_sink_of(0);
	struct blob_service blobs;
	struct store whole = {.blobs = &blobs};

	blob_service_init(&blobs, &ops);
	atomic_store(&whole_opens, 0);
	nar_expected(&expected, &node);
	assert_int_equal(nar_write(&whole, &node, &sink.base, NULL, NULL), 0);
	assert_true(bytes_equal(buffer_bytes(&sink.data), buffer_bytes(&expected)));
	assert_int_equal(atomic_load(&whole_opens), 1);
	buffer_done(&sink.data);
	/* What is wrong is found there too. */
	sink = buffer_sink_of(0);
	node.size--;
	assert_int_equal(nar_write(&whole, &node, &sink.base, NULL, NULL), -ERROR_CORRUPT);
	buffer_done(&sink.data);
	sink = buffer_sink_of(0);
	node = craft_file_node(9, 9000000, false);
	assert_int_equal(nar_write(&whole, &node, &sink.base, NULL, NULL), -ERROR_UNAVAILABLE);
	buffer_done(&sink.data);
}

/* ---- To a descriptor ---- */

struct pipe_end {
	int fd;
	struct buffer data;
};

static void *read_pipe(void *arg)
{
	struct pipe_end *end = arg;
	ssize_t n;

	while ((n = read_full(end->fd, buffer_reserve(&end->data, 65536), 65536)) > 0) {
		end->data.len += (size_t)n;
	}
	return NULL;
}

static void test_to_pipe(void **state unused)
{
	struct dice dice = {.state = 6};
	struct node tree = nar_put_random_tree(&dice, 3);
	struct buffer expected cleanup(cleanup_buffer) = {0};
	pthread_t thread;
	int fds[2];

	nar_expected(&expected, &tree);
	assert_int_equal(pipe(fds), 0);
	struct pipe_end end = {.fd = fds[0]};

	assert_int_equal(pthread_create(&thread, NULL, read_pipe, &end), 0);
	assert_int_equal(nar_write_fd(&nar_store, &tree, fds[1], NULL, NULL), 0);
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_true(bytes_equal(buffer_bytes(&end.data), buffer_bytes(&expected)));
	buffer_done(&end.data);
}

static void test_to_bad_descriptor(void **state unused)
{
	struct node node = vector_node("SYMLINK");
	struct error err = {0};

	assert_true(nar_write_fd(&nar_store, &node, -1, NULL, &err) < 0);
	assert_int_equal(err.os_errno, EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_vectors, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_empty_directory, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_order_over_kinds, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_sizes, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_wide, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_random_trees, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_stats, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_absent, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_wrong_sizes, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_damaged, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_bad_target, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_depth, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_full_sink, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_without_ranges, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_to_pipe, nar_setup, nar_teardown),
		cmocka_unit_test_setup_teardown(test_to_bad_descriptor, nar_setup,
						nar_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
