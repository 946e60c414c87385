/* PathInfoServices: over every kind of store, and behind every service that stands before one.
 */

#include "served.h"
#include "suite.h"

#include <stdio.h>

#include "nix/path_info_service.h"

/* What stands before the store's service, if anything. */
static struct path_info_service *(*wrap)(struct path_info_service *inner);

static struct signing_key *test_key;

static struct path_info_service *wrap_signer(struct path_info_service *inner)
{
	return path_info_signer_new(inner, test_key);
}

static struct path_info_service *service_of(struct fixture *f)
{
	struct path_info_service *store = path_info_store_new(&f->store);

	if (!wrap) {
		return store;
	}
	struct path_info_service *s = wrap(store);

	path_info_service_unref(store);
	return s;
}

/* ---- Infos ---- */

static void make_hash(unsigned seed, uint8_t out[STORE_PATH_HASH_SIZE])
{
	struct digest d;

	digest_of(&d, bytes_of(&seed, sizeof(seed)));
	memcpy(out, d.bytes, STORE_PATH_HASH_SIZE);
}

static void make_path(unsigned seed, struct store_path *out)
{
	uint8_t hash[STORE_PATH_HASH_SIZE];
	char name[32];

	make_hash(seed, hash);
	snprintf(name, sizeof(name), "name-%u", seed);
	expect(0, store_path_set(out, hash, bytes_of_string(name), &err));
}

static void make_info(unsigned seed, struct path_info *out)
{
	const struct node nodes[] = {
		{.kind = NODE_DIRECTORY, .digest = unknown_digest((uint8_t)seed), .size = seed},
		make_file(bytes_of(&seed, sizeof(seed)), seed % 2),
		make_symlink("/nix/store/target"),
	};
	struct store_path references[2];

	*out = (struct path_info){.nar_size = 96 + seed};
	make_path(seed, &out->path);
	root_node_set(&out->node, &nodes[seed % ARRAY_SIZE(nodes)]);
	memset(out->nar_sha256, (int)seed, sizeof(out->nar_sha256));
	make_path(seed + 1000, &references[0]);
	make_path(seed + 1001, &references[1]);
	expect(0, path_info_set_references(out, references, seed % 3, &err));
}

/* Equal but for signatures, which a service may add. */
static void check_same(const struct path_info *a, const struct path_info *b)
{
	struct buffer x = {0}, y = {0};

	path_info_fingerprint(a, &x);
	path_info_fingerprint(b, &y);
	assert_true(bytes_equal(buffer_bytes(&x), buffer_bytes(&y)));
	assert_true(node_equal(&a->node.node, &b->node.node));
	assert_true(a->signature_count >= b->signature_count);
	buffer_done(&x);
	buffer_done(&y);
}

static void put(struct path_info_service *s, unsigned seed)
{
	struct path_info info;

	make_info(seed, &info);
	expect(0, path_info_service_put(s, &info, NULL, &err));
	path_info_done(&info);
}

static void check_there(struct path_info_service *s, unsigned seed)
{
	struct path_info wanted, found = {0};
	uint8_t hash[STORE_PATH_HASH_SIZE];

	make_hash(seed, hash);
	make_info(seed, &wanted);
	/* What it held is replaced. */
	path_info_copy(&found, &wanted);
	found.nar_size = 1;
	expect(1, path_info_service_get(s, hash, &found, &err));
	check_same(&found, &wanted);
	path_info_done(&found);
	path_info_done(&wanted);
}

static void check_absent(struct path_info_service *s, unsigned seed)
{
	struct path_info found = {0};
	uint8_t hash[STORE_PATH_HASH_SIZE];

	make_hash(seed, hash);
	expect(0, path_info_service_get(s, hash, &found, &err));
	path_info_done(&found);
}

static void remove_path(struct path_info_service *s, unsigned seed, int wanted)
{
	uint8_t hash[STORE_PATH_HASH_SIZE];

	make_hash(seed, hash);
	expect(wanted, path_info_service_remove(s, hash, &err));
}

/* ---- Tests ---- */

static void test_put_and_get(void **state)
{
	struct path_info_service *s = service_of(*state);

	check_absent(s, 1);
	for (unsigned i = 0; i < 12; i++) {
		put(s, i);
		check_there(s, i);
	}
	for (unsigned i = 0; i < 12; i++) {
		check_there(s, i);
		check_there(s, i);
	}
	check_absent(s, 12);
	path_info_service_unref(s);
}

