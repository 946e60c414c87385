#include "ingest/ingest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "ingest/ingest_internal.h"

bool ingest_stopping(const struct ingest_worker *w)
{
	const atomic_bool *cancel = w->ingest->options.cancel;

	return w->work ? work_stopping(w->work) : cancel && atomic_load(cancel);
}

static void *worker_new(void *context)
{
	struct ingest_worker *w = xcalloc(1, sizeof(*w));

	w->ingest = context;
	w->buffer = xmalloc(INGEST_WHOLE_MAX + 1);
	w->known = xcalloc(INGEST_KNOWN_MAX, sizeof(w->known[0]));
	return w;
}

static void worker_free(void *worker)
{
	struct ingest_worker *w = worker;

	free(w->buffer);
	free(w->known);
	free(w);
}

int ingest_open(struct ingest_worker *w, int dirfd, const char *name, int flags)
{
	int fd = -1;

	/* O_NONBLOCK: what was a file when it was listed may have become a FIFO. */
	flags |= O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	if (!w->atime_denied) {
		fd = openat(dirfd, name, flags | O_NOATIME);
		w->atime_denied = fd < 0 && errno == EPERM;
	}
	return fd < 0 && w->atime_denied ? openat(dirfd, name, flags) : fd;
}

int ingest_entry_errno(struct error *err, int errnum, const char *what)
{
	if (errnum == ENOENT) {
		return error_set(err, ERROR_CHANGED, "vanished while the tree was being read");
	}
	if (errnum == ELOOP || errnum == ENOTDIR || errnum == ENXIO) {
		return error_set(err, ERROR_CHANGED,
				 "was replaced while the tree was being read");
	}
	if (errnum == EMFILE || errnum == ENFILE) {
		return error_set(err, ERROR_LIMIT, "%s: too many open files (ulimit -n)", what);
	}
	return error_set_errno(err, errnum, "%s", what);
}

const char *ingest_path_text(const struct ingest *in, const struct ingest_dir *d,
			     const char *name)
{
	return work_path_text(in->path, d ? &d->work : NULL, name);
}

int ingest_symlink(struct ingest_worker *w, int dirfd, const char *name, struct node *out,
		   struct error *err)
{
	ssize_t n = readlinkat(dirfd, name, w->target, sizeof(w->target));

	if (n < 0 && errno == EINVAL) {
		return ingest_entry_errno(err, ENOTDIR, "");
	}
	if (n < 0) {
		return ingest_entry_errno(err, errno, "cannot read the symlink");
	}
	*out = (struct node){
		.kind = NODE_SYMLINK,
		.target = bytes_of(w->target, (size_t)n),
	};
	if (!node_target_valid(out->target)) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "the symlink's target is empty or longer than %d bytes",
				 NODE_TARGET_MAX);
	}
	atomic_fetch_add_explicit(&w->ingest->stats->symlinks, 1, memory_order_relaxed);
	return 0;
}

static int add_node(struct ingest_dir *d, const char *name, const struct node *node,
		    struct error *err)
{
	pthread_mutex_lock(&d->lock);
	int r = directory_builder_add(d->builder, bytes_of_string(name), node, err);

	pthread_mutex_unlock(&d->lock);
	return r;
}

/* Looks at the files of a piece together, which is cheaper than one by one. */
static void find_seen(struct ingest_worker *w, const struct ingest_dir *d,
		      struct work_span span)
{
	size_t count = 0;

	for (size_t i = span.first; i < span.first + span.count; i++) {
		if (d->entries[i].type == DT_REG) {
			w->known[count++] = (struct ingest_known){
				.name = ingest_entry_name(d, &d->entries[i])};
		}
	}
	ingest_find_seen(w, d->fd, w->known, count);
}

/* Asker: 0 for a file that is to be done later. known: NULL, or what is known of a file. */
static int import_leaf(struct ingest_worker *w, struct ingest_dir *d,
		       const struct ingest_entry *e, const struct ingest_known *known,
		       struct error *err)
{
	const char *name = ingest_entry_name(d, e);
	struct node node;
	int r = 1;

	if (e->type == DT_LNK) {
		r = ingest_symlink(w, d->fd, name, &node, err);
		r = r == 0 ? 1 : r;
	} else if (known && known->seen) {
		node = known->node;
	} else {
		r = ingest_read_file(w, d->fd, name, !known, &node, err);
	}
	if (r > 0) {
		r = add_node(d, name, &node, err);
		r = r == 0 ? 1 : r;
	}
	if (r < 0) {
		error_wrap(err, "%s", ingest_path_text(w->ingest, d, name));
	}
	return r;
}

static int run_entries(struct work *work, void *worker, struct work_dir *dir,
		       struct work_span span, struct error *err)
{
	struct ingest_worker *w = worker;
	struct ingest_dir *d = container_of(dir, struct ingest_dir, work), *child;
	const struct ingest_known *known = span.alone ? NULL : w->known;
	int r = 1;

