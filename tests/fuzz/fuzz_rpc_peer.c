/*
 * A store that a peer keeps, and a peer that lies. The client's calls go to the daemon's own
 * methods over a store in memory, and what they answer is damaged on the way: nobody gets other
 * bytes than those of a digest, and what no damage was done to comes as it is.
 *
 * Input: a byte of flags (PEER_*), then steps: a byte for what is done with the store, and what
 * that takes. Each call takes a byte more: below 0x80 the answer stays as it is, else it says
 * what becomes of it (see damage()).
 */

#include <pthread.h>
#include <time.h>

#include "rpc/client_call.h"
#include "rpc/client_channel.h"
#include "rpc/remote.h"
#include "services/memory.h"

#include "fake_calls.h"

#define STEPS_MAX 24
#define LARGE_SIZE 1200000u
#define MIDDLE_SIZE 20000u

enum { PEER_NO_CAIRN = 1, PEER_WRITES = 2 };
enum thing { SMALL, MIDDLE, LARGE, INNER, OUTER, ABSENT, OBJECT_COUNT };

struct far {
	struct store store;
	struct store_methods methods;
	struct buffer content[OBJECT_COUNT];
	struct digest digests[OBJECT_COUNT];
	struct store_path path;
};

static struct far far;

/* What the calls of one input have in common; the client's threads make them too. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest, and far */
static struct input *script;
static bool no_cairn;
static bool damaged; /* anything, so far */

/* ---- the peer ---- */

static struct node put_blob(enum thing o, size_t size)
{
	static uint8_t bytes[LARGE_SIZE];
	struct buffer *b = &far.content[o];

	for (size_t i = LARGE_SIZE; bytes[1] == 0 && i > 0; i--) {
		bytes[i - 1] = (uint8_t)((i - 1) * 7 + (i - 1) / 251);
	}
	buffer_append(b, bytes, size);
	check(blob_service_put(far.store.blobs, buffer_bytes(b), &far.digests[o], NULL) == 0);
	return (struct node){.kind = NODE_FILE, .digest = far.digests[o], .size = size};
}

static struct node put_directory(enum thing o, const char *name, const struct node *entry)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;

	check(directory_builder_add(b, bytes_of_string(name), entry, NULL) == 0);
	check(directory_builder_finish(b, &d, NULL) == 0);
	check(directory_service_put(far.store.directories, d, NULL) == 0);
	struct bytes encoding = directory_encoding(d);

	buffer_append(&far.content[o], encoding.ptr, encoding.len);
	far.digests[o] = *directory_digest(d);
	return directory_node(d);
}

static void fill_far(void)
{
	memory_store_open(&far.store);
	store_methods_init(&far.methods, &far.store);
	struct node small = put_blob(SMALL, 5);

	put_blob(MIDDLE, MIDDLE_SIZE);
	put_blob(LARGE, LARGE_SIZE);
	struct node inner = put_directory(INNER, "f", &small);
	struct node outer = put_directory(OUTER, "d", &inner);
	struct path_info info = {.nar_size = 1};

	memset(&far.digests[ABSENT], 0xee, DIGEST_SIZE);
	check(store_path_parse_basename(bytes_of_string("00bgd045z0d4icpbc2yyz4gx48ak44la-x"),
					&far.path, NULL) == 0);
	info.path = far.path;
	root_node_set(&info.node, &outer);
	check(root_nodes_put(far.store.roots, bytes_of_string("r"), &outer, false, NULL) == 0);
	check(path_info_service_put(far.methods.infos, &info, NULL, NULL) == 0);
	path_info_done(&info);
}

static void empty_far(void)
{
	store_methods_done(&far.methods);
	store_close(&far.store);
	for (size_t i = 0; i < OBJECT_COUNT; i++) {
		buffer_done(&far.content[i]);
	}
	memset(&far, 0, sizeof(far));
}

