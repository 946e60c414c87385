/* Listing of one directory. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "ingest/ingest_internal.h"

#define SCAN_BUFFER ((size_t)64 << 10)
#define NAMES_MAX ((size_t)1 << 30)

struct scan {
	struct ingest_worker *worker;
	struct ingest_dir *dir;
	size_t capacity; /* of dir->entries */
};

/* The first eight bytes as a number that compares as they do. */
static uint64_t name_prefix(const char *name, size_t len)
{
	uint8_t head[8] = {0};

	memcpy(head, name, MIN(len, sizeof(head)));
	return get_be64(head);
}

static int add_entry(struct scan *s, const char *name, size_t len, uint8_t type,
		     struct error *err)
{
	struct ingest_dir *d = s->dir;

	if (d->work.count == DIRECTORY_ENTRIES_MAX || d->names.len + len >= NAMES_MAX) {
		return error_set(err, ERROR_LIMIT, "the directory has more than %zu entries",
				 d->work.count);
	}
	if (d->work.count == s->capacity) {
		s->capacity = MAX(16, s->capacity * 2);
		d->entries = xrealloc(d->entries, s->capacity * sizeof(d->entries[0]));
	}
	d->entries[d->work.count++] = (struct ingest_entry){
		.prefix = name_prefix(name, len),
		.name = (uint32_t)d->names.len,
		.name_len = (uint8_t)len,
		.type = type,
	};
	d->work.small += type != DT_DIR;
	buffer_append(&d->names, name, len + 1);
	return 0;
}

static const char *type_name(uint8_t type)
{
	switch (type) {
	case DT_FIFO:
		return "a FIFO";
	case DT_SOCK:
		return "a socket";
	case DT_CHR:
	case DT_BLK:
		return "a device";
	default:
		return "of an unknown kind";
	}
}

/* For file systems whose listings do not say. Asker: 0 when the entry has vanished. */
static int find_type(int fd, const char *name, uint8_t *type, struct error *err)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "cannot stat");
	}
	*type = (uint8_t)IFTODT(st.st_mode);
	return 1;
}

static int scan_entry(struct scan *s, const char *name, uint8_t type, struct error *err)
{
	struct ingest *in = s->worker->ingest;
	size_t len = strlen(name);

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		return 0;
	}
	int r = node_name_check(bytes_of(name, len), err);

	if (r == 0 && type == DT_UNKNOWN) {
		r = find_type(s->dir->fd, name, &type, err);
		if (r == 0) {
			return 0;
		}
	}
	if (r >= 0 && (type == DT_REG || type == DT_LNK || type == DT_DIR)) {
		r = add_entry(s, name, len, type, err);
	} else if (r >= 0 && in->options.skip_special) {
		atomic_fetch_add(&in->stats->skipped, 1);
		r = 0;
	} else if (r >= 0) {
		r = error_set(err, ERROR_UNSUPPORTED, "this is %s, which a store cannot hold",
			      type_name(type));
	}
	if (r < 0) {
		error_wrap(err, "%s", ingest_path_text(in, s->dir, name));
	}
	return r;
}

static int scan_all(struct scan *s, struct error *err)
{
	uint8_t *buffer = s->worker->buffer;

	for (;;) {
		ssize_t n = getdents64(s->dir->fd, buffer, SCAN_BUFFER);

		if (n < 0) {
			ingest_entry_errno(err, errno, "cannot list the directory");
			return error_wrap(err, "%s",
					  ingest_path_text(s->worker->ingest, s->dir, NULL));
		}
		if (n == 0) {
			return 0;
		}
		if (ingest_stopping(s->worker)) {
			return work_stop(err);
		}
		for (size_t at = 0; at < (size_t)n;) {
			const struct dirent64 *e = (const void *)(buffer + at);
			int r = scan_entry(s, e->d_name, e->d_type, err);

			if (r < 0) {
				return r;
			}
			at += e->d_reclen;
		}
	}
}

