/* Objects that turned out to be damaged leave the index, so that they can be put again. */

#include "base/endian.h"
#include "services/local/local_internal.h"

/* Asker: 0 when the index has no such object. */
static int delete_object(struct index_write *w, enum index_table table,
			 const struct digest *digest, struct error *err)
{
	struct bytes value;
	struct location l;
	int rc = index_write_get(w, table, digest_bytes(digest), &value, err);

	/* What cannot be decoded is gone as well, only that no size is known then. */
	if (rc > 0 && value.len == LOCATION_SIZE && location_decode(value.ptr, &l, NULL) == 0 &&
	    l.kind == LOCATION_FILE) {
		uint8_t key[8 + DIGEST_SIZE];

		put_be64(key, l.size);
		memcpy(key + 8, digest->bytes, DIGEST_SIZE);
		rc = index_write_delete(w, INDEX_LARGE_SIZES, bytes_of(key, sizeof(key)), err);
		rc = rc < 0 ? rc : 1;
	}
	return rc > 0 ? index_write_delete(w, table, digest_bytes(digest), err) : rc;
}

int local_object_discard(struct local_view *v, enum index_table table,
			 const struct digest *digest, struct error *err)
{
	struct index_write *w;

	if (v->below) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "a staged store cannot forget an object");
	}
	int rc = local_view_sync(v, err);

	if (rc) {
		return rc;
	}
	rc = durable_write_begin(v->store, false, &w, err);
	if (rc < 0) {
		return rc;
	}
	rc = delete_object(w, table, digest, err);
	if (rc <= 0) {
		index_write_abort(w);
		return rc;
	}
	rc = index_write_commit(w, err);
	/* The next put gives another file the name. */
	file_cache_forget(v->files, digest);
	return rc;
}
