/* castore/outboard.h: digests, what ranges are verified against, and every kind of damage. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "castore/outboard.h"
#include "craft.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1048576)
#define DATA_MAX (17 * MIB + 3)

/* The same content for all tests. */
static uint8_t *data;

static int make_data(void **state unused)
{
	struct dice dice = {.state = 4};

	data = malloc(DATA_MAX);
	if (!data) {
		return -1;
	}
	dice_fill(&dice, data, DATA_MAX);
	return 0;
}

static int free_data(void **state unused)
{
	free(data);
	return 0;
}

static const size_t sizes[] = {0,
			       1,
			       64,
			       65,
			       1023,
			       1024,
			       1025,
			       2048,
			       3 * KIB + 1,
			       16383,
			       16384,
			       16385,
			       17 * KIB,
			       17 * KIB + 1,
			       32 * KIB - 1,
			       32 * KIB,
			       32 * KIB + 1,
			       48 * KIB + 5,
			       64 * KIB - 1,
			       64 * KIB,
			       64 * KIB + 1,
			       MIB - 16 * KIB,
			       MIB - 1,
			       MIB,
			       MIB + 1,
			       MIB + 16 * KIB - 1,
			       MIB + 16 * KIB,
			       MIB + 16 * KIB + 1,
			       2 * MIB,
			       2 * MIB + 1,
			       3 * MIB - 1,
			       3 * MIB + MIB / 2,
			       5 * MIB + 7 * KIB + 3,
			       17 * MIB + 3};

/* In random pieces: some tiny, some of several spans. */
static void update_in_pieces(struct outboard_builder *b, struct dice *dice, size_t size)
{
	static const size_t limits[] = {3, 200, 5000, 20000, 300000, 3000000};

	for (size_t at = 0, n; at < size; at += n) {
		/* Tiny pieces only near places where something ends. */
		size_t shortest = (at + 300) % (16 * KIB) < 600 ? 0 : 2;
		size_t k = shortest + (size_t)dice_below(dice, ARRAY_SIZE(limits) - shortest);

		n = (size_t)dice_below(dice, limits[k]);
		n = MIN(n, size - at);
		outboard_builder_update(b, bytes_of(data + at, n));
	}
}

static void assert_outboard_valid(const struct digest *digest, size_t size,
				  const struct buffer *outboard)
{
	const uint8_t *spans = outboard->ptr;
	const uint8_t *groups = spans + outboard_span_count(size) * DIGEST_SIZE;

	assert_true(outboard_verify_spans(digest, size, spans));
	for (uint64_t s = 0; s < outboard_span_count(size); s++) {
		assert_true(outboard_verify_span(size, s, spans + s * DIGEST_SIZE,
						 groups + s * (OUTBOARD_SPAN / OUTBOARD_GROUP) *
								  DIGEST_SIZE));
	}
	for (uint64_t g = 0; g < outboard_group_count(size); g++) {
		uint64_t at = g * OUTBOARD_GROUP;

		assert_true(outboard_verify_group(
			size, g, groups + g * DIGEST_SIZE,
			bytes_of(data + at, MIN(OUTBOARD_GROUP, size - at))));
	}
}

/* ---- Right ---- */

static void test_counts(void **state unused)
{
	assert_int_equal(outboard_encoded_size(0), 0);
	assert_int_equal(outboard_encoded_size(1), 0);
	assert_int_equal(outboard_encoded_size(16384), 0);
	assert_int_equal(outboard_encoded_size(16385), (1 + 2) * 32);
	assert_int_equal(outboard_encoded_size(MIB), (1 + 64) * 32);
	assert_int_equal(outboard_encoded_size(MIB + 1), (2 + 65) * 32);
	assert_int_equal(outboard_span_count(0), 0);
	assert_int_equal(outboard_group_count(16385), 2);
}

