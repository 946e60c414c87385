/*
 * Bytes that claim to be a NAR.
 *
 * What the reader takes is what the writer writes: it is put into a store, and its NAR, read
 * from there as a stream and in ranges, is the same bytes. What the reader refuses nobody
 * stores, and a quarter of all is restored to the disk: nothing is there but in its place. The
 * source gives pieces of changing sizes, so that everything is cut somewhere.
 */

#include <unistd.h>

#include "nix/nar_ingest.h"
#include "nix/nar_reader.h"
#include "nix/nar_restore.h"
#include "nix/nar_view.h"
#include "nix/nar_writer.h"
#include "services/memory.h"

#include "fuzz.h"
#include "fuzz_folder.h"

struct memory_source {
	struct nar_source base;
	struct bytes rest;
	size_t turn;
};

static int read_memory(struct nar_source *s, void *buf, size_t len, size_t *got,
		       struct error *err unused)
{
	static const size_t pieces[] = {64, 1, 4096, 7, 8, 300};
	struct memory_source *m = container_of(s, struct memory_source, base);
	size_t piece = pieces[m->turn++ % ARRAY_SIZE(pieces)];
	size_t n = MIN(MIN(len, m->rest.len), piece);

	if (n) {
		memcpy(buf, m->rest.ptr, n);
		m->rest = bytes_of(m->rest.ptr + n, m->rest.len - n);
	}
	*got = n;
	return 0;
}

static struct memory_source source_of(struct bytes nar)
{
	return (struct memory_source){.base.read = read_memory, .rest = nar};
}

/* Said once more here, so that the code under test does not judge itself. */
static void check_item(const struct nar_item *item)
{
	check(item->name.len <= 255);
	check(!item->name.len || !memchr(item->name.ptr, '/', item->name.len));
	check(!bytes_equal(item->name, bytes_of_string("..")));
	if (item->event == NAR_SYMLINK) {
		check(item->target.len >= 1 && item->target.len <= 4095);
	}
}

static bool readable(struct bytes nar)
{
	struct memory_source source = source_of(nar);
	struct nar_reader *r cleanup(cleanup_nar_reader) = nar_reader_new(&source.base);
	struct error err = {0};
	struct nar_item item;
	struct bytes piece;
	int rc;

	while ((rc = nar_reader_next(r, &item, &err)) > 0) {
		uint64_t content = 0;

		check_item(&item);
		while ((rc = nar_reader_content(r, &piece, &err)) > 0) {
			check(piece.len > 0);
			content += piece.len;
		}
		check(item.event == NAR_FILE || content == 0);
		check(rc < 0 || content == item.size);
		if (rc < 0) {
			break;
		}
	}
	check(nar_reader_offset(r) <= nar.len);
	check(rc == 0 || (err.code != ERROR_NONE && told(&err)));
	check(rc < 0 || nar_reader_offset(r) == nar.len);
	return rc == 0;
}

/* Compares what comes with what must come. */
struct compare_sink {
	struct nar_sink base;
	struct bytes rest;
};

static int compare(struct nar_sink *s, struct bytes data, struct error *err unused)
{
	struct compare_sink *c = container_of(s, struct compare_sink, base);

	check(data.len <= c->rest.len && memcmp(data.ptr, c->rest.ptr, data.len) == 0);
	c->rest = bytes_of(c->rest.ptr + data.len, c->rest.len - data.len);
	return 0;
}

static void check_view(struct store *store, const struct node *node, struct bytes nar)
{
	struct nar_view *v cleanup(cleanup_nar_view) = NULL;
	uint8_t buf[61];

	check(nar_view_new(store, node, &v, NULL) == 0);
	check(nar_view_size(v) == nar.len);
	/* Backwards, each range a little into the one before. */
	for (size_t i = nar.len / 53 + 1; i > 0; i--) {
		size_t got, at = (i - 1) * 53, n = MIN(sizeof(buf), nar.len - at);

		check(nar_view_pread(v, buf, sizeof(buf), at, &got, NULL) == 0);
		check(got == n && memcmp(buf, nar.ptr + at, n) == 0);
	}
}

static void check_stored(struct store *store, const struct nar_read *read, struct bytes nar)
{
	const struct node *node = &read->node.node;
	struct compare_sink sink = {.base.write = compare, .rest = nar};
	uint8_t sha256[SHA256_SIZE];
	uint64_t size;

	check(read->size == nar.len);
	check(nar_hash(store, node, &sink.base, NULL, &size, sha256, NULL) == 0);
	check(sink.rest.len == 0 && size == nar.len);
	check(memcmp(sha256, read->sha256, SHA256_SIZE) == 0);
	check_view(store, node, nar);
}

static void check_restored(struct bytes nar)
{
	struct memory_source source = source_of(nar);
	char *folder cleanup(cleanup_free) = fuzz_folder_new();
	struct error err = {0};
	char *place cleanup(cleanup_free) = xasprintf("%s/place", folder);

	/* Names may be too long for this file system, or for a path: then it says so. */
	result(nar_restore(&source.base, place, NULL, &err), &err);
	fuzz_folder_remove(place);
	check(rmdir(folder) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes nar = bytes_of(data, size);
	struct memory_source source = source_of(nar);
	struct nar_read read = {0};
	struct store store;

	memory_store_open(&store);
	int rc = nar_ingest(&store, &source.base, NULL, &read, NULL);

	check((rc == 0) == readable(nar));
	if (rc == 0) {
		check_stored(&store, &read, nar);
	}
	if (size % 4 == 0) {
		check_restored(nar);
	}
	root_node_done(&read.node);
	store_close(&store);
	return 0;
}
