#include "services/local/local_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/disk.h"
#include "base/io.h"
#include "services/local/direct_reader.h"
#include "services/local/format_file.h"
#include "services/local/local_internal.h"
#include "services/local/local_stage.h"
#include "services/local/name_guard.h"

#define PACKS_OPEN_MAX 4096
#define FILES_OPEN_MAX 512

/*
 * LMDB must not open one environment twice in a process, so each store is open once and shared.
 * The lock guards the list and the step from the last reference to being gone.
 */
static pthread_mutex_t open_stores_lock = PTHREAD_MUTEX_INITIALIZER;
static struct local_store *open_stores;

static int read_format(struct local_store *s, struct error *err)
{
	return format_file_read(s->dirfd, s->path, s->id, err);
}

static int write_format(struct local_store *s, struct error *err)
{
	if (getrandom(s->id, STORE_ID_SIZE, 0) != STORE_ID_SIZE) {
		return error_set_errno(err, errno, "cannot make a store id");
	}
	return format_file_write(s->dirfd, s->id, err);
}

/* ---- opening ---- */

/* Refuses a folder with anything in it that an interrupted creation would not have left. */
static int check_unused(struct local_store *s, struct error *err)
{
	static const char *const ours[] = {".",     "..",    "format", "lock",      "index",
					   "packs", "files", "tmp",    LEASE_FOLDER};
	int fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		rc = error_set_errno(err, errno, "cannot list %s", s->path);
		cleanup_close(&fd);
		return rc;
	}
	while (rc == 0 && (entry = readdir(dir))) {
		bool known = strncmp(entry->d_name, "format.", 7) == 0;

		for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
			known |= strcmp(entry->d_name, ours[i]) == 0;
		}
		if (!known) {
			rc = error_set(err, ERROR_INVALID,
				       "%s is neither a cairn store nor an empty directory",
				       s->path);
		}
	}
	closedir(dir);
	return rc;
}

/* Asker: does the folder have anything in it? */
static int holds_something(struct local_store *s, const char *name, struct error *err)
{
	int fd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned count = 0;

	if (!dir) {
		int errnum = errno;

		cleanup_close(&fd);
		return errnum == ENOENT ? 0
					: error_set_errno(err, errnum, "cannot list %s/%s",
							  s->path, name);
	}
	while (readdir(dir)) {
		count++;
	}
	closedir(dir);
	return count > 2;
}

/* An index that a crash left half made is of no use; a store that has objects is none of ours.
 */
static int clear_layout(struct local_store *s, struct error *err)
{
	static const char *const folders[] = {"packs", "files"};

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		int rc = holds_something(s, folders[i], err);

		if (rc) {
			return rc < 0 ? rc
				      : error_set(err, ERROR_CORRUPT,
						  "%s has lost its file \"format\", but there "
						  "is something in %s/",
						  s->path, folders[i]);
		}
	}
	local_index_remove(s, "index");
	return 0;
}

static int create_layout(struct local_store *s, struct error *err)
{
	static const char *const folders[] = {"index", "packs", "files", "tmp", LEASE_FOLDER};
	int rc = clear_layout(s, err);

	if (rc) {
		return rc;
	}
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (mkdirat(s->dirfd, folders[i], 0755) != 0 && errno != EEXIST) {
			return error_set_errno(err, errno, "cannot create %s/%s", s->path,
					       folders[i]);
		}
	}
	return 0;
}

static int open_directory(struct local_store *s, unsigned flags, struct error *err)
{
	s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0 && errno == ENOENT && (flags & STORE_CREATE)) {
		int rc = make_directories(s->path, 0755, err);

		if (rc) {
			return rc;
		}
		s->dirfd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (s->dirfd < 0) {
		return errno == ENOENT
			       ? error_set(err, ERROR_NOT_FOUND, "there is no store at %s",
					   s->path)
			       : error_set_errno(err, errno, "cannot open store %s", s->path);
	}
	return 0;
}

