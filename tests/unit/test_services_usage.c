/* services/usage.h against the definition: sets of objects, made by walking every path. */

#include <unistd.h>

#include "castore/digest_map.h"
#include "craft.h"
#include "services/usage.h"
#include "test_local_driver.h"

#define DIRECTORIES 40
#define BLOBS 30
#define NAMES 6
#define ROUNDS 60

struct world {
	struct store store;
	struct dice dice;
	struct node blobs[BLOBS];
	struct directory *directories[DIRECTORIES];
	unsigned missing_blob; /* never put; BLOBS: all are */
};

static const char *const entry_names[] = {"a", "b", "c", "d"};

static void make_blobs(struct world *w)
{
	for (unsigned i = 0; i < BLOBS; i++) {
		size_t len = i == 0 ? 0 : i == 1 ? LARGE : dice_below(&w->dice, 9000);
		uint8_t *content = calloc(len + 4, 1);

		/* Some of it can be compressed. */
		dice_fill(&w->dice, content, len / 3);
		w->blobs[i] = (struct node){.kind = NODE_FILE, .size = len};
		digest_of(&w->blobs[i].digest, bytes_of(content, len));
		if (i != w->missing_blob) {
			assert_int_equal(blob_service_put(w->store.blobs,
							  bytes_of(content, len), NULL, NULL),
					 0);
		}
		free(content);
	}
}

/* Of blobs, symlinks and earlier directories: deep, and full of what is there twice. */
static void make_directories(struct world *w)
{
	for (unsigned i = 0; i < DIRECTORIES; i++) {
		struct directory_builder *b cleanup(cleanup_directory_builder) =
			directory_builder_new();

		for (unsigned k = 0; k < ARRAY_SIZE(entry_names); k++) {
			uint64_t roll = dice_below(&w->dice, 10);
			struct node node = w->blobs[dice_below(&w->dice, BLOBS)];

			if (roll < 4 && i) {
				unsigned recent = MIN(i, 8u);

				node = directory_node(
					w->directories[i - 1 - dice_below(&w->dice, recent)]);
			} else if (roll == 9) {
				node = craft_symlink_node("somewhere");
			}
			if (roll != 8) {
				assert_int_equal(directory_builder_add(
							 b, bytes_of_string(entry_names[k]),
							 &node, NULL),
						 0);
			}
		}
		assert_int_equal(directory_builder_finish(b, &w->directories[i], NULL), 0);
		assert_int_equal(
			directory_service_put(w->store.directories, w->directories[i], NULL),
			0);
	}
}

static void world_init(struct world *w, uint64_t seed)
{
	*w = (struct world){.dice = {seed}, .missing_blob = BLOBS};
	open_store(&w->store, STORE_CREATE);
	if (seed % 4 == 0) {
		w->missing_blob = 2 + (unsigned)dice_below(&w->dice, BLOBS - 2);
	}
	make_blobs(w);
	make_directories(w);
	assert_int_equal(store_sync(&w->store, NULL), 0);
}

static void world_done(struct world *w)
{
	for (unsigned i = 0; i < DIRECTORIES; i++) {
		directory_unref(w->directories[i]);
	}
	store_close(&w->store);
}

/* ---- What it must be ---- */

/* The objects that are found at paths with this prefix, or at all others. */
struct expected {
	const char *prefix; /* "": all paths */
	struct digest_map inside[2], outside[2];
	struct usage_figures figures;
};

static bool below(const char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	return n == 0 || (strncmp(path, prefix, n) == 0 && (!path[n] || path[n] == '/'));
}

static void take(struct world *w, struct expected *x, const char *path, const struct node *node)
{
	bool is_inside = below(path, x->prefix);

	if (node->kind == NODE_SYMLINK) {
		return;
	}
	if (node->kind == NODE_FILE && node->size == 0) {
		return;
	}
	digest_map_put(&(is_inside ? x->inside : x->outside)[node->kind == NODE_DIRECTORY],
		       &node->digest, node->size);
	if (node->kind == NODE_FILE) {
		x->figures.size += is_inside ? node->size : 0;
		return;
	}
	struct directory *d cleanup(cleanup_directory) = NULL;

	assert_int_equal(directory_service_get(w->store.directories, &node->digest, &d, NULL),
			 1);
	for (size_t i = 0; i < directory_count(d); i++) {
		struct directory_entry e;
		char *child cleanup(cleanup_free) = NULL;

		directory_entry(d, i, &e);
		child = xasprintf("%s/%.*s", path, (int)e.name.len, (const char *)e.name.ptr);
		take(w, x, child, &e.node);
	}
}

