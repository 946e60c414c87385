/*
 * Path infos in a store's table of records: the message under the 20 bytes of the path's hash,
 * last byte first, which is the order of basenames.
 */

#include "nix/nixbase32.h"
#include "nix/path_info_service.h"

// NOLINTNEXTLINE(misc-redundant-expression): two limits that happen to be equal today
_Static_assert(PATH_INFO_MESSAGE_MAX <= RECORD_VALUE_MAX, "a record must have room");

struct path_info_store {
	struct path_info_service base;
	struct record_table *table; /* a reference */
};

static struct path_info_store *store_of(struct path_info_service *s)
{
	return container_of(s, struct path_info_store, base);
}

static void store_destroy(struct path_info_service *s)
{
	struct path_info_store *p = store_of(s);

	record_table_unref(p->table);
	free(p);
}

/* From a hash to a key and back. */
static void reverse(uint8_t out[STORE_PATH_HASH_SIZE], const uint8_t in[STORE_PATH_HASH_SIZE])
{
	for (size_t i = 0; i < STORE_PATH_HASH_SIZE; i++) {
		out[i] = in[STORE_PATH_HASH_SIZE - 1 - i];
	}
}

/* What the store holds is damaged when it does not decode, whatever the decoder calls it. */
static int decode(const uint8_t hash[STORE_PATH_HASH_SIZE], struct bytes message,
		  struct path_info *out, struct error *err)
{
	char text[STORE_PATH_HASH_TEXT + 1];
	struct error why;

	if (path_info_decode(message, out, &why) == 0) {
		return 0;
	}
	nixbase32_encode(text, bytes_of(hash, STORE_PATH_HASH_SIZE));
	return error_set(err, ERROR_CORRUPT, "the path info of %s is damaged: %s", text,
			 why.text);
}

static int store_get(struct path_info_service *s, const uint8_t hash[STORE_PATH_HASH_SIZE],
		     struct path_info *out, struct error *err)
{
	struct buffer message cleanup(buffer_done) = {0};
	uint8_t key[STORE_PATH_HASH_SIZE];

	reverse(key, hash);
	int rc =
		record_table_get(store_of(s)->table, bytes_of(key, sizeof(key)), &message, err);

	if (rc <= 0) {
		return rc;
	}
	rc = decode(hash, buffer_bytes(&message), out, err);
	return rc < 0 ? rc : 1;
}

static int store_put(struct path_info_service *s, const struct path_info *infos, size_t count,
		     struct path_info *out, struct error *err)
{
	struct record_entry *entries cleanup(cleanup_free) = xcalloc(count, sizeof(*entries));
	uint8_t(*keys)[STORE_PATH_HASH_SIZE] cleanup(cleanup_free) =
		xcalloc(count, sizeof(*keys));
	size_t *ends cleanup(cleanup_free) = xcalloc(count, sizeof(*ends));
	struct buffer messages cleanup(buffer_done) = {0};

	for (size_t i = 0; i < count; i++) {
		path_info_encode(&messages, &infos[i]);
		ends[i] = messages.len;
	}
	for (size_t i = 0; i < count; i++) {
		size_t start = i ? ends[i - 1] : 0;

		reverse(keys[i], infos[i].path.hash);
		entries[i] = (struct record_entry){
			.key = bytes_of(keys[i], STORE_PATH_HASH_SIZE),
			.value = bytes_of(messages.ptr + start, ends[i] - start),
			.tree = &infos[i].node.node,
		};
	}
	int rc = record_table_put(store_of(s)->table, entries, count, err);

	if (rc == 0 && out) {
		path_info_copy(out, &infos[0]);
	}
	return rc;
}

struct listing {
	path_info_visit visit;
	void *context;
	struct path_info info;
	struct error *err;
	int rc;
};

static bool visit_record(void *context, struct bytes key, struct bytes value)
{
	struct listing *l = context;
	uint8_t hash[STORE_PATH_HASH_SIZE];

	if (key.len != STORE_PATH_HASH_SIZE) {
		l->rc = error_set(l->err, ERROR_CORRUPT, "a path info has a key of %zu bytes",
				  key.len);
		return false;
	}
	reverse(hash, key.ptr);
	l->rc = decode(hash, value, &l->info, l->err);
	if (l->rc == 0 && memcmp(l->info.path.hash, hash, sizeof(hash)) != 0) {
		l->rc = error_set(l->err, ERROR_CORRUPT,
				  "the path info of %s is in a wrong place",
				  store_path_text(&l->info.path));
	}
	return l->rc == 0 && l->visit(l->context, &l->info);
}

static int store_list(struct path_info_service *s, const uint8_t *after, path_info_visit visit,
		      void *context, struct error *err)
{
	struct listing l = {.visit = visit, .context = context, .err = err};
	uint8_t key[STORE_PATH_HASH_SIZE];

	if (after) {
		reverse(key, after);
	}
	int rc = record_table_list(store_of(s)->table, bytes_of(key, after ? sizeof(key) : 0),
				   visit_record, &l, err);

	path_info_done(&l.info);
	return rc < 0 ? rc : l.rc;
}

static int store_remove(struct path_info_service *s, const struct store_path *paths,
			size_t count, size_t *removed, struct error *err)
{
	uint8_t(*keys)[STORE_PATH_HASH_SIZE] cleanup(cleanup_free) =
		xcalloc(count + 1, sizeof(*keys));
	struct bytes *list cleanup(cleanup_free) = xcalloc(count + 1, sizeof(*list));

	for (size_t i = 0; i < count; i++) {
		reverse(keys[i], paths[i].hash);
		list[i] = bytes_of(keys[i], STORE_PATH_HASH_SIZE);
	}
	return record_table_remove_many(store_of(s)->table, list, count, removed, err);
}

static const struct path_info_service_ops store_ops = {
	.name = "store",
	.destroy = store_destroy,
	.get = store_get,
	.put = store_put,
	.list = store_list,
	.remove = store_remove,
};

struct path_info_service *path_info_store_new(struct store *store)
{
	struct path_info_store *p = xcalloc(1, sizeof(*p));

	path_info_service_init(&p->base, &store_ops);
	p->table = record_table_ref(store->path_infos);
	p->base.is_local = record_table_is_local(p->table);
	return &p->base;
}