/* Only a writer needs to create the lock; who cannot lock a read-only disk has no need to. */
static int take_lock(struct local_store *s, int how, struct error *err)
{
	s->lockfd = openat(s->dirfd, "lock",
			   s->read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC,
			   0644);
	if (s->lockfd < 0) {
		return s->read_only ? 0
				    : error_set_errno(err, errno, "cannot write to store %s",
						      s->path);
	}
	while (flock(s->lockfd, how) != 0) {
		if (errno == EWOULDBLOCK) {
			return error_set(err, ERROR_UNAVAILABLE,
					 "store %s is in use by another process", s->path);
		}
		if (errno != EINTR) {
			return error_set_errno(err, errno, "cannot lock store %s", s->path);
		}
	}
	return 0;
}

static int open_index(struct local_store *s, bool create, struct error *err)
{
	char *path cleanup(cleanup_free) = xasprintf("%s/index", s->path);
	char *data cleanup(cleanup_free) = xasprintf("%s/data.mdb", path);

	struct stat st;

	/* An empty file would become an empty index. */
	if (!create && (stat(data, &st) != 0 || st.st_size == 0)) {
		return error_set(
			err, ERROR_CORRUPT,
			"store %s has lost its index; `cairn reindex` makes a new one from "
			"its packs and files",
			s->path);
	}
	return index_open(&s->index, path,
			  (create ? INDEX_CREATE : 0u) | (s->read_only ? INDEX_READ_ONLY : 0u),
			  err);
}

/* The names of a new store's folders, of its index, and of itself. */
static int sync_names(struct local_store *s, struct error *err)
{
	static const char *const folders[] = {"index", ".", ".."};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(folders); i++) {
		int fd cleanup(cleanup_close) =
			openat(s->dirfd, folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		/* The folder above may be closed to us; then it is not ours to sync. */
		if (fd < 0 && errno == EACCES) {
			continue;
		}
		rc = fd < 0 ? error_set_errno(err, errno, "cannot open %s/%s", s->path,
					      folders[i])
			    : sync_directory(fd, err);
	}
	return rc;
}

/* Asker: 0 when another process made the store meanwhile. Alone while it works. */
static int create_store(struct local_store *s, struct error *err)
{
	/* Before the lock file is made: somebody's folder stays as it is. */
	int rc = check_unused(s, err);

	if (rc == 0) {
		rc = take_lock(s, LOCK_EX, err);
	}
	if (rc == 0) {
		rc = read_format(s, err);
	}
	if (rc) {
		return rc < 0 ? rc : 0;
	}
	rc = create_layout(s, err);
	if (rc == 0) {
		rc = open_index(s, true, err);
	}
	if (rc == 0) {
		rc = sync_names(s, err);
	}
	/* The format file comes last: a store that has one is whole. */
	if (rc == 0) {
		rc = write_format(s, err);
	}
	return rc ? rc : 1;
}

static int open_parts(struct local_store *s, unsigned flags, struct error *err)
{
	int rc = read_format(s, err);
	bool created = false;

	if (rc == 0) {
		if (!(flags & STORE_CREATE) || s->read_only) {
			return error_set(err, ERROR_NOT_FOUND, "there is no store at %s",
					 s->path);
		}
		rc = create_store(s, err);
		created = rc > 0;
	} else if (rc > 0) {
		rc = take_lock(s, LOCK_SH, err);
	}
	if (rc >= 0 && !created) {
		rc = open_index(s, false, err);
	}
	if (rc >= 0) {
		int failed = epoch_read(s->index, &s->epoch, err);

		rc = failed ? failed : rc;
	}
	if (rc < 0) {
		return rc;
	}
	if (created && flock(s->lockfd, LOCK_SH) != 0) {
		return error_set_errno(err, errno, "cannot lock store %s", s->path);
	}
	return 0;
}