static void add_object(struct world *w, struct usage_amount *a, const struct digest *digest,
		       uint64_t size, bool is_directory)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	uint64_t stored = 0;
	int found;

	if (is_directory) {
		assert_int_equal(directory_service_get(w->store.directories, digest, &d, NULL),
				 1);
		size = directory_encoding(d).len;
		found = directory_service_stored(w->store.directories, digest, &stored, NULL);
	} else {
		found = blob_service_stored(w->store.blobs, digest, &stored, NULL);
	}
	a->objects++;
	a->content += size;
	a->files += is_directory ? 0 : size;
	a->stored += stored;
	a->missing += found == 0;
}

static void sum_up(struct world *w, struct expected *x)
{
	for (int kind = 0; kind < 2; kind++) {
		for (size_t i = 0; i < x->inside[kind].capacity; i++) {
			const struct digest_map_slot *slot = &x->inside[kind].slots[i];

			if (!slot->used) {
				continue;
			}
			add_object(w, &x->figures.all, &slot->key, slot->value, kind);
			if (!digest_map_get(&x->outside[kind], &slot->key)) {
				add_object(w, &x->figures.only, &slot->key, slot->value, kind);
			}
		}
	}
	for (int kind = 0; kind < 2; kind++) {
		digest_map_done(&x->inside[kind]);
		digest_map_done(&x->outside[kind]);
	}
}

/* ---- The comparison ---- */

struct round {
	struct world *w;
	struct node names[NAMES];
	unsigned name_count;
	unsigned lines;
	struct usage_figures total;
};

static char *name_of(unsigned i)
{
	return xasprintf("name%u", i);
}

static void expect(struct round *r, struct expected *x)
{
	for (unsigned i = 0; i < r->name_count; i++) {
		char *name cleanup(cleanup_free) = name_of(i);

		take(r->w, x, name, &r->names[i]);
	}
	sum_up(r->w, x);
}

static void assert_amount(const struct usage_amount *a, const struct usage_amount *b)
{
	assert_int_equal(a->objects, b->objects);
	assert_int_equal(a->content, b->content);
	assert_int_equal(a->files, b->files);
	assert_int_equal(a->stored, b->stored);
	assert_int_equal(a->missing, b->missing);
}

static bool compare_line(void *context, struct bytes path, const struct usage_figures *f)
{
	struct round *r = context;

	if (path.len == 0) {
		r->total = *f;
		return true;
	}
	char *prefix cleanup(cleanup_free) =
		xasprintf("%.*s", (int)path.len, (const char *)path.ptr);
	struct expected x = {.prefix = prefix};

	expect(r, &x);
	assert_int_equal(f->size, x.figures.size);
	assert_amount(&f->all, &x.figures.all);
	assert_amount(&f->only, &x.figures.only);
	r->lines++;
	return true;
}

/* Some path below a name: as far down as the dice say. Its node, and the path in b. */
static struct node some_path(struct round *r, unsigned name, struct buffer *b)
{
	struct node node = r->names[name];

	while (node.kind == NODE_DIRECTORY && dice_below(&r->w->dice, 3)) {
		struct directory *d cleanup(cleanup_directory) = NULL;
		struct directory_entry e;

		assert_int_equal(
			directory_service_get(r->w->store.directories, &node.digest, &d, NULL),
			1);
		if (directory_count(d) == 0) {
			break;
		}
		directory_entry(d, dice_below(&r->w->dice, directory_count(d)), &e);
		if (e.node.kind == NODE_SYMLINK) {
			break;
		}
		if (b->len) {
			buffer_append_byte(b, '/');
		}
		buffer_append(b, e.name.ptr, e.name.len);
		node = e.node;
	}
	return node;
}

