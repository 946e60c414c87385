/* Stores in an order, and one that refuses writes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "probe_store.h"
#include "services/fallback.h"
#include "services/memory.h"
#include "services/read_only.h"

#define STORES 3

struct fixture {
	struct store behind[STORES];
	struct probe *probes[STORES];
	struct store store;
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct store stores[STORES];

	*state = f;
	for (size_t i = 0; i < STORES; i++) {
		memory_store_open(&f->behind[i]);
		f->probes[i] = probe_new(&f->behind[i]);
		probe_store(f->probes[i], &stores[i]);
	}
	fallback_store(&f->store, stores, STORES);
	for (size_t i = 0; i < STORES; i++) {
		store_close(&stores[i]);
	}
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(&f->store);
	for (size_t i = 0; i < STORES; i++) {
		probe_free(f->probes[i]);
		store_close(&f->behind[i]);
	}
	free(f);
	return 0;
}

static struct digest put_blob(struct store *s, const char *content)
{
	struct digest digest;

	assert_int_equal(blob_service_put(s->blobs, bytes_of_string(content), &digest, NULL),
			 0);
	return digest;
}

static int read_blob(struct store *s, const struct digest *digest)
{
	uint8_t buf[100];
	size_t got;

	return blob_service_read(s->blobs, digest, 0, buf, sizeof(buf), 0, &got, NULL);
}

/* Who fails is passed over; but what nobody has, somebody might have had. */
static void test_order(void **state)
{
	struct fixture *f = *state;
	struct digest last = put_blob(&f->behind[2], "in the last"), unknown;

	memset(&unknown, 9, sizeof(unknown));
	assert_int_equal(read_blob(&f->store, &last), 1);
	assert_int_equal(probe_reads(f->probes[0]), 1);
	assert_int_equal(read_blob(&f->store, &unknown), 0);
	probe_fail(f->probes[1], PROBE_READS, ERROR_UNAVAILABLE);
	assert_int_equal(read_blob(&f->store, &last), 1);
	assert_int_equal(blob_service_has(f->store.blobs, &last, NULL), 1);
	assert_int_equal(read_blob(&f->store, &unknown), -ERROR_UNAVAILABLE);
	assert_int_equal(directory_service_has(f->store.directories, &unknown, NULL),
			 -ERROR_UNAVAILABLE);
	probe_fail(f->probes[2], PROBE_READS, ERROR_WOULD_BLOCK);
	assert_int_equal(read_blob(&f->store, &unknown), -ERROR_WOULD_BLOCK);
}

/* To the first that takes it, which alone is synced. */
static void test_writes(void **state)
{
	struct fixture *f = *state;

	probe_fail(f->probes[0], PROBE_WRITES, ERROR_DENIED);
	struct digest digest = put_blob(&f->store, "x");

	assert_int_equal(blob_service_has(f->behind[1].blobs, &digest, NULL), 1);
	assert_int_equal(store_sync(&f->store, NULL), 0);
	probe_fail(f->probes[1], PROBE_WRITES, ERROR_NO_SPACE);
	assert_int_equal(blob_service_put(f->store.blobs, bytes_of_string("y"), &digest, NULL),
			 -ERROR_NO_SPACE);
	assert_int_equal(store_sync(&f->store, NULL), -ERROR_NO_SPACE);
	probe_fail(f->probes[1], PROBE_WRITES, ERROR_UNSUPPORTED);
	probe_fail(f->probes[2], PROBE_WRITES, ERROR_DENIED);
	assert_int_equal(blob_service_put(f->store.blobs, bytes_of_string("y"), &digest, NULL),
			 -ERROR_DENIED);
}

static struct node node_of(const char *target)
{
	return (struct node){.kind = NODE_SYMLINK, .target = bytes_of_string(target)};
}

static int put_name(struct store *s, const char *name, const char *target, bool replace)
{
	struct node node = node_of(target);

	return root_nodes_put(s->roots, bytes_of_string(name), &node, replace, NULL);
}

static int remove_name(struct store *s, const char *name)
{
	return root_nodes_remove(s->roots, bytes_of_string(name), NULL);
}

static bool collect_name(void *context, struct bytes name, const struct node *node)
{
	struct buffer *b = context;

	buffer_append(b, name.ptr, name.len);
	buffer_append_byte(b, '=');
	buffer_append(b, node->target.ptr, node->target.len);
	buffer_append_byte(b, ' ');
	return name.ptr[0] != 'e';
}

static void check_list(struct fixture *f, const char *after, const char *wanted)
{
	struct buffer found cleanup(buffer_done) = {0};

	assert_int_equal(root_nodes_list(f->store.roots, bytes_of_string(after), collect_name,
					 &found, NULL),
			 0);
	assert_true(bytes_equal(buffer_bytes(&found), bytes_of_string(wanted)));
}

