#include "ingest/export.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "ingest/export_internal.h"

/* They wait for the peer more than they work. */
#define FAR_THREADS 8
#define DIRS_HELD_MAX ((size_t)64)

bool export_stopping(const struct export_worker *w)
{
	const atomic_bool *cancel = w->exporting->options.cancel;

	return w->work ? work_stopping(w->work) : cancel && atomic_load(cancel);
}

static void *worker_new(void *context)
{
	struct export_worker *w = xcalloc(1, sizeof(*w));

	w->exporting = context;
	w->buffer = xmalloc(EXPORT_WHOLE_MAX + 1);
	w->batch = w->exporting->far ? export_batch_new() : NULL;
	return w;
}

static void worker_free(void *worker)
{
	struct export_worker *w = worker;

	export_batch_free(w->batch);
	free(w->buffer);
	free(w);
}

static void dir_free(struct work_dir *dir)
{
	struct export_dir *d = container_of(dir, struct export_dir, work);

	if (d->fd >= 0) {
		close(d->fd);
	}
	directory_unref(d->directory);
	free(d->order);
	free(d);
}

/* 0: taken together with its neighbours, 1: a large file, 2: a directory. */
static unsigned class_of(const struct directory *directory, size_t i)
{
	struct directory_entry e;

	directory_entry(directory, i, &e);
	if (e.node.kind == NODE_DIRECTORY) {
		return 2;
	}
	return e.node.kind == NODE_FILE && e.node.size > EXPORT_WHOLE_MAX;
}

static void set_items(struct export_dir *d)
{
	size_t count = directory_count(d->directory), places[3] = {0};

	d->order = xcalloc(MAX(count, 1), sizeof(d->order[0]));
	for (size_t i = 0; i < count; i++) {
		places[class_of(d->directory, i)]++;
	}
	d->work.count = count;
	d->work.small = places[0];
	places[2] = places[0] + places[1];
	places[1] = places[0];
	places[0] = 0;
	for (size_t i = 0; i < count; i++) {
		d->order[places[class_of(d->directory, i)]++] = (uint32_t)i;
	}
}

/* Takes over fd. The message has the digest, but no path. */
static int dir_new(const struct exporting *ex, struct export_dir *parent, const char *name,
		   const struct digest *digest, int fd, struct export_dir **out,
		   struct error *err)
{
	struct directory *directory;
	int r = directory_service_get(ex->store->directories, digest, &directory, err);

	if (r == 0) {
		r = error_set(err, ERROR_UNAVAILABLE, "%s: the directory is not in the store",
			      digest_text(digest));
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	struct export_dir *d = xcalloc(1, sizeof(*d) + strlen(name) + 1);

	memcpy(d->name, name, strlen(name));
	d->work.name = d->name;
	d->work.parent = parent ? &parent->work : NULL;
	d->depth = parent ? parent->depth + 1 : 1;
	d->fd = fd;
	d->directory = directory;
	set_items(d);
	atomic_fetch_add(&ex->stats->directories, 1);
	*out = d;
	return 0;
}

static int open_dir(int dirfd, const char *name)
{
	return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int export_child(const struct exporting *ex, struct work *work, struct export_dir *d,
			const char *name, const struct node *node, struct error *err)
{
	struct export_dir *child;

	if (d->depth == EXPORT_DEPTH_MAX) {
		return error_set(err, ERROR_LIMIT, "more than %d directories below each other",
				 EXPORT_DEPTH_MAX);
	}
	if (mkdirat(d->fd, name, 0755) != 0) {
		return error_set_errno(err, errno, "cannot create the directory");
	}
	int fd = open_dir(d->fd, name);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot open the new directory");
	}
	int r = dir_new(ex, d, name, &node->digest, fd, &child, err);

	if (r == 0) {
		work_push(work, &child->work);
	}
	return r;
}

void export_entry_at(const struct export_dir *d, size_t i, struct export_entry *out)
{
	struct directory_entry e;

	directory_entry(d->directory, i, &e);
	out->node = e.node;
	memcpy(out->name, e.name.ptr, e.name.len);
	out->name[e.name.len] = '\0';
}

static int export_entry(struct export_worker *w, struct export_dir *d, size_t i,
			struct error *err)
{
	struct export_entry e;
	int r;

