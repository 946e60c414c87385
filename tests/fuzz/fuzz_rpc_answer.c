/*
 * What a peer answers. A range of a blob, told as a cairn does and then changed: what is taken
 * is the blob's, or nothing. Other answers: what decodes keeps to the rules of its kind.
 */

#include <stdint.h>
#include <stdlib.h>

#include "nix/path_info.h"
#include "rpc/answer.h"
#include "rpc/range_check.h"

#include "fuzz.h"

/* ---- Ranges ---- */

#define MESSAGES_MAX 160
#define PIECES_MAX 40

static const size_t sizes[] = {1, 5000, 16384, 16385, 40000, 1048576, 1200000, 2097153};

struct blob {
	uint8_t *content;
	struct digest digest;
	struct buffer outboard;
};

static struct blob blobs[ARRAY_SIZE(sizes)];

static void make_blobs(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes) && !blobs[i].content; i++) {
		struct outboard_builder *b = outboard_builder_new();

		blobs[i].content = xmalloc(sizes[i]);
		for (size_t k = 0; k < sizes[i]; k++) {
			blobs[i].content[k] = (uint8_t)(k * 7 + k / 251 + i);
		}
		outboard_builder_update(b, bytes_of(blobs[i].content, sizes[i]));
		outboard_builder_finish(b, &blobs[i].digest, &blobs[i].outboard);
		outboard_builder_free(b);
	}
}

struct answer {
	const struct blob *blob;
	size_t size;
	struct buffer messages[MESSAGES_MAX];
	size_t count;
};

static void add_message(struct answer *a, const struct read_range_response *m)
{
	check(a->count < MESSAGES_MAX);
	message_encode(&read_range_response_type, m, &a->messages[a->count++]);
}

/* Groups of one span, whole. */
static size_t add_data(struct answer *a, size_t at, size_t end, bool *first)
{
	size_t span = at / OUTBOARD_SPAN;
	size_t stop = MIN(end, (span + 1) * (size_t)OUTBOARD_SPAN);
	size_t groups = (size_t)outboard_group_count(a->size);
	size_t first_group = span * (OUTBOARD_SPAN / OUTBOARD_GROUP);
	size_t count = MIN((size_t)(OUTBOARD_SPAN / OUTBOARD_GROUP), groups - first_group);
	size_t skip = (size_t)outboard_span_count(a->size) + first_group;
	struct read_range_response m = {.offset = at};

	if (*first) {
		m.size = a->size;
		m.spans = bytes_of(a->blob->outboard.ptr,
				   a->size > OUTBOARD_GROUP
					   ? (size_t)outboard_span_count(a->size) * DIGEST_SIZE
					   : 0);
		*first = false;
	}
	if (a->size > OUTBOARD_GROUP) {
		m.groups = bytes_of(a->blob->outboard.ptr + skip * DIGEST_SIZE,
				    count * DIGEST_SIZE);
	}
	m.data = bytes_of(a->blob->content + at, stop - at);
	add_message(a, &m);
	return stop;
}

static void make_answer(struct answer *a, size_t offset, size_t len)
{
	size_t at = offset / OUTBOARD_GROUP * OUTBOARD_GROUP;
	size_t end = MIN((size_t)round_up(offset + len, OUTBOARD_GROUP), a->size);
	bool first = true;

	if (offset >= a->size || len == 0) {
		struct read_range_response m = {
			.size = a->size,
			.spans = bytes_of(a->blob->outboard.ptr,
					  a->size > OUTBOARD_GROUP
						  ? (size_t)outboard_span_count(a->size) *
							    DIGEST_SIZE
						  : 0)};

		add_message(a, &m);
		return;
	}
	while (at < end) {
		at = add_data(a, at, end, &first);
	}
}

static void change_one(struct answer *a, struct input *in)
{
	check(a->count > 0);
	uint64_t kind = input_number(in, 1), number = input_number(in, 1);
	uint64_t at = input_number(in, 3);
	struct buffer *b = &a->messages[number % a->count];
	struct buffer other = a->messages[(number + 1) % a->count];

	if (b->len == 0) {
		return;
	}
	switch (kind % 5) {
	case 0:
		b->ptr[at % b->len] ^= (uint8_t)(1 + kind / 5);
		break;
	case 1:
		b->len = at % b->len;
		break;
	case 2:
		b->len = 0;
		break;
	case 3:
		a->messages[(number + 1) % a->count] = *b;
		*b = other;
		break;
	default:
		message_encode(&read_range_response_type,
			       &(struct read_range_response){.size = at, .offset = kind}, b);
	}
}

