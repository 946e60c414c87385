#include "castore/directory.h"

#include <stdatomic.h>

#include "castore/wire.h"

struct directory {
	_Atomic unsigned refs;
	struct digest digest;
	uint64_t size;
	uint8_t *encoding; /* owned, malloc'd */
	size_t len;
	size_t count;
	/* Where each entry's tag is, in order of names over all kinds. */
	uint32_t offsets[];
};

/* Kinds follow each other in the encoding, each sorted by name. */
#define KINDS 3

struct list {
	size_t start, end; /* of its part of the offsets */
};

static enum node_kind kind_of_tag(uint8_t tag)
{
	return (enum node_kind)(tag >> 3);
}

static bool is_entry_tag(uint8_t tag)
{
	return (tag & 7) == WIRE_BYTES && tag >> 3 >= NODE_DIRECTORY &&
	       tag >> 3 <= NODE_SYMLINK;
}

static int invalid(struct error *err, size_t offset, const char *what)
{
	return error_set(err, ERROR_INVALID, "not a valid Directory: %s at byte %zu", what,
			 offset);
}

/* How many entries there are, so that they can be laid out in one allocation. */
static int count_entries(struct bytes encoding, size_t *count, struct error *err)
{
	struct wire w = wire_of(encoding);
	size_t n = 0;

	while (!wire_at_end(&w)) {
		size_t at = (size_t)(w.ptr - encoding.ptr);
		uint8_t tag = *w.ptr++;
		struct bytes message;

		if (!is_entry_tag(tag)) {
			return invalid(err, at, "an unknown field");
		}
		if (!wire_bytes(&w, &message, true)) {
			return invalid(err, at, "an entry that is cut off or not canonical");
		}
		if (++n > DIRECTORY_ENTRIES_MAX) {
			return error_set(err, ERROR_LIMIT,
					 "a Directory of more than %zu entries",
					 DIRECTORY_ENTRIES_MAX);
		}
	}
	*count = n;
	return 0;
}

/* The entry whose tag is at an offset; the encoding has been validated. */
static void entry_at(const struct directory *d, uint32_t offset, struct directory_entry *out)
{
	struct wire w = {.ptr = d->encoding + offset, .end = d->encoding + d->len};
	enum node_kind kind = kind_of_tag(*w.ptr++);
	struct bytes message = {0};

	wire_bytes(&w, &message, true);
	wire_entry(message, kind, &out->name, &out->node);
}

static struct bytes name_at(const struct directory *d, uint32_t offset)
{
	struct wire w = {.ptr = d->encoding + offset + 1, .end = d->encoding + d->len};
	struct bytes name = {0};
	uint64_t len;

	wire_varint(&w, &len, true);
	w.ptr++;
	wire_bytes(&w, &name, true);
	return name;
}

static int add_size(struct directory *d, const struct node *node, size_t at, struct error *err)
{
	uint64_t more = node->kind == NODE_DIRECTORY ? node->size : 0;

	if (__builtin_add_overflow(d->size, 1, &d->size) ||
	    __builtin_add_overflow(d->size, more, &d->size)) {
		return invalid(err, at, "sizes that do not fit 64 bits");
	}
	return 0;
}

/* What is wrong with an entry of kind e->node.kind that comes behind another, or NULL. */
static const char *entry_fault(struct bytes message, enum node_kind last_kind,
			       struct bytes last_name, struct directory_entry *e)
{
	enum node_kind kind = e->node.kind;

	if (kind < last_kind) {
		return "lists that are not in order";
	}
	const char *fault = wire_entry(message, kind, &e->name, &e->node);

	if (fault) {
		return fault;
	}
	if (!node_name_valid(e->name)) {
		return "a name that is not valid";
	}
	return kind == last_kind && last_name.len && bytes_compare(last_name, e->name) >= 0
		       ? "names that are not in ascending order"
		       : NULL;
}

/* Checks every entry and notes where it is, in the order of the encoding. */
static int read_entries(struct directory *d, struct list lists[KINDS], struct error *err)
{
	struct wire w = wire_of(bytes_of(d->encoding, d->len));
	enum node_kind last_kind = NODE_DIRECTORY;
	struct bytes last_name = {0};

	for (size_t i = 0; i < d->count; i++) {
		size_t at = (size_t)(w.ptr - d->encoding);
		struct directory_entry e = {.node.kind = kind_of_tag(*w.ptr++)};
		struct bytes message = {0};

		wire_bytes(&w, &message, true); /* count_entries() has seen it */
		const char *fault = entry_fault(message, last_kind, last_name, &e);

		if (fault) {
			return invalid(err, at, fault);
		}
		int rc = add_size(d, &e.node, at, err);

		if (rc) {
			return rc;
		}
		d->offsets[i] = (uint32_t)at;
		lists[e.node.kind - 1].end++;
		last_kind = e.node.kind;
		last_name = e.name;
	}
	return 0;
}

