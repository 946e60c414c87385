#include "suite.h"

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "served.h"
#include "services/cache/cache.h"
#include "services/fallback.h"
#include "services/lru.h"
#include "services/memory.h"
#include "services/read_only.h"

/* So little that what is kept goes all the time. */
#define LRU_BYTES 32768

static struct {
	const char *prefixes; /* what stands before the address: "lru+cache+" */
	const char *address;
	bool staged;
	bool on_disk; /* the address is */
	char *dir;    /* of this run; NULL when nothing is on a disk */
	unsigned turn;
} suite;

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int suite_begin(const char *address)
{
	const char *tmp = getenv("TMPDIR");
	const char *base = tmp && tmp[0] ? tmp : "/tmp";

	suite.staged = strncmp(address, "staged+", 7) == 0;
	address += suite.staged ? 7 : 0;
	suite.prefixes = address;
	address = strrchr(address, '+') ? strrchr(address, '+') + 1 : address;
	suite.address = address;
	suite.on_disk = strncmp(address, "file://", 7) == 0;
	if (!suite.on_disk && !strstr(suite.prefixes, "disk-")) {
		return 0;
	}
	if (suite.on_disk && address[7] != '\0') {
		base = address + 7;
		mkdir(base, 0777);
	}
	suite.dir = xasprintf("%s/conformance-XXXXXX", base);
	if (!mkdtemp(suite.dir)) {
		perror(suite.dir);
		return -1;
	}
	return 0;
}

bool suite_plain(void)
{
	return strstr(suite.prefixes, "grpc-plain+") != NULL;
}

bool suite_has_names(void)
{
	return !suite.staged && !suite_plain();
}

bool suite_stages(void)
{
	return suite_has_names() &&
	       (suite_has_records() || strstr(suite.prefixes, "grpc-unix+memory"));
}

bool suite_has_records(void)
{
	return !suite.staged && strstr(suite.prefixes, "grpc-") == NULL;
}

bool suite_staged(void)
{
	return suite.staged;
}

void suite_end(void)
{
	if (suite.dir) {
		remove_tree(suite.dir);
		free(suite.dir);
		suite.dir = NULL;
	}
}

int fixture_setup_closed(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	*state = f;
	if (suite.on_disk) {
		f->dir = xasprintf("%s/%u", suite.dir, suite.turn++);
		f->address = xasprintf("file://%s/store", f->dir);
		return mkdir(f->dir, 0777);
	}
	if (strcmp(suite.address, "unchecked://") != 0) {
		f->address = xstrdup(suite.address);
	}
	return 0;
}

static void open_unchecked(struct fixture *f)
{
	struct error err = {0};

	expect_at(0, store_open(&f->store, "memory://", STORE_CREATE, &err), &err, "store_open",
		  __FILE__, __LINE__);
	f->unchecked = unchecked_service_new(f->store.blobs);
	f->store.blobs = unchecked_service_blobs(f->unchecked);
}

static void wrap_lru(struct store *out, const struct store *inner)
{
	lru_store(out, inner, LRU_BYTES);
}

static void wrap_unix(struct store *out, const struct store *inner)
{
	served_open(out, inner, SERVED_UNIX);
}

static void wrap_tcp(struct store *out, const struct store *inner)
{
	served_open(out, inner, SERVED_TCP);
}

static void wrap_tls(struct store *out, const struct store *inner)
{
	served_open(out, inner, SERVED_TLS);
}

static void wrap_plain(struct store *out, const struct store *inner)
{
	served_open(out, inner, SERVED_PLAIN);
}

/* With bounds so small that blobs come in parts, and parts go before they are complete. */
static void wrap_cache_with(struct store *out, const struct store *inner, struct store *near,
			    const char *folder)
{
	struct cache_options options = {
		.whole_max = CACHE_WHOLE_MIN,
		.ranges_max = 2 * CACHE_WHOLE_DEFAULT,
		.folder = folder,
	};

	expect(0, cache_store(out, near, inner, &options, &err));
	store_close(near);
}

static void wrap_cache(struct store *out, const struct store *inner)
{
	struct store near;

	memory_store_open(&near);
	wrap_cache_with(out, inner, &near, NULL);
}