static const struct rpc_method *find_method(const char *path)
{
	for (const struct rpc_service *const *s = store_methods_services; *s; s++) {
		for (size_t i = 0; i < RPC_SERVICE_NAMES && (*s)->names[i]; i++) {
			size_t len = strlen((*s)->names[i]);

			if (strncmp(path + 1, (*s)->names[i], len) != 0 ||
			    path[1 + len] != '/') {
				continue;
			}
			for (size_t m = 0; m < (*s)->method_count; m++) {
				if (strcmp((*s)->methods[m].name, path + len + 2) == 0) {
					return &(*s)->methods[m];
				}
			}
		}
	}
	return NULL;
}

/* ---- damage ---- */

static void insert_at(struct fake_messages *l, size_t at, struct bytes content)
{
	fake_messages_add(l, content);
	struct rpc_message last = l->list[l->count - 1];

	memmove(&l->list[at + 1], &l->list[at], (l->count - 1 - at) * sizeof(*l->list));
	l->list[at] = last;
}

static void drop(struct fake_messages *l, size_t at)
{
	rpc_message_done(&l->list[at]);
	memmove(&l->list[at], &l->list[at + 1], (l->count - 1 - at) * sizeof(*l->list));
	l->count--;
}

static void damage_message(struct fake_messages *l, unsigned kind)
{
	size_t n = (size_t)input_number(script, 1) % l->count;
	size_t at = (size_t)input_number(script, 3);
	struct grpc_byte_buffer *message = l->list[n].buffer;
	struct buffer *b = &message->bytes;
	struct rpc_message other;

	switch (kind) {
	case 0:
		drop(l, n);
		break;
	case 1: {
		struct buffer copy cleanup(buffer_done) = {0};

		buffer_append(&copy, b->ptr, b->len);
		insert_at(l, n, buffer_bytes(&copy));
		break;
	}
	case 2:
		b->len = MIN(b->len, at);
		message->first = MIN(message->first, b->len);
		break;
	case 3:
		if (b->len) {
			b->ptr[at % b->len] ^= (uint8_t)(1 + at / b->len);
		}
		break;
	case 4:
		other = l->list[n];
		l->list[n] = l->list[(n + 1) % l->count];
		l->list[(n + 1) % l->count] = other;
		break;
	default:
		insert_at(l, n, input_string(script));
		break;
	}
}

/* What becomes of an answer: a failure, at once or behind so many messages, or others. */
static int damage(struct fake_messages *l, unsigned how, struct error *err)
{
	if (how < 0x80) {
		return 0;
	}
	damaged = true;
	switch (how % 8) {
	case 6:
		fake_messages_done(l);
		fake_messages_add(l, input_string(script));
		return 0;
	case 7: {
		uint64_t code = 1 + input_number(script, 1) % (ERROR_CODE_COUNT - 1);

		while (l->count > (how >> 3) % 4) {
			drop(l, l->count - 1);
		}
		return error_set(err, (enum error_code)code, "as it was told to");
	}
	default:
		if (l->count) {
			damage_message(l, how % 8);
		}
		return 0;
	}
}

/* ---- calls, as the client makes them ---- */

struct client_channel {
	char nothing;
};

struct client_call {
	struct server_call call;
	const char *method;
	bool run;
	size_t given;
	int rc;
	struct error err;
};

static int run(const char *path, struct server_call *c, struct error *err)
{
	const struct rpc_method *method = find_method(path);
	struct error why = {0};

	pthread_mutex_lock(&lock);
	unsigned how = (unsigned)input_number(script, 1);
	int rc = !method || (no_cairn && strncmp(path, "/cairn", 6) == 0)
			 ? error_set(&why, ERROR_UNSUPPORTED, "no method %s", path)
			 : fake_call_run(c, method, &far.methods, &why);
	int damage_rc = damage(&c->answers, how, &why);

	pthread_mutex_unlock(&lock);
	rc = damage_rc ? damage_rc : rc;
	if (rc && err) {
		*err = why;
	}
	return rc;
}

struct client_channel *client_channel_new(const struct client_channel_config *config unused)
{
	return xcalloc(1, sizeof(struct client_channel));
}

void client_channel_free(struct client_channel *c)
{
	free(c);
}