/* Whatever the size and the pieces: the digest is that of the bytes, and all is verifiable. */
static void test_sizes(void **state unused)
{
	struct outboard_builder *b = outboard_builder_new();
	struct dice dice = {.state = 5};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct buffer whole cleanup(cleanup_buffer) = {0};
		struct buffer pieces cleanup(cleanup_buffer) = {0};
		struct digest want, got;

		digest_of(&want, bytes_of(data, sizes[i]));
		outboard_builder_reset(b);
		outboard_builder_update(b, bytes_of(data, sizes[i]));
		outboard_builder_finish(b, &got, &whole);
		assert_true(digest_equal(&want, &got));
		assert_int_equal(whole.len, outboard_encoded_size(sizes[i]));
		outboard_builder_reset(b);
		update_in_pieces(b, &dice, sizes[i]);
		buffer_append(&pieces, "before", 6);
		outboard_builder_finish(b, &got, &pieces);
		assert_true(digest_equal(&want, &got));
		assert_int_equal(pieces.len, 6 + whole.len);
		if (whole.len) {
			assert_memory_equal(pieces.ptr, "before", 6);
			assert_memory_equal(pieces.ptr + 6, whole.ptr, whole.len);
			assert_outboard_valid(&want, sizes[i], &whole);
		}
		outboard_builder_reset(b);
		update_in_pieces(b, &dice, sizes[i]);
		outboard_builder_finish(b, &got, NULL);
		assert_true(digest_equal(&want, &got));
	}
	outboard_builder_free(b);
	outboard_builder_free(NULL);
}

static void test_random_sizes(void **state unused)
{
	struct outboard_builder *b = outboard_builder_new();
	struct dice dice = {.state = 6};

	for (size_t round = 0; round < 150; round++) {
		size_t size = (size_t)dice_below(&dice, (size_t)1 << (10 + round % 13));
		struct buffer outboard cleanup(cleanup_buffer) = {0};
		struct digest want, got;

		digest_of(&want, bytes_of(data, size));
		outboard_builder_reset(b);
		update_in_pieces(b, &dice, size);
		outboard_builder_finish(b, &got, &outboard);
		assert_true(digest_equal(&want, &got));
		assert_int_equal(outboard.len, outboard_encoded_size(size));
		if (outboard.len) {
			assert_outboard_valid(&want, size, &outboard);
		}
	}
	outboard_builder_free(b);
}

/* More spans than are merged in one go: one MiB again and again, at last a little more. */
static void test_many_spans(void **state unused)
{
	static const size_t counts[] = {255, 256, 257, 769, 1025};
	struct outboard_builder *b = outboard_builder_new();
	struct hasher *h = hasher_new();
	size_t hashed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct bytes tail = bytes_of(data, i + 1 < ARRAY_SIZE(counts) ? 0 : 77);
		size_t size = counts[i] * MIB + tail.len;
		struct buffer outboard cleanup(cleanup_buffer) = {0};
		struct digest want, got;

		for (; hashed < counts[i]; hashed++) {
			hasher_update(h, bytes_of(data, MIB));
		}
		hasher_update(h, tail);
		hasher_finish(h, &want);
		outboard_builder_reset(b);
		for (size_t k = 0; k < counts[i]; k++) {
			outboard_builder_update(b, bytes_of(data, MIB));
		}
		outboard_builder_update(b, tail);
		outboard_builder_finish(b, &got, &outboard);
		assert_true(digest_equal(&want, &got));
		assert_int_equal(outboard.len, outboard_encoded_size(size));
		assert_true(outboard_verify_spans(&want, size, outboard.ptr));
		/* Each value counts. */
		for (size_t k = 0; k < outboard_span_count(size); k += 51) {
			outboard.ptr[k * DIGEST_SIZE] ^= 1;
			assert_false(outboard_verify_spans(&want, size, outboard.ptr));
			outboard.ptr[k * DIGEST_SIZE] ^= 1;
		}
	}
	hasher_free(h);
	outboard_builder_free(b);
}

/* ---- Wrong ---- */

struct built {
	size_t size;
	struct digest digest;
	struct buffer outboard;
	uint8_t *spans, *groups;
};

static void build(struct built *out, size_t size)
{
	struct outboard_builder *b = outboard_builder_new();

	*out = (struct built){.size = size};
	outboard_builder_update(b, bytes_of(data, size));
	outboard_builder_finish(b, &out->digest, &out->outboard);
	outboard_builder_free(b);
	out->spans = out->outboard.ptr;
	out->groups = out->spans + outboard_span_count(size) * DIGEST_SIZE;
}

