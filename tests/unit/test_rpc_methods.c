/* What the services of a daemon answer to clients that are not as they should be. */

#include "castore/directory.h"
#include "castore/outboard.h"
#include "rpc/messages.h"
#include "rpc_fixture.h"

#define DIRECTORIES "/tvix.castore.v1.DirectoryService/"
#define INFOS "/tvix.store.v1.PathInfoService/"
#define ROOTS "/cairn.v1.Roots/"
#define OBJECTS "/cairn.v1.Objects/"
#define TABLE "/cairn.v1.PathInfos/"

/* Sends all of these, then the end. */
static enum rpc_status send_all(struct raw_client *c, const char *method,
				const struct bytes *messages, size_t count,
				struct buffer *answer)
{
	struct raw_call *call = raw_call_start(c, method, NULL);

	for (size_t i = 0; i < count && raw_call_send(call, messages[i]); i++) {
	}
	raw_call_send_end(call);
	while (raw_call_receive(call, answer)) {
	}
	return raw_call_finish(call, NULL);
}

/* A message of a type, as the only request. */
static enum rpc_status ask_typed(struct raw_client *c, const char *method,
				 const struct message_type *type, const void *m,
				 struct buffer *answer)
{
	struct buffer b cleanup(buffer_done) = {0};

	message_encode(type, m, &b);
	return raw_ask(c, method, buffer_bytes(&b), answer);
}

static enum rpc_status ask_bytes(struct raw_client *c, const char *method, struct bytes value)
{
	struct bytes_message m = {.value = value};

	return ask_typed(c, method, &bytes_message_type, &m, NULL);
}

/* ---- Directories ---- */

static struct directory *directory_of(const char *name, const struct node *node)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d;
	struct error err;

	assert_int_equal(directory_builder_add(b, bytes_of_string(name), node, &err), 0);
	assert_int_equal(directory_builder_finish(b, &d, &err), 0);
	return d;
}

static bool has_directory(struct rpc_fixture *f, const struct directory *d)
{
	struct error err;

	return directory_service_has(f->store.directories, directory_digest(d), &err) > 0;
}

static void test_closures(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	const struct node file = {.kind = NODE_FILE, .digest = digest_empty};
	struct directory *leaf cleanup(cleanup_directory) = directory_of("file", &file);
	struct node below = directory_node(leaf);
	struct directory *root cleanup(cleanup_directory) = directory_of("leaf", &below);
	struct directory *other cleanup(cleanup_directory) = directory_of("other", &file);
	const struct bytes l = directory_encoding(leaf), r = directory_encoding(root),
			   o = directory_encoding(other);
	const struct {
		struct bytes messages[4];
		size_t count;
	} wrong[] = {
		{{r}, 1},                             /* its child is missing */
		{{r, l}, 2},                          /* root first */
		{{o, l, r}, 3},                       /* not connected */
		{{l, r, o}, 3},                       /* nor is this */
		{{l, bytes_of("\x0a\x03xyz", 5)}, 2}, /* no Directory */
		{{{0}}, 0},                           /* nothing at all */
	};
	struct buffer answer cleanup(buffer_done) = {0};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(send_all(f->client, DIRECTORIES "Put", wrong[i].messages,
					  wrong[i].count, &answer),
				 RPC_STATUS_INVALID_ARGUMENT);
		assert_false(has_directory(f, leaf) || has_directory(f, root));
	}
	/* Twice the same is no fault. */
	const struct bytes right[] = {l, l, r};

	assert_int_equal(send_all(f->client, DIRECTORIES "Put", right, 3, &answer),
			 RPC_STATUS_OK);
	assert_true(has_directory(f, root));
	/* And back, the root first. */
	struct get_directory_request get = {.digest = digest_bytes(directory_digest(root)),
					    .recursive = true};
	struct buffer all cleanup(buffer_done) = {0};

	assert_int_equal(ask_typed(f->client, DIRECTORIES "Get", &get_directory_request_type,
				   &get, &all),
			 RPC_STATUS_OK);
	assert_int_equal(all.len, l.len + r.len);
	assert_memory_equal(all.ptr, r.ptr, r.len);
}

