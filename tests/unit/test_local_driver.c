#include "test_local_driver.h"

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

char folder[] = "/tmp/cairn-test-local-XXXXXX";
char store_path[256];

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

int setup(void **state unused)
{
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	if (!mkdtemp(folder)) {
		return -1;
	}
	snprintf(store_path, sizeof(store_path), "%s/store", folder);
	return 0;
}

int teardown(void **state unused)
{
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void open_store(struct store *s, unsigned flags)
{
	struct error err = {0};

	if (local_store_open(s, store_path, flags, &err) != 0) {
		fail_msg("%s", err.text);
	}
}

void fill(uint8_t *data, size_t len, unsigned seed)
{
	uint32_t v = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		v = v * 1664525u + 1013904223u;
		data[i] = (uint8_t)(v >> 24);
	}
}

struct digest put_blob(struct store *s, size_t len, unsigned seed)
{
	uint8_t *data = xmalloc(len);
	struct error err = {0};
	struct digest d;

	fill(data, len, seed);
	if (blob_service_put(s->blobs, bytes_of(data, len), &d, &err) != 0) {
		fail_msg("%s", err.text);
	}
	free(data);
	return d;
}

void check_blob(struct store *s, size_t len, unsigned seed)
{
	uint8_t *expected = xmalloc(len), *got = xmalloc(len);
	struct error err = {0};
	struct digest d;
	size_t n = 0;

	fill(expected, len, seed);
	digest_of(&d, bytes_of(expected, len));
	if (blob_service_read(s->blobs, &d, 0, got, len, 0, &n, &err) != 1) {
		fail_msg("blob %u of %zu bytes: %s", seed, len, err.text);
	}
	assert_int_equal(n, len);
	assert_memory_equal(got, expected, len);
	free(expected);
	free(got);
}

struct digest digest_of_blob(size_t len, unsigned seed)
{
	uint8_t *data = xmalloc(len);
	struct digest d;

	fill(data, len, seed);
	digest_of(&d, bytes_of(data, len));
	free(data);
	return d;
}

struct directory *make_directory(const struct digest *file, uint64_t size)
{
	struct directory_builder *b = directory_builder_new();
	struct node node = {.kind = NODE_FILE, .digest = *file, .size = size};
	struct error err = {0};
	struct directory *d;

	assert_int_equal(directory_builder_add(b, bytes_of_string("file"), &node, &err), 0);
	assert_int_equal(directory_builder_finish(b, &d, &err), 0);
	directory_builder_free(b);
	return d;
}