/* Each piece in memory of its own, so that what is read beside it is seen. */
static int take_in_pieces(struct range_check *c, struct bytes message, size_t cut)
{
	struct bytes pieces[PIECES_MAX];
	size_t count = 0;

	for (size_t at = 0; at < message.len || count == 0;) {
		size_t left = message.len - at;
		size_t n = count + 1 < PIECES_MAX && cut ? MIN(left, cut + count) : left;
		uint8_t *copy = xmalloc(n ? n : 1);

		if (n) {
			memcpy(copy, message.ptr + at, n);
		}
		pieces[count++] = bytes_of(copy, n);
		at += n;
	}
	int rc = range_check_take(c, pieces, count, NULL);

	for (size_t i = 0; i < count; i++) {
		free((void *)(uintptr_t)pieces[i].ptr);
	}
	return rc;
}

/* What was taken as complete is what the blob has there. */
static void check_complete(const struct answer *a, const struct range_check *c,
			   const struct range_proof *proof, size_t offset, size_t len,
			   const uint8_t *buf)
{
	size_t wanted = MIN(len, a->size - MIN(offset, a->size));

	check(!c->saw_end || proof->size == a->size);
	if (c->saw_end || offset + len < proof->size) {
		check(memcmp(buf, a->blob->content + MIN(offset, a->size), wanted) == 0);
	}
}

static void check_range(struct input *in)
{
	size_t number = input_number(in, 1) % ARRAY_SIZE(sizes);
	/* 0: all in one piece. */
	size_t cut = in->left ? in->at[in->left - 1] * (size_t)97 : 0;
	struct answer a = {.blob = &blobs[number], .size = sizes[number]};
	size_t offset = input_number(in, 3) % (a.size + 20000),
	       len = input_number(in, 3) % 300000;
	struct range_proof proof = {.digest = a.blob->digest};
	uint8_t *buf = xcalloc(1, len + 1);
	struct range_check c;
	bool changed = false;
	int rc = 0;

	make_answer(&a, offset, len);
	for (; in->left; changed = true) {
		change_one(&a, in);
	}
	range_check_init(&c, &proof, offset, buf, len);
	for (size_t i = 0; rc == 0 && i < a.count; i++) {
		rc = take_in_pieces(&c, buffer_bytes(&a.messages[i]), cut);
	}
	check(changed || (rc == 0 && range_check_complete(&c)));
	if (rc == 0 && range_check_complete(&c)) {
		check_complete(&a, &c, &proof, offset, len, buf);
	}
	for (size_t i = 0; i < a.count; i++) {
		buffer_done(&a.messages[i]);
	}
	range_proof_done(&proof);
	free(buf);
}

/* ---- Others ---- */

static void check_failure(int rc, const struct error *err)
{
	check(rc == -ERROR_CORRUPT || rc == -ERROR_LIMIT);
	check(err->code == (enum error_code)(-rc) && told(err));
}

static void check_chunks(struct bytes message)
{
	struct chunk_list list = {0};
	struct error err = {0};
	uint64_t sum = 0;
	int rc = answer_chunks(message, &list, &err);

	if (rc < 0) {
		check_failure(rc, &err);
	}
	for (size_t i = 0; i < list.count; i++) {
		check(list.chunks[i].size > 0);
		check(!__builtin_add_overflow(sum, list.chunks[i].size, &sum));
	}
	chunk_list_done(&list);
}

static void check_missing(struct bytes message)
{
	bool missing[7] = {false};
	struct error err = {0};
	int rc = answer_missing(message, missing, ARRAY_SIZE(missing), &err);

	if (rc < 0) {
		check_failure(rc, &err);
	}
}

static void check_blobs(struct bytes message)
{
	struct wire list = wire_of(message);
	struct bytes element;
	struct blob_answer a;
	struct error err = {0};

	while (message_next_element(&list, 1, &element, &err) > 0) {
		int rc = answer_decode(&blob_answer_type, element, &a, &err);

		if (rc < 0) {
			check_failure(rc, &err);
		} else {
			check(a.content.len <= message.len && a.reason.len <= message.len);
		}
	}
}

static void check_digest(struct bytes message)
{
	struct digest digest = {0};
	struct error err = {0};
	int rc = answer_check_digest(message, "blob", &digest, &err);

	if (rc < 0) {
		check_failure(rc, &err);
	}
}

/* What is understood is in canonical form afterwards. */
static void check_path_info(struct bytes message)
{
	struct path_info info = {0}, again = {0};
	struct buffer encoding = {0};

	if (path_info_normalize(message, &info, NULL) == 0) {
		path_info_encode(&encoding, &info);
		check(path_info_decode(buffer_bytes(&encoding), &again, NULL) == 0);
	}
	path_info_done(&info);
	path_info_done(&again);
	buffer_done(&encoding);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const others[])(struct bytes message) = {
		check_chunks, check_missing, check_blobs, check_digest, check_path_info,
	};

	if (size == 0) {
		return 0;
	}
	make_blobs();
	if (data[0] >= ARRAY_SIZE(others)) {
		struct input in = input_of(data + 1, size - 1);

		check_range(&in);
	} else {
		others[data[0]](bytes_of(data + 1, size - 1));
	}
	return 0;
}