static void test_hole_in_a_closure(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	const struct node missing = {.kind = NODE_DIRECTORY, .digest = {.bytes = {1, 2, 3}}};
	struct directory *root cleanup(cleanup_directory) = directory_of("gone", &missing);
	struct buffer b cleanup(buffer_done) = {0}, answer cleanup(buffer_done) = {0};

	message_put_element(&b, 1, directory_encoding(root));
	const struct bytes request = buffer_bytes(&b);

	assert_int_equal(send_all(f->client, OBJECTS "PutDirectories", &request, 1, &answer),
			 RPC_STATUS_OK);
	struct get_directory_request get = {.digest = digest_bytes(directory_digest(root)),
					    .recursive = true};

	assert_int_equal(ask_typed(f->client, DIRECTORIES "Get", &get_directory_request_type,
				   &get, NULL),
			 RPC_STATUS_UNAVAILABLE);
	get.recursive = false;
	assert_int_equal(ask_typed(f->client, DIRECTORIES "Get", &get_directory_request_type,
				   &get, NULL),
			 RPC_STATUS_OK);
	get.digest = digest_bytes(&digest_empty);
	assert_int_equal(ask_typed(f->client, DIRECTORIES "Get", &get_directory_request_type,
				   &get, NULL),
			 RPC_STATUS_NOT_FOUND);
}

/* ---- Path infos ---- */

static void test_path_infos(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const uint8_t hash[40];

	assert_int_equal(ask_bytes(f->client, INFOS "Get", bytes_of(hash, 20)),
			 RPC_STATUS_NOT_FOUND);
	assert_int_equal(ask_bytes(f->client, INFOS "Get", bytes_of(hash, 19)),
			 RPC_STATUS_INVALID_ARGUMENT);
	assert_int_equal(raw_ask(f->client, INFOS "Get", (struct bytes){0}, NULL),
			 RPC_STATUS_INVALID_ARGUMENT);
	assert_int_equal(raw_ask(f->client, INFOS "Put", (struct bytes){0}, NULL),
			 RPC_STATUS_INVALID_ARGUMENT);
	assert_int_equal(raw_ask(f->client, INFOS "CalculateNAR", (struct bytes){0}, NULL),
			 RPC_STATUS_INVALID_ARGUMENT);
	assert_int_equal(ask_bytes(f->client, TABLE "List", bytes_of(hash, 21)),
			 RPC_STATUS_INVALID_ARGUMENT);
	assert_int_equal(ask_bytes(f->client, TABLE "Remove", bytes_of(hash, 39)),
			 RPC_STATUS_INVALID_ARGUMENT);
	assert_int_equal(ask_bytes(f->client, TABLE "Remove", bytes_of(hash, 40)),
			 RPC_STATUS_OK);
}

/* ---- Roots ---- */

static enum rpc_status put_root(struct raw_client *c, const char *name, uint64_t size,
				bool replace)
{
	const struct node node = {.kind = NODE_DIRECTORY, .digest = digest_empty, .size = size};
	struct buffer b cleanup(buffer_done) = {0};

	node_encode(&b, bytes_of_string(name), &node);
	struct put_root_request m = {.node = buffer_bytes(&b), .replace = replace};

	return ask_typed(c, ROOTS "Put", &put_root_request_type, &m, NULL);
}

static void test_roots(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const char *const names[] = {"", ".", "..", "a/b"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct bytes name = bytes_of_string(names[i]);

		assert_int_equal(put_root(f->client, names[i], 1, true),
				 RPC_STATUS_INVALID_ARGUMENT);
		assert_int_equal(ask_bytes(f->client, ROOTS "Lookup", name),
				 RPC_STATUS_INVALID_ARGUMENT);
		assert_int_equal(ask_bytes(f->client, ROOTS "Remove", name),
				 RPC_STATUS_INVALID_ARGUMENT);
	}
	assert_int_equal(put_root(f->client, "name", 1, false), RPC_STATUS_OK);
	assert_int_equal(put_root(f->client, "name", 1, false), RPC_STATUS_OK);
	assert_int_equal(put_root(f->client, "name", 2, false), RPC_STATUS_ALREADY_EXISTS);
	assert_int_equal(put_root(f->client, "name", 2, true), RPC_STATUS_OK);
	struct bytes name = bytes_of_string("name");

	assert_int_equal(ask_bytes(f->client, ROOTS "Lookup", name), RPC_STATUS_OK);
	assert_int_equal(ask_bytes(f->client, ROOTS "Remove", name), RPC_STATUS_OK);
	assert_int_equal(ask_bytes(f->client, ROOTS "Remove", name), RPC_STATUS_NOT_FOUND);
	assert_int_equal(ask_bytes(f->client, ROOTS "Lookup", name), RPC_STATUS_NOT_FOUND);
}