static void flip(uint8_t *bytes, size_t bit)
{
	bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static const size_t damaged_sizes[] = {16 * KIB + 1,           100 * KIB, MIB, MIB + 1,
				       2 * MIB + 33 * KIB + 7, 5 * MIB};

static void test_damaged_spans(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(damaged_sizes); i++) {
		struct built b;

		build(&b, damaged_sizes[i]);
		size_t bits = (size_t)outboard_span_count(b.size) * DIGEST_SIZE * 8;

		for (size_t bit = 0; bit < bits; bit++) {
			flip(b.spans, bit);
			assert_false(outboard_verify_spans(&b.digest, b.size, b.spans));
			flip(b.spans, bit);
		}
		for (size_t bit = 0; bit < 256; bit++) {
			flip(b.digest.bytes, bit);
			assert_false(outboard_verify_spans(&b.digest, b.size, b.spans));
			flip(b.digest.bytes, bit);
		}
		assert_true(outboard_verify_spans(&b.digest, b.size, b.spans));
		buffer_done(&b.outboard);
	}
}

static void test_damaged_groups(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(damaged_sizes); i++) {
		struct built b;

		build(&b, damaged_sizes[i]);
		uint64_t last = outboard_span_count(b.size) - 1;
		uint64_t first = last * (OUTBOARD_SPAN / OUTBOARD_GROUP);
		size_t bits = (size_t)(outboard_group_count(b.size) - first) * 256;
		uint8_t *groups = b.groups + first * DIGEST_SIZE;
		uint8_t *span = b.spans + last * DIGEST_SIZE;

		for (size_t bit = 0; bit < bits; bit += 7) {
			flip(groups, bit);
			assert_false(outboard_verify_span(b.size, last, span, groups));
			flip(groups, bit);
		}
		for (size_t bit = 0; bit < 256; bit++) {
			flip(span, bit);
			assert_false(outboard_verify_span(b.size, last, span, groups));
			flip(span, bit);
		}
		assert_true(outboard_verify_span(b.size, last, span, groups));
		buffer_done(&b.outboard);
	}
}

static bool verify_group(const struct built *b, uint64_t group, struct bytes content)
{
	return outboard_verify_group(b->size, group, b->groups + group * DIGEST_SIZE, content);
}

static void test_damaged_content(void **state unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(damaged_sizes); i++) {
		struct built b;

		build(&b, damaged_sizes[i]);
		uint64_t last = outboard_group_count(b.size) - 1;
		size_t at = (size_t)(last * OUTBOARD_GROUP), len = b.size - at;
		uint8_t *copy cleanup(cleanup_free) = malloc(len);

		assert_non_null(copy);
		memcpy(copy, data + at, len);
		for (size_t bit = 0; bit < len * 8; bit += 61) {
			flip(copy, bit);
			assert_false(verify_group(&b, last, bytes_of(copy, len)));
			flip(copy, bit);
		}
		flip(copy, len * 8 - 1);
		assert_false(verify_group(&b, last, bytes_of(copy, len)));
		flip(copy, len * 8 - 1);
		assert_true(verify_group(&b, last, bytes_of(copy, len)));
		for (size_t bit = 0; bit < 256; bit++) {
			flip(b.groups + last * DIGEST_SIZE, bit);
			assert_false(verify_group(&b, last, bytes_of(copy, len)));
			flip(b.groups + last * DIGEST_SIZE, bit);
		}
		buffer_done(&b.outboard);
	}
}

static bool verify_groups(const struct built *b, uint64_t first, struct bytes content)
{
	return outboard_verify_groups(b->size, first, b->groups + first * DIGEST_SIZE, content);
}

static void test_many_groups(void **state unused)
{
	const size_t many[] = {2, 3, 17, 63, 64};
	struct built b;

	build(&b, 2 * MIB + 100);
	const uint64_t count = outboard_group_count(b.size);

	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		for (uint64_t first = 0; first < count; first += 5) {
			size_t at = (size_t)(first * OUTBOARD_GROUP);
			size_t len = MIN(many[i] * OUTBOARD_GROUP, b.size - at);

			assert_true(verify_groups(&b, first, bytes_of(data + at, len)));
			flip(data + at, (len - 1) * 8);
			assert_false(verify_groups(&b, first, bytes_of(data + at, len)));
			flip(data + at, (len - 1) * 8);
		}
	}
	/* No whole groups, more than a span of them, and more than there are. */
	assert_false(verify_groups(&b, 0, bytes_of(data, 2 * OUTBOARD_GROUP - 1)));
	assert_false(verify_groups(&b, 0, bytes_of(data, 65 * OUTBOARD_GROUP)));
	assert_false(verify_groups(
		&b, count - 2,
		bytes_of(data + (count - 2) * OUTBOARD_GROUP, 2 * OUTBOARD_GROUP)));
	assert_false(verify_groups(&b, 0, bytes_of(data, 0)));
	buffer_done(&b.outboard);
}

