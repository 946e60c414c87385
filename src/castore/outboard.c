#include "castore/outboard.h"

#include <blake3_impl.h>

/*
 * The tree of BLAKE3 from the outside: chunks of 1 KiB give chaining values, pairs of values
 * give their parent's, and a last one without a partner goes up as it is. That is the same tree
 * as "the left side is the largest power of two", level by level, so that many compressions of
 * one level go through the vector units together.
 */

#define CHUNK ((size_t)BLAKE3_CHUNK_LEN)
#define VALUE ((size_t)DIGEST_SIZE)
#define CHUNKS_PER_GROUP (OUTBOARD_GROUP / BLAKE3_CHUNK_LEN)
#define CHUNKS_PER_SPAN (OUTBOARD_SPAN / BLAKE3_CHUNK_LEN)
#define GROUPS_PER_SPAN (OUTBOARD_SPAN / OUTBOARD_GROUP)
#define LEVELS_TO_GROUP 4
#define BATCH ((size_t)16)
#define SPANS_PER_BLOCK ((size_t)256)
#define MAX_LEVELS 64

_Static_assert(1 << LEVELS_TO_GROUP == CHUNKS_PER_GROUP, "a group is a subtree");

static void store_value(uint8_t out[DIGEST_SIZE], const uint32_t words[8])
{
	for (size_t i = 0; i < 8; i++) {
		store32(out + 4 * i, words[i]);
	}
}

/* A last chunk that is not full. */
static void short_chunk_value(uint8_t *out, const uint8_t *data, size_t len, uint64_t counter)
{
	uint32_t words[8];
	uint8_t flags = CHUNK_START;

	memcpy(words, IV, sizeof(words));
	while (len > BLAKE3_BLOCK_LEN) {
		blake3_compress_in_place(words, data, BLAKE3_BLOCK_LEN, counter, flags);
		data += BLAKE3_BLOCK_LEN;
		len -= BLAKE3_BLOCK_LEN;
		flags = 0;
	}
	uint8_t block[BLAKE3_BLOCK_LEN] = {0};

	memcpy(block, data, len);
	blake3_compress_in_place(words, block, (uint8_t)len, counter,
				 (uint8_t)(flags | CHUNK_END));
	store_value(out, words);
}

/* Values of all chunks of data, which begins at chunk number `counter`. Returns how many. */
static size_t chunk_values(uint8_t *out, struct bytes data, uint64_t counter)
{
	size_t full = data.len / CHUNK;

	for (size_t i = 0; i < full; i += BATCH) {
		const uint8_t *inputs[BATCH];
		size_t n = MIN(BATCH, full - i);

		for (size_t k = 0; k < n; k++) {
			inputs[k] = data.ptr + (i + k) * CHUNK;
		}
		blake3_hash_many(inputs, n, CHUNK / BLAKE3_BLOCK_LEN, IV, counter + i, true, 0,
				 CHUNK_START, CHUNK_END, out + i * VALUE);
	}
	if (full * CHUNK < data.len) {
		short_chunk_value(out + full * VALUE, data.ptr + full * CHUNK,
				  data.len - full * CHUNK, counter + full);
		full++;
	}
	return full;
}

/* One level up, in place. Returns how many values there are then. */
static size_t merge_level(uint8_t *values, size_t count, uint8_t more_flags)
{
	size_t pairs = count / 2;

	for (size_t i = 0; i < pairs; i += BATCH) {
		const uint8_t *inputs[BATCH];
		uint8_t parents[BATCH * VALUE];
		size_t n = MIN(BATCH, pairs - i);

		for (size_t k = 0; k < n; k++) {
			inputs[k] = values + 2 * (i + k) * VALUE;
		}
		blake3_hash_many(inputs, n, 1, IV, 0, false, (uint8_t)(PARENT | more_flags), 0,
				 0, parents);
		memcpy(values + i * VALUE, parents, n * VALUE);
	}
	if (count % 2) {
		memmove(values + pairs * VALUE, values + (count - 1) * VALUE, VALUE);
		pairs++;
	}
	return pairs;
}