const char *client_channel_address(const struct client_channel *c unused)
{
	return "fake://";
}

void client_channel_wait(struct client_channel *c unused, unsigned ms unused,
			 bool connection unused)
{
}

static int take_one(const struct fake_messages *l, struct buffer *reply, struct error *err)
{
	if (l->count != 1) {
		return error_set(err, ERROR_CORRUPT, "%zu replies", l->count);
	}
	struct bytes b = fake_message_bytes(&l->list[0]);

	buffer_append(reply, b.ptr, b.len);
	return 0;
}

int client_channel_ask(struct client_channel *c unused, const char *method,
		       struct bytes request, struct buffer *reply, struct error *err)
{
	struct server_call call = {.ended = false};

	fake_messages_add(&call.requests, request);
	int rc = run(method, &call, err);

	rc = rc ? rc : take_one(&call.answers, reply, err);
	fake_call_done(&call);
	return rc;
}

int client_channel_ask_many(struct client_channel *c, struct client_question *questions,
			    size_t count, struct error *err)
{
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		questions[i].rc =
			client_channel_ask(c, questions[i].method, questions[i].request,
					   &questions[i].reply, first ? NULL : err);
		first = first ? first : questions[i].rc;
	}
	return first;
}

int client_call_start(struct client_channel *c unused, const char *method,
		      struct client_call **out, struct error *err unused)
{
	*out = xcalloc(1, sizeof(**out));
	(*out)->method = xstrdup(method);
	return 0;
}

int client_call_send(struct client_call *call, struct bytes message, bool last unused,
		     struct error *err unused)
{
	fake_messages_add(&call->call.requests, message);
	return 0;
}

int client_call_send_parts(struct client_call *call, struct bytes head, struct bytes body,
			   bool last unused, void (*release)(void *context), void *context,
			   struct error *err unused)
{
	struct buffer both = {0};

	buffer_append(&both, head.ptr, head.len);
	buffer_append(&both, body.ptr, body.len);
	fake_messages_add(&call->call.requests, buffer_bytes(&both));
	buffer_done(&both);
	release(context);
	return 0;
}

int client_call_send_end(struct client_call *call unused, struct error *err unused)
{
	return 0;
}

int client_call_receive_pieces(struct client_call *call, const struct rpc_message **message,
			       struct error *err)
{
	if (!call->run) {
		call->run = true;
		call->rc = run(call->method, &call->call, &call->err);
	}
	if (call->given < call->call.answers.count) {
		*message = &call->call.answers.list[call->given++];
		return 1;
	}
	if (call->rc && err) {
		*err = call->err;
	}
	return call->rc;
}

int client_call_receive(struct client_call *call, struct bytes *message, struct error *err)
{
	const struct rpc_message *pieces = NULL;
	int rc = client_call_receive_pieces(call, &pieces, err);

	if (rc > 0 && pieces) {
		*message = fake_message_bytes(pieces);
	}
	return rc;
}

int client_call_receive_one(struct client_call *call, struct buffer *reply, struct error *err)
{
	struct bytes message;
	int rc = 1;

	while (rc > 0) {
		rc = client_call_receive(call, &message, err);
	}
	return rc ? rc : take_one(&call->call.answers, reply, err);
}

void client_call_free(struct client_call *call)
{
	if (call) {
		fake_call_done(&call->call);
		free((char *)(uintptr_t)call->method);
		free(call);
	}
}

/* Who stops a call waits for it here, where all answers are there at once. */
struct client_stop *client_stop_new(void)
{
	return xcalloc(1, 1);
}

void client_stop_free(struct client_stop *s)
{
	free(s);
}

void client_stop_all(struct client_stop *s unused)
{
}

int client_call_obey(struct client_call *call unused, struct client_stop *stop unused,
		     struct error *err unused)
{
	return 0;
}

/* Nobody waits before trying again. */
int nanosleep(const struct timespec *wanted unused, struct timespec *left unused)
{
	return 0;
}

/* ---- steps ---- */