static void wrap_disk_cache(struct store *out, const struct store *inner)
{
	char *address cleanup(cleanup_free) =
		xasprintf("file://%s/near-%u", suite.dir, suite.turn++);
	struct store near;

	expect(0, store_open(&near, address, STORE_CREATE, &err));
	wrap_cache_with(out, inner, &near, suite.dir);
}

/* The first store is empty and can only be read. */
static void wrap_fallback(struct store *out, const struct store *inner)
{
	struct store memory, stores[2] = {[1] = *inner};

	memory_store_open(&memory);
	read_only_store(&stores[0], &memory);
	fallback_store(out, stores, 2);
	store_close(&stores[0]);
	store_close(&memory);
}

static const struct {
	const char *prefix;
	void (*wrap)(struct store *out, const struct store *inner);
} wrappers[] = {
	{"lru+", wrap_lru},
	{"grpc-unix+", wrap_unix},
	{"grpc-tcp+", wrap_tcp},
	{"grpc-tls+", wrap_tls},
	{"grpc-plain+", wrap_plain},
	{"cache+", wrap_cache},
	{"disk-cache+", wrap_disk_cache},
	{"fallback+", wrap_fallback},
};

static void wrap_store(struct store *s, const char *prefix, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrappers); i++) {
		if (bytes_equal(bytes_of(prefix, len), bytes_of_string(wrappers[i].prefix))) {
			struct store inner = *s;

			wrappers[i].wrap(s, &inner);
			store_close(&inner);
			return;
		}
	}
	fail_msg("there is no '%.*s'", (int)len, prefix);
}

/* From the one next to the address outwards. */
static void wrap_all(struct store *s)
{
	size_t end = (size_t)(suite.address - suite.prefixes);

	while (end > 0) {
		size_t start = end - 1;

		while (start > 0 && suite.prefixes[start - 1] != '+') {
			start--;
		}
		wrap_store(s, suite.prefixes + start, end - start);
		end = start;
	}
}

int fixture_setup(void **state)
{
	int rc = fixture_setup_closed(state);
	struct fixture *f = *state;

	if (rc != 0) {
		return rc;
	}
	if (f->address) {
		expect(0, store_open(&f->store, f->address, STORE_CREATE, &err));
	} else {
		open_unchecked(f);
	}
	wrap_all(&f->store);
	if (suite.staged) {
		f->below = f->store;
		expect(0, store_stage(&f->below, &f->store, &err));
	}
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	store_close(&f->store);
	store_close(&f->below);
	served_stop_all();
	if (f->dir) {
		remove_tree(f->dir);
	}
	free(f->dir);
	free(f->address);
	free(f);
	return 0;
}

void expect_at(int wanted, int got, const struct error *err, const char *what, const char *file,
	       int line)
{
	if (wanted != got) {
		print_error("%s:\n  gave %d, not %d%s%s\n", what, got, wanted,
			    got < 0 ? ": " : "", got < 0 ? err->text : "");
		_fail(file, line);
	}
}

uint8_t *make_content(size_t len, uint64_t seed)
{
	uint8_t *content = xmalloc(len);
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 0x123456789u;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		content[i] = (uint8_t)(x >> 32);
	}
	return content;
}

struct digest unknown_digest(uint8_t seed)
{
	struct digest digest;

	memset(digest.bytes, seed, sizeof(digest.bytes));
	return digest;
}

struct node make_file(struct bytes content, bool executable)
{
	struct node node = {.kind = NODE_FILE, .executable = executable, .size = content.len};

	digest_of(&node.digest, content);
	return node;
}

struct node make_symlink(const char *target)
{
	return (struct node){.kind = NODE_SYMLINK, .target = bytes_of_string(target)};
}

struct directory *make_leaf(const char *name)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct node node = make_file(bytes_of_string(name), false);
	struct directory *d = NULL;

	expect(0, directory_builder_add(b, bytes_of_string(name), &node, &err));
	expect(0, directory_builder_finish(b, &d, &err));
	return d;
}

struct directory *make_parent(struct directory *const *children, size_t count)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d = NULL;

	for (size_t i = 0; i < count; i++) {
		struct node node = directory_node(children[i]);
		char name[32];

		snprintf(name, sizeof(name), "d%zu", i);
		expect(0, directory_builder_add(b, bytes_of_string(name), &node, &err));
	}
	expect(0, directory_builder_finish(b, &d, &err));
	return d;
}