/* More than goes into one step of a listing: none is left out, none comes twice. */
static void test_many_roots(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	const struct node node = {.kind = NODE_SYMLINK, .target = bytes_of_string("t")};
	struct raw_call *call;
	struct buffer message cleanup(buffer_done) = {0};
	char name[NODE_NAME_MAX + 1];
	unsigned count = 0;
	struct error err;

	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%0250u", i);
		assert_int_equal(root_nodes_put(f->store.roots, bytes_of_string(name), &node,
						false, &err),
				 0);
	}
	call = raw_call_start(f->client, ROOTS "List", NULL);
	raw_call_send(call, (struct bytes){0});
	raw_call_send_end(call);
	while (raw_call_receive(call, &message)) {
		struct bytes found;
		struct node other;

		snprintf(name, sizeof(name), "%0250u", count++);
		assert_int_equal(node_decode(buffer_bytes(&message), &found, &other, &err), 0);
		assert_true(bytes_equal(found, bytes_of_string(name)));
	}
	assert_int_equal(raw_call_finish(call, NULL), RPC_STATUS_OK);
	assert_int_equal(count, 3000);
}

/* ---- Objects ---- */

static void put_element_of(struct buffer *out, const char *claimed, struct bytes content)
{
	struct digest digest;

	digest_of(&digest, bytes_of_string(claimed));
	struct put_blob m = {.digest = digest_bytes(&digest), .content = content};

	message_put_typed(out, 1, &put_blob_type, &m);
}

static void test_blobs_that_are_others(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	struct buffer b cleanup(buffer_done) = {0}, answer cleanup(buffer_done) = {0};

	put_element_of(&b, "right", bytes_of_string("right"));
	put_element_of(&b, "claimed", bytes_of_string("real"));
	struct bytes message = buffer_bytes(&b);

	assert_int_equal(send_all(f->client, OBJECTS "PutBlobs", &message, 1, &answer),
			 RPC_STATUS_INVALID_ARGUMENT);
	struct digest claimed;
	struct error err;

	digest_of(&claimed, bytes_of_string("claimed"));
	assert_int_equal(blob_service_has(f->store.blobs, &claimed, &err), 0);
	/* An empty one, and none at all. */
	b.len = 0;
	put_element_of(&b, "", (struct bytes){0});
	message = buffer_bytes(&b);
	assert_int_equal(send_all(f->client, OBJECTS "PutBlobs", &message, 1, &answer),
			 RPC_STATUS_OK);
	assert_int_equal(send_all(f->client, OBJECTS "PutBlobs", NULL, 0, &answer),
			 RPC_STATUS_OK);
}

static void test_lists_of_digests(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	uint8_t *digests cleanup(cleanup_free) = xcalloc(MESSAGE_DIGESTS_MAX + 1, DIGEST_SIZE);
	struct find_missing_request m = {.digests = bytes_of(digests, 33)};

	assert_int_equal(ask_typed(f->client, OBJECTS "FindMissing", &find_missing_request_type,
				   &m, NULL),
			 RPC_STATUS_INVALID_ARGUMENT);
	m = (struct find_missing_request){.kind = 7, .digests = bytes_of(digests, 32)};
	assert_int_equal(ask_typed(f->client, OBJECTS "FindMissing", &find_missing_request_type,
				   &m, NULL),
			 RPC_STATUS_INVALID_ARGUMENT);
	size_t all = MESSAGE_DIGESTS_MAX * DIGEST_SIZE;

	m = (struct find_missing_request){.digests = bytes_of(digests, all + DIGEST_SIZE)};
	assert_int_equal(ask_typed(f->client, OBJECTS "FindMissing", &find_missing_request_type,
				   &m, NULL),
			 RPC_STATUS_RESOURCE_EXHAUSTED);
	assert_int_equal(ask_bytes(f->client, OBJECTS "GetBlobs", m.digests),
			 RPC_STATUS_RESOURCE_EXHAUSTED);
	m.digests = bytes_of(digests, all);
	assert_int_equal(ask_typed(f->client, OBJECTS "FindMissing", &find_missing_request_type,
				   &m, NULL),
			 RPC_STATUS_OK);
	m.digests.len = 0;
	assert_int_equal(ask_typed(f->client, OBJECTS "FindMissing", &find_missing_request_type,
				   &m, NULL),
			 RPC_STATUS_OK);
}