	w->work = work;
	/* What is alone was looked at with its neighbours, and put off because it has to be
	 * read. */
	if (!span.alone) {
		find_seen(w, d, span);
	}
	for (size_t i = span.first; r >= 0 && i < span.first + span.count; i++) {
		const struct ingest_entry *e = &d->entries[i];

		if (work_stopping(work)) {
			return work_stop(err);
		}
		if (e->type == DT_DIR) {
			r = ingest_scan(w, d, d->fd, ingest_entry_name(d, e), &child, err);
			if (r == 0) {
				work_push(work, &child->work);
			}
			continue;
		}
		r = import_leaf(w, d, e, known, err);
		if (r == 0) {
			work_defer(work, dir, i);
		}
		if (known && e->type == DT_REG) {
			known++;
		}
	}
	return r < 0 ? r : 0;
}

/* Descriptors and names of what waits for its children only are of no more use. */
static void dir_drained(struct work_dir *dir)
{
	struct ingest_dir *d = container_of(dir, struct ingest_dir, work);

	if (d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
		free(d->entries);
		d->entries = NULL;
		buffer_done(&d->names);
	}
}

static int dir_finish(void *worker, struct work_dir *dir, struct error *err)
{
	struct ingest_worker *w = worker;
	struct ingest *in = w->ingest;
	struct ingest_dir *d = container_of(dir, struct ingest_dir, work);
	struct directory *directory cleanup(cleanup_directory) = NULL;
	int r = directory_builder_finish(d->builder, &directory, err);

	if (r == 0) {
		r = directory_service_put(in->store->directories, directory, err);
	}
	if (r < 0) {
		return error_wrap(err, "%s", ingest_path_text(in, d, NULL));
	}
	struct node node = in->options.count_twice ? directory_node_counted_twice(directory)
						   : directory_node(directory);

	if (!d->work.parent) {
		root_node_set(in->out, &node);
		return 0;
	}
	return add_node(container_of(d->work.parent, struct ingest_dir, work), d->work.name,
			&node, err);
}

static void dir_free(struct work_dir *dir)
{
	ingest_dir_free(container_of(dir, struct ingest_dir, work));
}

static int import_directory(struct ingest *in, struct ingest_worker *w, struct error *err)
{
	static const struct work_ops ops = {
		.worker_new = worker_new,
		.worker_free = worker_free,
		.run = run_entries,
		.drained = dir_drained,
		.finish = dir_finish,
		.free = dir_free,
	};
	struct work_options options = {
		.ops = &ops,
		.context = in,
		.threads = in->options.threads,
		.cancel = in->options.cancel,
	};
	struct ingest_dir *root;

	raise_open_file_limit();
	int r = ingest_scan(w, NULL, AT_FDCWD, in->path, &root, err);

	return r < 0 ? r : work_run(&options, &root->work, err);
}

static int import_root_file(struct ingest *in, struct ingest_worker *w, struct node *out,
			    struct error *err)
{
	struct ingest_known *known = &w->known[0];

	*known = (struct ingest_known){.name = in->path};
	ingest_find_seen(w, AT_FDCWD, known, 1);
	if (known->seen) {
		*out = known->node;
		return 1;
	}
	return ingest_read_file(w, AT_FDCWD, in->path, true, out, err);
}

static int import_root(struct ingest *in, struct ingest_worker *w, struct error *err)
{
	struct stat st;
	struct node node;
	int r;

	if (fstatat(AT_FDCWD, in->path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		return error_set_errno(err, errno, "%s", ingest_path_text(in, NULL, NULL));
	}
	in->device = st.st_dev;
	if (S_ISDIR(st.st_mode)) {
		return import_directory(in, w, err);
	}
	if (S_ISREG(st.st_mode)) {
		r = import_root_file(in, w, &node, err);
	} else if (S_ISLNK(st.st_mode)) {
		r = ingest_symlink(w, AT_FDCWD, in->path, &node, err);
	} else {
		r = error_set(err, ERROR_UNSUPPORTED,
			      "neither a file, a directory nor a symlink");
	}
	if (r < 0) {
		return error_wrap(err, "%s", ingest_path_text(in, NULL, NULL));
	}
	root_node_set(in->out, &node);
	return 0;
}

int ingest_path(struct store *store, const char *path, const struct ingest_options *options,
		struct root_node *out, struct ingest_stats *stats, struct error *err)
{
	struct ingest_stats own_stats = {0};
	struct error own_error;
	struct ingest in = {
		.store = store,
		.options = options ? *options : (struct ingest_options){.use_seen = true},
		.stats = stats ? stats : &own_stats,
		.path = path,
		.out = out,
	};
	struct ingest_worker *w = worker_new(&in);
	/* error_wrap() needs a message to wrap. */
	int r = import_root(&in, w, err ? err : &own_error);

	worker_free(w);
	return r;
}
