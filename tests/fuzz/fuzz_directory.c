/*
 * Messages that claim to be Directories.
 *
 * What decodes strictly is what building it again gives, and its names are found. What is
 * normalized decodes strictly afterwards, and normalizing again changes nothing.
 */

#include <stdint.h>
#include <stdlib.h>

#include "castore/directory.h"

#include "fuzz.h"

/* Said once more here, so that the code under test does not judge itself. */
static void check_name(struct bytes name)
{
	check(name.len >= 1 && name.len <= 255);
	check(!memchr(name.ptr, '/', name.len) && !memchr(name.ptr, 0, name.len));
	check(!bytes_equal(name, bytes_of_string(".")));
	check(!bytes_equal(name, bytes_of_string("..")));
}

static void check_target(struct bytes target)
{
	check(target.len >= 1 && target.len <= 4095 && !memchr(target.ptr, 0, target.len));
}

static void check_entries(const struct directory *d)
{
	uint64_t sum = directory_count(d);
	struct bytes last = {0};

	for (size_t i = 0; i < directory_count(d); i++) {
		struct directory_entry e;

		directory_entry(d, i, &e);
		check_name(e.name);
		check(i == 0 || bytes_compare(last, e.name) < 0);
		check(bytes_equal(directory_entry_name(d, i), e.name));
		check(directory_find(d, e.name) == (ssize_t)i);
		if (e.node.kind == NODE_SYMLINK) {
			check_target(e.node.target);
		}
		if (e.node.kind == NODE_DIRECTORY) {
			check(!__builtin_add_overflow(sum, e.node.size, &sum));
		}
		last = e.name;
	}
	check(sum == directory_size(d));
	check(directory_find(d, bytes_of(NULL, 0)) == -1);
	check(directory_find(d, bytes_of_string("/")) == -1);
}

/* From the last entry to the first: the builder's order is its own. */
static void check_rebuilt(const struct directory *d)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *again cleanup(cleanup_directory) = NULL;

	for (size_t i = directory_count(d); i > 0; i--) {
		struct directory_entry e;

		directory_entry(d, i - 1, &e);
		check(directory_builder_add(b, e.name, &e.node, NULL) == 0);
	}
	check(directory_builder_finish(b, &again, NULL) == 0);
	check(bytes_equal(directory_encoding(d), directory_encoding(again)));
	check(digest_equal(directory_digest(d), directory_digest(again)));
}

/* The same bytes must come out of both decoders. */
static void check_canonical(struct bytes encoding)
{
	struct directory *strict cleanup(cleanup_directory) = NULL;
	struct directory *normal cleanup(cleanup_directory) = NULL;

	check(directory_decode(encoding, &strict, NULL) == 0);
	check(bytes_equal(directory_encoding(strict), encoding));
	check(directory_normalize(encoding, &normal, NULL) == 0);
	check(bytes_equal(directory_encoding(normal), encoding));
	check(directory_size(strict) == directory_size(normal));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes message = bytes_of(data, size);
	struct directory *strict cleanup(cleanup_directory) = NULL;
	struct directory *normal cleanup(cleanup_directory) = NULL;
	struct error err = {0};

	if (directory_decode(message, &strict, &err) == 0) {
		check_entries(strict);
		check_rebuilt(strict);
		check_canonical(message);
	} else {
		check(!strict && err.code != ERROR_NONE && told(&err));
	}
	if (directory_normalize(message, &normal, &err) == 0) {
		check_entries(normal);
		check_canonical(directory_encoding(normal));
	} else {
		check(!normal && !strict);
	}
	return 0;
}