static void test_names(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put_name(&f->behind[0], "b", "0", false), 0);
	assert_int_equal(put_name(&f->behind[1], "a", "1", false), 0);
	assert_int_equal(put_name(&f->behind[1], "b", "hidden", false), 0);
	assert_int_equal(put_name(&f->behind[2], "c", "2", false), 0);
	assert_int_equal(put_name(&f->behind[2], "e", "2", false), 0);
	assert_int_equal(put_name(&f->behind[2], "f", "2", false), 0);
	check_list(f, "", "a=1 b=0 c=2 e=2 ");
	check_list(f, "b", "c=2 e=2 ");
	/* A name that would be hidden is not free. */
	assert_int_equal(put_name(&f->store, "c", "other", false), -ERROR_EXISTS);
	assert_int_equal(put_name(&f->store, "c", "other", true), 0);
	check_list(f, "b", "c=other e=2 ");
	assert_int_equal(remove_name(&f->store, "c"), 1);
	check_list(f, "b", "e=2 ");
	assert_int_equal(remove_name(&f->store, "c"), 0);
	probe_fail(f->probes[2], PROBE_WRITES, ERROR_DENIED);
	assert_int_equal(remove_name(&f->store, "e"), -ERROR_DENIED);
	/* A list that may lack names is none. */
	probe_fail(f->probes[1], PROBE_READS, ERROR_TIMEOUT);
	assert_int_equal(root_nodes_list(f->store.roots, bytes_of_string(""), collect_name,
					 &(struct buffer){0}, NULL),
			 -ERROR_TIMEOUT);
}

struct counting {
	unsigned next;
	bool wrong;
};

static bool count_record(void *context, struct bytes key, struct bytes value)
{
	struct counting *c = context;
	char wanted[32];

	snprintf(wanted, sizeof(wanted), "%05u", c->next++);
	c->wrong |= !bytes_equal(key, bytes_of_string(wanted)) ||
		    !bytes_equal(value, bytes_of_string(wanted));
	return true;
}

/* More than is looked at together, some of them in two stores. */
static void test_many_records(void **state)
{
	struct fixture *f = *state;
	struct counting c = {.next = 0};

	for (unsigned i = 0; i < 2000; i++) {
		char key[32];
		struct record_entry e;

		snprintf(key, sizeof(key), "%05u", i);
		e = (struct record_entry){.key = bytes_of_string(key),
					  .value = bytes_of_string(key)};
		assert_int_equal(record_table_put(f->behind[i % 3].path_infos, &e, 1, NULL), 0);
		if (i % 7 == 0) {
			assert_int_equal(record_table_put(f->behind[0].path_infos, &e, 1, NULL),
					 0);
		}
	}
	assert_int_equal(record_table_list(f->store.path_infos, bytes_of_string(""),
					   count_record, &c, NULL),
			 0);
	assert_int_equal(c.next, 2000);
	assert_false(c.wrong);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;
	struct digest digest = put_blob(&f->behind[0], "x");
	struct store s, staged = {0};
	struct record_entry e = {.key = bytes_of("k", 1), .value = bytes_of("v", 1)};
	struct blob_writer *w;
	struct buffer value cleanup(buffer_done) = {0};

	assert_int_equal(record_table_put(f->behind[0].path_infos, &e, 1, NULL), 0);
	read_only_store(&s, &f->behind[0]);
	assert_int_equal(read_blob(&s, &digest), 1);
	assert_int_equal(record_table_get(s.path_infos, e.key, &value, NULL), 1);
	assert_int_equal(blob_service_put(s.blobs, bytes_of("y", 1), NULL, NULL),
			 -ERROR_DENIED);
	assert_int_equal(blob_service_create(s.blobs, &w, NULL), -ERROR_DENIED);
	assert_int_equal(blob_service_discard(s.blobs, &digest, NULL), -ERROR_DENIED);
	assert_int_equal(record_table_put(s.path_infos, &e, 1, NULL), -ERROR_DENIED);
	assert_int_equal(record_table_remove(s.path_infos, e.key, NULL), -ERROR_DENIED);
	assert_int_equal(put_name(&s, "a", "b", true), -ERROR_DENIED);
	assert_int_equal(remove_name(&s, "a"), -ERROR_DENIED);
	assert_int_equal(store_stage(&s, &staged, NULL), -ERROR_DENIED);
	assert_int_equal(store_sync(&s, NULL), 0);
	store_close(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order),        TEST(test_writes),    TEST(test_names),
		TEST(test_many_records), TEST(test_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