/* Small, absent and large ones, each at its place. */
static void test_blobs_in_order(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const uint64_t expected[] = {BLOB_ANSWER_PRESENT, BLOB_ANSWER_ABSENT,
					    BLOB_ANSWER_LARGE, BLOB_ANSWER_PRESENT};
	size_t large = MESSAGE_SMALL_BLOB_MAX + 1;
	uint8_t *data cleanup(cleanup_free) = xcalloc(1, large);
	struct digest digests[4] = {[1] = {.bytes = {9}}, [3] = digest_empty};
	struct buffer answer cleanup(buffer_done) = {0};
	struct bytes element;
	struct error err;
	size_t i = 0;

	assert_int_equal(
		blob_service_put(f->store.blobs, bytes_of_string("small"), &digests[0], &err),
		0);
	assert_int_equal(
		blob_service_put(f->store.blobs, bytes_of(data, large), &digests[2], &err), 0);
	struct bytes_message m = {.value = bytes_of(digests, sizeof(digests))};

	assert_int_equal(
		ask_typed(f->client, OBJECTS "GetBlobs", &bytes_message_type, &m, &answer),
		RPC_STATUS_OK);
	struct wire list = wire_of(buffer_bytes(&answer));

	while (message_next_element(&list, 1, &element, &err) > 0) {
		struct blob_answer a;

		assert_int_equal(message_decode(&blob_answer_type, element, &a, &err), 0);
		assert_true(i < ARRAY_SIZE(expected));
		assert_int_equal(a.state, expected[i]);
		assert_int_equal(a.content.len, i == 0 ? 5 : 0);
		i++;
	}
	assert_int_equal(i, ARRAY_SIZE(expected));
}

/* ---- Ranges ---- */

struct range_seen {
	uint64_t size, offset, len;
	size_t messages, spans;
};

static struct range_seen read_range(struct rpc_fixture *f, const struct digest *digest,
				    uint64_t offset, uint64_t length)
{
	struct read_range_request m = {.digest = digest_bytes(digest),
				       .offset = offset,
				       .length = length,
				       .send_spans = true};
	struct raw_call *call = raw_call_start(f->client, OBJECTS "ReadRange", NULL);
	struct buffer b cleanup(buffer_done) = {0}, answer cleanup(buffer_done) = {0};
	struct range_seen seen = {0};
	struct read_range_response a;
	struct error err;

	message_encode(&read_range_request_type, &m, &b);
	raw_call_send(call, buffer_bytes(&b));
	raw_call_send_end(call);
	while (raw_call_receive(call, &answer)) {
		assert_int_equal(message_decode(&read_range_response_type,
						buffer_bytes(&answer), &a, &err),
				 0);
		assert_true((seen.messages == 0) == (a.size != 0));
		assert_true(a.data.len == 0 || seen.len == 0 ||
			    a.offset == seen.offset + seen.len);
		seen.offset = a.data.len && seen.len == 0 ? a.offset : seen.offset;
		seen.size += a.size;
		seen.len += a.data.len;
		seen.spans += a.spans.len / DIGEST_SIZE;
		seen.messages++;
	}
	assert_int_equal(raw_call_finish(call, NULL), RPC_STATUS_OK);
	return seen;
}

