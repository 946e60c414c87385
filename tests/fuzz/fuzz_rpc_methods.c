/*
 * The daemon's methods, called by a client that says anything.
 *
 * Input: calls, each a byte for the method, a byte for the number of messages, and these. A
 * message is parts: a length below 0x80 and bytes, or one of things that the store has
 * (THING_*); a length of 0 ends it. A call that failed has said why and has not answered; all
 * others have answered once.
 */

#include "rpc/messages.h"
#include "rpc/range_check.h"
#include "services/memory.h"

#include "fake_calls.h"

#define CALLS_MAX 32
#define MESSAGES_MAX 16
#define LARGE_SIZE 40000u

enum thing { THING_SMALL = 0x80, THING_LARGE, THING_DIRECTORY, THING_PATH, THING_ABSENT };

/* ---- the store ---- */

struct fuzz {
	struct store store;
	struct store_methods methods;
	struct digest small, large, directory;
	struct store_path path;
	uint8_t content[LARGE_SIZE]; /* of the large blob */
};

static void put_directory(struct fuzz *z)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;
	const struct node file = {.kind = NODE_FILE, .digest = z->small, .size = 5};

	check(directory_builder_add(b, bytes_of_string("f"), &file, NULL) == 0);
	check(directory_builder_finish(b, &d, NULL) == 0);
	check(directory_service_put(z->store.directories, d, NULL) == 0);
	z->directory = *directory_digest(d);
	struct node node = directory_node(d);
	struct path_info info = {.nar_size = 1, .path = z->path};

	check(root_nodes_put(z->store.roots, bytes_of_string("r"), &node, false, NULL) == 0);
	root_node_set(&info.node, &node);
	check(path_info_service_put(z->methods.infos, &info, NULL, NULL) == 0);
	path_info_done(&info);
}

static void open_store(struct fuzz *z)
{
	memory_store_open(&z->store);
	store_methods_init(&z->methods, &z->store);
	for (size_t i = 0; i < LARGE_SIZE; i++) {
		z->content[i] = (uint8_t)(i * 7 + i / 251);
	}
	check(store_path_parse_basename(bytes_of_string("00bgd045z0d4icpbc2yyz4gx48ak44la-x"),
					&z->path, NULL) == 0);
	check(blob_service_put(z->store.blobs, bytes_of_string("hello"), &z->small, NULL) == 0);
	check(blob_service_put(z->store.blobs, bytes_of(z->content, LARGE_SIZE), &z->large,
			       NULL) == 0);
	put_directory(z);
}

static void close_store(struct fuzz *z)
{
	store_methods_done(&z->methods);
	store_close(&z->store);
}

/* ---- requests ---- */

static void append_thing(const struct fuzz *z, unsigned thing, struct buffer *out)
{
	static const struct digest absent = {.bytes = {1}};

	switch (thing) {
	case THING_SMALL:
		buffer_append(out, z->small.bytes, DIGEST_SIZE);
		break;
	case THING_LARGE:
		buffer_append(out, z->large.bytes, DIGEST_SIZE);
		break;
	case THING_DIRECTORY:
		buffer_append(out, z->directory.bytes, DIGEST_SIZE);
		break;
	case THING_PATH:
		buffer_append(out, z->path.hash, STORE_PATH_HASH_SIZE);
		break;
	default:
		buffer_append(out, absent.bytes, DIGEST_SIZE);
		break;
	}
}

static void take_message(const struct fuzz *z, struct input *in, struct fake_messages *out)
{
	struct buffer b cleanup(buffer_done) = {0};
	unsigned part;

	while ((part = (unsigned)input_number(in, 1)) != 0) {
		if (part < THING_SMALL) {
			struct bytes literal = input_bytes(in, part);

			buffer_append(&b, literal.ptr, literal.len);
		} else {
			append_thing(z, part, &b);
		}
	}
	fake_messages_add(out, buffer_bytes(&b));
}

/* What is said about a range is enough to check it, and is right. */
static void check_ranges(const struct fuzz *z, const struct bytes *request,
			 const struct server_call *c)
{
	struct read_range_request m;
	struct range_check range;
	static uint8_t buf[LARGE_SIZE];
	struct error err;

	check(message_decode(&read_range_request_type, *request, &m, &err) == 0);
	if (!bytes_equal(m.digest, digest_bytes(&z->large)) || !m.send_spans) {
		return;
	}
	struct range_proof proof = {.digest = z->large};
	size_t len = (size_t)MIN(m.length, (uint64_t)LARGE_SIZE);

	range_check_init(&range, &proof, m.offset, buf, len);
	for (size_t i = 0; i < c->answers.count; i++) {
		struct bytes message = fake_message_bytes(&c->answers.list[i]);

		check(range_check_take(&range, &message, 1, &err) == 0);
	}
	check(range_check_complete(&range));
	if (m.offset < LARGE_SIZE) {
		check(memcmp(buf, z->content + m.offset,
			     MIN(len, LARGE_SIZE - (size_t)m.offset)) == 0);
	}
	range_proof_done(&proof);
}

static const struct rpc_method *choose_method(uint64_t number)
{
	size_t count = 0;

	for (const struct rpc_service *const *s = store_methods_services; *s; s++) {
		count += (*s)->method_count;
	}
	number %= count;
	for (const struct rpc_service *const *s = store_methods_services;; s++) {
		if (number < (*s)->method_count) {
			return &(*s)->methods[number];
		}
		number -= (*s)->method_count;
	}
}

static void make_call(struct fuzz *z, struct input *in)
{
	const struct rpc_method *method = choose_method(input_number(in, 1));
	size_t count = (size_t)input_number(in, 1) % (MESSAGES_MAX + 1);
	struct buffer first cleanup(buffer_done) = {0};
	struct server_call c = {.ended = false};
	struct error err = {0};

	for (size_t i = 0; i < count; i++) {
		take_message(z, in, &c.requests);
	}
	if (count) {
		struct bytes b = fake_message_bytes(&c.requests.list[0]);

		buffer_append(&first, b.ptr, b.len);
	}
	if (fake_call_run(&c, method, &z->methods, &err) == 0 &&
	    strcmp(method->name, "ReadRange") == 0) {
		struct bytes request = buffer_bytes(&first);

		check_ranges(z, &request, &c);
	}
	fake_call_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	struct fuzz *z = xcalloc(1, sizeof(*z));

	open_store(z);
	for (unsigned i = 0; in.left && i < CALLS_MAX; i++) {
		make_call(z, &in);
	}
	close_store(z);
	free(z);
	return 0;
}