/* 1 is right for what is there, 0 for what is not, unless there was damage. */
static int expect(enum thing o, bool blob, int rc, const struct error *err)
{
	bool there = o < ABSENT && (o < INNER) == blob;

	result(rc, err);
	check(damaged || rc == there);
	check(rc <= 0 || there);
	return rc;
}

static void check_part(enum thing o, const uint8_t *got, uint64_t offset, size_t len)
{
	const struct buffer *b = &far.content[o];

	check(offset + len <= b->len || (len == 0 && offset >= b->len));
	check(memcmp(got, b->ptr + MIN(offset, b->len), len) == 0);
}

/* How many of len bytes there are. */
static size_t inside(enum thing o, uint64_t offset, size_t len)
{
	size_t size = far.content[o].len;

	return offset >= size ? 0 : (size_t)MIN(len, size - offset);
}

static uint8_t buffer[LARGE_SIZE + 1];

static void read_blob(struct store *s, enum thing o)
{
	uint64_t offset = input_number(script, 3);
	size_t len = (size_t)input_number(script, 3) % sizeof(buffer), got = 0;
	struct error err = {0};

	if (expect(o, true,
		   blob_service_read(s->blobs, &far.digests[o], offset, buffer, len, 0, &got,
				     &err),
		   &err) > 0) {
		check(got == inside(o, offset, len));
		check_part(o, buffer, offset, got);
	}
}

static void open_blob(struct store *s, enum thing o)
{
	uint64_t offset = input_number(script, 3);
	size_t step = 1 + (size_t)input_number(script, 3) % (LARGE_SIZE / 2);
	struct blob_reader *r cleanup(cleanup_blob_reader) = NULL;
	struct error err = {0};
	size_t got;

	if (expect(o, true, blob_service_open(s->blobs, &far.digests[o], &r, &err), &err) <=
	    0) {
		return;
	}
	check(blob_reader_size(r) == far.content[o].len);
	for (int i = 0; i < 3; i++, offset += step) {
		int rc = result(blob_reader_pread(r, buffer, step, offset, &got, &err), &err);

		check(damaged || rc == 0);
		if (rc == 0) {
			check(got == inside(o, offset, step));
			check_part(o, buffer, offset, got);
		}
	}
}

static void ask_size(struct store *s, enum thing o)
{
	struct error err = {0};
	uint64_t size;
	bool missing;

	if (expect(o, true, blob_service_size(s->blobs, &far.digests[o], &size, &err), &err) >
	    0) {
		check(size == far.content[o].len);
	}
	/* Whether something is there, only the peer knows. */
	result(blob_service_has(s->blobs, &far.digests[o], &err), &err);
	result(blob_service_find_missing(s->blobs, &far.digests[o], 1, &missing, &err), &err);
	result(directory_service_has(s->directories, &far.digests[o], &err), &err);
}

static int take_many(void *context unused, size_t i, struct bytes content,
		     struct error *err unused)
{
	check(bytes_equal(content, buffer_bytes(&far.content[i])));
	return 0;
}

static void get_many(struct store *s, enum thing o unused)
{
	const struct blob_want wants[] = {
		{.digest = far.digests[SMALL], .size = far.content[SMALL].len},
		{.digest = far.digests[MIDDLE], .size = far.content[MIDDLE].len},
	};
	struct error err = {0};
	int rc = result(blob_service_get_many(s->blobs, wants, 2, take_many, NULL, &err), &err);

	check(damaged || rc == 0);
}

static void get_chunks(struct store *s, enum thing o)
{
	struct chunk_list list = {0};
	struct error err = {0};

	if (result(blob_service_chunks(s->blobs, &far.digests[o], &list, &err), &err) > 0) {
		chunk_list_done(&list);
	}
}

static void get_directory(struct store *s, enum thing o)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct error err = {0};

	if (expect(o, false, directory_service_get(s->directories, &far.digests[o], &d, &err),
		   &err) > 0) {
		check(bytes_equal(directory_encoding(d), buffer_bytes(&far.content[o])));
	}
}

