/*
 * The daemon's methods, called by a client that says anything. What the library does for a call
 * (rpc/server_call.h, rpc/rpc_message.h) is done here, in memory.
 *
 * Input: calls, each a byte for the method, a byte for the number of messages, and these. A
 * message is parts: a length below 0x80 and bytes, or one of things that the store has
 * (THING_*); a length of 0 ends it. A call that failed has said why and has not answered; all
 * others have answered once.
 */

#include "base/text.h"
#include "rpc/messages.h"
#include "rpc/range_check.h"
#include "rpc/store_methods.h"
#include "services/memory.h"

#include "fuzz.h"

#define CALLS_MAX 32
#define MESSAGES_MAX 16
#define LARGE_SIZE 40000u

enum thing { THING_SMALL = 0x80, THING_LARGE, THING_DIRECTORY, THING_PATH, THING_ABSENT };

/* ---- messages ---- */

/* In two pieces, so that there is something to be put together. */
struct grpc_byte_buffer {
	struct buffer bytes;
	size_t first;
};

void rpc_message_done(struct rpc_message *m)
{
	if (m->buffer) {
		buffer_done(&m->buffer->bytes);
		free(m->buffer);
		m->buffer = NULL;
	}
}

void rpc_message_set(struct rpc_message *m, struct bytes content)
{
	rpc_message_done(m);
	m->buffer = xcalloc(1, sizeof(*m->buffer));
	buffer_append(&m->buffer->bytes, content.ptr, content.len);
	m->buffer->first = content.len / 3;
}

void rpc_message_set_parts(struct rpc_message *m, struct bytes head, struct bytes body,
			   void (*release)(void *context), void *context)
{
	rpc_message_set(m, head);
	buffer_append(&m->buffer->bytes, body.ptr, body.len);
	release(context);
}

size_t rpc_message_size(const struct rpc_message *m)
{
	return m->buffer->bytes.len;
}

size_t rpc_message_piece_count(const struct rpc_message *m)
{
	return m->buffer->first ? 2 : 1;
}

struct bytes rpc_message_piece(const struct rpc_message *m, size_t i)
{
	struct bytes all = buffer_bytes(&m->buffer->bytes);
	size_t first = m->buffer->first ? m->buffer->first : all.len;

	return i == 0 ? bytes_of(all.ptr, first) : bytes_of(all.ptr + first, all.len - first);
}

struct bytes rpc_message_bytes(const struct rpc_message *m, struct buffer *storage)
{
	struct bytes all = buffer_bytes(&m->buffer->bytes);

	/* Exactly as long as it is, for the sanitizer. */
	buffer_done(storage);
	storage->ptr = xmalloc(all.len);
	storage->len = storage->capacity = all.len;
	if (all.len) {
		memcpy(storage->ptr, all.ptr, all.len);
	}
	return buffer_bytes(storage);
}

/* ---- calls ---- */

struct server_call {
	struct rpc_message requests[MESSAGES_MAX];
	size_t request_count, taken;
	struct rpc_message *answers;
	size_t answer_count, answer_capacity;
	bool ended;
};

int server_call_receive(struct server_call *c, struct rpc_message *m, struct error *err unused)
{
	check(!c->ended);
	rpc_message_done(m);
	if (c->taken == c->request_count) {
		return 0;
	}
	*m = c->requests[c->taken];
	c->requests[c->taken++] = (struct rpc_message){0};
	return 1;
}

int server_call_receive_only(struct server_call *c, struct rpc_message *m, struct error *err)
{
	int rc = server_call_receive(c, m, err);

	return rc == 0 ? error_set(err, ERROR_INVALID, "no request") : MIN(rc, 0);
}

int server_call_send(struct server_call *c, struct rpc_message *m, struct error *err unused)
{
	check(!c->ended && m->buffer);
	if (c->answer_count == c->answer_capacity) {
		c->answer_capacity = MAX(c->answer_capacity * 2, (size_t)4);
		c->answers = xrealloc(c->answers, c->answer_capacity * sizeof(*c->answers));
	}
	c->answers[c->answer_count++] = *m;
	*m = (struct rpc_message){0};
	return 0;
}

void server_call_reply(struct server_call *c, struct rpc_message *m)
{
	if (m->buffer) {
		server_call_send(c, m, NULL);
	}
	check(!c->ended);
	c->ended = true;
}

void server_call_reply_bytes(struct server_call *c, struct bytes answer)
{
	struct rpc_message m = {0};

	rpc_message_set(&m, answer);
	server_call_reply(c, &m);
}

unsigned server_call_rights(const struct server_call *c unused)
{
	return RPC_MAY_READ | RPC_MAY_WRITE;
}

struct rpc_server *server_call_server(const struct server_call *c unused)
{
	return NULL;
}

int server_call_wait(struct server_call *c unused, struct error *err unused)
{
	return 0;
}

void rpc_server_count(struct rpc_server *s unused, struct rpc_server_counts *out)
{
	*out = (struct rpc_server_counts){.calls = 1};
}

static void call_done(struct server_call *c)
{
	for (size_t i = 0; i < c->request_count; i++) {
		rpc_message_done(&c->requests[i]);
	}
	for (size_t i = 0; i < c->answer_count; i++) {
		rpc_message_done(&c->answers[i]);
	}
	free(c->answers);
}

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

static void take_message(const struct fuzz *z, struct input *in, struct rpc_message *m)
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
	rpc_message_set(m, buffer_bytes(&b));
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
	for (size_t i = 0; i < c->answer_count; i++) {
		check(range_check_take(&range, buffer_bytes(&c->answers[i].buffer->bytes),
				       &err) == 0);
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
	struct buffer first cleanup(buffer_done) = {0};
	struct server_call c = {.request_count = input_number(in, 1) % (MESSAGES_MAX + 1)};
	struct error err = {0};

	for (size_t i = 0; i < c.request_count; i++) {
		take_message(z, in, &c.requests[i]);
	}
	if (c.request_count) {
		struct bytes b = buffer_bytes(&c.requests[0].buffer->bytes);

		buffer_append(&first, b.ptr, b.len);
	}
	int rc = result(method->handle(&z->methods, &c, &err), &err);

	check(rc <= 0 && (rc < 0) == !c.ended);
	if (rc == 0 && strcmp(method->name, "ReadRange") == 0) {
		struct bytes request = buffer_bytes(&first);

		check_ranges(z, &request, &c);
	}
	call_done(&c);
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
