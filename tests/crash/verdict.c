#include "verdict.h"

#include <stdio.h>
#include <sys/stat.h>

#include "castore/digest_map.h"
#include "nix/path_info_service.h"
#include "services/local/index.h"
#include "services/store_check.h"

#define PIECE ((size_t)1 << 20)
#define NEW_NAME "put-after-the-crash"

struct check {
	const char *name; /* of the store, as marks have it */
	const struct marks *marks;
	uint64_t now;
	struct store store;
	struct digest_map blobs, directories; /* those that were looked at */
	struct buffer names;                  /* all that was found, as text */
	struct error *err;
	int rc;
};

/* ---- objects ---- */

/* Services compare what they read with the digest. */
static int read_blob(struct check *c, const struct digest *digest)
{
	struct blob_reader *reader cleanup(cleanup_blob_reader) = NULL;
	static uint8_t piece[PIECE];
	size_t got = 1;

	if (!digest_map_put(&c->blobs, digest, 0)) {
		return 0;
	}
	int rc = blob_service_open(c->store.blobs, digest, &reader, c->err);

	if (rc <= 0) {
		return rc ? rc
			  : error_set(c->err, ERROR_CORRUPT, "the blob %s is missing",
				      digest_text(digest));
	}
	rc = 0;
	for (uint64_t at = 0; rc == 0 && got > 0; at += got) {
		rc = blob_reader_pread(reader, piece, sizeof(piece), at, &got, c->err);
	}
	return rc;
}

static int read_node(struct check *c, const struct node *node);

static int get_directory(struct check *c, const struct digest *digest, struct directory **out)
{
	int rc = directory_service_get(c->store.directories, digest, out, c->err);

	if (rc == 0) {
		return error_set(c->err, ERROR_CORRUPT, "the Directory %s is missing",
				 digest_text(digest));
	}
	return MIN(rc, 0);
}

/* Alone: what nothing refers to may be in the middle of being collected. */
static int read_one_directory(struct check *c, const struct digest *digest)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	return get_directory(c, digest, &d);
}

static int read_directory(struct check *c, const struct digest *digest)
{
	struct directory *d cleanup(cleanup_directory) = NULL;

	if (!digest_map_put(&c->directories, digest, 0)) {
		return 0;
	}
	int rc = get_directory(c, digest, &d);

	for (size_t i = 0; rc == 0 && i < directory_count(d); i++) {
		struct directory_entry entry;

		directory_entry(d, i, &entry);
		rc = read_node(c, &entry.node);
	}
	return rc;
}

static int read_node(struct check *c, const struct node *node)
{
	switch (node->kind) {
	case NODE_DIRECTORY:
		return read_directory(c, &node->digest);
	case NODE_FILE:
		return read_blob(c, &node->digest);
	case NODE_SYMLINK:
		break;
	}
	return 0;
}

static bool take_key(void *context, struct bytes key, struct bytes value unused)
{
	buffer_append(context, key.ptr, DIGEST_SIZE);
	return true;
}

/* Everything that the index says is there; before the store itself is opened. */
static int list_objects(const char *path, struct buffer *blobs, struct buffer *directories,
			struct error *err)
{
	char *index_path cleanup(cleanup_free) = xasprintf("%s/index", path);
	char *format cleanup(cleanup_free) = xasprintf("%s/format", path);
	char *data cleanup(cleanup_free) = xasprintf("%s/index/data.mdb", path);
	struct index *ix = NULL;
	struct stat st;

	/* LMDB would make an empty one. */
	if (stat(format, &st) != 0 || stat(data, &st) != 0) {
		return 0;
	}
	int rc = index_open(&ix, index_path, 0, err);

	if (rc == 0) {
		rc = index_scan(ix, INDEX_BLOBS, bytes_of(NULL, 0), take_key, blobs, err);
	}
	if (rc == 0) {
		rc = index_scan(ix, INDEX_DIRECTORIES, bytes_of(NULL, 0), take_key, directories,
				err);
	}
	index_close(ix);
	return rc;
}

static int read_listed(struct check *c, const struct buffer *digests,
		       int (*read)(struct check *c, const struct digest *digest))
{
	struct digest digest;
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < digests->len; at += DIGEST_SIZE) {
		memcpy(digest.bytes, digests->ptr + at, DIGEST_SIZE);
		rc = read(c, &digest);
	}
	return rc;
}

/* ---- names ---- */

static bool check_found(struct check *c, bool is_path, struct bytes name,
			const struct node *node)
{
	const struct mark *mark = marks_find(c->marks, c->name, is_path, name);
	char *line cleanup(cleanup_free) =
		xasprintf("%s %.*s %s\n", is_path ? "path" : "root", (int)name.len, name.ptr,
			  digest_text(&node->digest));
	bool is_new = !is_path && bytes_equal(name, bytes_of_string(NEW_NAME));

	buffer_append_string(&c->names, line);
	if (!is_new && (!mark || !marks_allow(c->marks, c->now, mark, &node->digest))) {
		c->rc = error_set(c->err, ERROR_CORRUPT, "unexpected: %s", line);
	} else {
		c->rc = read_node(c, node);
		if (c->rc) {
			error_wrap(c->err, "below %.*s", (int)name.len, name.ptr);
		}
	}
	return c->rc == 0;
}

static bool take_root(void *context, struct bytes name, const struct node *node)
{
	return check_found(context, false, name, node);
}

static bool take_info(void *context, const struct path_info *info)
{
	char text[STORE_PATH_BASENAME_MAX + 1];

	store_path_basename(&info->path, text);
	return check_found(context, true, bytes_of_string(text), &info->node.node);
}

