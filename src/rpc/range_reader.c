#include "rpc/range_reader.h"

/* What a reader has at hand: little at first, more when it is read in a row. */
#define AHEAD_FIRST ((size_t)1 << 20)
#define AHEAD_RANDOM ((size_t)64 << 10)
#define AHEAD_MAX ((size_t)4 << 20)

struct range_reader {
	struct blob_reader base;
	struct range_source *source;
	struct digest digest;
	uint8_t *window; /* what was read last */
	size_t capacity;
	uint64_t start;
	size_t len;
	size_t ahead;  /* to read when the window is left at its end */
	uint64_t next; /* behind what was asked for last */
};

static int reader_fd(const struct blob_reader *r unused)
{
	return -1;
}

static void reader_free(struct blob_reader *base)
{
	struct range_reader *r = container_of(base, struct range_reader, base);

	free(r->window);
	free(r);
}

/* len lies in the blob. */
static int read_exactly(struct range_reader *r, uint64_t offset, uint8_t *buf, size_t len,
			struct error *err)
{
	uint64_t size;
	size_t got;
	int rc = range_source_read(r->source, &r->digest, offset, buf, len, &got, &size, err);

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

static int move_window(struct range_reader *r, uint64_t offset, struct error *err)
{
	bool in_a_row = offset == r->next;

	r->ahead = in_a_row ? MIN(r->ahead * 2, AHEAD_MAX) : AHEAD_RANDOM;
	size_t len = (size_t)MIN(r->ahead, r->base.size - offset);

	if (len > r->capacity) {
		uint8_t *larger = realloc(r->window, len);

		if (!larger) {
			return error_set(err, ERROR_LIMIT, "no memory for %zu bytes", len);
		}
		r->window = larger;
		r->capacity = len;
	}
	r->len = 0;
	int rc = read_exactly(r, offset, r->window, len, err);

	if (rc == 0) {
		r->start = offset;
		r->len = len;
	}
	return rc;
}

/* What the window has at this place. */
static size_t copy_from_window(const struct range_reader *r, uint64_t offset, uint8_t *buf,
			       size_t len)
{
	if (offset < r->start || offset - r->start >= r->len) {
		return 0;
	}
	size_t skip = (size_t)(offset - r->start);
	size_t n = MIN(len, r->len - skip);

	memcpy(buf, r->window + skip, n);
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
		size_t n = copy_from_window(r, offset + done, at + done, wanted - done);

		if (n == 0 && wanted - done >= AHEAD_MAX) {
			n = wanted - done;
			rc = read_exactly(r, offset + done, at + done, n, err);
		} else if (n == 0) {
			rc = move_window(r, offset + done, err);
		}
		done += n;
		r->next = offset + done;
	}
	if (rc == 0) {
		*got = wanted;
	}
	return rc;
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

	r->window = malloc(AHEAD_FIRST);
	if (!r->window) {
		return error_set(err, ERROR_LIMIT, "no memory for a buffer");
	}
	r->capacity = AHEAD_FIRST;
	int rc = range_source_read(r->source, &r->digest, 0, r->window, AHEAD_FIRST, &r->len,
				   &size, err);

	if (rc > 0 && size > AHEAD_FIRST) {
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
	r->ahead = AHEAD_FIRST;
	int rc = open_reader(r, err);

	if (rc <= 0) {
		reader_free(&r->base);
		return rc;
	}
	if (r->len < r->capacity) {
		uint8_t *smaller = realloc(r->window, MAX(r->len, (size_t)1));

		r->window = smaller ? smaller : r->window;
		r->capacity = MAX(r->len, (size_t)1);
	}
	*out = &r->base;
	return 1;
}
