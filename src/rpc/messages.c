#include "rpc/messages.h"

/* ---- Fields ---- */

struct field {
	unsigned number;
	enum wire_type type;
	uint64_t value;     /* of WIRE_VARINT */
	struct bytes bytes; /* of WIRE_BYTES */
};

static bool skip(struct wire *w, size_t size)
{
	if ((size_t)(w->end - w->ptr) < size) {
		return false;
	}
	w->ptr += size;
	return true;
}

static bool take_value(struct wire *w, struct field *f)
{
	switch (f->type) {
	case WIRE_VARINT:
		return wire_varint(w, &f->value, false);
	case WIRE_BYTES:
		return wire_bytes(w, &f->bytes, false);
	case WIRE_FIXED64:
		return skip(w, sizeof(uint64_t));
	case WIRE_FIXED32:
		return skip(w, sizeof(uint32_t));
	}
	return false;
}

#define FIELD_NUMBER_MAX ((1u << 29) - 1)

/* Asker. */
static int next_field(struct wire *w, struct field *f, struct error *err)
{
	uint64_t tag;

	if (wire_at_end(w)) {
		return 0;
	}
	bool valid =
		wire_varint(w, &tag, false) && tag >> 3 >= 1 && tag >> 3 <= FIELD_NUMBER_MAX;

	if (valid) {
		*f = (struct field){.number = (unsigned)(tag >> 3), .type = tag & 7};
		valid = take_value(w, f);
	}
	return valid ? 1 : error_set(err, ERROR_INVALID, "a message that is malformed");
}

static void put_tag(struct buffer *out, unsigned field, enum wire_type type)
{
	uint8_t *at = buffer_reserve(out, WIRE_VARINT_MAX);

	out->len += (size_t)(wire_put_varint(at, field << 3 | type) - at);
}

static void put_varint(struct buffer *out, uint64_t value)
{
	uint8_t *at = buffer_reserve(out, WIRE_VARINT_MAX);

	out->len += (size_t)(wire_put_varint(at, value) - at);
}

static void put_number(struct buffer *out, unsigned field, uint64_t value)
{
	if (value) {
		put_tag(out, field, WIRE_VARINT);
		put_varint(out, value);
	}
}

void message_put_element_head(struct buffer *out, unsigned field, size_t len)
{
	put_tag(out, field, WIRE_BYTES);
	put_varint(out, len);
}

void message_put_element(struct buffer *out, unsigned field, struct bytes element)
{
	message_put_element_head(out, field, element.len);
	buffer_append(out, element.ptr, element.len);
}

/* ---- Flat messages ---- */

#define BYTES(number, type, member)                                  \
	{                                                            \
		number, MESSAGE_BYTES, offsetof(struct type, member) \
	}
#define NUMBER(number, type, member)                                  \
	{                                                             \
		number, MESSAGE_NUMBER, offsetof(struct type, member) \
	}
#define FLAG(number, type, member)                                  \
	{                                                           \
		number, MESSAGE_FLAG, offsetof(struct type, member) \
	}

const struct message_type digest_message_type = {
	.name = "a request with a digest",
	.members = {BYTES(1, digest_message, digest)},
};

const struct message_type stat_blob_request_type = {
	.name = "StatBlobRequest",
	.members = {BYTES(1, stat_blob_request, digest),
		    FLAG(2, stat_blob_request, send_chunks),
		    FLAG(3, stat_blob_request, send_bao)},
};

const struct message_type chunk_message_type = {
	.name = "ChunkMeta",
	.members = {BYTES(1, chunk_message, digest), NUMBER(2, chunk_message, size)},
};

const struct message_type blob_chunk_type = {
	.name = "BlobChunk",
	.members = {BYTES(1, blob_chunk, data)},
};

const struct message_type get_directory_request_type = {
	.name = "GetDirectoryRequest",
	.members = {BYTES(1, get_directory_request, digest),
		    FLAG(2, get_directory_request, recursive)},
};

const struct message_type calculate_nar_response_type = {
	.name = "CalculateNARResponse",
	.members = {NUMBER(1, calculate_nar_response, nar_size),
		    BYTES(2, calculate_nar_response, nar_sha256)},
};

const struct message_type bytes_message_type = {
	.name = "a request",
	.members = {BYTES(1, bytes_message, value)},
};

const struct message_type number_message_type = {
	.name = "an answer",
	.members = {NUMBER(1, number_message, value)},
};