static void test_ranges(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	const uint64_t size = 3 * OUTBOARD_SPAN + 5, groups = OUTBOARD_GROUP;
	uint8_t *data cleanup(cleanup_free) = xcalloc(1, size);
	struct digest digest;
	struct error err;
	const struct {
		uint64_t offset, length, at, len;
	} cases[] = {
		{0, 0, 0, 0},
		{0, 1, 0, groups},
		{groups - 1, 2, 0, 2 * groups},
		{OUTBOARD_SPAN - 1, 2, OUTBOARD_SPAN - groups, 2 * groups},
		{0, UINT64_MAX, 0, size},
		{5, UINT64_MAX, 0, size},
		{size - 1, 1, size - 5, 5},
		{size, 1, 0, 0},
		{UINT64_MAX, UINT64_MAX, 0, 0},
	};

	memset(data, 7, size);
	assert_int_equal(blob_service_put(f->store.blobs, bytes_of(data, size), &digest, &err),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct range_seen seen =
			read_range(f, &digest, cases[i].offset, cases[i].length);

		assert_int_equal(seen.size, size);
		assert_int_equal(seen.spans, 4);
		assert_int_equal(seen.len, cases[i].len);
		assert_int_equal(seen.offset, cases[i].at);
	}
	digest.bytes[0] ^= 1;
	struct read_range_request m = {.digest = digest_bytes(&digest), .length = 1};

	assert_int_equal(
		ask_typed(f->client, OBJECTS "ReadRange", &read_range_request_type, &m, NULL),
		RPC_STATUS_NOT_FOUND);
}

/* ---- Reflection and health ---- */

#define REFLECTION "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

/* The field of the answer to a question for what is under this field. */
static unsigned reflect(struct rpc_fixture *f, unsigned field, const char *text)
{
	struct buffer b cleanup(buffer_done) = {0}, answer cleanup(buffer_done) = {0};
	struct error err;

	message_put_element(&b, field, bytes_of_string(text));
	assert_int_equal(raw_ask(f->client, REFLECTION, buffer_bytes(&b), &answer),
			 RPC_STATUS_OK);
	for (unsigned found = 4; found <= 7; found++) {
		struct wire w = wire_of(buffer_bytes(&answer));
		struct bytes element;

		if (message_next_element(&w, found, &element, &err) > 0) {
			return found;
		}
	}
	return 0;
}

static void test_reflection(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	enum { FILE_DESCRIPTOR = 4, SERVICES = 6, FAILURE = 7 };
	static const char *const known[] = {
		"tvix.castore.v1.BlobService",
		"snix.castore.v1.BlobService.Stat",
		"snix.store.v1.PathInfo",
		"tvix.store.v1.NARInfo.CA.Hash",
		"tvix.castore.v1.StatBlobResponse.ChunkMeta",
		"cairn.v1.Objects",
		"grpc.reflection.v1.ServerReflection",
		"grpc.reflection.v1alpha.ServerReflection",
		"grpc.health.v1.HealthCheckResponse.ServingStatus",
	};
	static const char *const unknown[] = {"",
					      ".",
					      "tvix.castore.v1",
					      "tvix.castore.v1.",
					      "tvix.castore.v1.BlobServic",
					      "BlobService",
					      "tvix.castore.v1.BlobService.Stat.x",
					      "cairn.v1.BlobService"};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		assert_int_equal(reflect(f, 4, known[i]), FILE_DESCRIPTOR);
	}
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		assert_int_equal(reflect(f, 4, unknown[i]), FAILURE);
	}
	assert_int_equal(reflect(f, 3, "cairn/v1/cairn.proto"), FILE_DESCRIPTOR);
	assert_int_equal(reflect(f, 3, "cairn.proto"), FAILURE);
	assert_int_equal(reflect(f, 5, "tvix.store.v1.PathInfo"), FAILURE);
	assert_int_equal(reflect(f, 6, "tvix.store.v1.PathInfo"), FAILURE);
	assert_int_equal(reflect(f, 7, ""), SERVICES);
	assert_int_equal(reflect(f, 1, "host"), FAILURE);
}

static void test_health(void **state)
{
	struct rpc_fixture *f = rpc_fixture_start(state);
	static const char check[] = "/grpc.health.v1.Health/Check";

	assert_int_equal(ask_bytes(f->client, check, bytes_of_string("cairn.v1.Roots")),
			 RPC_STATUS_OK);
	assert_int_equal(ask_bytes(f->client, check, bytes_of_string("cairn.v1.Root")),
			 RPC_STATUS_NOT_FOUND);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rpc_fixture_setup, rpc_fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_closures),         TEST(test_hole_in_a_closure),
		TEST(test_path_infos),       TEST(test_roots),
		TEST(test_many_roots),       TEST(test_blobs_that_are_others),
		TEST(test_lists_of_digests), TEST(test_blobs_in_order),
		TEST(test_ranges),           TEST(test_reflection),
		TEST(test_health),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