/* All the way up; the last step makes the root where is_root says so. */
static void merge_all(uint8_t *values, size_t count, bool is_root)
{
	while (count > 1) {
		count = merge_level(values, count, is_root && count == 2 ? ROOT : 0);
	}
}

/* The values of the groups in data, which begins at a group. Returns how many. */
static size_t group_values(uint8_t *values, struct bytes data, uint64_t chunk)
{
	size_t count = chunk_values(values, data, chunk);

	for (int level = 0; level < LEVELS_TO_GROUP; level++) {
		count = merge_level(values, count, 0);
	}
	return count;
}

struct outboard_builder {
	uint64_t size; /* what is hashed already: whole groups */
	struct buffer spans, groups;
	size_t pending;
	uint8_t group[OUTBOARD_GROUP]; /* what does not fill a group yet, or waits for more */
	uint8_t values[CHUNKS_PER_SPAN * DIGEST_SIZE];
};

struct outboard_builder *outboard_builder_new(void)
{
	struct outboard_builder *b = xmalloc(sizeof(*b));

	b->size = 0;
	b->pending = 0;
	b->spans = b->groups = (struct buffer){0};
	return b;
}

void outboard_builder_free(struct outboard_builder *b)
{
	if (b) {
		buffer_done(&b->spans);
		buffer_done(&b->groups);
		free(b);
	}
}

void outboard_builder_reset(struct outboard_builder *b)
{
	b->size = 0;
	b->pending = 0;
	b->spans.len = b->groups.len = 0;
}

/* The value of the newest span, from those of its groups. */
static void close_span(struct outboard_builder *b, bool is_root)
{
	size_t first = b->spans.len / VALUE * GROUPS_PER_SPAN * VALUE;
	size_t len = b->groups.len - first;

	memcpy(b->values, b->groups.ptr + first, len);
	merge_all(b->values, len / VALUE, is_root);
	buffer_append(&b->spans, b->values, VALUE);
}

/* Groups of one span; only the last of the blob may be short. */
static void hash_groups(struct outboard_builder *b, struct bytes data)
{
	size_t count = group_values(b->values, data, b->size / CHUNK);

	buffer_append(&b->groups, b->values, count * VALUE);
	b->size += data.len;
}

/* Hashes whole groups from the front of data, up to the end of a span. Returns their bytes. */
static size_t take_groups(struct outboard_builder *b, struct bytes data)
{
	size_t room = OUTBOARD_SPAN - b->size % OUTBOARD_SPAN;
	size_t n = MIN(room, data.len / OUTBOARD_GROUP * OUTBOARD_GROUP);

	if (b->size > 0 && room == OUTBOARD_SPAN) {
		close_span(b, false);
	}
	hash_groups(b, bytes_of(data.ptr, n));
	return n;
}

/*
 * A first group waits for a byte behind it, since alone it is hashed whole; and so does a full
 * span, since alone it is the root.
 */
void outboard_builder_update(struct outboard_builder *b, struct bytes data)
{
	while (data.len) {
		size_t n = MIN(OUTBOARD_GROUP - b->pending, data.len);

		if (b->pending == OUTBOARD_GROUP) {
			take_groups(b, bytes_of(b->group, OUTBOARD_GROUP));
			b->pending = 0;
			continue;
		}
		if (b->pending == 0 &&
		    data.len >= OUTBOARD_GROUP + (b->size == 0 ? (size_t)1 : 0)) {
			n = take_groups(b, data);
		} else {
			memcpy(b->group + b->pending, data.ptr, n);
			b->pending += n;
		}
		data = bytes_of(data.ptr + n, data.len - n);
	}
}