const struct message_type put_root_request_type = {
	.name = "PutRootRequest",
	.members = {BYTES(1, put_root_request, node), FLAG(2, put_root_request, replace)},
};

const struct message_type find_missing_request_type = {
	.name = "FindMissingRequest",
	.members = {NUMBER(1, find_missing_request, kind),
		    BYTES(2, find_missing_request, digests)},
};

const struct message_type blob_answer_type = {
	.name = "Answer",
	.members = {NUMBER(1, blob_answer, state), BYTES(2, blob_answer, content),
		    NUMBER(3, blob_answer, code), BYTES(4, blob_answer, reason)},
};

const struct message_type put_blob_type = {
	.name = "Blob",
	.members = {BYTES(1, put_blob, digest), BYTES(2, put_blob, content)},
};

const struct message_type read_range_request_type = {
	.name = "ReadRangeRequest",
	.members = {BYTES(1, read_range_request, digest), NUMBER(2, read_range_request, offset),
		    NUMBER(3, read_range_request, length),
		    FLAG(4, read_range_request, send_spans)},
};

const struct message_type read_range_response_type = {
	.name = "ReadRangeResponse",
	.members = {NUMBER(1, read_range_response, size), BYTES(2, read_range_response, spans),
		    NUMBER(3, read_range_response, offset),
		    BYTES(4, read_range_response, groups), BYTES(5, read_range_response, data)},
};

const struct message_type info_response_type = {
	.name = "InfoResponse",
	.members = {BYTES(1, info_response, version), FLAG(2, info_response, may_write),
		    FLAG(3, info_response, may_list), NUMBER(4, info_response, calls),
		    NUMBER(5, info_response, failed_calls),
		    NUMBER(6, info_response, received_bytes),
		    NUMBER(7, info_response, sent_bytes),
		    NUMBER(8, info_response, running_calls),
		    NUMBER(9, info_response, connections)},
};

/* One member, or the end. */
static const struct message_member *member_at(const struct message_type *type, size_t i)
{
	bool end = i == MESSAGE_MEMBERS_MAX || type->members[i].field == 0;

	return end ? NULL : &type->members[i];
}

static const struct message_member *find_member(const struct message_type *type, unsigned field)
{
	const struct message_member *m;

	for (size_t i = 0; (m = member_at(type, i)); i++) {
		if (m->field == field) {
			return m;
		}
	}
	return NULL;
}

static void clear(const struct message_type *type, char *out)
{
	const struct message_member *m;

	for (size_t i = 0; (m = member_at(type, i)); i++) {
		void *at = out + m->offset;

		switch (m->kind) {
		case MESSAGE_BYTES:
			*(struct bytes *)at = (struct bytes){0};
			break;
		case MESSAGE_NUMBER:
			*(uint64_t *)at = 0;
			break;
		case MESSAGE_FLAG:
			*(bool *)at = false;
			break;
		}
	}
}

/* False when it has another type on the wire. */
static bool store(const struct message_member *m, const struct field *f, char *out)
{
	void *at = out + m->offset;

	if (f->type != (m->kind == MESSAGE_BYTES ? WIRE_BYTES : WIRE_VARINT)) {
		return false;
	}
	switch (m->kind) {
	case MESSAGE_BYTES:
		*(struct bytes *)at = f->bytes;
		break;
	case MESSAGE_NUMBER:
		*(uint64_t *)at = f->value;
		break;
	case MESSAGE_FLAG:
		*(bool *)at = f->value != 0;
		break;
	}
	return true;
}

int message_decode(const struct message_type *type, struct bytes message, void *out,
		   struct error *err)
{
	struct wire w = wire_of(message);
	struct field f;
	int rc;

	clear(type, out);
	while ((rc = next_field(&w, &f, err)) > 0) {
		const struct message_member *m = find_member(type, f.number);

		if (m && !store(m, &f, out)) {
			rc = error_set(err, ERROR_INVALID, "field %u is of another type",
				       f.number);
			break;
		}
	}
	return rc < 0 ? error_wrap(err, "%s", type->name) : 0;
}

void message_encode(const struct message_type *type, const void *in, struct buffer *out)
{
	const struct message_member *m;

	for (size_t i = 0; (m = member_at(type, i)); i++) {
		const void *at = (const char *)in + m->offset;

		switch (m->kind) {
		case MESSAGE_BYTES:
			if (((const struct bytes *)at)->len) {
				message_put_element(out, m->field, *(const struct bytes *)at);
			}
			break;
		case MESSAGE_NUMBER:
			put_number(out, m->field, *(const uint64_t *)at);
			break;
		case MESSAGE_FLAG:
			put_number(out, m->field, *(const bool *)at);
			break;
		}
	}
}

