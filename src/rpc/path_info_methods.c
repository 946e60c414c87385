/* PathInfoService, and cairn.v1.PathInfos, which has what that one lacks. */

#include "nix/nar_writer.h"
#include "rpc/store_methods_internal.h"

/* Infos that are read in a row, before they are sent. */
#define LIST_STEP_SIZE METHODS_BATCH_SIZE
/* Infos in one call. */
#define PUT_MAX ((size_t)1 << 16)
#define PUT_SIZE_MAX ((size_t)256 << 20)
/* What one takes decoded, as a multiple of its message: a list of short texts above all. */
#define DECODED_COST 4

static int need_infos(const struct store_methods *s, struct error *err)
{
	return s->infos ? 0
			: error_set(err, ERROR_UNSUPPORTED, "this store keeps no path infos");
}

static int check_hash(struct bytes hash, struct error *err)
{
	return hash.len == STORE_PATH_HASH_SIZE
		       ? 0
		       : error_set(err, ERROR_INVALID, "an output hash of %zu bytes, not %d",
				   hash.len, STORE_PATH_HASH_SIZE);
}

static void reply_info(struct server_call *c, const struct path_info *info)
{
	struct buffer b cleanup(buffer_done) = {0};

	path_info_encode(&b, info);
	server_call_reply_bytes(c, buffer_bytes(&b));
}