/* Of the names that marks know, those that are not there may be absent. */
static int check_absent(struct check *c)
{
	for (size_t i = 0; i < c->marks->count; i++) {
		const struct mark *k = &c->marks->list[i];
		char *start cleanup(cleanup_free) =
			xasprintf("%s %s ", k->is_path ? "path" : "root", k->name);

		if (strcmp(k->store, c->name) == 0 &&
		    !memmem(c->names.ptr, c->names.len, start, strlen(start)) &&
		    !marks_allow(c->marks, c->now, k, NULL)) {
			return error_set(c->err, ERROR_CORRUPT, "%sis lost", start);
		}
	}
	return 0;
}

static int check_names(struct check *c)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(&c->store);
	int rc = root_nodes_list(c->store.roots, bytes_of(NULL, 0), take_root, c, c->err);

	if (rc == 0 && c->rc == 0) {
		rc = path_info_service_list(infos, NULL, take_info, c, c->err);
	}
	return rc ? rc : c->rc ? c->rc : check_absent(c);
}

/* ---- the whole ---- */

static int put_file(struct check *c, struct directory_builder *b, const char *name, size_t size)
{
	uint8_t *content cleanup(cleanup_free) = xmalloc(size);
	struct node node = {.kind = NODE_FILE, .size = size};

	for (size_t i = 0; i < size; i++) {
		content[i] = (uint8_t)(i / 7 * 31 + i);
	}
	int rc =
		blob_service_put(c->store.blobs, bytes_of(content, size), &node.digest, c->err);

	return rc ? rc : directory_builder_add(b, bytes_of_string(name), &node, c->err);
}

static int put_new(struct check *c)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;
	int rc = put_file(c, b, "large", (size_t)300 << 10);

	if (rc == 0) {
		rc = put_file(c, b, "small", 5000);
	}
	if (rc == 0) {
		rc = directory_builder_finish(b, &d, c->err);
	}
	if (rc == 0) {
		rc = directory_service_put(c->store.directories, d, c->err);
	}
	if (rc) {
		return rc;
	}
	struct node node = directory_node(d);

	return root_nodes_put(c->store.roots, bytes_of_string(NEW_NAME), &node, true, c->err);
}

static void forget(struct check *c)
{
	store_close(&c->store);
	digest_map_done(&c->blobs);
	digest_map_done(&c->directories);
	c->blobs = c->directories = (struct digest_map){0};
	c->names.len = 0;
}

/* As the index says it is. */
static int check_opened(struct check *c, const char *path)
{
	struct buffer blobs cleanup(buffer_done) = {0}, directories cleanup(buffer_done) = {0};
	int rc = list_objects(path, &blobs, &directories, c->err);

	if (rc == 0) {
		rc = store_open(&c->store, path, STORE_CREATE, c->err);
	}
	if (rc == 0) {
		rc = check_names(c);
	}
	if (rc == 0) {
		rc = read_listed(c, &blobs, read_blob);
	}
	if (rc == 0) {
		rc = read_listed(c, &directories, read_one_directory);
	}
	return rc;
}

/* What is there after a crash and one more put, by the index and by an index made again. */
static int check_again(struct check *c, const char *path)
{
	struct buffer before cleanup(buffer_done) = {0};
	struct store_rebuilt rebuilt;
	int rc = check_opened(c, path);

	if (rc) {
		return error_wrap(c->err, "after a put");
	}
	buffer_append(&before, c->names.ptr, c->names.len);
	forget(c);
	rc = store_rebuild(path, &rebuilt, c->err);
	if (rc == 0) {
		rc = check_opened(c, path);
	}
	if (rc == 0 && !bytes_equal(buffer_bytes(&before), buffer_bytes(&c->names))) {
		rc = error_set(c->err, ERROR_CORRUPT, "names were:\n%.*sand are:\n%.*s",
			       (int)before.len, (const char *)before.ptr, (int)c->names.len,
			       (const char *)c->names.ptr);
	}
	return rc ? error_wrap(c->err, "after reindex") : 0;
}

/* As `cairn fsck --read-data` sees it. */
static int check_whole(struct check *c, const char *path)
{
	const struct store_check_options options = {.read_data = true};
	struct store_check_report report = {0};
	int rc = store_check(path, &options, &report, c->err);

	if (rc == 0 && report.fault_count) {
		rc = error_set(c->err, ERROR_CORRUPT, "fsck: %s: %s",
			       store_fault_kind_name(report.faults[0].kind),
			       report.faults[0].text);
	}
	store_check_report_done(&report);
	return rc;
}

static int check_one(const char *folder, const char *name, const struct marks *marks,
		     uint64_t now, struct error *err)
{
	struct check c = {.name = name, .marks = marks, .now = now, .err = err};
	char *path cleanup(cleanup_free) = xasprintf("%s/%s", folder, name);
	int rc = check_opened(&c, path);

	forget(&c);
	if (rc == 0) {
		rc = check_whole(&c, path);
	}
	if (rc == 0) {
		rc = store_open(&c.store, path, 0, err);
	}
	if (rc == 0) {
		rc = put_new(&c);
		if (rc) {
			error_wrap(err, "cannot put");
		}
	}
	forget(&c);
	if (rc == 0) {
		rc = check_again(&c, path);
	}
	forget(&c);
	buffer_done(&c.names);
	return rc ? error_wrap(err, "store %s", name) : 0;
}

int verdict_on(const char *folder, const struct marks *marks, uint64_t now, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < marks->count; i++) {
		size_t first = 0;

		while (strcmp(marks->list[first].store, marks->list[i].store) != 0) {
			first++;
		}
		if (first == i) {
			rc = check_one(folder, marks->list[i].store, marks, now, err);
		}
	}
	return rc;
}
