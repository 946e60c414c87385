/* What lies about: files without a blob, entries of what importers saw. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/batch.h"
#include "services/local/collect.h"

#define SEEN_AT_ONCE ((size_t)4096)
/* Files get their names before the index knows them; clocks may be set meanwhile. */
#define PLACED_SINCE ((uint64_t)60)

/* ---- What importers saw ---- */

struct seen_entry {
	uint8_t key[SEEN_KEY_SIZE];
	uint8_t value[SEEN_VALUE_SIZE];
};

struct seen_sweep {
	struct collection *collection;
	struct seen_entry *batch;
	size_t count, visited;
	uint8_t next[SEEN_KEY_SIZE];
	bool more;
};

static struct bytes blob_key(const struct seen_entry *e)
{
	return bytes_of(e->value + SEEN_VALUE_SIZE - DIGEST_SIZE, DIGEST_SIZE);
}

static bool look_at_seen(void *context, struct bytes key, struct bytes value)
{
	struct seen_sweep *s = context;
	struct seen_entry *e = &s->batch[s->count];
	struct digest digest;

	if (s->count == SEEN_AT_ONCE || s->visited == 16 * SEEN_AT_ONCE) {
		memcpy(s->next, key.ptr, MIN(key.len, sizeof(s->next)));
		s->more = true;
		return false;
	}
	s->visited++;
	if (key.len == SEEN_KEY_SIZE && value.len == SEEN_VALUE_SIZE) {
		memcpy(e->key, key.ptr, SEEN_KEY_SIZE);
		memcpy(e->value, value.ptr, SEEN_VALUE_SIZE);
		memcpy(digest.bytes, blob_key(e).ptr, DIGEST_SIZE);
		s->count += !mark_has(&s->collection->mark, NODE_FILE, &digest) &&
			    !digest_equal(&digest, &digest_empty);
	}
	return true;
}

static int forget_seen(struct seen_sweep *s, struct error *err)
{
	struct index_write *w;
	struct bytes value;
	size_t gone = 0;
	int rc = s->count ? index_write_begin(s->collection->local->index, &w, err) : 0;

	if (rc || s->count == 0) {
		return rc;
	}
	for (size_t i = 0; rc >= 0 && i < s->count; i++) {
		const struct seen_entry *e = &s->batch[i];
		struct bytes key = bytes_of(e->key, SEEN_KEY_SIZE);

		rc = index_write_get(w, INDEX_BLOBS, blob_key(e), &value, err);
		if (rc == 0 && index_write_get(w, INDEX_SEEN, key, &value, err) > 0 &&
		    bytes_equal(value, bytes_of(e->value, SEEN_VALUE_SIZE))) {
			rc = index_write_delete(w, INDEX_SEEN, key, err);
			gone++;
		}
	}
	if (rc < 0 || gone == 0) {
		index_write_abort(w);
		return MIN(rc, 0);
	}
	return index_write_commit(w, err);
}

int sweep_seen(struct collection *c, struct error *err)
{
	struct seen_entry *batch cleanup(cleanup_free) =
		xcalloc(SEEN_AT_ONCE + 1, sizeof(*batch));
	struct seen_sweep s = {.collection = c, .batch = batch};
	int rc;

	do {
		struct bytes from = bytes_of(s.next, s.more ? sizeof(s.next) : 0);

		s.count = s.visited = 0;
		s.more = false;
		rc = collect_check_cancel(c, err);
		if (rc == 0) {
			rc = index_scan(c->local->index, INDEX_SEEN, from, look_at_seen, &s,
					err);
		}
		if (rc == 0) {
			rc = forget_seen(&s, err);
		}
	} while (rc == 0 && s.more);
	return rc;
}

/* ---- Files without a blob ---- */

/* Asker: has the index a blob that is this file? */
static int has_blob(struct collection *c, const struct digest *digest, struct error *err)
{
	uint8_t value[LOCATION_SIZE];
	struct location l;
	int rc = index_get(c->local->index, INDEX_BLOBS, digest_bytes(digest), value,
			   sizeof(value), err);

	return rc > 0 && location_decode(value, &l, NULL) == 0 ? l.kind == LOCATION_FILE : rc;
}

/* While nobody else writes to the index: a living process may be about to. */
static bool is_abandoned(struct collection *c, const struct stat *st)
{
	uint64_t since = c->leases.oldest ? c->leases.oldest : c->now;

	return S_ISREG(st->st_mode) && !collect_is_young(c, (uint64_t)st->st_mtime) &&
	       (!c->leases.oldest || (uint64_t)st->st_ctime + PLACED_SINCE < since);
}

static int unlink_abandoned(struct collection *c, const struct digest *digest,
			    struct error *err)
{
	char name[LOCAL_NAME_SIZE];
	struct index_write *w;
	struct stat st;
	int rc = index_write_begin(c->local->index, &w, err);

	if (rc) {
		return rc;
	}
	local_file_name(name, digest);
	rc = collect_catch_up(c, w, err);
	if (rc >= 0) {
		rc = has_blob(c, digest, err);
	}
	if (rc == 0 && fstatat(c->local->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    is_abandoned(c, &st) &&
	    (c->options->dry_run || unlinkat(c->local->dirfd, name, 0) == 0)) {
		c->result->files++;
		collect_freed(c, st.st_nlink == 1 ? (uint64_t)st.st_blocks * 512 : 0);
	}
	index_write_abort(w);
	return MIN(rc, 0);
}

static int sweep_folder(struct collection *c, const char *name, struct error *err)
{
	char *path cleanup(cleanup_free) = xasprintf("files/%s", name);
	int fd = openat(c->local->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = dir || errno == ENOENT ? 0
					: error_set_errno(err, errno, "cannot list %s/%s",
							  c->local->path, path);

	if (!dir) {
		cleanup_close(&fd);
		return rc;
	}
	while (rc == 0 && (entry = readdir(dir))) {
		struct digest digest;

		if (digest_from_hex(&digest, bytes_of_string(entry->d_name), NULL) != 0) {
			continue;
		}
		rc = has_blob(c, &digest, err);
		rc = rc == 0 ? unlink_abandoned(c, &digest, err) : MIN(rc, 0);
	}
	closedir(dir);
	return rc;
}

int sweep_files(struct collection *c, struct error *err)
{
	char name[3];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 256 && !collect_has_enough(c); i++) {
		snprintf(name, sizeof(name), "%02x", i);
		rc = collect_check_cancel(c, err);
		if (rc == 0) {
			rc = sweep_folder(c, name, err);
		}
	}
	if (rc == 0 && !c->options->dry_run) {
		collect_freed(c, scratch_remove_dead(c->local->dirfd));
	}
	return rc;
}