void local_store_free(struct local_store *s)
{
	direct_reader_free(s->direct);
	if (s->opened) {
		committer_done(&s->committer);
	}
	index_close(s->index);
	scratch_done(&s->scratch, s->dirfd);
	lease_done(&s->lease);
	codec_pool_done(&s->codecs);
	presence_done(&s->presence);
	file_cache_done(&s->packs);
	file_cache_done(&s->files);
	for (size_t i = 0; i < RECENT_BLOBS; i++) {
		free(s->recent[i].content);
		pthread_mutex_destroy(&s->recent[i].lock);
	}
	if (s->lockfd >= 0) {
		close(s->lockfd);
	}
	if (s->dirfd >= 0) {
		close(s->dirfd);
	}
	free(s->path);
	free(s);
}

static struct local_store *local_store_new(const char *path, unsigned flags)
{
	struct local_store *s = xcalloc(1, sizeof(*s));

	s->path = xstrdup(path);
	s->dirfd = s->lockfd = -1;
	s->read_only = flags & STORE_READ_ONLY;
	atomic_init(&s->durability, (int)durability_of(flags));
	atomic_init(&s->refs, 0);
	scratch_init(&s->scratch);
	lease_init(&s->lease, flags & STORE_LONG_LIVED);
	codec_pool_init(&s->codecs);
	presence_init(&s->presence);
	/* A quarter of what the process may have open; several stores may be. */
	file_cache_init(&s->packs, MIN(open_file_limit() / 8 + 1, PACKS_OPEN_MAX));
	file_cache_init(&s->files, MIN(open_file_limit() / 8 + 1, FILES_OPEN_MAX));
	for (size_t i = 0; i < RECENT_BLOBS; i++) {
		pthread_mutex_init(&s->recent[i].lock, NULL);
	}
	return s;
}

/* The store with this directory, if this process has it open. */
static struct local_store *find_open_locked(const struct stat *st)
{
	for (struct local_store *s = open_stores; s; s = s->next_open) {
		if (s->device == st->st_dev && s->inode == st->st_ino) {
			return s;
		}
	}
	return NULL;
}

static int open_locked(struct local_store **out, const char *path, unsigned flags,
		       struct error *err)
{
	struct local_store *s = local_store_new(path, flags);
	struct stat st;
	int rc = open_directory(s, flags, err);

	if (rc == 0 && fstat(s->dirfd, &st) != 0) {
		rc = error_set_errno(err, errno, "cannot open store %s", path);
	}
	if (rc == 0) {
		struct local_store *other = find_open_locked(&st);

		if (other) {
			local_store_free(s);
			if (other->read_only && !(flags & STORE_READ_ONLY)) {
				return error_set(
					err, ERROR_UNSUPPORTED,
					"store %s is open in this process for reading only",
					path);
			}
			if (!(flags & STORE_READ_ONLY)) {
				atomic_store(&other->durability,
					     MIN(atomic_load(&other->durability),
						 (int)durability_of(flags)));
			}
			*out = other;
			return 0;
		}
		s->device = st.st_dev;
		s->disk_reads_ahead = disk_read_ahead(st.st_dev);
		s->inode = st.st_ino;
		rc = open_parts(s, flags, err);
	}
	if (rc) {
		local_store_free(s);
		return rc;
	}
	committer_init(&s->committer, s, NULL);
	s->view = (struct local_view){.store = s,
				      .index = s->index,
				      .committer = &s->committer,
				      .scratch = &s->scratch,
				      .files = &s->files};
	s->direct = direct_reader_new(s);
	s->opened = true;
	s->seen.ops = &local_seen_ops;
	s->next_open = open_stores;
	open_stores = s;
	*out = s;
	return 0;
}