void message_put_typed(struct buffer *out, unsigned field, const struct message_type *type,
		       const void *in)
{
	struct buffer inner cleanup(buffer_done) = {0};

	message_encode(type, in, &inner);
	message_put_element(out, field, buffer_bytes(&inner));
}

/* ---- Lists ---- */

int message_next_element(struct wire *list, unsigned field, struct bytes *element,
			 struct error *err)
{
	struct field f;
	int rc;

	while ((rc = next_field(list, &f, err)) > 0) {
		if (f.number == field && f.type == WIRE_BYTES) {
			*element = f.bytes;
			return 1;
		}
	}
	return rc;
}

int message_digest(struct bytes value, struct digest *out, struct error *err)
{
	if (value.len != DIGEST_SIZE) {
		return error_set(err, ERROR_INVALID, "a digest of %zu bytes, not %d", value.len,
				 DIGEST_SIZE);
	}
	memcpy(out->bytes, value.ptr, DIGEST_SIZE);
	return 0;
}

int message_key_count(struct bytes keys, size_t size, size_t *count, struct error *err)
{
	if (keys.len % size) {
		return error_set(err, ERROR_INVALID,
				 "keys of %zu bytes each, but %zu bytes of them", size,
				 keys.len);
	}
	if (keys.len / size > MESSAGE_DIGESTS_MAX) {
		return error_set(err, ERROR_LIMIT, "%zu keys in one request, more than %zu",
				 keys.len / size, MESSAGE_DIGESTS_MAX);
	}
	*count = keys.len / size;
	return 0;
}

void message_put_missing(struct buffer *out, const bool *missing, size_t count)
{
	if (count == 0) {
		return;
	}
	message_put_element_head(out, 1, count);
	for (size_t i = 0; i < count; i++) {
		buffer_append_byte(out, missing[i]);
	}
}

/* Packed or not: one value after another. */
static int take_flags(const struct field *f, bool *flags, size_t count, size_t *at,
		      struct error *err)
{
	struct wire packed = wire_of(f->bytes);
	uint64_t value = f->value;
	bool single = f->type == WIRE_VARINT;

	while (single || !wire_at_end(&packed)) {
		if (*at == count || (!single && !wire_varint(&packed, &value, false))) {
			return error_set(err, ERROR_INVALID, "more than %zu, or malformed",
					 count);
		}
		flags[(*at)++] = value != 0;
		if (single) {
			break;
		}
	}
	return 0;
}

int message_get_missing(struct bytes message, bool *missing, size_t count, struct error *err)
{
	struct wire w = wire_of(message);
	struct field f;
	size_t at = 0;
	int rc;

	while ((rc = next_field(&w, &f, err)) > 0) {
		if (f.number == 1) {
			rc = take_flags(&f, missing, count, &at, err);
			if (rc < 0) {
				break;
			}
		}
	}
	if (rc == 0 && at != count) {
		rc = error_set(err, ERROR_INVALID, "%zu answers instead of %zu", at, count);
	}
	return rc < 0 ? error_wrap(err, "FindMissingResponse") : 0;
}

size_t message_decode_head(const struct message_type *type, unsigned field,
			   struct bytes first_piece, size_t message_size, void *out)
{
	struct wire w = wire_of(first_piece);
	struct field f;
	uint64_t len;

	clear(type, out);
	while (!wire_tag(&w, WIRE_TAG(field, WIRE_BYTES))) {
		if (next_field(&w, &f, NULL) <= 0) {
			return 0;
		}
		const struct message_member *m = find_member(type, f.number);

		if (m && !store(m, &f, out)) {
			return 0;
		}
	}
	if (!wire_varint(&w, &len, false)) {
		return 0;
	}
	size_t head = (size_t)(w.ptr - first_piece.ptr);

	return len == message_size - head ? head : 0;
}

/* ---- BlobChunk in pieces ---- */

size_t message_blob_chunk_head(struct bytes first_piece, size_t message_size)
{
	struct wire w = wire_of(first_piece);
	uint64_t len;

	if (!wire_tag(&w, WIRE_TAG(1, WIRE_BYTES)) || !wire_varint(&w, &len, false)) {
		return 0;
	}
	size_t head = (size_t)(w.ptr - first_piece.ptr);

	return len == message_size - head ? head : 0;
}
