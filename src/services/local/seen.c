/*
 * The cache of files seen before, a table of the index: be64 device | be64 inode -> le64 size |
 * le64 mtime | le64 ctime (nanoseconds) | digest. Not kept in packs: it can be lost.
 */

#include "base/endian.h"
#include "services/local/batch.h"
#include "services/local/local_internal.h"

static struct local_store *store_of(struct seen_cache *c)
{
	return container_of(c, struct local_store, seen);
}

static void encode_key(uint8_t out[SEEN_KEY_SIZE], const struct seen_key *key)
{
	put_be64(out, key->device);
	put_be64(out + 8, key->inode);
}

static void decode_value(struct seen_value *out, const uint8_t in[SEEN_VALUE_SIZE])
{
	out->size = get_le64(in);
	out->mtime_ns = (int64_t)get_le64(in + 8);
	out->ctime_ns = (int64_t)get_le64(in + 16);
	memcpy(out->digest.bytes, in + 24, DIGEST_SIZE);
}

/*
 * A blob may be gone, damaged or as garbage: then it has to be read again. Whoever takes blobs
 * away forgets later where they were seen, and may be killed in between.
 */
static int leave_out_absent(struct local_store *s, const struct seen_value *values,
			    size_t count, bool *found, struct error *err)
{
	struct digest digests[SEEN_KEYS_MAX];
	bool there[SEEN_KEYS_MAX];
	size_t asked = 0;

	for (size_t i = 0; i < count; i++) {
		if (found[i]) {
			digests[asked++] = values[i].digest;
		}
	}
	int rc = asked ? presence_find(&s->presence, s->index, digests, asked, there, err) : 0;

	for (size_t i = 0, k = 0; rc == 0 && i < count; i++) {
		/* The empty blob is in no index. */
		found[i] = found[i] &&
			   (there[k++] || digest_equal(&values[i].digest, &digest_empty));
	}
	return rc;
}

static int seen_lookup(struct seen_cache *c, const struct seen_key *keys, size_t count,
		       struct seen_value *out, bool *found, struct error *err)
{
	uint8_t encoded[SEEN_KEYS_MAX][SEEN_KEY_SIZE] = {{0}};
	uint8_t values[SEEN_KEYS_MAX][SEEN_VALUE_SIZE];

	if (count == 0) {
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		encode_key(encoded[i], &keys[i]);
	}
	int rc = index_get_many(store_of(c)->index, INDEX_SEEN, encoded[0], SEEN_KEY_SIZE,
				count, values[0], SEEN_VALUE_SIZE, found, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (found[i]) {
			decode_value(&out[i], values[i]);
		}
	}
	return rc ? rc : leave_out_absent(store_of(c), out, count, found, err);
}

static int seen_remember(struct seen_cache *c, const struct seen_key *key,
			 const struct seen_value *value, struct error *err)
{
	uint8_t k[SEEN_KEY_SIZE], v[SEEN_VALUE_SIZE];

	encode_key(k, key);
	put_le64(v, value->size);
	put_le64(v + 8, (uint64_t)value->mtime_ns);
	put_le64(v + 16, (uint64_t)value->ctime_ns);
	memcpy(v + 24, value->digest.bytes, DIGEST_SIZE);
	return committer_add_seen(&store_of(c)->committer, bytes_of(k, sizeof(k)),
				  bytes_of(v, sizeof(v)), err);
}

const struct seen_cache_ops local_seen_ops = {
	.lookup = seen_lookup,
	.remember = seen_remember,
};
