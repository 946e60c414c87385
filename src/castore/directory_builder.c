#include "castore/directory.h"
#include "castore/wire.h"

/* One entry, its name and target behind one another in the builder's text. */
struct built {
	size_t name_at;
	size_t target_at;
	uint64_t size;
	struct digest digest;
	uint16_t name_len;
	uint16_t target_len;
	uint8_t kind;
	bool executable;
};

struct directory_builder {
	struct built *entries;
	size_t count, capacity;
	struct buffer text;
};

struct directory_builder *directory_builder_new(void)
{
	return xcalloc(1, sizeof(struct directory_builder));
}

static void clear(struct directory_builder *b)
{
	free(b->entries);
	buffer_done(&b->text);
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
 * Room for one more entry and its text. A peer's message decides how much there is, so running
 * out of memory is an error.
 */
static int reserve_entry(struct directory_builder *b, size_t text, struct error *err)
{
	if (b->count == b->capacity) {
		size_t capacity = b->capacity ? b->capacity * 2 : 16;
		struct built *entries = realloc(b->entries, capacity * sizeof(*entries));

		if (!entries) {
			return error_set(err, ERROR_LIMIT, "no memory for a large directory");
		}
		b->entries = entries;
		b->capacity = capacity;
	}
	if (b->text.capacity - b->text.len < text) {
		size_t capacity = MAX(b->text.capacity * 2, b->text.len + text);
		uint8_t *ptr = realloc(b->text.ptr, capacity);

		if (!ptr) {
			return error_set(err, ERROR_LIMIT, "no memory for a large directory");
		}
		b->text.ptr = ptr;
		b->text.capacity = capacity;
	}
	return 0;
}

int directory_builder_add(struct directory_builder *b, struct bytes name,
			  const struct node *node, struct error *err)
{
	int rc = check_entry(b, name, node, err);

	if (rc) {
		return rc;
	}
	rc = reserve_entry(b, name.len + NODE_TARGET_MAX, err);
	if (rc) {
		return rc;
	}
	struct built *e = &b->entries[b->count++];

	*e = (struct built){.kind = (uint8_t)node->kind,
			    .executable = node->kind == NODE_FILE && node->executable,
			    .digest = node->digest,
			    .size = node->kind == NODE_SYMLINK ? 0 : node->size,
			    .name_at = b->text.len,
			    .name_len = (uint16_t)name.len};
	buffer_append(&b->text, name.ptr, name.len);
	if (node->kind == NODE_SYMLINK) {
		e->target_at = b->text.len;
		e->target_len = (uint16_t)node->target.len;
		buffer_append(&b->text, node->target.ptr, node->target.len);
	}
	return 0;
}

static struct bytes name_of(const struct built *e, const uint8_t *text)
{
	return bytes_of(text + e->name_at, e->name_len);
}

static struct node node_of(const struct built *e, const uint8_t *text)
{
	return (struct node){.kind = (enum node_kind)e->kind,
			     .executable = e->executable,
			     .digest = e->digest,
			     .size = e->size,
			     .target = bytes_of(text + e->target_at, e->target_len)};
}

static int compare_entries(const void *a, const void *b, void *text)
{
	const struct built *x = a, *y = b;

	if (x->kind != y->kind) {
		return x->kind - y->kind;
	}
	return bytes_compare(name_of(x, text), name_of(y, text));
}

static uint64_t encoded_size(const struct directory_builder *b)
{
	uint64_t size = 0;

	for (size_t i = 0; i < b->count; i++) {
		struct node node = node_of(&b->entries[i], b->text.ptr);
		size_t len = wire_entry_size(name_of(&b->entries[i], b->text.ptr), &node);

		size += 1 + wire_varint_size(len) + len;
	}
	return size;
}

static void encode(const struct directory_builder *b, uint8_t *at)
{
	for (size_t i = 0; i < b->count; i++) {
		struct node node = node_of(&b->entries[i], b->text.ptr);
		struct bytes name = name_of(&b->entries[i], b->text.ptr);

		*at++ = WIRE_TAG((unsigned)node.kind, WIRE_BYTES);
		at = wire_put_varint(at, wire_entry_size(name, &node));
		at = wire_put_entry(at, name, &node);
	}
}

int directory_builder_finish(struct directory_builder *b, struct directory **out,
			     struct error *err)
{
	if (b->count) {
		qsort_r(b->entries, b->count, sizeof(*b->entries), compare_entries,
			b->text.ptr);
	}
	uint64_t size = encoded_size(b);
	uint8_t *encoding =
		size <= DIRECTORY_ENCODING_MAX ? malloc((size_t)MAX(size, (uint64_t)1)) : NULL;

	if (!encoding) {
		clear(b);
		return error_set(err, ERROR_LIMIT, "a directory of %llu bytes is too large",
				 (unsigned long long)size);
	}
	encode(b, encoding);
	clear(b);
	/* Decoding checks what only the whole can show: unique names, the sum of the sizes. */
	return directory_decode_owned(encoding, (size_t)size, out, err);
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
