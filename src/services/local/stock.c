/* Taking stock: what a store consists of, as its index and its folders say. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/local_internal.h"

/* Folders below each other that are looked into. */
#define FOLDERS_MAX 4

struct stock {
	struct store_figures *figures;
	bool directories;
	struct error *err;
	int rc;
};

/* ---- The index ---- */

static bool count_object(void *context, struct bytes key unused, struct bytes value)
{
	struct stock *s = context;
	struct store_figures *f = s->figures;
	struct location l;

	s->rc = value.len == LOCATION_SIZE
			? location_decode(value.ptr, &l, s->err)
			: error_set(
				  s->err, ERROR_CORRUPT,
				  "the index of the store is damaged (a location of %zu bytes)",
				  value.len);
	if (s->rc) {
		return false;
	}
	struct store_part *part = s->directories            ? &f->directories
				  : l.kind == LOCATION_FILE ? &f->large_blobs
							    : &f->small_blobs;

	part->objects++;
	part->content += l.size;
	part->stored += location_stored(&l);
	f->pack_live += record_total(l.stored);
	return true;
}

/* A name takes the room of its last change: see logged_table.h. */
static bool count_name(void *context, struct bytes key, struct bytes value)
{
	struct stock *s = context;

	s->figures->pack_live += record_total(8 + 1 + 1 + key.len + value.len);
	return true;
}

static int count_tables(struct local_store *store, struct stock *s, struct error *err)
{
	static const struct {
		enum index_table table;
		index_visit visit;
	} tables[] = {{INDEX_BLOBS, count_object},
		      {INDEX_DIRECTORIES, count_object},
		      {INDEX_ROOTS, count_name},
		      {INDEX_PATH_INFOS, count_name}};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(tables); i++) {
		s->directories = tables[i].table == INDEX_DIRECTORIES;
		rc = index_scan(store->index, tables[i].table, (struct bytes){0},
				tables[i].visit, s, err);
		rc = rc ? rc : s->rc;
	}
	return rc;
}

static int count_index(struct local_store *store, struct store_figures *f, struct error *err)
{
	int rc = index_count(store->index, INDEX_ROOTS, &f->roots, err);

	if (rc == 0) {
		rc = index_count(store->index, INDEX_PATH_INFOS, &f->path_infos, err);
	}
	if (rc == 0) {
		rc = index_count(store->index, INDEX_SEEN, &f->seen, err);
	}
	return rc ? rc : index_space(store->index, &f->index_bytes, &f->index_free, err);
}

/* ---- The folders ---- */

static int count_folder(int parent, const char *name, struct store_folder *out, int depth,
			struct error *err);

static int count_entry(int dirfd, const char *name, struct store_folder *out, int depth,
		       struct error *err)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		/* Others are at work. */
		return errno == ENOENT ? 0
				       : error_set_errno(err, errno, "cannot stat %s", name);
	}
	if (S_ISREG(st.st_mode)) {
		out->files++;
		out->bytes += (uint64_t)st.st_size;
	}
	return S_ISDIR(st.st_mode) && depth ? count_folder(dirfd, name, out, depth - 1, err)
					    : 0;
}

/* A folder that is not there has nothing in it. */
static int count_folder(int parent, const char *name, struct store_folder *out, int depth,
			struct error *err)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		rc = errno == ENOENT ? 0 : error_set_errno(err, errno, "cannot list %s", name);
		cleanup_close(&fd);
		return rc;
	}
	while (rc == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			rc = count_entry(dirfd(dir), entry->d_name, out, depth, err);
		}
	}
	closedir(dir);
	return rc;
}

static int count_folders(struct local_store *store, struct store_figures *f, struct error *err)
{
	const struct {
		const char *name;
		struct store_folder *folder;
	} folders[] = {{"packs", &f->packs},
		       {"files", &f->files},
		       {"tmp", &f->tmp},
		       {"quarantine", &f->quarantine},
		       {"leases", &f->leases}};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(folders); i++) {
		rc = count_folder(store->dirfd, folders[i].name, folders[i].folder, FOLDERS_MAX,
				  err);
	}
	f->pack_live += f->packs.files * PACK_HEADER_SIZE;
	return rc ? error_wrap(err, "%s", store->path) : 0;
}

int local_store_take_stock(const char *path, struct store_figures *out, struct error *err)
{
	struct store_figures figures = {0};
	struct stock stock = {.figures = &figures, .err = err};
	struct local_store *s;
	int rc = local_store_get(&s, path, STORE_READ_ONLY, err);

	if (rc) {
		return rc;
	}
	rc = count_tables(s, &stock, err);
	if (rc == 0) {
		rc = count_index(s, &figures, err);
	}
	if (rc == 0) {
		rc = count_folders(s, &figures, err);
	}
	local_store_unref(s);
	if (rc == 0) {
		*out = figures;
	}
	return rc;
}
