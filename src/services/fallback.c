#include "services/fallback.h"

#include <stdatomic.h>

#include "services/fallback_internal.h"
#include "services/synced_names.h"

int fallback_ask(size_t count, fallback_call call, void *context, struct error *err)
{
	struct error first = {.code = ERROR_NONE}, why;

	for (size_t i = 0; i < count; i++) {
		int rc = call(context, i, &why);

		if (rc > 0) {
			return rc;
		}
		/* Who would have to wait may have it: that comes before all other reasons. */
		if (rc < 0 && (first.code == ERROR_NONE || why.code == ERROR_WOULD_BLOCK)) {
			first = why;
		}
	}
	if (first.code != ERROR_NONE && err) {
		*err = first;
	}
	return -(int)first.code;
}

int fallback_write(size_t count, fallback_call call, void *context, size_t *who,
		   struct error *err)
{
	struct error first = {.code = ERROR_NONE}, why;

	for (size_t i = 0; i < count; i++) {
		int rc = call(context, i, &why);

		if (rc == -ERROR_DENIED || rc == -ERROR_UNSUPPORTED) {
			first = first.code == ERROR_NONE ? why : first;
			continue;
		}
		if (rc < 0 && err) {
			*err = why;
		}
		if (who) {
			*who = i;
		}
		return rc;
	}
	if (err) {
		*err = first;
	}
	return -(int)first.code;
}

/* ---- Blobs ---- */

struct fallback_blobs {
	struct blob_service base;
	size_t count;
	struct blob_service *members[FALLBACK_STORES_MAX]; /* references */
	_Atomic bool written[FALLBACK_STORES_MAX];         /* to be synced */
};

/* What is asked of members; each call uses what it needs. */
struct blob_call {
	struct fallback_blobs *blobs;
	const struct digest *digest;
	uint64_t *size;
	struct blob_reader **reader;
	struct blob_writer **writer;
	struct chunk_list *chunks;
	struct bytes content;
	struct {
		uint64_t offset;
		void *buf;
		size_t len;
		unsigned flags;
		size_t *got;
	} read;
	struct {
		int fd;
		uint64_t size;
		struct blob_watch *watch;
		struct digest *out;
	} file;
};

static struct fallback_blobs *blobs_of(struct blob_service *s)
{
	return container_of(s, struct fallback_blobs, base);
}

static void blobs_destroy(struct blob_service *s)
{
	struct fallback_blobs *f = blobs_of(s);

	for (size_t i = 0; i < f->count; i++) {
		blob_service_unref(f->members[i]);
	}
	free(f);
}

static int ask_blobs(struct blob_call *c, fallback_call call, struct error *err)
{
	return fallback_ask(c->blobs->count, call, c, err);
}

static int write_blobs(struct blob_call *c, fallback_call call, struct error *err)
{
	size_t who = 0;
	int rc = fallback_write(c->blobs->count, call, c, &who, err);

	if (rc == 0) {
		atomic_store(&c->blobs->written[who], true);
	}
	return rc;
}

static int call_size(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_size(c->blobs->members[i], c->digest, c->size, err);
}

static int blobs_size(struct blob_service *s, const struct digest *digest, uint64_t *size,
		      struct error *err)
{
	struct blob_call c = {.blobs = blobs_of(s), .digest = digest, .size = size};

	return ask_blobs(&c, call_size, err);
}

static int call_has(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_has(c->blobs->members[i], c->digest, err);
}

static int blobs_has(struct blob_service *s, const struct digest *digest, struct error *err)
{
	struct blob_call c = {.blobs = blobs_of(s), .digest = digest};

	return ask_blobs(&c, call_has, err);
}

static int call_open(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_open(c->blobs->members[i], c->digest, c->reader, err);
}

static int blobs_open(struct blob_service *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct blob_call c = {.blobs = blobs_of(s), .digest = digest, .reader = out};

	return ask_blobs(&c, call_open, err);
}

static int call_read(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_read(c->blobs->members[i], c->digest, c->read.offset, c->read.buf,
				 c->read.len, c->read.flags, c->read.got, err);
}

static int blobs_read(struct blob_service *s, const struct digest *digest, uint64_t offset,
		      void *buf, size_t len, unsigned flags, size_t *got, struct error *err)
{
	struct blob_call c = {
		.blobs = blobs_of(s),
		.digest = digest,
		.read = {.offset = offset, .buf = buf, .len = len, .flags = flags, .got = got}};

	return ask_blobs(&c, call_read, err);
}

static int call_chunks(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_chunks(c->blobs->members[i], c->digest, c->chunks, err);
}

static int blobs_chunks(struct blob_service *s, const struct digest *digest,
			struct chunk_list *out, struct error *err)
{
	struct blob_call c = {.blobs = blobs_of(s), .digest = digest, .chunks = out};

	return ask_blobs(&c, call_chunks, err);
}

static int call_create(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_create(c->blobs->members[i], c->writer, err);
}

static int blobs_create(struct blob_service *s, struct blob_writer **out, struct error *err)
{
	struct blob_call c = {.blobs = blobs_of(s), .writer = out};

	return write_blobs(&c, call_create, err);
}