/* Right content at a wrong place or of a wrong length. */
static void test_misplaced_content(void **state unused)
{
	struct built b;

	build(&b, 2 * MIB + 100);
	uint64_t last = outboard_group_count(b.size) - 1;
	struct bytes first = bytes_of(data, OUTBOARD_GROUP);
	struct bytes tail = bytes_of(data + 2 * MIB, 100);

	assert_true(verify_group(&b, 0, first));
	assert_false(verify_group(&b, 1, first));
	/* Equal bytes elsewhere have another value. */
	assert_false(outboard_verify_group(b.size, 1, b.groups, first));
	assert_false(verify_group(&b, 0, bytes_of(data, OUTBOARD_GROUP - 1)));
	assert_false(verify_group(&b, 0, bytes_of(data, OUTBOARD_GROUP + 1)));
	assert_false(verify_group(&b, 0, bytes_of(data, 0)));
	assert_true(verify_group(&b, last, tail));
	assert_false(verify_group(&b, last, bytes_of(tail.ptr, 99)));
	assert_false(verify_group(&b, last, bytes_of(tail.ptr, 101)));
	/* Beyond the end. */
	assert_false(outboard_verify_group(b.size, last + 1, b.groups, first));
	assert_false(outboard_verify_group(b.size, UINT64_MAX, b.groups, first));
	assert_false(outboard_verify_group(b.size, (UINT64_MAX >> 14) + 2, b.groups, first));
	assert_false(outboard_verify_span(b.size, 3, b.spans, b.groups));
	assert_false(outboard_verify_span(b.size, UINT64_MAX, b.spans, b.groups));
	/* Spans change places. */
	assert_true(outboard_verify_span(b.size, 0, b.spans, b.groups));
	assert_false(outboard_verify_span(b.size, 0, b.spans + DIGEST_SIZE, b.groups));
	assert_false(outboard_verify_span(b.size, 0, b.spans, b.groups + 64 * DIGEST_SIZE));
	buffer_done(&b.outboard);
}

/* A size that does not belong to the digest is seen where the shape of the tree differs. */
static void test_wrong_size(void **state unused)
{
	struct built b;

	build(&b, 3 * MIB);
	assert_true(outboard_verify_spans(&b.digest, b.size, b.spans));
	assert_false(outboard_verify_spans(&b.digest, 2 * MIB, b.spans));
	assert_false(outboard_verify_spans(&b.digest, 4 * MIB, b.spans));
	assert_false(outboard_verify_span(3 * MIB - 16 * KIB, 2, b.spans + 2 * DIGEST_SIZE,
					  b.groups + 128 * DIGEST_SIZE));
	buffer_done(&b.outboard);
}

/* A blob of at most one group has no outboard; none can be made up for it. */
static void test_small_blobs_have_none(void **state unused)
{
	struct digest digest;

	digest_of(&digest, bytes_of(data, 16384));
	assert_false(outboard_verify_spans(&digest, 0, digest.bytes));
	assert_false(outboard_verify_spans(&digest, 1, digest.bytes));
	assert_false(outboard_verify_spans(&digest, 16384, digest.bytes));
	assert_false(outboard_verify_span(16384, 0, digest.bytes, digest.bytes));
	assert_false(outboard_verify_group(16384, 0, digest.bytes, bytes_of(data, 16384)));
	assert_false(outboard_verify_group(0, 0, digest_empty.bytes, bytes_of(data, 0)));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_random_sizes),
		cmocka_unit_test(test_many_spans),
		cmocka_unit_test(test_damaged_spans),
		cmocka_unit_test(test_damaged_groups),
		cmocka_unit_test(test_damaged_content),
		cmocka_unit_test(test_many_groups),
		cmocka_unit_test(test_misplaced_content),
		cmocka_unit_test(test_wrong_size),
		cmocka_unit_test(test_small_blobs_have_none),
	};

	return cmocka_run_group_tests(tests, make_data, free_data);
}