static void walk_all(struct round *r, struct usage *u, unsigned depth)
{
	struct error err = {0};

	assert_int_equal(usage_walk(u, depth, &err), 0);
	for (unsigned i = 0; i < r->name_count; i++) {
		char *name cleanup(cleanup_free) = name_of(i);

		assert_int_equal(usage_walk_name(u, bytes_of_string(name), &r->names[i], &err),
				 0);
	}
}

static void test_random_worlds(void **state unused)
{
	struct world w;
	unsigned lines = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct round r = {.w = &w};

		world_init(&w, i);
		r.name_count = 1 + (unsigned)dice_below(&w.dice, NAMES);
		for (unsigned k = 0; k < r.name_count; k++) {
			r.names[k] = directory_node(
				w.directories[DIRECTORIES - 1 - dice_below(&w.dice, 12)]);
		}
		struct usage *u cleanup(cleanup_usage) = usage_new(&w.store);

		assert_true(usage_knows_stored(u));
		for (uint64_t k = dice_below(&w.dice, 6); k < 6; k++) {
			unsigned at = (unsigned)dice_below(&w.dice, r.name_count);
			char *name cleanup(cleanup_free) = name_of(at);
			struct buffer path cleanup(cleanup_buffer) = {0};
			struct node node = some_path(&r, at, &path);

			usage_ask(u, bytes_of_string(name), buffer_bytes(&path), &node);
		}
		walk_all(&r, u, (unsigned)dice_below(&w.dice, 3));
		assert_int_equal(usage_each(u, compare_line, &r, NULL), 0);
		lines += r.lines;
		world_done(&w);
	}
	assert_true(lines > 3 * ROUNDS);
}

/* Of all names together: with lines and without. */
static void test_total(void **state unused)
{
	struct world w;
	struct round r = {.w = &w, .name_count = NAMES}, sums = {.w = &w};
	struct expected x = {.prefix = ""};

	world_init(&w, 77);
	struct usage *u cleanup(cleanup_usage) = usage_new(&w.store);
	struct usage *all cleanup(cleanup_usage) = usage_new(&w.store);

	for (unsigned i = 0; i < NAMES; i++) {
		char *name cleanup(cleanup_free) = name_of(i);

		r.names[i] = directory_node(w.directories[DIRECTORIES - 1 - i % 3]);
		usage_ask(u, bytes_of_string(name), (struct bytes){0}, &r.names[i]);
		assert_int_equal(usage_add(all, &r.names[i], NULL), 0);
	}
	walk_all(&r, u, 0);
	assert_int_equal(usage_each(u, compare_line, &r, NULL), 0);
	assert_int_equal(usage_each(all, compare_line, &sums, NULL), 0);
	expect(&r, &x);
	assert_int_equal(r.lines, NAMES);
	assert_int_equal(sums.lines, 0);
	assert_amount(&r.total.all, &x.figures.all);
	assert_amount(&r.total.only, &x.figures.all);
	assert_amount(&sums.total.all, &x.figures.all);
	assert_int_equal(r.total.size, x.figures.size);
	assert_int_equal(sums.total.size, x.figures.size);
	world_done(&w);
}

/* A tree without a name, a Directory that is not there, and a store that knows no room. */
static void test_other_stores(void **state unused)
{
	struct store s = {0};
	struct round r = {0};
	struct node node = craft_directory_node(7, 3), blob = craft_file_node(8, 100, false);

	assert_int_equal(store_open(&s, "memory://", 0, NULL), 0);
	struct usage *u cleanup(cleanup_usage) = usage_new(&s);

	assert_false(usage_knows_stored(u));
	assert_int_equal(usage_add(u, &node, NULL), 0);
	assert_int_equal(usage_add(u, &blob, NULL), 0);
	assert_int_equal(usage_add(u, &blob, NULL), 0);
	assert_int_equal(usage_each(u, compare_line, &r, NULL), 0);
	assert_int_equal(r.total.all.objects, 2);
	assert_int_equal(r.total.all.content, 100);
	assert_int_equal(r.total.all.stored, 0);
	assert_int_equal(r.total.all.missing, 1);
	assert_int_equal(r.total.size, 200);
	store_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random_worlds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_total, setup, teardown),
		cmocka_unit_test(test_other_stores),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