static void get_closure(struct store *s, enum thing o)
{
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;
	struct error err = {0};
	int rc = expect(
		o, false,
		directory_service_get_recursive(s->directories, &far.digests[o], &walk, &err),
		&err);

	for (size_t count = 0; rc > 0; count++) {
		struct directory *d cleanup(cleanup_directory) = NULL;

		rc = result(closure_walk_next(walk, &d, &err), &err);
		check(rc >= 0 || damaged);
		check(rc <= 0 || count < 2);
	}
}

static bool see_root(void *context unused, struct bytes name, const struct node *node)
{
	check(node_name_valid(name));
	check(node->kind != NODE_SYMLINK || node_target_valid(node->target));
	return true;
}

static void use_roots(struct store *s, enum thing o unused)
{
	struct root_node node = {0};
	struct error err = {0};
	int rc = result(root_nodes_lookup(s->roots, bytes_of_string("r"), &node, &err), &err);

	check(damaged || no_cairn || rc > 0);
	root_node_done(&node);
	result(root_nodes_lookup(s->roots, bytes_of_string("none"), &node, &err), &err);
	root_node_done(&node);
	result(root_nodes_list(s->roots, bytes_of(NULL, 0), see_root, NULL, &err), &err);
}

static bool see_info(void *context unused, const struct path_info *info)
{
	check(info->nar_size != 0 && info->path.name_len > 0);
	return true;
}

static void use_infos(struct store *s, enum thing o unused)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(s);
	struct path_info info = {0};
	struct error err = {0};
	int rc = result(path_info_service_get(infos, far.path.hash, &info, &err), &err);

	check(damaged || rc > 0);
	check(rc <= 0 || memcmp(info.path.hash, far.path.hash, STORE_PATH_HASH_SIZE) == 0);
	path_info_done(&info);
	result(path_info_service_list(infos, NULL, see_info, NULL, &err), &err);
}

/* What a sync was told of is there. */
static void write_some(struct store *s, enum thing o unused)
{
	size_t len = (size_t)input_number(script, 2);
	struct node node = {.kind = NODE_FILE, .size = len};
	struct error err = {0};
	uint64_t size;
	int rc;

	memset(buffer, 'x', len);
	rc = result(blob_service_put(s->blobs, bytes_of(buffer, len), &node.digest, &err),
		    &err);
	rc = rc ? rc : result(store_sync(s, &err), &err);
	rc = rc ? rc
		: result(root_nodes_put(s->roots, bytes_of_string("new"), &node, true, &err),
			 &err);
	check(damaged || no_cairn || rc == 0);
	if (!damaged) {
		check(blob_service_size(far.store.blobs, &node.digest, &size, &err) == 1);
	}
}

static void take_step(struct store *s, bool writes)
{
	static void (*const steps[])(struct store * s, enum thing o) = {
		read_blob,     open_blob,   ask_size,  get_many,  get_chunks,
		get_directory, get_closure, use_roots, use_infos, write_some,
	};
	size_t count = ARRAY_SIZE(steps) - (writes ? 0 : 1);
	size_t step = (size_t)input_number(script, 1) % count;
	enum thing o = SMALL;

	if (step < 7 && step != 3) {
		o = (enum thing)(input_number(script, 1) % OBJECT_COUNT);
	}
	steps[step](s, o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	unsigned flags = (unsigned)input_number(&in, 1);
	const struct remote_config config = {
		.in_flight_max = 1 << 20, .blob_max = 4 << 20, .read_only = false};

	if (!far.store.blobs) {
		fill_far();
	}
	script = &in;
	no_cairn = flags & PEER_NO_CAIRN;
	damaged = false;
	struct remote *r = remote_new(&config);
	struct store s = {
		.blobs = remote_blobs_new(r),
		.directories = remote_directories_new(r),
		.roots = remote_roots_new(r),
		.path_infos = remote_path_infos_new(r),
	};

	remote_unref(r);
	for (unsigned i = 0; in.left && i < STEPS_MAX; i++) {
		take_step(&s, flags & PEER_WRITES);
	}
	store_close(&s);
	if (flags & PEER_WRITES) {
		empty_far();
	}
	return 0;
}
