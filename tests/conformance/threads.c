/* Many threads at one store. Threads do not assert: they count what went wrong. */

#include "suite.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "nix/path_info_service.h"

#define THREADS 8

struct worker {
	struct store *store;
	unsigned number;
	void (*work)(struct worker *w);
	char complaint[1200]; /* empty when all went well */
};

static void complain(struct worker *w, const char *what, const struct error *err)
{
	if (w->complaint[0] == '\0') {
		snprintf(w->complaint, sizeof(w->complaint), "thread %u: %s: %s", w->number,
			 what, err->text);
	}
}

static void *run(void *context)
{
	struct worker *w = context;

	w->work(w);
	return NULL;
}

static void run_all(struct store *store, void (*work)(struct worker *w))
{
	struct worker *workers = xcalloc(THREADS, sizeof(*workers));
	pthread_t threads[THREADS];
	unsigned failed = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].store = store;
		workers[i].number = i;
		workers[i].work = work;
		assert_int_equal(pthread_create(&threads[i], NULL, run, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		if (workers[i].complaint[0]) {
			print_error("%s\n", workers[i].complaint);
			failed++;
		}
	}
	free(workers);
	assert_int_equal(failed, 0);
}

/* ---- Blobs ---- */

#define BLOBS 60

static size_t blob_len(unsigned i)
{
	static const size_t lens[] = {10, 3000, 20000, 140000, 300000, 1100000};

	return lens[i % ARRAY_SIZE(lens)] + i;
}

static void put_blob(struct worker *w, struct bytes content)
{
	struct error err = {0};
	struct digest digest;
	struct blob_writer *writer;

	if (w->number % 2 == 0) {
		if (blob_service_put(w->store->blobs, content, NULL, &err) < 0) {
			complain(w, "put", &err);
		}
		return;
	}
	if (blob_service_create(w->store->blobs, &writer, &err) < 0) {
		complain(w, "create", &err);
		return;
	}
	if (blob_writer_write(writer, content, &err) < 0) {
		complain(w, "write", &err);
		blob_writer_free(writer);
		return;
	}
	if (blob_writer_commit(writer, &digest, NULL, &err) < 0) {
		complain(w, "commit", &err);
	}
}

static void read_blob(struct worker *w, struct bytes content)
{
	struct error err = {.text = "other bytes"};
	uint8_t *buf = xmalloc(content.len);
	struct digest digest;
	size_t got = 0;

	digest_of(&digest, content);
	if (blob_service_read(w->store->blobs, &digest, 0, buf, content.len, 0, &got, &err) !=
		    1 ||
	    got != content.len || memcmp(buf, content.ptr, got) != 0) {
		complain(w, "read", &err);
	}
	free(buf);
}

/* Every thread puts every blob, each beginning elsewhere, and reads what it put. */
static void work_on_blobs(struct worker *w)
{
	struct error err = {0};

	for (unsigned i = 0; i < BLOBS; i++) {
		unsigned k = (i + w->number * (BLOBS / THREADS)) % BLOBS;
		uint8_t *content = make_content(blob_len(k), k);
		struct bytes bytes = bytes_of(content, blob_len(k));

		put_blob(w, bytes);
		read_blob(w, bytes);
		if (i % 20 == w->number && blob_service_sync(w->store->blobs, &err) < 0) {
			complain(w, "sync", &err);
		}
		free(content);
	}
}

static void test_blobs(void **state)
{
	struct fixture *f = *state;

	run_all(&f->store, work_on_blobs);
	expect(0, store_sync(&f->store, &err));
	for (unsigned k = 0; k < BLOBS; k++) {
		uint8_t *content = make_content(blob_len(k), k);

		check_blob(f->store.blobs, bytes_of(content, blob_len(k)));
		free(content);
	}
}

/* ---- Directories ---- */

#define TREES 40

/* Trees overlap: number k holds the leaves k and k + 1. */
static void make_tree(unsigned k, struct directory *out[3])
{
	char name[32];

	snprintf(name, sizeof(name), "leaf %u", k);
	out[0] = make_leaf(name);
	snprintf(name, sizeof(name), "leaf %u", k + 1);
	out[1] = make_leaf(name);
	out[2] = make_parent(out, 2);
}

static void put_tree(struct worker *w, struct directory *const tree[3])
{
	struct error err = {0};
	struct directory_batch *b;
	struct digest root;
	int rc = directory_service_put_batch(w->store->directories, &b, &err);

	if (rc < 0) {
		complain(w, "put_batch", &err);
		return;
	}
	for (unsigned i = 0; i < 3; i++) {
		if (directory_batch_add(b, tree[i], &err) < 0) {
			complain(w, "add", &err);
		}
	}
	if (directory_batch_commit(b, &root, &err) < 0) {
		complain(w, "commit", &err);
	} else if (!digest_equal(&root, directory_digest(tree[2]))) {
		complain(w, "other root", &err);
	}
}

static void read_tree(struct worker *w, const struct digest *root)
{
	struct error err = {.text = "not the whole tree"};
	struct closure_walk *walk;
	struct directory *d;
	unsigned count = 0;
	int rc = directory_service_get_recursive(w->store->directories, root, &walk, &err);

	if (rc != 1) {
		complain(w, "get_recursive", &err);
		return;
	}
	while ((rc = closure_walk_next(walk, &d, &err)) > 0) {
		directory_unref(d);
		count++;
	}
	if (rc < 0 || count != 3) {
		complain(w, "walk", &err);
	}
	closure_walk_free(walk);
}

