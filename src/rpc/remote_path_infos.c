/*
 * A peer's path infos as a table of records: keys are the 20 bytes of the store path's hash,
 * last byte first (nix/path_info_store.c), values PathInfo messages. Nothing else can be put
 * here.
 */

#include "nix/path_info.h"
#include "rpc/answer.h"
#include "rpc/remote.h"
#include "services/record_table.h"

#define KEY_SIZE STORE_PATH_HASH_SIZE

/* Of the whole list of a peer that has no order; it is sorted in memory. */
#define LIST_BYTES_MAX ((size_t)1 << 30)

struct remote_path_infos {
	struct record_table base;
	struct remote *remote; /* a reference */
};

static struct remote *remote_of(struct record_table *t)
{
	return container_of(t, struct remote_path_infos, base)->remote;
}

static void infos_destroy(struct record_table *t)
{
	struct remote_path_infos *p = container_of(t, struct remote_path_infos, base);

	remote_unref(p->remote);
	free(p);
}

/* From a key to a hash and back. */
static void reverse(uint8_t out[KEY_SIZE], const uint8_t in[KEY_SIZE])
{
	for (size_t i = 0; i < KEY_SIZE; i++) {
		out[i] = in[KEY_SIZE - 1 - i];
	}
}

/* What came, in canonical form, appended to value; its key. */
static int take_info(struct remote *r, struct bytes message, uint8_t key[KEY_SIZE],
		     struct buffer *value, struct error *err)
{
	struct path_info info = {0};
	struct error why;

	if (path_info_normalize(message, &info, &why) < 0) {
		return error_set(err, ERROR_CORRUPT, "%s: %s", peer_address(r->peer), why.text);
	}
	reverse(key, info.path.hash);
	path_info_encode(value, &info);
	path_info_done(&info);
	return 0;
}

static int infos_get(struct record_table *t, struct bytes key, struct buffer *out,
		     struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct buffer value cleanup(buffer_done) = {0};
	uint8_t hash[KEY_SIZE], found[KEY_SIZE];
	struct remote *r = remote_of(t);

	if (key.len != KEY_SIZE) {
		return 0;
	}
	reverse(hash, key.ptr);
	struct bytes_message m = {.value = bytes_of(hash, KEY_SIZE)};

	message_encode(&bytes_message_type, &m, &request);
	int rc = peer_lookup(r->peer, PEER_METHOD(PEER_PATH_INFOS, "Get"),
			     buffer_bytes(&request), &reply, err);

	if (rc <= 0) {
		return rc;
	}
	rc = take_info(r, buffer_bytes(&reply), found, &value, err);
	if (rc == 0 && memcmp(found, key.ptr, KEY_SIZE) != 0) {
		rc = error_set(err, ERROR_CORRUPT, "%s: the path info of another path",
			       peer_address(r->peer));
	}
	if (rc < 0) {
		return rc;
	}
	out->len = 0;
	buffer_append(out, value.ptr, value.len);
	return 1;
}

/* ---- Putting ---- */

static int check_entry(const struct record_entry *e, struct error *err)
{
	struct path_info info = {0};
	uint8_t key[KEY_SIZE];
	int rc = path_info_decode(e->value, &info, err);

	reverse(key, info.path.hash);
	if (rc == 0 && !bytes_equal(e->key, bytes_of(key, KEY_SIZE))) {
		rc = error_set(err, ERROR_INVALID, "a path info under the key of another path");
	}
	path_info_done(&info);
	return rc;
}

static int put_together(struct remote *r, const struct record_entry *entries, size_t count,
			struct error *err)
{
	struct client_call *call cleanup(cleanup_client_call) = NULL;
	struct buffer reply cleanup(buffer_done) = {0};
	int rc = peer_upload(r->peer, PEER_CAIRN("PathInfos/Put"), &call, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = client_call_send(call, entries[i].value, i + 1 == count, err);
	}
	return rc < 0 ? rc : client_call_receive_one(call, &reply, err);
}

/* Others take them one by one, so a failure may leave some. */
static int put_each(struct remote *r, const struct record_entry *entries, size_t count,
		    struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct buffer reply cleanup(buffer_done) = {0};

		rc = peer_ask(r->peer, PEER_METHOD(PEER_PATH_INFOS, "Put"), entries[i].value,
			      &reply, err);
	}
	return rc;
}

static int infos_put(struct record_table *t, const struct record_entry *entries, size_t count,
		     struct error *err)
{
	struct remote *r = remote_of(t);
	struct peer_retry retry = {.peer = r->peer};
	int rc = remote_check_writable(r, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = check_entry(&entries[i], err);
	}
	if (rc == 0) {
		rc = outbox_sync(r->outbox, err);
	}
	if (rc < 0) {
		return rc;
	}
	do {
		rc = peer_is_cairn(r->peer, err);
		if (rc >= 0) {
			rc = rc ? put_together(r, entries, count, err)
				: put_each(r, entries, count, err);
		}
	} while (rc < 0 && peer_retry(&retry, rc));
	return rc;
}