static int call_put_hashed(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_put_hashed(c->blobs->members[i], c->content, c->digest, err);
}

static int blobs_put_hashed(struct blob_service *s, struct bytes content,
			    const struct digest *digest, struct error *err)
{
	struct blob_call c = {.blobs = blobs_of(s), .digest = digest, .content = content};

	return write_blobs(&c, call_put_hashed, err);
}

static int call_put_file(void *context, size_t i, struct error *err)
{
	const struct blob_call *c = context;

	return blob_service_put_file(c->blobs->members[i], c->file.fd, c->file.size,
				     c->file.watch, c->file.out, err);
}

static int blobs_put_file(struct blob_service *s, int fd, uint64_t size,
			  struct blob_watch *watch, struct digest *out, struct error *err)
{
	struct blob_call c = {
		.blobs = blobs_of(s),
		.file = {.fd = fd, .size = size, .watch = watch, .out = out},
	};

	return write_blobs(&c, call_put_file, err);
}

static int blobs_count(struct blob_service *s, struct blob_counts *out, struct error *err)
{
	struct fallback_blobs *f = blobs_of(s);
	struct blob_counts sum = {0}, one;

	for (size_t i = 0; i < f->count; i++) {
		int rc = blob_service_count(f->members[i], &one, err);

		if (rc < 0) {
			return rc;
		}
		sum.blobs += one.blobs;
		sum.plain_files += one.plain_files;
	}
	*out = sum;
	return 0;
}

/* All of them, whatever one says. */
static int blobs_sync(struct blob_service *s, struct error *err)
{
	struct fallback_blobs *f = blobs_of(s);
	int rc = 0;

	for (size_t i = 0; i < f->count; i++) {
		int one = f->written[i] ? blob_service_sync(f->members[i], rc ? NULL : err) : 0;

		rc = rc ? rc : one;
	}
	return rc;
}

/* Each goes on as if it were new; what one lost is lost. */
static int blobs_recover(struct blob_service *s, struct error *err)
{
	struct fallback_blobs *f = blobs_of(s);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < f->count; i++) {
		rc = blob_service_recover(f->members[i], err);
	}
	return rc;
}

static const struct blob_service_ops blobs_ops = {
	.name = "fallback",
	.verifies_ranges = true,
	.destroy = blobs_destroy,
	.has = blobs_has,
	.size = blobs_size,
	.open = blobs_open,
	.create = blobs_create,
	.put_hashed = blobs_put_hashed,
	.put_file = blobs_put_file,
	.read = blobs_read,
	.chunks = blobs_chunks,
	.count = blobs_count,
	.sync = blobs_sync,
	.recover = blobs_recover,
};

static struct blob_service *blobs_new(const struct store *stores, size_t count)
{
	struct fallback_blobs *f = xcalloc(1, sizeof(*f));

	blob_service_init(&f->base, &blobs_ops);
	f->count = count;
	for (size_t i = 0; i < count; i++) {
		f->members[i] = blob_service_ref(stores[i].blobs);
	}
	return &f->base;
}

/* ---- Directories ---- */

struct fallback_directories {
	struct directory_service base;
	size_t count;
	struct directory_service *members[FALLBACK_STORES_MAX]; /* references */
	_Atomic bool written[FALLBACK_STORES_MAX];
};

struct directory_call {
	struct fallback_directories *directories;
	const struct digest *digest;
	bool nowait;
	uint8_t **encoding;
	size_t *len;
	struct directory *directory;
};

static struct fallback_directories *directories_of(struct directory_service *s)
{
	return container_of(s, struct fallback_directories, base);
}

static void directories_destroy(struct directory_service *s)
{
	struct fallback_directories *f = directories_of(s);

	for (size_t i = 0; i < f->count; i++) {
		directory_service_unref(f->members[i]);
	}
	free(f);
}

static int call_get(void *context, size_t i, struct error *err)
{
	const struct directory_call *c = context;

	return directory_service_get_encoding(c->directories->members[i], c->digest, c->nowait,
					      c->encoding, c->len, err);
}

static int directories_get(struct directory_service *s, const struct digest *digest,
			   uint8_t **encoding, size_t *len, struct error *err)
{
	struct directory_call c = {.directories = directories_of(s),
				   .digest = digest,
				   .encoding = encoding,
				   .len = len};

	return fallback_ask(c.directories->count, call_get, &c, err);
}

static int directories_get_nowait(struct directory_service *s, const struct digest *digest,
				  uint8_t **encoding, size_t *len, struct error *err)
{
	struct directory_call c = {.directories = directories_of(s),
				   .digest = digest,
				   .nowait = true,
				   .encoding = encoding,
				   .len = len};

	return fallback_ask(c.directories->count, call_get, &c, err);
}

static int call_has_directory(void *context, size_t i, struct error *err)
{
	const struct directory_call *c = context;

	return directory_service_has(c->directories->members[i], c->digest, err);
}

static int directories_has(struct directory_service *s, const struct digest *digest,
			   struct error *err)
{
	struct directory_call c = {.directories = directories_of(s), .digest = digest};