static void test_put_gives_what_is_stored(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct path_info info, stored = {0}, found = {0};

	make_info(1, &info);
	expect(0, path_info_service_put(s, &info, &stored, &err));
	check_same(&stored, &info);
	expect(1, path_info_service_get(s, info.path.hash, &found, &err));
	check_same(&found, &stored);
	assert_int_equal(found.signature_count, stored.signature_count);
	path_info_done(&found);
	path_info_done(&stored);
	path_info_done(&info);
	path_info_service_unref(s);
}

static void test_replace_and_remove(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct path_info info, found = {0};

	put(s, 1);
	check_there(s, 1);
	make_info(1, &info);
	info.nar_size = 123456;
	expect(0, path_info_service_put(s, &info, NULL, &err));
	expect(1, path_info_service_get(s, info.path.hash, &found, &err));
	assert_int_equal(found.nar_size, 123456);
	remove_path(s, 1, 1);
	check_absent(s, 1);
	remove_path(s, 1, 0);
	put(s, 1);
	check_there(s, 1);
	path_info_done(&info);
	path_info_done(&found);
	path_info_service_unref(s);
}

static void test_put_many(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct path_info infos[20];

	for (unsigned i = 0; i < ARRAY_SIZE(infos); i++) {
		make_info(i, &infos[i]);
	}
	expect(0, path_info_service_put_many(s, infos, 0, &err));
	check_absent(s, 0);
	/* None of them, when one is broken. */
	infos[19].nar_size = 0;
	expect_error(ERROR_INVALID,
		     path_info_service_put_many(s, infos, ARRAY_SIZE(infos), &err));
	check_absent(s, 0);
	infos[19].nar_size = 96 + 19;
	expect(0, path_info_service_put_many(s, infos, ARRAY_SIZE(infos), &err));
	for (unsigned i = 0; i < ARRAY_SIZE(infos); i++) {
		check_there(s, i);
		path_info_done(&infos[i]);
	}
	path_info_service_unref(s);
}

static void test_remove_many(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct store_path paths[3];
	size_t removed;

	for (unsigned i = 0; i < 5; i++) {
		put(s, i);
		check_there(s, i);
	}
	make_path(3, &paths[0]);
	make_path(9, &paths[1]);
	make_path(4, &paths[2]);
	expect(0, path_info_service_remove_many(s, paths, 3, &removed, &err));
	assert_int_equal(removed, 2);
	check_absent(s, 3);
	check_absent(s, 4);
	check_there(s, 2);
	path_info_service_unref(s);
}

static void test_put_invalid(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct path_info info;

	make_info(1, &info);
	info.nar_size = 0;
	expect_error(ERROR_INVALID, path_info_service_put(s, &info, NULL, &err));
	check_absent(s, 1);
	path_info_done(&info);
	path_info_service_unref(s);
}

#define LISTED 40

struct listing {
	struct store_path paths[LISTED];
	size_t count;
	size_t stop_at;
};

static bool take(void *context, const struct path_info *info)
{
	struct listing *l = context;

	assert_true(l->count < l->stop_at);
	if (l->count) {
		/* The order of basenames. */
		assert_true(store_path_compare(&l->paths[l->count - 1], &info->path) < 0);
	}
	l->paths[l->count++] = info->path;
	return l->count < l->stop_at;
}

static void test_list(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct listing all = {.stop_at = LISTED};

	expect(0, path_info_service_list(s, NULL, take, &all, &err));
	assert_int_equal(all.count, 0);
	for (unsigned i = 0; i < LISTED; i++) {
		put(s, i);
	}
	expect(0, path_info_service_list(s, NULL, take, &all, &err));
	assert_int_equal(all.count, LISTED);
	for (size_t i = 0; i < LISTED; i++) {
		struct listing rest = {.stop_at = LISTED}, one = {.stop_at = 1};

		expect(0, path_info_service_list(s, all.paths[i].hash, take, &rest, &err));
		assert_int_equal(rest.count, LISTED - 1 - i);
		expect(0, path_info_service_list(s, all.paths[i].hash, take, &one, &err));
		assert_int_equal(one.count, i + 1 < LISTED);
		if (one.count) {
			assert_int_equal(store_path_compare(&one.paths[0], &all.paths[i + 1]),
					 0);
		}
	}
	path_info_service_unref(s);
}

/* ---- Broken ones below ---- */