static int infos_remove(struct record_table *t, const struct bytes *keys, size_t count,
			size_t *removed, struct error *err)
{
	struct buffer hashes cleanup(buffer_done) = {0};
	struct buffer request cleanup(buffer_done) = {0};
	struct buffer reply cleanup(buffer_done) = {0};
	struct number_message answer = {0};
	struct remote *r = remote_of(t);
	int rc = remote_check_writable(r, err);

	if (rc == 0) {
		rc = remote_check_cairn(r, "removal of path infos", err);
	}
	for (size_t i = 0; i < count; i++) {
		uint8_t hash[KEY_SIZE];

		/* There is nothing under any other key. */
		if (keys[i].len == KEY_SIZE) {
			reverse(hash, keys[i].ptr);
			buffer_append(&hashes, hash, KEY_SIZE);
		}
	}
	struct bytes_message m = {.value = buffer_bytes(&hashes)};

	message_encode(&bytes_message_type, &m, &request);
	if (rc == 0) {
		rc = peer_ask(r->peer, PEER_CAIRN("PathInfos/Remove"), buffer_bytes(&request),
			      &reply, err);
	}
	if (rc == 0) {
		rc = answer_decode(&number_message_type, buffer_bytes(&reply), &answer, err);
	}
	if (rc == 0) {
		*removed = (size_t)MIN(answer.value, count);
	}
	return rc;
}

/* ---- Listing ---- */

struct listing {
	struct remote *remote;
	record_visit visit;
	void *context;
	uint8_t last[KEY_SIZE];
	bool has_last;
	struct buffer value;
	/* Of a list without order: keys, and where their values end. */
	struct listed *all;
	size_t count;
	size_t capacity;
};

struct listed {
	uint8_t key[KEY_SIZE];
	uint64_t start; /* in listing.value */
	uint64_t len;
};

/* As it comes, which is in order. */
static int take_in_order(void *context, struct bytes message, struct error *err)
{
	struct listing *l = context;
	uint8_t key[KEY_SIZE];

	l->value.len = 0;
	int rc = take_info(l->remote, message, key, &l->value, err);

	if (rc < 0) {
		return rc;
	}
	if (l->has_last && memcmp(key, l->last, KEY_SIZE) <= 0) {
		return error_set(err, ERROR_CORRUPT, "%s: path infos that are not in order",
				 peer_address(l->remote->peer));
	}
	memcpy(l->last, key, KEY_SIZE);
	l->has_last = true;
	return !l->visit(l->context, bytes_of(key, KEY_SIZE), buffer_bytes(&l->value));
}

static int list_in_order(struct listing *l, struct bytes after, struct error *err)
{
	struct buffer request cleanup(buffer_done) = {0};
	uint8_t hash[KEY_SIZE] = {0};
	struct bytes_message m = {.value = bytes_of(hash, after.len ? KEY_SIZE : 0)};

	if (after.len) {
		reverse(hash, after.ptr);
		memcpy(l->last, after.ptr, KEY_SIZE);
		l->has_last = true;
	}
	message_encode(&bytes_message_type, &m, &request);
	return peer_stream(l->remote->peer, PEER_CAIRN("PathInfos/List"),
			   buffer_bytes(&request), take_in_order, l, err);
}

static int take_one_of_all(void *context, struct bytes message, struct error *err)
{
	struct listing *l = context;
	struct listed one = {.start = l->value.len};
	int rc = take_info(l->remote, message, one.key, &l->value, err);

	if (rc < 0) {
		return rc;
	}
	if (l->value.len + l->count * sizeof(one) > LIST_BYTES_MAX) {
		return error_set(err, ERROR_LIMIT, "%s: path infos of more than %zu bytes",
				 peer_address(l->remote->peer), LIST_BYTES_MAX);
	}
	if (l->count == l->capacity) {
		l->capacity = MAX(l->capacity * 2, (size_t)64);
		l->all = xrealloc(l->all, l->capacity * sizeof(*l->all));
	}
	one.len = l->value.len - one.start;
	l->all[l->count++] = one;
	return 0;
}

static int compare_listed(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	return memcmp(x->key, y->key, KEY_SIZE);
}

static void visit_all(struct listing *l, struct bytes after)
{
	if (l->count) {
		qsort(l->all, l->count, sizeof(*l->all), compare_listed);
	}
	for (size_t i = 0; i < l->count; i++) {
		const struct listed *one = &l->all[i];
		bool again = i > 0 && compare_listed(one, one - 1) == 0;
		bool before = after.len && memcmp(one->key, after.ptr, KEY_SIZE) <= 0;

		if (!again && !before &&
		    !l->visit(l->context, bytes_of(one->key, KEY_SIZE),
			      bytes_of(l->value.ptr + one->start, (size_t)one->len))) {
			return;
		}
	}
}

static int list_all(struct listing *l, struct bytes after, struct error *err)
{
	int rc = peer_stream(l->remote->peer, PEER_METHOD(PEER_PATH_INFOS, "List"),
			     bytes_of(NULL, 0), take_one_of_all, l, err);

	if (rc >= 0) {
		visit_all(l, after);
	}
	return rc;
}

static int infos_list(struct record_table *t, struct bytes after, record_visit visit,
		      void *context, struct error *err)
{
	struct listing l = {.remote = remote_of(t), .visit = visit, .context = context};

	if (after.len && after.len != KEY_SIZE) {
		return error_set(err, ERROR_INVALID,
				 "path infos have keys of %d bytes, not %zu", KEY_SIZE,
				 after.len);
	}
	int rc = peer_is_cairn(l.remote->peer, err);

	if (rc >= 0) {
		rc = rc ? list_in_order(&l, after, err) : list_all(&l, after, err);
	}
	buffer_done(&l.value);
	free(l.all);
	return rc < 0 ? rc : 0;
}

static const struct record_table_ops infos_ops = {
	.name = "remote",
	.destroy = infos_destroy,
	.get = infos_get,
	.put = infos_put,
	.remove = infos_remove,
	.list = infos_list,
};

struct record_table *remote_path_infos_new(struct remote *r)
{
	struct remote_path_infos *p = xcalloc(1, sizeof(*p));

	record_table_init(&p->base, &infos_ops);
	p->remote = remote_ref(r);
	return &p->base;
}