/* Files and symlinks before directories, names of either in order. */
static int compare_entries(const void *a, const void *b, void *context)
{
	const struct ingest_dir *d = context;
	const struct ingest_entry *x = a, *y = b;

	if ((x->type == DT_DIR) != (y->type == DT_DIR)) {
		return x->type == DT_DIR ? 1 : -1;
	}
	if (x->prefix != y->prefix) {
		return x->prefix < y->prefix ? -1 : 1;
	}
	return strcmp(ingest_entry_name(d, x), ingest_entry_name(d, y));
}

/* A directory that is written to while it is listed can show a name twice. */
static int check_unique(const struct ingest *in, const struct ingest_dir *d, struct error *err)
{
	for (size_t i = 1; i < d->work.count; i++) {
		const struct ingest_entry *a = &d->entries[i - 1], *b = &d->entries[i];

		if (a->prefix == b->prefix &&
		    strcmp(ingest_entry_name(d, a), ingest_entry_name(d, b)) == 0) {
			return error_set(err, ERROR_CHANGED,
					 "%s: changed while the tree was being read",
					 ingest_path_text(in, d, ingest_entry_name(d, a)));
		}
	}
	return 0;
}

/*
 * Looks at what was opened: one mount deeper it is listed as empty, if so wished, and the store
 * itself is refused. Asker: 0 when it is not to be listed.
 */
static int check_identity(const struct ingest *in, const struct ingest_dir *d,
			  struct error *err)
{
	struct stat st;

	if (fstat(d->fd, &st) != 0) {
		return error_set_errno(err, errno, "cannot stat");
	}
	if (st.st_ino == in->options.store_inode && st.st_dev == in->options.store_device) {
		return error_set(
			err, ERROR_INVALID,
			"this is the store itself, which cannot be imported into itself");
	}
	return !in->options.one_file_system || st.st_dev == in->device;
}

static struct ingest_dir *dir_new(struct ingest_dir *parent, const char *name)
{
	size_t len = strlen(name);
	struct ingest_dir *d = xcalloc(1, sizeof(*d) + len + 1);

	memcpy(d->name, name, len);
	d->work.name = d->name;
	d->work.parent = parent ? &parent->work : NULL;
	d->depth = parent ? parent->depth + 1 : 1;
	d->builder = directory_builder_new();
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

void ingest_dir_free(struct ingest_dir *d)
{
	if (!d) {
		return;
	}
	if (d->fd >= 0) {
		close(d->fd);
	}
	free(d->entries);
	buffer_done(&d->names);
	pthread_mutex_destroy(&d->lock);
	directory_builder_free(d->builder);
	free(d);
}

/* Asker: 0 for a directory that is to be taken as empty. */
static int open_dir(struct ingest_worker *w, struct ingest_dir *d, int dirfd, const char *name,
		    struct error *err)
{
	d->fd = ingest_open(w, dirfd, name, O_RDONLY | O_DIRECTORY);
	int r = d->fd < 0 ? ingest_entry_errno(err, errno, "cannot open the directory") : 0;

	if (r == 0 && d->depth > INGEST_DEPTH_MAX) {
		r = error_set(err, ERROR_LIMIT, "more than %d directories below each other",
			      INGEST_DEPTH_MAX);
	}
	if (r == 0) {
		r = check_identity(w->ingest, d, err);
	}
	if (r < 0) {
		error_wrap(err, "%s", ingest_path_text(w->ingest, d, NULL));
	}
	return r;
}

int ingest_scan(struct ingest_worker *w, struct ingest_dir *parent, int dirfd, const char *name,
		struct ingest_dir **out, struct error *err)
{
	struct scan s = {.worker = w, .dir = dir_new(parent, name)};
	struct ingest_dir *d = s.dir;
	int r = open_dir(w, d, dirfd, name, err);

	if (r > 0) {
		r = scan_all(&s, err);
	}
	if (r == 0 && d->work.count) {
		qsort_r(d->entries, d->work.count, sizeof(d->entries[0]), compare_entries, d);
		r = check_unique(w->ingest, d, err);
	}
	if (r < 0) {
		ingest_dir_free(d);
		return r;
	}
	atomic_fetch_add(&w->ingest->stats->directories, 1);
	*out = d;
	return 0;
}