static void put_record(struct fixture *f, unsigned seed, struct bytes value)
{
	uint8_t hash[STORE_PATH_HASH_SIZE], key[STORE_PATH_HASH_SIZE];

	make_hash(seed, hash);
	for (size_t i = 0; i < sizeof(key); i++) {
		key[i] = hash[sizeof(key) - 1 - i];
	}
	struct record_entry e = {.key = bytes_of(key, sizeof(key)), .value = value};

	struct store *below = served_behind() ? served_behind() : &f->store;

	expect(0, record_table_put(below->path_infos, &e, 1, &err));
}

static void check_corrupt(struct path_info_service *s, unsigned seed)
{
	struct path_info found = {0};
	struct listing l = {.stop_at = LISTED};
	uint8_t hash[STORE_PATH_HASH_SIZE];

	make_hash(seed, hash);
	expect_error(ERROR_CORRUPT, path_info_service_get(s, hash, &found, &err));
	expect_error(ERROR_CORRUPT, path_info_service_list(s, NULL, take, &l, &err));
	path_info_done(&found);
}

static void test_broken_below(void **state)
{
	struct fixture *f = *state;
	struct path_info_service *s = service_of(f);
	struct buffer message = {0};
	struct path_info info;

	put_record(f, 1, bytes_of_string("no path info"));
	check_corrupt(s, 1);
	/* A good one, but of another path. */
	make_info(2, &info);
	path_info_encode(&message, &info);
	put_record(f, 1, buffer_bytes(&message));
	check_corrupt(s, 1);
	/* Cut off. */
	put_record(f, 2, bytes_of(message.ptr, message.len - 1));
	check_corrupt(s, 2);
	remove_path(s, 1, 1);
	put(s, 2);
	check_there(s, 2);
	buffer_done(&message);
	path_info_done(&info);
	path_info_service_unref(s);
}

/* ---- As roots ---- */

static void check_root(struct root_nodes *r, const struct path_info *info)
{
	char name[STORE_PATH_BASENAME_MAX + 1];
	struct root_node found = {0};

	store_path_basename(&info->path, name);
	expect(1, root_nodes_lookup(r, bytes_of_string(name), &found, &err));
	assert_true(node_equal(&found.node, &info->node.node));
	root_node_done(&found);
}

static void check_root_absent(struct root_nodes *r, const char *name)
{
	struct root_node found = {0};

	expect(0, root_nodes_lookup(r, bytes_of_string(name), &found, &err));
	root_node_done(&found);
}

static void test_roots(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct root_nodes *r = path_info_roots_new(s);
	char name[STORE_PATH_BASENAME_MAX + 8];
	struct path_info info;

	make_info(1, &info);
	store_path_basename(&info.path, name);
	check_root_absent(r, name);
	put(s, 1);
	check_root(r, &info);
	/* The right hash, another name; no store path at all. */
	name[strlen(name) - 1] = 'x';
	check_root_absent(r, name);
	name[STORE_PATH_HASH_TEXT + 1] = '\0';
	check_root_absent(r, name);
	name[STORE_PATH_HASH_TEXT] = '\0';
	check_root_absent(r, name);
	check_root_absent(r, ".links");
	check_root_absent(r, "\xff");
	assert_true(root_nodes_may_grow(r));
	expect_error(ERROR_UNSUPPORTED,
		     root_nodes_put(r, bytes_of_string("x"), &info.node.node, true, &err));
	expect_error(ERROR_UNSUPPORTED, root_nodes_remove(r, bytes_of_string("x"), &err));
	path_info_done(&info);
	root_nodes_unref(r);
	path_info_service_unref(s);
}

struct names {
	char names[LISTED][STORE_PATH_BASENAME_MAX + 1];
	size_t count;
	size_t stop_at;
};

static bool take_name(void *context, struct bytes name, const struct node *node unused)
{
	struct names *n = context;

	assert_true(n->count < n->stop_at);
	memcpy(n->names[n->count], name.ptr, name.len);
	n->names[n->count++][name.len] = '\0';
	return n->count < n->stop_at;
}

static size_t count_after(struct root_nodes *r, const char *after, size_t stop_at)
{
	struct names *n cleanup(cleanup_free) = xcalloc(1, sizeof(*n));

	n->stop_at = stop_at;
	expect(0, root_nodes_list(r, bytes_of_string(after), take_name, n, &err));
	return n->count;
}

