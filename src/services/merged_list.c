#include "services/merged_list.h"

#include "services/byte_map.h"

#define WINDOW_ENTRIES 256
#define WINDOW_BYTES ((size_t)1 << 20)

/* What is known of one list. */
struct window {
	struct byte_map entries;
	size_t next;        /* the first of them that was not shown */
	size_t bytes;       /* of them */
	struct buffer last; /* the list goes on behind this key */
	bool more;          /* it does */
	bool no_memory;
};

static void window_done(struct window *w)
{
	byte_map_done(&w->entries);
	buffer_done(&w->last);
}

static bool collect(void *context, struct bytes key, struct bytes value)
{
	struct window *w = context;

	w->no_memory = !byte_map_put(&w->entries, key, value);
	w->bytes += key.len + value.len;
	w->more = !w->no_memory &&
		  (w->entries.count >= WINDOW_ENTRIES || w->bytes >= WINDOW_BYTES);
	return !w->no_memory && !w->more;
}

static int refill(struct window *w, merged_list_source source, void *source_context, size_t i,
		  struct error *err)
{
	if (w->next < w->entries.count || !w->more) {
		return 0;
	}
	if (w->entries.count) {
		struct bytes key = w->entries.entries[w->entries.count - 1].key;

		w->last.len = 0;
		buffer_append(&w->last, key.ptr, key.len);
	}
	byte_map_done(&w->entries);
	w->next = 0;
	w->bytes = 0;
	w->more = false;
	int rc = source(source_context, i, buffer_bytes(&w->last), collect, w, err);

	return rc == 0 && w->no_memory ? error_set(err, ERROR_LIMIT, "no memory for a list")
				       : rc;
}

static const struct byte_map_entry *head(const struct window *w)
{
	return w->next < w->entries.count ? &w->entries.entries[w->next] : NULL;
}

/* The first of the smallest, which all windows are past then; NULL at the end. */
static const struct byte_map_entry *take_smallest(struct window *windows, size_t count)
{
	const struct byte_map_entry *least = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct byte_map_entry *e = head(&windows[i]);

		if (e && (!least || bytes_compare(e->key, least->key) < 0)) {
			least = e;
		}
	}
	for (size_t i = 0; least && i < count; i++) {
		const struct byte_map_entry *e = head(&windows[i]);

		windows[i].next += e && bytes_equal(e->key, least->key);
	}
	return least;
}

int merged_list_visit(size_t count, merged_list_source source, void *source_context,
		      struct bytes after, record_visit visit, void *context, struct error *err)
{
	struct window *windows = xcalloc(count, sizeof(*windows));
	const struct byte_map_entry *e = NULL;
	int rc = 0;

	for (size_t i = 0; i < count; i++) {
		windows[i].more = true;
		buffer_append(&windows[i].last, after.ptr, after.len);
	}
	do {
		for (size_t i = 0; rc == 0 && i < count; i++) {
			rc = refill(&windows[i], source, source_context, i, err);
		}
		e = rc == 0 ? take_smallest(windows, count) : NULL;
	} while (e && visit(context, e->key, e->value));
	for (size_t i = 0; i < count; i++) {
		window_done(&windows[i]);
	}
	free(windows);
	return rc;
}
