#pragma once

/*
 * What requests and answers say: the messages of proto/, but for those that have codecs of
 * their own (Directory: castore/directory.h, Node: castore/node.h, PathInfo: nix/path_info.h).
 *
 * Decoding takes what protobuf takes: fields in any order, the last one of a kind counts, and
 * fields that are not known are passed over. What is decoded borrows from the message. Encoding
 * leaves out what is zero or empty.
 */

#include "castore/wire.h"

/* ---- Flat messages, each of which has a struct and a type ---- */

enum message_member_kind { MESSAGE_BYTES, MESSAGE_NUMBER, MESSAGE_FLAG };

struct message_member {
	unsigned field;
	enum message_member_kind kind;
	size_t offset; /* of a struct bytes, a uint64_t or a bool in the struct */
};

#define MESSAGE_MEMBERS_MAX 9

struct message_type {
	const char *name;
	struct message_member members[MESSAGE_MEMBERS_MAX]; /* up to one whose field is 0 */
};

/* out: the struct of this type. ERROR_INVALID when it is no such message. */
int message_decode(const struct message_type *type, struct bytes message, void *out,
		   struct error *err);
/*
 * Of a message that came in pieces and ends with this field of bytes: decodes what comes before
 * the bytes, which has to be in the first piece, and returns its length; 0 when the message is
 * not so, or no such message. Fields below 16 only.
 */
size_t message_decode_head(const struct message_type *type, unsigned field,
			   struct bytes first_piece, size_t message_size, void *out);
/* Appends. */
void message_encode(const struct message_type *type, const void *in, struct buffer *out);

/* ReadBlobRequest, PutBlobResponse, PutDirectoryResponse, BlobSizeRequest: a digest alone. */
struct digest_message {
	struct bytes digest;
};
extern const struct message_type digest_message_type;

struct stat_blob_request {
	struct bytes digest;
	bool send_chunks;
	bool send_bao;
};
extern const struct message_type stat_blob_request_type;

/* One of StatBlobResponse's chunks. */
struct chunk_message {
	struct bytes digest;
	uint64_t size;
};
extern const struct message_type chunk_message_type;

struct blob_chunk {
	struct bytes data;
};
extern const struct message_type blob_chunk_type;

struct get_directory_request {
	struct bytes digest;
	bool recursive;
};
extern const struct message_type get_directory_request_type;

struct calculate_nar_response {
	uint64_t nar_size;
	struct bytes nar_sha256;
};
extern const struct message_type calculate_nar_response_type;

/* LookupRootRequest, ListRootsRequest, RemoveRootRequest, GetPathInfoRequest,
 * ListPathInfosRequest, RemovePathInfosRequest, GetBlobsRequest: one field of bytes. */
struct bytes_message {
	struct bytes value;
};
extern const struct message_type bytes_message_type;

/* BlobSizeResponse, PutBlobsResponse, PutDirectoriesResponse, PutPathInfosResponse,
 * RemovePathInfosResponse, HealthCheckResponse: one number. */
struct number_message {
	uint64_t value;
};
extern const struct message_type number_message_type;

struct put_root_request {
	struct bytes node;
	bool replace;
};
extern const struct message_type put_root_request_type;

enum find_missing_kind { FIND_MISSING_BLOB = 0, FIND_MISSING_DIRECTORY = 1 };

struct find_missing_request {
	uint64_t kind;
	struct bytes digests;
};
extern const struct message_type find_missing_request_type;

enum blob_answer_state {
	BLOB_ANSWER_PRESENT = 0,
	BLOB_ANSWER_ABSENT = 1,
	BLOB_ANSWER_LARGE = 2,
	BLOB_ANSWER_FAILED = 3,
};

/* One of GetBlobsResponse. */
struct blob_answer {
	uint64_t state;
	struct bytes content;
	uint64_t code;
	struct bytes reason;
};
extern const struct message_type blob_answer_type;

/* One of PutBlobsRequest. */
struct put_blob {
	struct bytes digest;
	struct bytes content;
};
extern const struct message_type put_blob_type;

struct read_range_request {
	struct bytes digest;
	uint64_t offset;
	uint64_t length;
	bool send_spans;
};
extern const struct message_type read_range_request_type;

struct read_range_response {
	uint64_t size;
	struct bytes spans;
	uint64_t offset;
	struct bytes groups;
	struct bytes data;
};
extern const struct message_type read_range_response_type;

struct info_response {
	struct bytes version;
	bool may_write;
	bool may_list;
	uint64_t calls;
	uint64_t failed_calls;
	uint64_t received_bytes;
	uint64_t sent_bytes;
	uint64_t running_calls;
	uint64_t connections;
};
extern const struct message_type info_response_type;

/* ---- Lists ---- */

/* Of one request. */
#define MESSAGE_DIGESTS_MAX ((size_t)65536)
/* Blobs above this go alone, in pieces. */
#define MESSAGE_SMALL_BLOB_MAX ((size_t)1 << 20)

/*
 * Goes through what a list has under this field: 1 and the next element, 0 at the end. What it
 * has under other fields is passed over.
 */
int message_next_element(struct wire *list, unsigned field, struct bytes *element,
			 struct error *err);
/* Appends an element that is itself a message, or bytes; also when it is empty. */
void message_put_element(struct buffer *out, unsigned field, struct bytes element);
/* The same where the element's bytes are to follow: its tag and its length. */
void message_put_element_head(struct buffer *out, unsigned field, size_t len);
/* The same for a message of a type. */
void message_put_typed(struct buffer *out, unsigned field, const struct message_type *type,
		       const void *in);

/* A digest that must be one. */
int message_digest(struct bytes value, struct digest *out, struct error *err);
/* How many digests (or other keys of this size) stand one after another; ERROR_INVALID,
 * ERROR_LIMIT. */
int message_key_count(struct bytes keys, size_t size, size_t *count, struct error *err);

/* FindMissingResponse. */
void message_put_missing(struct buffer *out, const bool *missing, size_t count);
/* ERROR_INVALID unless there are exactly `count`. */
int message_get_missing(struct bytes message, bool *missing, size_t count, struct error *err);

/* ---- BlobChunk in pieces ---- */

/*
 * The length of what stands before the data, when the message is a BlobChunk that has nothing
 * else, as is usual: so its pieces need not be put together. 0: decode it as a whole.
 */
size_t message_blob_chunk_head(struct bytes first_piece, size_t message_size);
