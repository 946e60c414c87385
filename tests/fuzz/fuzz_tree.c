/*
 * Trees that somebody made up: sizes that lie, objects that are missing or of another kind, the
 * same Directory in many places. They are walked, looked into, read as NARs, copied to another
 * store and put into the file system. Ways that come to the same agree, or fail.
 *
 * Input: a byte of flags (HOW_*), a path with its length before it, then objects: 0 and two
 * bytes for a blob of that length; anything else is a Directory of so many entries: a byte for
 * the kind and what of it is a lie (LIE_*), a name with its length before it, the number of the
 * object, counted back, and the size if it is a lie. The last object is the root.
 */

#include "castore/path.h"
#include "ingest/export.h"
#include "ingest/transfer.h"
#include "nix/nar_view.h"
#include "nix/nar_writer.h"
#include "services/memory.h"

#include "fuzz.h"
#include "fuzz_folder.h"

#define OBJECTS_MAX 64
#define BLOB_MAX 40000u
/* What costs more to read than it may show. */
#define NAR_READ_MAX ((uint64_t)1 << 19)
#define NAR_EXPORT_MAX ((uint64_t)1 << 14)

enum how { HOW_EXPORT = 1, HOW_COPY = 2 };
enum lie { LIE_SIZE = 4, LIE_ABSENT = 8, LIE_KIND = 16 };

struct tree {
	struct store store;
	struct node nodes[OBJECTS_MAX];
	size_t count;
};

/* ---- making it ---- */

static void put_blob(struct tree *t, struct input *in)
{
	static uint8_t content[BLOB_MAX];
	struct node *n = &t->nodes[t->count];
	size_t size = (size_t)input_number(in, 2) % BLOB_MAX;

	memset(content, (int)t->count, size);
	*n = (struct node){.kind = NODE_FILE, .size = size};
	check(blob_service_put(t->store.blobs, bytes_of(content, size), &n->digest, NULL) == 0);
	t->count++;
}

static struct node take_node(const struct tree *t, struct input *in, unsigned what)
{
	static const struct digest absent = {.bytes = {1}};
	size_t back = (size_t)input_number(in, 1);
	struct node n = {.kind = NODE_FILE, .digest = digest_empty};

	if (what % 4 == 3) {
		return (struct node){.kind = NODE_SYMLINK, .target = input_string(in)};
	}
	if (t->count) {
		n = t->nodes[t->count - 1 - back % t->count];
	}
	if (what & LIE_KIND) {
		n.kind = n.kind == NODE_FILE ? NODE_DIRECTORY : NODE_FILE;
	}
	if (what & LIE_ABSENT) {
		n.digest = absent;
	}
	if (what & LIE_SIZE) {
		n.size = input_number(in, 8);
	}
	n.executable = n.kind == NODE_FILE && what % 4 == 1;
	return n;
}

static void put_directory(struct tree *t, struct input *in, size_t entries)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct error err = {0};

	for (size_t i = 0; in->left && i < entries; i++) {
		unsigned what = (unsigned)input_number(in, 1);
		struct bytes name = input_string(in);
		struct node node = take_node(t, in, what);

		result(directory_builder_add(b, name, &node, &err), &err);
	}
	if (result(directory_builder_finish(b, &d, &err), &err) == 0) {
		check(directory_service_put(t->store.directories, d, NULL) == 0);
		t->nodes[t->count++] = directory_node(d);
	}
}

static void make_tree(struct tree *t, struct input *in)
{
	memory_store_open(&t->store);
	for (size_t made = 0; in->left && made < OBJECTS_MAX; made++) {
		size_t entries = (size_t)input_number(in, 1);

		if (entries) {
			put_directory(t, in, entries);
		} else {
			put_blob(t, in);
		}
	}
}

/* ---- as Directories ---- */

static int get(void *context, const struct digest *digest, struct directory **out,
	       struct error *err)
{
	return directory_service_get(context, digest, out, err);
}

/* True when the whole closure is there; then its order is the one that others want. */
static bool check_closure(struct tree *t, const struct node *root, enum closure_order order)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) =
		closure_walk_new(order, &root->digest, get, t->store.directories);
	struct closure_validator *v cleanup(cleanup_closure_validator) =
		closure_validator_new(order, &root->digest);
	struct error err = {0};
	struct digest found;
	int rc = 1;

	while (rc > 0) {
		struct directory *d cleanup(cleanup_directory) = NULL;

		rc = result(closure_walk_next(walk, &d, &err), &err);
		check(rc <= 0 || closure_validator_add(v, d, &err) == 0);
	}
	if (rc == 0) {
		check(closure_validator_finish(v, &found, &err) == 0);
		check(digest_equal(&found, &root->digest));
	}
	return rc == 0;
}