	return fallback_ask(c.directories->count, call_has_directory, &c, err);
}

static int call_gather(void *context, size_t i, struct error *err)
{
	const struct directory_call *c = context;
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;

	return directory_service_get_recursive(c->directories->members[i], c->digest, &walk,
					       err);
}

static int directories_gather(struct directory_service *s, const struct digest *root,
			      struct error *err)
{
	struct directory_call c = {.directories = directories_of(s), .digest = root};

	return fallback_ask(c.directories->count, call_gather, &c, err);
}

static int call_put(void *context, size_t i, struct error *err)
{
	const struct directory_call *c = context;

	return directory_service_put(c->directories->members[i], c->directory, err);
}

static int directories_put(struct directory_service *s, struct directory *d, struct error *err)
{
	struct directory_call c = {.directories = directories_of(s), .directory = d};
	size_t who = 0;
	int rc = fallback_write(c.directories->count, call_put, &c, &who, err);

	if (rc == 0) {
		atomic_store(&c.directories->written[who], true);
	}
	return rc;
}

static void directories_prefetch(struct directory_service *s, const struct digest *root)
{
	struct fallback_directories *f = directories_of(s);

	for (size_t i = 0; i < f->count; i++) {
		directory_service_prefetch(f->members[i], root);
	}
}

static int directories_sync(struct directory_service *s, struct error *err)
{
	struct fallback_directories *f = directories_of(s);
	int rc = 0;

	for (size_t i = 0; i < f->count; i++) {
		int one = f->written[i] ? directory_service_sync(f->members[i], rc ? NULL : err)
					: 0;

		rc = rc ? rc : one;
	}
	return rc;
}

static const struct directory_service_ops directories_ops = {
	.name = "fallback",
	.destroy = directories_destroy,
	.get = directories_get,
	.get_nowait = directories_get_nowait,
	.has = directories_has,
	.put = directories_put,
	.prefetch = directories_prefetch,
	.gather = directories_gather,
	.sync = directories_sync,
};

static struct directory_service *directories_new(const struct store *stores, size_t count)
{
	struct fallback_directories *f = xcalloc(1, sizeof(*f));

	directory_service_init(&f->base, &directories_ops);
	f->base.fetches = false;
	f->count = count;
	for (size_t i = 0; i < count; i++) {
		f->base.fetches |= directory_service_fetches(stores[i].directories);
		f->members[i] = directory_service_ref(stores[i].directories);
	}
	return &f->base;
}

/* ---- Staging ---- */

struct fallback_stager {
	struct stager base;
	size_t count;
	struct stager *members[FALLBACK_STORES_MAX]; /* references */
	struct blob_service *blobs;
	struct directory_service *directories;
};

struct stage_call {
	struct fallback_stager *stager;
	struct store *staged;
};

static int call_begin(void *context, size_t i, struct error *err)
{
	const struct stage_call *c = context;
	struct stager *g = c->stager->members[i];

	return g->ops->begin(g, c->staged, err);
}

static int stager_begin(struct stager *base, struct store *staged, struct error *err)
{
	struct fallback_stager *g = container_of(base, struct fallback_stager, base);
	struct store stores[2] = {[1] = {.blobs = g->blobs, .directories = g->directories}};
	struct stage_call c = {.stager = g, .staged = &stores[0]};
	int rc = fallback_write(g->count, call_begin, &c, NULL, err);

	if (rc < 0) {
		return rc;
	}
	*staged = (struct store){
		.blobs = blobs_new(stores, 2),
		.directories = directories_new(stores, 2),
		.stage = stores[0].stage,
	};
	blob_service_unref(stores[0].blobs);
	directory_service_unref(stores[0].directories);
	return 0;
}

static void stager_free(struct stager *base)
{
	struct fallback_stager *g = container_of(base, struct fallback_stager, base);

	for (size_t i = 0; i < g->count; i++) {
		stager_unref(g->members[i]);
	}
	blob_service_unref(g->blobs);
	directory_service_unref(g->directories);
	free(g);
}

static const struct stager_ops stager_ops = {
	.begin = stager_begin,
	.free = stager_free,
};

struct stager *fallback_stager_new(const struct store *stores, size_t count,
				   const struct store *below)
{
	struct fallback_stager *g = xcalloc(1, sizeof(*g));

	for (size_t i = 0; i < count; i++) {
		if (stores[i].stager) {
			g->members[g->count++] = stager_ref(stores[i].stager);
		}
	}
	if (g->count == 0) {
		free(g);
		return NULL;
	}
	stager_init(&g->base, &stager_ops);
	g->blobs = blob_service_ref(below->blobs);
	g->directories = directory_service_ref(below->directories);
	return &g->base;
}

void fallback_store(struct store *out, const struct store *stores, size_t count)
{
	*out = (struct store){
		.blobs = blobs_new(stores, count),
		.directories = directories_new(stores, count),
		.roots = fallback_roots_new(stores, count),
		.path_infos = fallback_records_new(stores, count),
		.seen = stores[0].seen,
	};
	synced_names_wrap(out);
	out->stager = fallback_stager_new(stores, count, out);
}