/* The list whose next name comes first, or -1 when two have the same. */
static int first_list(const struct list lists[KINDS], const struct bytes heads[KINDS])
{
	int first = -1;

	for (int k = 0; k < KINDS; k++) {
		if (lists[k].start == lists[k].end) {
			continue;
		}
		int order = first < 0 ? -1 : bytes_compare(heads[k], heads[first]);

		if (order == 0) {
			return -1;
		}
		first = order < 0 ? k : first;
	}
	return first;
}

static int merge_lists(struct directory *d, struct list lists[KINDS], struct error *err)
{
	uint32_t *merged = malloc(d->count * sizeof(*merged));
	struct bytes heads[KINDS] = {0};

	if (!merged) {
		return error_set(err, ERROR_LIMIT, "no memory for a Directory of %zu entries",
				 d->count);
	}
	for (int k = 0; k < KINDS; k++) {
		if (lists[k].start < lists[k].end) {
			heads[k] = name_at(d, d->offsets[lists[k].start]);
		}
	}
	for (size_t i = 0; i < d->count; i++) {
		int k = first_list(lists, heads);

		if (k < 0) {
			free(merged);
			return error_set(err, ERROR_INVALID,
					 "not a valid Directory: a name that is there twice");
		}
		merged[i] = d->offsets[lists[k].start++];
		if (lists[k].start < lists[k].end) {
			heads[k] = name_at(d, d->offsets[lists[k].start]);
		}
	}
	memcpy(d->offsets, merged, d->count * sizeof(*merged));
	free(merged);
	return 0;
}

static int read_and_merge(struct directory *d, struct error *err)
{
	struct list lists[KINDS] = {0};
	int rc = read_entries(d, lists, err);

	if (rc) {
		return rc;
	}
	size_t start = 0, used = 0;

	for (int k = 0; k < KINDS; k++) {
		used += lists[k].end > 0;
		lists[k].start = start;
		lists[k].end += start;
		start = lists[k].end;
	}
	return used > 1 ? merge_lists(d, lists, err) : 0;
}

int directory_decode_owned(uint8_t *encoding, size_t len, struct directory **out,
			   struct error *err)
{
	size_t count = 0;
	int rc = len > DIRECTORY_ENCODING_MAX
			 ? error_set(err, ERROR_LIMIT, "a Directory of more than %zu bytes",
				     DIRECTORY_ENCODING_MAX)
			 : count_entries(bytes_of(encoding, len), &count, err);

	if (rc) {
		free(encoding);
		return rc;
	}
	struct directory *d = malloc(sizeof(*d) + count * sizeof(d->offsets[0]));

	if (!d) {
		free(encoding);
		return error_set(err, ERROR_LIMIT, "no memory for a Directory");
	}
	*d = (struct directory){.encoding = encoding, .len = len, .count = count};
	atomic_init(&d->refs, 1);
	rc = read_and_merge(d, err);
	if (rc) {
		directory_unref(d);
		return rc;
	}
	digest_of(&d->digest, bytes_of(encoding, len));
	*out = d;
	return 0;
}

int directory_decode(struct bytes encoding, struct directory **out, struct error *err)
{
	uint8_t *copy = NULL;

	if (encoding.len <= DIRECTORY_ENCODING_MAX) {
		copy = malloc(MAX(encoding.len, (size_t)1));
		if (!copy) {
			return error_set(err, ERROR_LIMIT, "no memory for a Directory");
		}
		if (encoding.len) {
			memcpy(copy, encoding.ptr, encoding.len);
		}
	}
	return directory_decode_owned(copy, encoding.len, out, err);
}

struct directory *directory_ref(struct directory *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

void directory_unref(struct directory *d)
{
	if (d && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1) {
		free(d->encoding);
		free(d);
	}
}

struct bytes directory_encoding(const struct directory *d)
{
	return bytes_of(d->encoding, d->len);
}

const struct digest *directory_digest(const struct directory *d)
{
	return &d->digest;
}

size_t directory_count(const struct directory *d)
{
	return d->count;
}

uint64_t directory_size(const struct directory *d)
{
	return d->size;
}

struct node directory_node(const struct directory *d)
{
	return (struct node){.kind = NODE_DIRECTORY, .digest = d->digest, .size = d->size};
}

struct node directory_node_counted_twice(const struct directory *d)
{
	struct node node = directory_node(d);

	/* The sizes of the children are counted so already. */
	node.size += d->count;
	return node;
}

void directory_entry(const struct directory *d, size_t i, struct directory_entry *out)
{
	entry_at(d, d->offsets[i], out);
}

struct bytes directory_entry_name(const struct directory *d, size_t i)
{
	return name_at(d, d->offsets[i]);
}

ssize_t directory_find(const struct directory *d, struct bytes name)
{
	size_t low = 0, high = d->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = bytes_compare(name, name_at(d, d->offsets[middle]));

		if (order == 0) {
			return (ssize_t)middle;
		}
		if (order < 0) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return -1;
}

size_t directory_memory(const struct directory *d)
{
	return sizeof(*d) + d->count * sizeof(d->offsets[0]) + d->len;
}