/*
 * The root of any number of span values, in bounded memory: blocks that are complete subtrees
 * give one value each, and a stack holds those that wait for a right neighbour, one for each
 * bit of the number of blocks so far. Merging waits until another block has come, because
 * the root's own merge is marked.
 */
static void root_of_spans(const uint8_t *spans, size_t count, struct digest *out)
{
	uint8_t block[SPANS_PER_BLOCK * DIGEST_SIZE];
	uint8_t stack[MAX_LEVELS * DIGEST_SIZE];
	size_t depth = 0;

	for (size_t i = 0; i < count; i += SPANS_PER_BLOCK) {
		size_t n = MIN(SPANS_PER_BLOCK, count - i);
		size_t complete = (size_t)__builtin_popcountll(i / SPANS_PER_BLOCK);

		for (; depth > complete; depth--) {
			merge_level(stack + (depth - 2) * VALUE, 2, 0);
		}
		memcpy(block, spans + i * VALUE, n * VALUE);
		merge_all(block, n, n == count);
		memcpy(stack + depth++ * VALUE, block, VALUE);
	}
	for (; depth > 1; depth--) {
		merge_level(stack + (depth - 2) * VALUE, 2, depth == 2 ? ROOT : 0);
	}
	memcpy(out->bytes, stack, VALUE);
}

void outboard_builder_finish(struct outboard_builder *b, struct digest *out_digest,
			     struct buffer *out)
{
	if (b->size == 0) {
		digest_of(out_digest, bytes_of(b->group, b->pending));
		return;
	}
	if (b->pending) {
		if (b->size % OUTBOARD_SPAN == 0) {
			close_span(b, false);
		}
		hash_groups(b, bytes_of(b->group, b->pending));
		b->pending = 0;
	}
	close_span(b, b->spans.len == 0);
	if (out) {
		buffer_append(out, b->spans.ptr, b->spans.len);
		buffer_append(out, b->groups.ptr, b->groups.len);
	}
	root_of_spans(b->spans.ptr, b->spans.len / VALUE, out_digest);
}

bool outboard_verify_spans(const struct digest *digest, uint64_t size, const uint8_t *spans)
{
	size_t count = (size_t)outboard_span_count(size);
	struct digest root;

	if (count == 0 || size <= OUTBOARD_GROUP) {
		return false;
	}
	root_of_spans(spans, count, &root);
	return digest_equal(&root, digest);
}

bool outboard_verify_span(uint64_t size, uint64_t span, const uint8_t *span_value,
			  const uint8_t *groups)
{
	uint8_t values[GROUPS_PER_SPAN * DIGEST_SIZE];
	uint64_t first = span * GROUPS_PER_SPAN, total = outboard_group_count(size);

	if (size <= OUTBOARD_GROUP || span >= outboard_span_count(size)) {
		return false;
	}
	size_t count = (size_t)MIN(GROUPS_PER_SPAN, total - first);

	memcpy(values, groups, count * VALUE);
	merge_all(values, count, outboard_span_count(size) == 1);
	return memcmp(values, span_value, VALUE) == 0;
}

bool outboard_verify_groups(uint64_t size, uint64_t first, const uint8_t *values,
			    struct bytes data)
{
	uint8_t found[CHUNKS_PER_SPAN * DIGEST_SIZE];
	uint64_t start = first * OUTBOARD_GROUP;

	if (size <= OUTBOARD_GROUP || start >= size || data.len == 0 ||
	    data.len > MIN(OUTBOARD_SPAN, size - start) ||
	    (data.len % OUTBOARD_GROUP != 0 && data.len != size - start)) {
		return false;
	}
	size_t count = group_values(found, data, first * CHUNKS_PER_GROUP);

	return memcmp(found, values, count * VALUE) == 0;
}

bool outboard_verify_group(uint64_t size, uint64_t group, const uint8_t *group_value,
			   struct bytes data)
{
	return data.len <= OUTBOARD_GROUP &&
	       outboard_verify_groups(size, group, group_value, data);
}