static void check_path(struct tree *t, const struct node *root, struct bytes path)
{
	struct buffer target cleanup(buffer_done) = {0};
	struct error err = {0};
	struct node found;

	if (result(path_lookup(root, path, get, t->store.directories, &found, &target, &err),
		   &err) > 0) {
		check(found.kind >= NODE_DIRECTORY && found.kind <= NODE_SYMLINK);
		check(found.kind != NODE_SYMLINK || node_target_valid(found.target));
	}
}

/* ---- as a NAR ---- */

struct kept {
	struct nar_sink base;
	struct buffer bytes;
};

static int keep(struct nar_sink *s, struct bytes data, struct error *err unused)
{
	struct kept *k = container_of(s, struct kept, base);

	buffer_append(&k->bytes, data.ptr, data.len);
	return 0;
}

/* Backwards, each range a little into the one before. */
static void compare_view(struct nar_view *v, struct bytes nar)
{
	static uint8_t buf[5000];

	for (size_t i = nar.len / 4900 + 1; i > 0; i--) {
		size_t got, at = (i - 1) * 4900, n = MIN(sizeof(buf), nar.len - at);

		check(nar_view_pread(v, buf, sizeof(buf), at, &got, NULL) == 0);
		check(got == n && memcmp(buf, nar.ptr + at, n) == 0);
	}
}

/* The size of the NAR, 0 when nobody knows. It goes to out if it can be read, in both ways. */
static uint64_t check_nar(struct store *store, const struct node *root, struct buffer *out)
{
	struct nar_view *v cleanup(cleanup_nar_view) = NULL;
	struct kept k = {.base.write = keep};
	uint8_t sha256[SHA256_SIZE], buf[64];
	struct error err = {0};
	uint64_t written = 0;
	size_t got;

	if (result(nar_view_new(store, root, &v, &err), &err) != 0) {
		return 0;
	}
	uint64_t size = nar_view_size(v);

	if (size <= NAR_READ_MAX &&
	    result(nar_hash(store, root, &k.base, NULL, &written, sha256, &err), &err) == 0) {
		check(written == size && k.bytes.len == size);
		compare_view(v, buffer_bytes(&k.bytes));
		buffer_append(out, k.bytes.ptr, k.bytes.len);
	} else {
		/* Far out, where no other way gets to. */
		result(nar_view_pread(v, buf, sizeof(buf), size / 2, &got, &err), &err);
	}
	buffer_done(&k.bytes);
	return size;
}

/* ---- elsewhere ---- */

static void export(struct tree *t, const struct node *root)
{
	const struct export_options options = {.threads = 1};
	char *folder cleanup(cleanup_free) = fuzz_folder_new();
	struct error err = {0};
	char *path cleanup(cleanup_free) = xasprintf("%s/tree", folder);

	result(export_tree(&t->store, root, path, &options, NULL, &err), &err);
	fuzz_folder_remove(folder);
}

/* What was copied is all there. */
static void copy(struct tree *t, const struct node *root, struct bytes nar)
{
	const struct transfer_options options = {.jobs = 1};
	struct store to = {0};
	struct error err = {0};

	memory_store_open(&to);
	struct transfer *transfer = transfer_new(&t->store, &to, &options);
	int rc = result(transfer_add(transfer, root, &err), &err);

	if (rc == 0) {
		rc = result(transfer_settle(transfer, &err), &err);
	}
	transfer_free(transfer);
	if (rc == 0 && nar.len) {
		struct buffer again cleanup(buffer_done) = {0};

		check(check_nar(&to, root, &again) == nar.len);
		check(bytes_equal(buffer_bytes(&again), nar));
	}
	store_close(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	unsigned how = (unsigned)input_number(&in, 1);
	struct bytes path = input_string(&in);
	struct buffer nar = {0};
	struct tree t = {.count = 0};

	make_tree(&t, &in);
	if (t.count) {
		const struct node *root = &t.nodes[t.count - 1];

		if (root->kind == NODE_DIRECTORY) {
			check(check_closure(&t, root, CLOSURE_LEAVES_TO_ROOT) ==
			      check_closure(&t, root, CLOSURE_ROOT_TO_LEAVES));
		}
		check_path(&t, root, path);
		uint64_t nar_size = check_nar(&t.store, root, &nar);

		if (how & HOW_COPY) {
			copy(&t, root, buffer_bytes(&nar));
		}
		if ((how & HOW_EXPORT) && (nar_size || t.count < 4) &&
		    nar_size <= NAR_EXPORT_MAX) {
			export(&t, root);
		}
	}
	buffer_done(&nar);
	store_close(&t.store);
	return 0;
}