static void test_roots_list(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct root_nodes *r = path_info_roots_new(s);
	struct names *all = xcalloc(1, sizeof(*all));

	assert_int_equal(count_after(r, "", LISTED), 0);
	for (unsigned i = 0; i < LISTED; i++) {
		put(s, i);
	}
	all->stop_at = LISTED;
	expect(0, root_nodes_list(r, bytes_of(NULL, 0), take_name, all, &err));
	assert_int_equal(all->count, LISTED);
	for (size_t i = 0; i < LISTED; i++) {
		char other[STORE_PATH_BASENAME_MAX + 8];

		if (i) {
			assert_true(strcmp(all->names[i - 1], all->names[i]) < 0);
		}
		assert_int_equal(count_after(r, all->names[i], LISTED), LISTED - 1 - i);
		/* Names that are not there: just before it, just behind it, its beginning. */
		snprintf(other, sizeof(other), "%.33s0", all->names[i]);
		assert_int_equal(count_after(r, other, LISTED), LISTED - i);
		assert_int_equal(count_after(r, other, 1), 1);
		snprintf(other, sizeof(other), "%sx", all->names[i]);
		assert_int_equal(count_after(r, other, LISTED), LISTED - 1 - i);
		snprintf(other, sizeof(other), "%.10s", all->names[i]);
		assert_int_equal(count_after(r, other, LISTED), LISTED - i);
	}
	free(all);
	root_nodes_unref(r);
	path_info_service_unref(s);
}

static void test_roots_broken(void **state)
{
	struct fixture *f = *state;
	struct path_info_service *s = service_of(f);
	struct root_nodes *r = path_info_roots_new(s);
	char name[STORE_PATH_BASENAME_MAX + 1];
	struct root_node found = {0};
	struct store_path path;

	make_path(1, &path);
	store_path_basename(&path, name);
	put_record(f, 1, bytes_of_string("no path info"));
	expect_error(ERROR_CORRUPT, root_nodes_lookup(r, bytes_of_string(name), &found, &err));
	expect_error(ERROR_CORRUPT,
		     root_nodes_list(r, bytes_of_string("0"), take_name, NULL, &err));
	root_nodes_unref(r);
	path_info_service_unref(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* ---- What the signer adds ---- */

static void test_signed(void **state)
{
	struct path_info_service *s = service_of(*state);
	struct verifying_key *public cleanup(cleanup_verifying_key) = NULL;
	struct buffer text = {0};
	struct path_info infos[3], found = {0};

	signing_key_public_text(test_key, &text);
	expect(0, verifying_key_parse(buffer_bytes(&text), &public, &err));
	for (unsigned i = 0; i < ARRAY_SIZE(infos); i++) {
		make_info(i, &infos[i]);
	}
	/* Twice: the second signature is the first. */
	for (unsigned turn = 0; turn < 2; turn++) {
		expect(0, path_info_service_put_many(s, infos, ARRAY_SIZE(infos), &err));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(infos); i++) {
		assert_int_equal(infos[i].signature_count, 0);
		expect(1, path_info_service_get(s, infos[i].path.hash, &found, &err));
		assert_int_equal(found.signature_count, 1);
		assert_true(path_info_signed_by(&found, &public, 1));
		path_info_done(&infos[i]);
	}
	path_info_done(&found);
	buffer_done(&text);
	path_info_service_unref(s);
}

static int run_signer_tests(void)
{
	const struct CMUnitTest tests[] = {TEST(test_signed)};

	wrap = wrap_signer;
	return cmocka_run_group_tests_name("what the signer adds", tests, NULL, NULL);
}

int run_path_info_tests(void)
{
	static const struct {
		const char *name;
		struct path_info_service *(*wrap)(struct path_info_service *inner);
	} services[] = {{"path infos", NULL}, {"path infos behind signer", wrap_signer}};
	const struct CMUnitTest tests[] = {
		TEST(test_put_and_get),
		TEST(test_put_gives_what_is_stored),
		TEST(test_replace_and_remove),
		TEST(test_put_many),
		TEST(test_remove_many),
		TEST(test_put_invalid),
		TEST(test_list),
		TEST(test_broken_below),
		TEST(test_roots),
		TEST(test_roots_list),
		TEST(test_roots_broken),
	};
	int failed = 0;

	expect(0, signing_key_generate(bytes_of_string("test-1"), &test_key, &err));

	for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
		wrap = services[i].wrap;
		failed += cmocka_run_group_tests_name(services[i].name, tests, NULL, NULL);
	}
	failed += run_signer_tests();
	signing_key_free(test_key);
	return failed;
}