struct local_store *local_store_ref(struct local_store *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void local_store_unref(struct local_store *s)
{
	pthread_mutex_lock(&open_stores_lock);
	if (atomic_fetch_sub(&s->refs, 1) == 1) {
		struct local_store **at = &open_stores;

		while (*at != s) {
			at = &(*at)->next_open;
		}
		*at = s->next_open;
		/* With the lock: an open of the same path must find the index closed. */
		local_store_free(s);
	}
	pthread_mutex_unlock(&open_stores_lock);
}

bool local_stores_hold(const struct node *node)
{
	bool held = false;

	/* With the lock, although it may wait: nobody closes a store under our hands. */
	pthread_mutex_lock(&open_stores_lock);
	for (struct local_store *s = open_stores; s; s = s->next_open) {
		if (node) {
			held |= lease_hold(&s->lease, s->dirfd, node);
		} else {
			lease_begin(&s->lease, s->dirfd);
		}
	}
	pthread_mutex_unlock(&open_stores_lock);
	return held;
}

int local_stores_collected(struct error *err)
{
	uint64_t epoch;
	int rc = 0;

	pthread_mutex_lock(&open_stores_lock);
	for (struct local_store *s = open_stores; s && rc == 0; s = s->next_open) {
		rc = epoch_read(s->index, &epoch, err);
		rc = rc < 0 ? rc : epoch != s->epoch;
	}
	pthread_mutex_unlock(&open_stores_lock);
	return rc;
}

/* Asker. */
static int find_written(struct local_store *s, const struct node *node, uint64_t *seconds)
{
	enum index_table table = node->kind == NODE_DIRECTORY ? INDEX_DIRECTORIES : INDEX_BLOBS;
	char name[LOCAL_NAME_SIZE];
	struct location l;
	struct stat st;
	int rc = local_locate(&s->view, table, &node->digest, &l, NULL);

	if (rc <= 0) {
		return rc;
	}
	if (l.kind == LOCATION_FILE) {
		local_file_name(name, &node->digest);
	} else {
		local_pack_name(name, l.pack);
	}
	if (fstatat(s->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return 0;
	}
	*seconds = (uint64_t)st.st_mtime;
	return 1;
}

int local_stores_written(const struct node *node, uint64_t *seconds)
{
	int rc = 0;

	pthread_mutex_lock(&open_stores_lock);
	for (struct local_store *s = open_stores; s && rc <= 0; s = s->next_open) {
		rc = find_written(s, node, seconds);
	}
	pthread_mutex_unlock(&open_stores_lock);
	return rc;
}

struct local_view *local_view_ref(struct local_view *v)
{
	if (v->below) {
		local_stage_ref(v);
	} else {
		local_store_ref(v->store);
	}
	return v;
}

void local_view_unref(struct local_view *v)
{
	if (v->below) {
		local_stage_unref(v);
	} else {
		local_store_unref(v->store);
	}
}

int local_view_sync(struct local_view *v, struct error *err)
{
	if (v->below) {
		return committer_check(v->committer, err);
	}
	int rc = committer_sync(v->committer, err);

	return rc ? rc : durability_settle(v->store, err);
}

int local_store_open_alone(struct local_store **out, const char *path, struct error *err)
{
	struct local_store *s = local_store_new(path, 0);
	int rc = open_directory(s, 0, err);

	if (rc == 0) {
		rc = read_format(s, err);
		rc = rc < 0 ? rc
		     : rc > 0
			     ? take_lock(s, LOCK_EX | LOCK_NB, err)
			     : error_set(err, ERROR_NOT_FOUND, "there is no store at %s", path);
	}
	if (rc) {
		local_store_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

int local_store_get(struct local_store **out, const char *path, unsigned flags,
		    struct error *err)
{
	pthread_mutex_lock(&open_stores_lock);
	int rc = open_locked(out, path, flags, err);

	if (rc == 0) {
		local_store_ref(*out);
	}
	pthread_mutex_unlock(&open_stores_lock);
	return rc;
}

int local_store_open(struct store *out, const char *path, unsigned flags, struct error *err)
{
	struct local_store *s = NULL;
	bool read_only = flags & STORE_READ_ONLY;

	pthread_mutex_lock(&open_stores_lock);
	int rc = open_locked(&s, path, flags, err);

	if (rc == 0) {
		*out = (struct store){
			.blobs = local_blobs_new(&s->view, flags),
			.directories = local_directories_new(&s->view, read_only),
			.roots = local_roots_new(s, flags),
			.path_infos = local_path_infos_new(s, flags),
			.seen = read_only ? NULL : &s->seen,
			.stager = local_stager_new(s, flags),
		};
	}
	pthread_mutex_unlock(&open_stores_lock);
	return rc;
}
