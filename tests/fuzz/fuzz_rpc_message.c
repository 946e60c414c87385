/*
 * Requests and answers of gRPC. The first byte chooses what the rest claims to be: what decodes
 * lies inside the message, and means the same when it is encoded again.
 */

#include <stdlib.h>

#include "rpc/messages.h"

#include "fuzz.h"

static const struct message_type *const types[] = {
	&digest_message_type,       &stat_blob_request_type,     &chunk_message_type,
	&blob_chunk_type,           &get_directory_request_type, &calculate_nar_response_type,
	&bytes_message_type,        &number_message_type,        &put_root_request_type,
	&find_missing_request_type, &blob_answer_type,           &put_blob_type,
	&read_range_request_type,   &read_range_response_type,   &info_response_type,
};

/* Room for the struct of any type. */
union any_message {
	struct info_response info;
	struct read_range_response range;
	char bytes[256];
};

static void check_inside(struct bytes part, struct bytes whole)
{
	check(part.len == 0 || (part.ptr >= whole.ptr && part.len <= whole.len &&
				part.ptr - whole.ptr <= (ptrdiff_t)(whole.len - part.len)));
}

static void try_type(const struct message_type *type, struct bytes message)
{
	union any_message m, again;
	struct buffer encoded = {0}, twice = {0};
	struct error err = {0};

	memset(&m, 0xa5, sizeof(m));
	if (message_decode(type, message, &m, &err) != 0) {
		check(err.code == ERROR_INVALID && told(&err));
		return;
	}
	for (size_t i = 0; i < MESSAGE_MEMBERS_MAX && type->members[i].field; i++) {
		if (type->members[i].kind == MESSAGE_BYTES) {
			struct bytes part;

			memcpy(&part, m.bytes + type->members[i].offset, sizeof(part));
			check_inside(part, message);
		}
	}
	message_encode(type, &m, &encoded);
	check(encoded.len <= message.len);
	check(message_decode(type, buffer_bytes(&encoded), &again, &err) == 0);
	message_encode(type, &again, &twice);
	check(bytes_equal(buffer_bytes(&encoded), buffer_bytes(&twice)));
	buffer_done(&encoded);
	buffer_done(&twice);
}

static void try_list(struct bytes message)
{
	struct wire list = wire_of(message);
	struct bytes element;
	struct error err = {0};
	int rc;

	while ((rc = message_next_element(&list, 1, &element, &err)) > 0) {
		check_inside(element, message);
	}
	check(rc == 0 || err.code == ERROR_INVALID);
}

static void try_missing(struct bytes message)
{
	bool missing[8];
	struct error err = {0};
	int rc = message_get_missing(message, missing, ARRAY_SIZE(missing), &err);

	check(rc == 0 || err.code == ERROR_INVALID);
	if (rc == 0) {
		struct buffer b = {0};
		bool again[8];

		message_put_missing(&b, missing, ARRAY_SIZE(missing));
		check(message_get_missing(buffer_bytes(&b), again, ARRAY_SIZE(again), &err) ==
		      0);
		check(memcmp(missing, again, sizeof(missing)) == 0);
		buffer_done(&b);
	}
}

/* The short way to the data of a BlobChunk comes to the same as decoding it. */
static void try_blob_chunk(struct bytes message)
{
	struct blob_chunk m;

	for (size_t first = 0; first <= MIN(message.len, (size_t)16); first++) {
		size_t head =
			message_blob_chunk_head(bytes_of(message.ptr, first), message.len);

		check(head <= first);
		if (head) {
			check(message_decode(&blob_chunk_type, message, &m, NULL) == 0);
			check(m.data.ptr == message.ptr + head || m.data.len == 0);
			check(m.data.len == message.len - head);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) {
		return 0;
	}
	struct bytes message = bytes_of(data + 1, size - 1);

	try_type(types[data[0] % ARRAY_SIZE(types)], message);
	try_list(message);
	try_missing(message);
	try_blob_chunk(message);
	return 0;
}
