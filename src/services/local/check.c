#include "services/local/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "services/local/index_pages.h"

const char *store_fault_kind_name(enum store_fault_kind kind)
{
	switch (kind) {
	case STORE_FAULT_FORMAT:
		return "format";
	case STORE_FAULT_INDEX:
		return "index";
	case STORE_FAULT_PACK:
		return "pack";
	case STORE_FAULT_OBJECT:
		return "object";
	case STORE_FAULT_FILE:
		return "file";
	case STORE_FAULT_NAME:
		return "name";
	case STORE_FAULT_LOG:
		return "log";
	case STORE_FAULT_MISSING:
		return "missing";
	}
	return "unknown";
}

static void free_names(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(names[i]);
	}
	free(names);
}

void store_check_report_done(struct store_check_report *r)
{
	for (size_t i = 0; i < r->fault_count; i++) {
		struct store_fault *f = &r->faults[i];

		free(f->file);
		free(f->text);
		free(f->key);
		free_names(f->names, f->name_count);
	}
	free(r->faults);
	free_names(r->affected, r->affected_count);
	*r = (struct store_check_report){0};
}

/* ---- faults ---- */

/* The number of the new fault. */
static uint64_t add_locked(struct check *c, const struct store_fault *f)
{
	struct store_check_report *r = c->report;

	if (r->fault_count == STORE_FAULTS_MAX) {
		r->faults_beyond++;
		return CHECK_FAULT_BEYOND;
	}
	if ((r->fault_count & (r->fault_count - 1)) == 0) {
		r->faults = xrealloc(r->faults,
				     MAX(2 * r->fault_count, (size_t)1) * sizeof(*r->faults));
	}
	r->faults[r->fault_count] = *f;
	r->faults[r->fault_count].file = f->file ? xstrdup(f->file) : NULL;
	r->faults[r->fault_count].text = xstrdup(f->text);
	if (f->key) {
		r->faults[r->fault_count].key = xmalloc(f->key_len);
		memcpy(r->faults[r->fault_count].key, f->key, f->key_len);
	}
	return r->fault_count++;
}

void check_add(struct check *c, const struct store_fault *f)
{
	struct digest_map *bad = f->is_directory ? &c->bad_directories : &c->bad_blobs;

	pthread_mutex_lock(&c->lock);
	/* One fault tells enough of an object. */
	if (!f->has_digest || !digest_map_get(bad, &f->digest)) {
		uint64_t number = add_locked(c, f);

		if (f->has_digest) {
			digest_map_put(bad, &f->digest, number);
		}
	}
	pthread_mutex_unlock(&c->lock);
}

void check_add_object(struct check *c, enum store_fault_kind kind, enum index_table table,
		      const struct digest *digest, const struct location *l,
		      const struct error *why)
{
	char name[LOCAL_NAME_SIZE];
	struct error text = *why;
	struct store_fault f = {.kind = kind,
				.has_digest = true,
				.is_directory = table == INDEX_DIRECTORIES,
				.digest = *digest,
				.text = text.text};

	if (l && kind == STORE_FAULT_FILE) {
		local_file_name(name, digest);
		f.file = name;
	} else if (l) {
		local_pack_name(name, l->pack);
		f.file = name;
		f.has_offset = true;
		f.offset = l->offset;
	}
	check_add(c, &f);
}

void check_add_index(struct check *c, const char *fmt, ...)
{
	char text[1000], file[] = "index/data.mdb";
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	check_add(c,
		  &(struct store_fault){.kind = STORE_FAULT_INDEX, .file = file, .text = text});
}

int check_canceled(const struct check *c, struct error *err)
{
	const atomic_bool *cancel = c->options->cancel;

	return cancel && atomic_load(cancel) ? error_set(err, ERROR_CANCELED, "interrupted")
					     : 0;
}

void check_count(struct check *c, uint64_t objects, uint64_t bytes)
{
	const struct store_check_options *o = c->options;

	if (o->objects) {
		atomic_fetch_add(o->objects, objects);
	}
	if (o->bytes) {
		atomic_fetch_add(o->bytes, bytes);
	}
	pthread_mutex_lock(&c->lock);
	c->report->objects += objects;
	c->report->bytes += bytes;
	pthread_mutex_unlock(&c->lock);
}

/* ---- the index's pages ---- */

static void page_fault(void *context, uint64_t page, const char *text)
{
	check_add_index(context, "page %llu of the index %s", (unsigned long long)page, text);
}

/* Asker: 0 when its pages are damaged, so that nobody should read more of it. */
static int check_pages(struct check *c, struct error *err)
{
	const struct index_pages_watch watch = {.fault = page_fault, .context = c};
	struct index_pages_counts counts;
	size_t before = c->report->fault_count;
	int rc = index_check_pages(c->store->index, &watch, &counts, err);

	return rc ? rc : c->report->fault_count == before;
}

/* ---- all of it ---- */

/* What only damage explains is a fault of the index; the rest ends the check. */
static int index_fault(struct check *c, const struct error *why, struct error *err)
{
	if (why->code == ERROR_CORRUPT) {
		check_add_index(c, "%s", why->text);
		return 0;
	}
	*err = *why;
	return -(int)why->code;
}

static int check_open_store(struct check *c, struct error *err)
{
	struct checked_names names = {0};
	int rc = check_pages(c, err);

	if (rc <= 0) {
		return rc;
	}
	rc = check_packs(c, err);
	if (rc == 0) {
		rc = check_objects(c, err);
	}
	if (rc == 0) {
		rc = check_small_tables(c, err);
	}
	if (rc == 0) {
		rc = check_names(c, &names, err);
	}
	if (rc == 0) {
		rc = check_closures(c, &names, err);
	}
	checked_names_done(&names);
	return rc;
}

static int run_check(struct check *c, const char *path, struct error *err)
{
	char format[] = "format";
	struct error why;
	int rc = check_format(path, &why);

	if (rc < 0 && why.code == ERROR_CORRUPT) {
		check_add(c, &(struct store_fault){.kind = STORE_FAULT_FORMAT,
						   .file = format,
						   .text = why.text});
		return 0;
	}
	if (rc < 0) {
		*err = why;
		return rc;
	}
	rc = local_store_get(&c->store, path, STORE_READ_ONLY, &why);

	if (rc == 0) {
		rc = check_open_store(c, &why);
		local_store_unref(c->store);
	}
	return rc ? index_fault(c, &why, err) : 0;
}

int local_store_check(const char *path, const struct store_check_options *o,
		      struct store_check_report *out, struct error *err)
{
	struct check c = {.options = o, .report = out};

	*out = (struct store_check_report){0};
	pthread_mutex_init(&c.lock, NULL);
	int rc = run_check(&c, path, err);

	pthread_mutex_destroy(&c.lock);
	digest_map_done(&c.bad_blobs);
	digest_map_done(&c.bad_directories);
	free(c.packs);
	return rc;
}