static void work_on_directories(struct worker *w)
{
	struct error err = {0};

	for (unsigned i = 0; i < TREES; i++) {
		struct directory *tree[3];

		make_tree((i + w->number * 5) % TREES, tree);
		put_tree(w, tree);
		read_tree(w, directory_digest(tree[2]));
		if (i % 20 == w->number &&
		    directory_service_sync(w->store->directories, &err) < 0) {
			complain(w, "sync", &err);
		}
		for (unsigned k = 0; k < 3; k++) {
			directory_unref(tree[k]);
		}
	}
}

static void test_directories(void **state)
{
	struct fixture *f = *state;

	run_all(&f->store, work_on_directories);
}

/* ---- Roots ---- */

static void work_on_roots(struct worker *w)
{
	struct error err = {.text = "unexpected answer"};
	struct root_node found = {0};

	for (unsigned i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof(name), "root %u of %u", i, w->number);
		struct node node = make_file(bytes_of_string(name), false);

		if (root_nodes_put(w->store->roots, bytes_of_string(name), &node, false, &err) <
		    0) {
			complain(w, "put", &err);
		}
		if (root_nodes_lookup(w->store->roots, bytes_of_string(name), &found, &err) !=
			    1 ||
		    !node_equal(&found.node, &node)) {
			complain(w, "lookup", &err);
		}
		if (i % 2 &&
		    root_nodes_remove(w->store->roots, bytes_of_string(name), &err) != 1) {
			complain(w, "remove", &err);
		}
	}
	root_node_done(&found);
}

static bool count_root(void *context, struct bytes name unused, const struct node *node unused)
{
	++*(unsigned *)context;
	return true;
}

static void test_roots(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;

	run_all(&f->store, work_on_roots);
	expect(0, root_nodes_list(f->store.roots, bytes_of(NULL, 0), count_root, &count, &err));
	assert_int_equal(count, THREADS * 10);
}

/* ---- Records ---- */

static void work_on_records(struct worker *w)
{
	struct error err = {.text = "unexpected answer"};
	struct buffer found = {0};

	for (unsigned i = 0; i < 20; i++) {
		char own[32], shared[32];

		snprintf(own, sizeof(own), "record %u of %u", i, w->number);
		snprintf(shared, sizeof(shared), "shared %u", i);
		const struct record_entry entries[] = {
			{.key = bytes_of_string(own), .value = bytes_of_string(own)},
			{.key = bytes_of_string(shared), .value = bytes_of_string(shared)},
		};

		if (record_table_put(w->store->path_infos, entries, 2, &err) < 0) {
			complain(w, "put", &err);
		}
		for (unsigned k = 0; k < 2; k++) {
			if (record_table_get(w->store->path_infos, entries[k].key, &found,
					     &err) != 1 ||
			    !bytes_equal(buffer_bytes(&found), entries[k].value)) {
				complain(w, "get", &err);
			}
		}
		if (i % 2 &&
		    record_table_remove(w->store->path_infos, entries[0].key, &err) != 1) {
			complain(w, "remove", &err);
		}
	}
	buffer_done(&found);
}

static bool count_record(void *context, struct bytes key unused, struct bytes value unused)
{
	++*(unsigned *)context;
	return true;
}

static void test_records(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;

	run_all(&f->store, work_on_records);
	expect(0, record_table_list(f->store.path_infos, bytes_of(NULL, 0), count_record,
				    &count, &err));
	assert_int_equal(count, THREADS * 10 + 20);
}

/* ---- Path infos ---- */

static struct path_info_service *infos;

static void make_info(unsigned seed, struct path_info *out)
{
	struct node node = make_file(bytes_of(&seed, sizeof(seed)), false);
	struct digest d;

	*out = (struct path_info){.nar_size = 1 + seed};
	digest_of(&d, bytes_of(&seed, sizeof(seed)));
	if (store_path_set(&out->path, d.bytes, bytes_of_string("x"), NULL) == 0) {
		root_node_set(&out->node, &node);
	}
}

/* Each thread changes infos of its own, and asks for all. */
static void work_on_path_infos(struct worker *w)
{
	struct error err = {.text = "unexpected answer"};
	struct path_info info, found = {0};

	for (unsigned i = 0; i < 14; i++) {
		make_info(w->number * 10 + i % 5, &info);
		info.nar_size += i;
		if (path_info_service_put(infos, &info, NULL, &err) < 0) {
			complain(w, "put", &err);
		}
		for (unsigned k = 0; k < THREADS * 10; k++) {
			struct path_info other;

			make_info(k, &other);
			if (path_info_service_get(infos, other.path.hash, &found, &err) < 0) {
				complain(w, "get", &err);
			}
			path_info_done(&other);
		}
		if (path_info_service_get(infos, info.path.hash, &found, &err) != 1 ||
		    found.nar_size != info.nar_size) {
			complain(w, "not what was put last", &err);
		}
		if (i % 7 == 6 &&
		    (path_info_service_remove(infos, info.path.hash, &err) != 1 ||
		     path_info_service_get(infos, info.path.hash, &found, &err) != 0)) {
			complain(w, "remove", &err);
		}
		path_info_done(&info);
	}
	path_info_done(&found);
}

static void test_path_infos(void **state)
{
	struct fixture *f = *state;

	infos = path_info_store_new(&f->store);
	run_all(&f->store, work_on_path_infos);
	path_info_service_unref(infos);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int run_thread_tests(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blobs),
		TEST(test_directories),
	};
	const struct CMUnitTest name_tests[] = {TEST(test_roots), TEST(test_path_infos)};
	const struct CMUnitTest record_tests[] = {TEST(test_records)};
	int failed = cmocka_run_group_tests_name("threads", tests, NULL, NULL);

	if (suite_has_names()) {
		failed +=
			cmocka_run_group_tests_name("threads at names", name_tests, NULL, NULL);
	}
	if (suite_has_records()) {
		failed += cmocka_run_group_tests_name("threads at records", record_tests, NULL,
						      NULL);
	}
	return failed;
}
