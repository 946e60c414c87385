/* Small files of an export, asked for together where the store is far. */

#include "ingest/export_internal.h"

/* What one thread asks for in one go. */
#define BATCH_FILES 1024
#define BATCH_BYTES ((uint64_t)8 << 20)

struct held_file {
	struct export_dir *dir; /* held; neighbours in the list share that */
	size_t entry;
	bool made;
};

struct export_batch {
	size_t count;
	size_t dirs; /* that are held */
	uint64_t bytes;
	struct held_file files[BATCH_FILES];
	struct blob_want wants[BATCH_FILES];
};

struct export_batch *export_batch_new(void)
{
	return xcalloc(1, sizeof(struct export_batch));
}

void export_batch_free(struct export_batch *b)
{
	free(b);
}

bool export_batch_wants(const struct export_worker *w, const struct node *node)
{
	return w->batch && node->kind == NODE_FILE && node->size > 0 &&
	       node->size <= BLOB_MANY_SIZE_MAX;
}

/* content: NULL: it is read from the store. */
static int make_file(struct export_worker *w, struct held_file *f, const struct bytes *content,
		     struct error *err)
{
	struct export_entry e;

	export_entry_at(f->dir, f->entry, &e);
	int r = export_leaf(w, f->dir->fd, e.name, &e.node, content, err);

	f->made = r == 0;
	return r < 0 ? error_wrap(err, "%s",
				  work_path_text(w->exporting->dest, &f->dir->work, e.name))
		     : 0;
}

static int take_content(void *context, size_t i, struct bytes content, struct error *err)
{
	struct export_worker *w = context;

	return export_stopping(w) ? work_stop(err)
				  : make_file(w, &w->batch->files[i], &content, err);
}

/* Which file it is that fails, this way says. */
static int make_rest(struct export_worker *w, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->batch->count; i++) {
		if (!w->batch->files[i].made) {
			r = make_file(w, &w->batch->files[i], NULL, err);
		}
	}
	return r;
}

static void release(struct export_worker *w)
{
	struct export_batch *b = w->batch;

	for (size_t i = 0; i < b->count; i++) {
		if (i + 1 == b->count || b->files[i + 1].dir != b->files[i].dir) {
			work_release(w->work, w, &b->files[i].dir->work);
		}
	}
	b->count = b->dirs = 0;
	b->bytes = 0;
}

int export_batch_flush(struct export_worker *w, struct error *err)
{
	struct export_batch *b = w->batch;

	if (b->count == 0) {
		return 0;
	}
	int r = blob_service_get_many(w->exporting->store->blobs, b->wants, b->count,
				      take_content, w, err);

	if (r == -ERROR_NOT_FOUND || r == -ERROR_CORRUPT) {
		r = make_rest(w, err);
	}
	if (r == 0) {
		release(w);
	}
	return r;
}

int export_batch_add(struct export_worker *w, struct export_dir *d, size_t i, struct error *err)
{
	struct export_batch *b = w->batch;
	struct export_entry e;

	export_entry_at(d, i, &e);
	if (b->count == 0 || b->files[b->count - 1].dir != d) {
		work_hold(w->work, &d->work);
		b->dirs++;
	}
	b->files[b->count] = (struct held_file){.dir = d, .entry = i};
	b->wants[b->count++] = (struct blob_want){.digest = e.node.digest, .size = e.node.size};
	b->bytes += e.node.size;
	if (b->count < BATCH_FILES && b->bytes < BATCH_BYTES &&
	    b->dirs < w->exporting->dirs_held) {
		return 0;
	}
	return export_batch_flush(w, err);
}
