#include "castore/directory.h"
#include "castore/wire.h"

/* Room for the entries of most directories. */
#define ENCODED_MIN ((size_t)1 << 10)

/* Entries of one kind, in the order in which they came. */
struct list {
	uint32_t *offsets; /* of the entries' tags */
	size_t count, capacity;
	bool ordered; /* by name, so far: who reads a tree adds them so */
};

/*
 * Entries are kept as they will be encoded; to finish is to put them in order. So a directory
 * of a million files costs its encoding and four bytes an entry.
 */
struct directory_builder {
	struct buffer encoded;
	struct list lists[NODE_SYMLINK + 1]; /* by kind */
	size_t count;
};

struct directory_builder *directory_builder_new(void)
{
	return xcalloc(1, sizeof(struct directory_builder));
}

static void clear(struct directory_builder *b)
{
	for (size_t kind = 0; kind < ARRAY_SIZE(b->lists); kind++) {
		free(b->lists[kind].offsets);
	}
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
static int reserve_entry(struct directory_builder *b, struct list *list, size_t len,
			 struct error *err)
{
	if (b->encoded.len + len > DIRECTORY_ENCODING_MAX) {
		return error_set(err, ERROR_LIMIT, "a directory of more than %zu bytes",
				 DIRECTORY_ENCODING_MAX);
	}
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		uint32_t *offsets = realloc(list->offsets, capacity * sizeof(*offsets));

		if (!offsets) {
			return error_set(err, ERROR_LIMIT, "no memory for a large directory");
		}
		list->offsets = offsets;
		list->capacity = capacity;
	}
	if (b->encoded.capacity - b->encoded.len < len) {
		size_t capacity =
			MAX(MAX(b->encoded.capacity * 2, ENCODED_MIN), b->encoded.len + len);
		uint8_t *ptr = realloc(b->encoded.ptr, capacity);

		if (!ptr) {
			return error_set(err, ERROR_LIMIT, "no memory for a large directory");
		}
		b->encoded.ptr = ptr;
		b->encoded.capacity = capacity;
	}
	return 0;
}

/* An entry from its tag on, which is our own encoding: its name and length. */
struct placed {
	struct bytes name;
	size_t len;
};

static struct placed placed_at(const struct buffer *encoded, uint32_t offset)
{
	const uint8_t *start = encoded->ptr + offset;
	struct wire w = {.ptr = start + 1, .end = encoded->ptr + encoded->len};
	struct placed p = {0};
	struct bytes message = {0};

	wire_bytes(&w, &message, true);
	p.len = (size_t)(w.ptr - start);
	w = wire_of(bytes_of(message.ptr + 1, message.len - 1));
	wire_bytes(&w, &p.name, true);
	return p;
}

static bool stays_ordered(const struct directory_builder *b, const struct list *list,
			  struct bytes name)
{
	if (list->count == 0) {
		return true;
	}
	struct placed last = placed_at(&b->encoded, list->offsets[list->count - 1]);

	return list->ordered && bytes_compare(last.name, name) < 0;
}

int directory_builder_add(struct directory_builder *b, struct bytes name,
			  const struct node *node, struct error *err)
{
	size_t len = wire_entry_size(name, node);
	size_t total = 1 + wire_varint_size(len) + len;
	struct list *list = &b->lists[node->kind];
	int rc = check_entry(b, name, node, err);

	if (rc == 0) {
		rc = reserve_entry(b, list, total, err);
	}
	if (rc) {
		return rc;
	}
	uint8_t *at = b->encoded.ptr + b->encoded.len;

	*at++ = WIRE_TAG((unsigned)node->kind, WIRE_BYTES);
	at = wire_put_varint(at, len);
	wire_put_entry(at, name, node);
	list->ordered = stays_ordered(b, list, name);
	list->offsets[list->count++] = (uint32_t)b->encoded.len;
	b->encoded.len += total;
	b->count++;
	return 0;
}

static int compare_entries(const void *a, const void *b, void *encoded)
{
	const uint32_t *x = a, *y = b;

	return bytes_compare(placed_at(encoded, *x).name, placed_at(encoded, *y).name);
}

/* Puts the entries of one kind where they belong, and says where they end. */
static uint8_t *put_list(struct directory_builder *b, const struct list *list, uint8_t *at)
{
	if (list->count && !list->ordered) {
		qsort_r(list->offsets, list->count, sizeof(*list->offsets), compare_entries,
			&b->encoded);
	}
	for (size_t i = 0; i < list->count; i++) {
		size_t len = placed_at(&b->encoded, list->offsets[i]).len;

		memcpy(at, b->encoded.ptr + list->offsets[i], len);
		at += len;
	}
	return at;
}

int directory_builder_finish(struct directory_builder *b, struct directory **out,
			     struct error *err)
{
	size_t len = b->encoded.len;
	uint8_t *encoding = malloc(MAX(len, (size_t)1));

	if (!encoding) {
		clear(b);
		return error_set(err, ERROR_LIMIT, "no memory for a directory of %zu bytes",
				 len);
	}
	uint8_t *at = encoding;

	for (size_t kind = 0; kind < ARRAY_SIZE(b->lists); kind++) {
		at = put_list(b, &b->lists[kind], at);
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
