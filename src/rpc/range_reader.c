#include "rpc/range_reader.h"

#include "rpc/read_ahead.h"

/*
 * What a reader has at hand: little at first, more when it is read in a row; when that has gone
 * on for a while, the rest is fetched ahead.
 */
#define WINDOW_FIRST ((size_t)1 << 20)
#define WINDOW_RANDOM ((size_t)64 << 10)
#define WINDOW_MAX ((size_t)4 << 20)

struct range_reader {
	struct blob_reader base;
	struct range_source *source;
	struct digest digest;
	struct bytes view; /* what was read last: of the window, or of what is fetched ahead */
	uint64_t start;    /* where in the blob the view begins */
	uint8_t *window;
	size_t capacity;
	size_t window_len; /* to read when the view is left at its end */
	uint64_t next;     /* behind what was asked for last */
	struct read_ahead *ahead;
	struct client_stop *stop; /* of what is fetched ahead */
};

static int reader_fd(const struct blob_reader *r unused)
{
	return -1;
}

/* len lies in the blob. */
static int read_exactly(struct range_reader *r, uint64_t offset, uint8_t *buf, size_t len,
			struct error *err)
{
	uint64_t size;
	size_t got;
	int rc = range_source_read(r->source, &r->digest, offset, buf, len, &got, &size,
				   r->stop, err);

	if (rc == 0) {
		return error_set(err, ERROR_UNAVAILABLE, "%s: blob %s was removed while open",
				 range_source_address(r->source), digest_text(&r->digest));
	}
	if (rc > 0 && got != len) {
		return error_set(err, ERROR_CORRUPT, "%s: blob %s became shorter",
				 range_source_address(r->source), digest_text(&r->digest));
	}
	return rc < 0 ? rc : 0;
}

/* ---- Ahead ---- */

static int fetch_part(void *context, uint64_t offset, uint8_t *buf, size_t len,
		      struct error *err)
{
	return read_exactly(context, offset, buf, len, err);
}

static void stop_fetching(void *context)
{
	const struct range_reader *r = context;

	client_stop_all(r->stop);
}

static void end_ahead(struct range_reader *r)
{
	if (r->stop) {
		read_ahead_free(r->ahead);
		client_stop_free(r->stop);
		range_source_give_place(r->source);
		r->ahead = NULL;
		r->stop = NULL;
		r->view = bytes_of(NULL, 0);
	}
}

/* Where it cannot be, windows do. */
static void begin_ahead(struct range_reader *r, uint64_t offset)
{
	const struct read_ahead_source source = {
		.fetch = fetch_part, .stop = stop_fetching, .context = r};

	if (!range_source_take_place(r->source)) {
		return;
	}
	r->stop = client_stop_new();
	r->ahead = read_ahead_new(&source, offset, r->base.size);
	if (!r->ahead) {
		end_ahead(r);
		return;
	}
	free(r->window);
	r->window = NULL;
	r->capacity = 0;
	r->view = bytes_of(NULL, 0);
	r->start = offset;
}

static int take_part(struct range_reader *r, struct error *err)
{
	uint64_t offset = r->start + r->view.len;
	int rc = read_ahead_next(r->ahead, &r->view, err);

	if (rc < 0) {
		end_ahead(r);
		return rc;
	}
	r->start = offset;
	return 0;
}

/* ---- Windows ---- */

static int read_window(struct range_reader *r, uint64_t offset, struct error *err)
{
	size_t len = (size_t)MIN(r->window_len, r->base.size - offset);

	if (len > r->capacity) {
		uint8_t *larger = realloc(r->window, len);

		if (!larger) {
			return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", len);
		}
		r->window = larger;
		r->capacity = len;
	}
	r->view = bytes_of(NULL, 0);
	int rc = read_exactly(r, offset, r->window, len, err);

	if (rc == 0) {
		r->start = offset;
		r->view = bytes_of(r->window, len);
	}
	return rc;
}

/* Makes the view begin, or go on, at a place in the blob. */
static int move_view(struct range_reader *r, uint64_t offset, struct error *err)
{
	bool in_a_row = offset == r->next;

	if (r->ahead && offset == r->start + r->view.len) {
		return take_part(r, err);
	}
	end_ahead(r);
	if (in_a_row && r->window_len == WINDOW_MAX) {
		begin_ahead(r, offset);
	}
	if (r->ahead) {
		return take_part(r, err);
	}
	r->window_len = in_a_row ? MIN(r->window_len * 2, WINDOW_MAX) : WINDOW_RANDOM;
	return read_window(r, offset, err);
}

/* What the view has at this place. */
static size_t copy_from_view(const struct range_reader *r, uint64_t offset, uint8_t *buf,
			     size_t len)
{
	if (offset < r->start || offset - r->start >= r->view.len) {
		return 0;
	}
	size_t skip = (size_t)(offset - r->start);
	size_t n = MIN(len, r->view.len - skip);

	memcpy(buf, r->view.ptr + skip, n);
	return n;
}

static int reader_pread(struct blob_reader *base, void *buf, size_t len, uint64_t offset,
			size_t *got, struct error *err)
{
	struct range_reader *r = container_of(base, struct range_reader, base);
	size_t wanted = (size_t)MIN(len, base->size - MIN(offset, base->size));
	uint8_t *at = buf;
	int rc = 0;

	for (size_t done = 0; rc == 0 && done < wanted;) {
		size_t n = copy_from_view(r, offset + done, at + done, wanted - done);

		if (n == 0 && !r->ahead && wanted - done >= WINDOW_MAX) {
			n = wanted - done;
			rc = read_exactly(r, offset + done, at + done, n, err);
		} else if (n == 0) {
			rc = move_view(r, offset + done, err);
		}
		done += n;
		r->next = offset + done;
	}
	if (rc == 0) {
		*got = wanted;
	}
	return rc;
}

static void reader_free(struct blob_reader *base)
{
	struct range_reader *r = container_of(base, struct range_reader, base);

	end_ahead(r);
	free(r->window);
	free(r);
}

static const struct blob_reader_ops range_reader_ops = {
	.pread = reader_pread,
	.fd = reader_fd,
	.free = reader_free,
};

/* The beginning is read at once: of most blobs that is all. */
static int open_reader(struct range_reader *r, struct error *err)
{
	uint64_t size;

	r->window = malloc(WINDOW_FIRST);
	if (!r->window) {
		return error_set(err, ERROR_LIMIT, "no memory for a buffer");
	}
	r->capacity = WINDOW_FIRST;
	int rc = range_source_read(r->source, &r->digest, 0, r->window, WINDOW_FIRST,
				   &r->view.len, &size, NULL, err);

	r->view.ptr = r->window;

	if (rc > 0 && size > WINDOW_FIRST) {
		rc = range_source_size(r->source, &r->digest, &size, err);
	}
	r->base.size = rc > 0 ? size : 0;
	return rc;
}

int range_reader_open(struct range_source *s, const struct digest *digest,
		      struct blob_reader **out, struct error *err)
{
	struct range_reader *r = xcalloc(1, sizeof(*r));

	r->base.ops = &range_reader_ops;
	r->source = s;
	r->digest = *digest;
	r->window_len = WINDOW_FIRST;
	int rc = open_reader(r, err);

	if (rc <= 0) {
		reader_free(&r->base);
		return rc;
	}
	if (r->view.len < r->capacity) {
		uint8_t *smaller = realloc(r->window, MAX(r->view.len, (size_t)1));

		r->window = smaller ? smaller : r->window;
		r->view.ptr = r->window;
		r->capacity = MAX(r->view.len, (size_t)1);
	}
	*out = &r->base;
	return 1;
}