	export_entry_at(d, i, &e);
	if (export_batch_wants(w, &e.node)) {
		return export_batch_add(w, d, i, err);
	}
	r = e.node.kind == NODE_DIRECTORY
		    ? export_child(w->exporting, w->work, d, e.name, &e.node, err)
		    : export_leaf(w, d->fd, e.name, &e.node, NULL, err);
	return r < 0 ? error_wrap(err, "%s",
				  work_path_text(w->exporting->dest, &d->work, e.name))
		     : 0;
}

static int run_entries(struct work *work, void *worker, struct work_dir *dir,
		       struct work_span span, struct error *err)
{
	struct export_worker *w = worker;
	struct export_dir *d = container_of(dir, struct export_dir, work);
	int r = 0;

	w->work = work;
	for (size_t i = span.first; r == 0 && i < span.first + span.count; i++) {
		r = work_stopping(work) ? work_stop(err) : export_entry(w, d, d->order[i], err);
	}
	return r;
}

static int flush_batch(struct work *work unused, void *worker, struct error *err)
{
	return export_batch_flush(worker, err);
}

/* What waits for its children only needs none of this any more. */
static void dir_drained(struct work_dir *dir)
{
	struct export_dir *d = container_of(dir, struct export_dir, work);

	if (d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
		directory_unref(d->directory);
		d->directory = NULL;
		free(d->order);
		d->order = NULL;
	}
}

static int dir_finish(void *worker, struct work_dir *dir, struct error *err)
{
	(void)worker;
	(void)dir;
	(void)err;
	return 0;
}

/* One question for all of them; what does not come is asked for where it is needed. */
static void gather_directories(const struct exporting *ex, const struct digest *root)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;

	if (ex->far) {
		(void)directory_service_get_recursive(ex->store->directories, root, &walk,
						      NULL);
	}
}

static int export_directory(struct exporting *ex, const struct node *root, struct error *err)
{
	const struct work_ops ops = {
		.worker_new = worker_new,
		.worker_free = worker_free,
		.run = run_entries,
		.flush = ex->far ? flush_batch : NULL,
		.drained = dir_drained,
		.finish = dir_finish,
		.free = dir_free,
	};
	struct work_options options = {
		.ops = &ops,
		.context = ex,
		.threads = ex->options.threads ? ex->options.threads
			   : ex->far           ? FAR_THREADS
					       : 0,
		.cancel = ex->options.cancel,
	};
	struct export_dir *d;
	int fd = make_empty_directory(ex->dest, err);

	if (fd < 0) {
		return error_wrap(err, "%s", work_path_text(ex->dest, NULL, NULL));
	}
	/* Half of the descriptors are for something else. */
	ex->dirs_held =
		MAX(1, MIN(raise_open_file_limit() / (2 * WORK_THREADS_MAX), DIRS_HELD_MAX));
	int r = dir_new(ex, NULL, "", &root->digest, fd, &d, err);

	if (r == 0) {
		gather_directories(ex, &root->digest);
		r = work_run(&options, &d->work, err);
	}
	if (r < 0) {
		error_wrap(err, "%s is incomplete", work_path_text(ex->dest, NULL, NULL));
	}
	return r;
}

int export_tree(struct store *store, const struct node *root, const char *dest,
		const struct export_options *options, struct export_stats *stats,
		struct error *err)
{
	struct export_stats own_stats = {0};
	struct error own_error;
	struct exporting ex = {
		.store = store,
		.options = options ? *options : (struct export_options){0},
		.stats = stats ? stats : &own_stats,
		.dest = dest,
		.far = directory_service_fetches(store->directories),
	};

	/* error_wrap() needs a message to wrap. */
	err = err ? err : &own_error;
	if (root->kind == NODE_DIRECTORY) {
		return export_directory(&ex, root, err);
	}
	struct export_worker *w = worker_new(&ex);
	int r = export_leaf(w, AT_FDCWD, dest, root, NULL, err);

	worker_free(w);
	if (r < 0) {
		error_wrap(err, "%s", work_path_text(dest, NULL, NULL));
	}
	return r;
}
