#include "castore/directory.h"
#include "castore/wire.h"

/*
 * Entries are kept as they will be encoded, in the order in which they came; to finish is to
 * put them in order. So a directory of a million files costs its encoding and four bytes an
 * entry.
 */
struct directory_builder {
	struct buffer encoded;
	uint32_t *offsets; /* of the entries' tags */
	size_t count, capacity;
};

struct directory_builder *directory_builder_new(void)
{
	return xcalloc(1, sizeof(struct directory_builder));
}

static void clear(struct directory_builder *b)
{
	free(b->offsets);
	buffer_done(&b->encoded);
	*b = (struct directory_builder){0};
}

void directory_builder_free(struct directory_builder *b)
{
	if (b) {
		clear(b);
		free(b);
	}
}

static int check_entry(const struct directory_builder *b, struct bytes name,
		       const struct node *node, struct error *err)
{
	if (b->count >= DIRECTORY_ENTRIES_MAX) {
		return error_set(err, ERROR_LIMIT, "a directory of more than %zu entries",
				 DIRECTORY_ENTRIES_MAX);
	}
	if (node->kind == NODE_SYMLINK && !node_target_valid(node->target)) {
		return error_set(err, ERROR_INVALID,
				 "the target of symlink \"%s\" is not valid",
				 bytes_printable(name));
	}
	return node_name_check(name, err);
}

/*
 * Room for one more entry of so many bytes. A peer's message decides how much there is, so
 * running out of memory is an error.
 */
static int reserve_entry(struct directory_builder *b, size_t len, struct error *err)
{
	if (b->encoded.len + len > DIRECTORY_ENCODING_MAX) {
		return error_set(err, ERROR_LIMIT, "a directory of more than %zu bytes",
				 DIRECTORY_ENCODING_MAX);
	}
	if (b->count == b->capacity) {
		size_t capacity = b->capacity ? b->capacity * 2 : 16;
		uint32_t *offsets = realloc(b->offsets, capacity * sizeof(*offsets));

		if (!offsets) {
			return error_set(err, ERROR_LIMIT, "no memory for a large directory");
		}
		b->offsets = offsets;
		b->capacity = capacity;
	}
	if (b->encoded.capacity - b->encoded.len < len) {
		size_t capacity = MAX(b->encoded.capacity * 2, b->encoded.len + len);
		uint8_t *ptr = realloc(b->encoded.ptr, capacity);

		if (!ptr) {
			return error_set(err, ERROR_LIMIT, "no memory for a large directory");
		}
		b->encoded.ptr = ptr;
		b->encoded.capacity = capacity;
	}
	return 0;
}

int directory_builder_add(struct directory_builder *b, struct bytes name,
			  const struct node *node, struct error *err)
{
	size_t len = wire_entry_size(name, node);
	size_t total = 1 + wire_varint_size(len) + len;
	int rc = check_entry(b, name, node, err);

	if (rc == 0) {
		rc = reserve_entry(b, total, err);
	}
	if (rc) {
		return rc;
	}
	uint8_t *at = b->encoded.ptr + b->encoded.len;

	*at++ = WIRE_TAG((unsigned)node->kind, WIRE_BYTES);
	at = wire_put_varint(at, len);
	wire_put_entry(at, name, node);
	b->offsets[b->count++] = (uint32_t)b->encoded.len;
	b->encoded.len += total;
	return 0;
}

/* An entry from its tag on, which is our own encoding: its kind, name and length. */
struct placed {
	uint8_t tag;
	struct bytes name;
	size_t len;
};

static struct placed placed_at(const struct buffer *encoded, uint32_t offset)
{
	const uint8_t *start = encoded->ptr + offset;
	struct wire w = {.ptr = start + 1, .end = encoded->ptr + encoded->len};
	struct placed p = {.tag = *start};
	struct bytes message = {0};

	wire_bytes(&w, &message, true);
	p.len = (size_t)(w.ptr - start);
	w = wire_of(bytes_of(message.ptr + 1, message.len - 1));
	wire_bytes(&w, &p.name, true);
	return p;
}

static int compare_entries(const void *a, const void *b, void *encoded)
{
	const uint32_t *x = a, *y = b;
	struct placed p = placed_at(encoded, *x), q = placed_at(encoded, *y);

	return p.tag != q.tag ? p.tag - q.tag : bytes_compare(p.name, q.name);
}

int directory_builder_finish(struct directory_builder *b, struct directory **out,
			     struct error *err)
{
	size_t len = b->encoded.len, used = 0;
	uint8_t *encoding = malloc(MAX(len, (size_t)1));

	if (!encoding) {
		clear(b);
		return error_set(err, ERROR_LIMIT, "no memory for a directory of %zu bytes",
				 len);
	}
	if (b->count) {
		qsort_r(b->offsets, b->count, sizeof(*b->offsets), compare_entries,
			&b->encoded);
	}
	for (size_t i = 0; i < b->count; i++) {
		struct placed p = placed_at(&b->encoded, b->offsets[i]);

		memcpy(encoding + used, b->encoded.ptr + b->offsets[i], p.len);
		used += p.len;
	}
	clear(b);
	/* Decoding checks what only the whole can show: unique names, the sum of the sizes. */
	return directory_decode_owned(encoding, len, out, err);
}

/* Takes the next field of a Directory message and adds it. */
static int normalize_entry(struct wire *w, struct directory_builder *b,
			   struct bytes last[NODE_SYMLINK + 1], struct error *err)
{
	struct bytes entry, name;
	struct node node;
	uint64_t tag;

	if (!wire_varint(w, &tag, false) || (tag & 7) != WIRE_BYTES ||
	    tag >> 3 < NODE_DIRECTORY || tag >> 3 > NODE_SYMLINK ||
	    !wire_bytes(w, &entry, false)) {
		return error_set(err, ERROR_INVALID,
				 "not a valid Directory: an unknown or cut off field");
	}
	enum node_kind kind = (enum node_kind)(tag >> 3);
	const char *fault = wire_entry_lenient(entry, kind, &name, &node);

	if (fault) {
		return error_set(err, ERROR_INVALID, "not a valid Directory: %s", fault);
	}
	if (last[kind].len && bytes_compare(last[kind], name) >= 0) {
		return error_set(
			err, ERROR_INVALID,
			"not a valid Directory: names that are not in ascending order");
	}
	last[kind] = name;
	return directory_builder_add(b, name, &node, err);
}

int directory_normalize(struct bytes message, struct directory **out, struct error *err)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct bytes last[NODE_SYMLINK + 1] = {0};
	struct wire w = wire_of(message);

	if (message.len > DIRECTORY_ENCODING_MAX) {
		return error_set(err, ERROR_LIMIT, "a Directory of more than %zu bytes",
				 DIRECTORY_ENCODING_MAX);
	}
	while (!wire_at_end(&w)) {
		int rc = normalize_entry(&w, b, last, err);

		if (rc) {
			return rc;
		}
	}
	return directory_builder_finish(b, out, err);
}