static int get_info(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct path_info info cleanup(path_info_done) = {0};
	struct bytes_message m;
	int rc = need_infos(s, err);

	if (rc == 0) {
		rc = request_receive(c, &bytes_message_type, &r, &m, err);
	}
	if (rc == 0) {
		rc = check_hash(m.value, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = path_info_service_get(s->infos, m.value.ptr, &info, err);
	if (rc > 0) {
		reply_info(c, &info);
	}
	return rc == 0 ? error_set(err, ERROR_NOT_FOUND, "no such store path") : MIN(rc, 0);
}

static int put_info(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct path_info info cleanup(path_info_done) = {0};
	struct path_info stored cleanup(path_info_done) = {0};
	int rc = need_infos(s, err);

	if (rc == 0) {
		rc = server_call_receive_only(c, &r.message, err);
	}
	if (rc == 0) {
		rc = path_info_decode(rpc_message_bytes(&r.message, &r.storage), &info, err);
	}
	if (rc == 0) {
		rc = write_turn_begin(&s->turns, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = path_info_service_put(s->infos, &info, &stored, err);
	write_turn_end(&s->turns, rc);
	if (rc == 0) {
		reply_info(c, &stored);
	}
	return rc;
}

/* ---- Listing ---- */

/*
 * A list is read in steps and sent between them: while a store is visited, it holds on to what
 * it was then, and a peer may take its time.
 */
struct listing {
	struct buffer messages; /* one after another */
	size_t *ends;
	size_t count;
	size_t capacity;
	uint8_t last[STORE_PATH_HASH_SIZE];
	bool more;
};

static void listing_done(struct listing *l)
{
	buffer_done(&l->messages);
	free(l->ends);
}

static bool collect_info(void *context, const struct path_info *info)
{
	struct listing *l = context;

	if (l->messages.len >= LIST_STEP_SIZE) {
		l->more = true;
		return false;
	}
	path_info_encode(&l->messages, info);
	if (l->count == l->capacity) {
		l->capacity = MAX(l->capacity * 2, (size_t)64);
		l->ends = xrealloc(l->ends, l->capacity * sizeof(*l->ends));
	}
	l->ends[l->count++] = l->messages.len;
	memcpy(l->last, info->path.hash, STORE_PATH_HASH_SIZE);
	return true;
}

static int send_listing(struct server_call *c, const struct listing *l, struct error *err)
{
	size_t start = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < l->count; i++) {
		struct rpc_message m = {0};

		rpc_message_set(&m, bytes_of(l->messages.ptr + start, l->ends[i] - start));
		rc = server_call_send(c, &m, err);
		start = l->ends[i];
	}
	return rc;
}

/* after: NULL, or the hash that comes before the first one. */
static int list_after(struct store_methods *s, struct server_call *c, const uint8_t *after,
		      struct error *err)
{
	struct listing l cleanup(listing_done) = {0};
	uint8_t from[STORE_PATH_HASH_SIZE];
	int rc;

	do {
		l.messages.len = l.count = 0;
		l.more = false;
		rc = path_info_service_list(s->infos, after, collect_info, &l, err);
		if (rc == 0) {
			rc = send_listing(c, &l, err);
		}
		memcpy(from, l.last, sizeof(from));
		after = from;
	} while (rc == 0 && l.more);
	if (rc == 0) {
		server_call_reply(c, &(struct rpc_message){0});
	}
	return rc;
}

static int list_infos(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	int rc = need_infos(s, err);

	if (rc == 0) {
		rc = server_call_receive_only(c, &r.message, err);
	}
	return rc == 0 ? list_after(s, c, NULL, err) : rc;
}

static int list_infos_after(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct bytes_message m = {0};
	int rc = need_infos(s, err);

	if (rc == 0) {
		rc = request_receive(c, &bytes_message_type, &r, &m, err);
	}
	if (rc == 0 && m.value.len) {
		rc = check_hash(m.value, err);
	}
	return rc == 0 ? list_after(s, c, m.value.len ? m.value.ptr : NULL, err) : rc;
}

/* ---- CalculateNAR ---- */

/*
 * Where nothing is at a peer, nothing can be out of reach: then a part of the tree is missing,
 * and asking again is of no use.
 */
static int tell_missing(const struct store *store, int rc, struct error *err)
{
	if (rc == -ERROR_UNAVAILABLE && !directory_service_fetches(store->directories)) {
		err->code = ERROR_NOT_FOUND;
		return -ERROR_NOT_FOUND;
	}
	return rc;
}

static int calculate_nar(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	uint8_t sha256[SHA256_SIZE];
	struct bytes name;
	struct node node;
	uint64_t size;
	int rc = server_call_receive_only(c, &r.message, err);

	if (rc == 0) {
		rc = node_decode(rpc_message_bytes(&r.message, &r.storage), &name, &node, err);
	}
	if (rc == 0) {
		rc = nar_hash(s->store, &node, NULL, NULL, &size, sha256, err);
		rc = tell_missing(s->store, rc, err);
	}
	if (rc == 0) {
		struct calculate_nar_response m = {.nar_size = size,
						   .nar_sha256 = bytes_of(sha256, SHA256_SIZE)};

		reply_message(c, &calculate_nar_response_type, &m);
	}
	return rc;
}

static const struct rpc_method methods[] = {
	{"Get", RPC_MAY_READ, get_info},
	{"Put", RPC_MAY_WRITE, put_info},
	{"CalculateNAR", RPC_MAY_READ, calculate_nar},
	{"List", RPC_MAY_READ | RPC_MAY_LIST, list_infos},
};

const struct rpc_service path_info_methods_service = {
	.names = {"tvix.store.v1.PathInfoService", "snix.store.v1.PathInfoService"},
	.methods = methods,
	.method_count = ARRAY_SIZE(methods),
};

/* ---- cairn.v1.PathInfos ---- */

struct infos {
	struct path_info *list;
	size_t count;
	size_t size; /* of their messages */
};

static void infos_done(struct infos *l)
{
	for (size_t i = 0; i < l->count; i++) {
		path_info_done(&l->list[i]);
	}
	free(l->list);
}

static int add_info(struct infos *l, struct bytes message, struct error *err)
{
	l->size += message.len;
	if (l->count == PUT_MAX || l->size > PUT_SIZE_MAX) {
		return error_set(err, ERROR_LIMIT,
				 "more than %zu path infos, or %zu bytes, at once", PUT_MAX,
				 PUT_SIZE_MAX);
	}
	/* A power of two or nothing: there is no more room. */
	if ((l->count & (l->count - 1)) == 0) {
		l->list = xrealloc(l->list, MAX(l->count * 2, (size_t)1) * sizeof(*l->list));
	}
	l->list[l->count] = (struct path_info){0};
	return path_info_decode(message, &l->list[l->count++], err);
}

static int put_infos(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct infos l cleanup(infos_done) = {0};
	struct bytes message;
	int rc = need_infos(s, err);

	if (rc < 0) {
		return rc;
	}
	while ((rc = request_next(c, &r, &message, err)) > 0) {
		rc = add_info(&l, message, err);
		if (rc == 0) {
			rc = server_call_hold(c, l.size * DECODED_COST, err);
		}
		if (rc < 0) {
			break;
		}
	}
	if (rc == 0) {
		rc = write_turn_begin(&s->turns, err);
	}
	if (rc < 0) {
		return rc;
	}
	rc = path_info_service_put_many(s->infos, l.list, l.count, err);
	write_turn_end(&s->turns, rc);
	if (rc == 0) {
		reply_number(c, l.count);
	}
	return rc;
}

static int remove_infos(void *context, struct server_call *c, struct error *err)
{
	struct store_methods *s = context;
	struct request r cleanup(request_done) = {0};
	struct bytes_message m = {0};
	size_t count = 0, removed;
	int rc = need_infos(s, err);

	if (rc == 0) {
		rc = request_receive(c, &bytes_message_type, &r, &m, err);
	}
	if (rc == 0) {
		rc = message_key_count(m.value, STORE_PATH_HASH_SIZE, &count, err);
	}
	if (rc < 0) {
		return rc;
	}
	struct store_path *paths cleanup(cleanup_free) = xcalloc(count + 1, sizeof(*paths));

	/* Their names do not matter. */
	for (size_t i = 0; i < count; i++) {
		memcpy(paths[i].hash, m.value.ptr + i * STORE_PATH_HASH_SIZE,
		       STORE_PATH_HASH_SIZE);
	}
	rc = write_turn_begin(&s->turns, err);
	if (rc < 0) {
		return rc;
	}
	rc = path_info_service_remove_many(s->infos, paths, count, &removed, err);
	write_turn_end(&s->turns, rc);
	if (rc == 0) {
		reply_number(c, removed);
	}
	return rc;
}

static const struct rpc_method table_methods[] = {
	{"Put", RPC_MAY_WRITE, put_infos},
	{"List", RPC_MAY_READ | RPC_MAY_LIST, list_infos_after},
	{"Remove", RPC_MAY_WRITE, remove_infos},
};

const struct rpc_service path_info_table_methods_service = {
	.names = {"cairn.v1.PathInfos"},
	.methods = table_methods,
	.method_count = ARRAY_SIZE(table_methods),
};
