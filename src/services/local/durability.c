#include "services/local/durability.h"

#include <stdatomic.h>

#include "base/endian.h"
#include "services/local/local_internal.h"

/* In INDEX_META: since when somebody has written without syncing; the value means nothing. */
#define UNSYNCED_KEY "unsynced"

enum durability durability_of(unsigned flags)
{
	return flags & STORE_NEVER_SYNCED   ? DURABILITY_NONE
	       : flags & STORE_SYNCED_LATER ? DURABILITY_BATCH
					    : DURABILITY_FULL;
}

/* Asker: 1 when the note about it was changed. */
static int note_level(struct local_store *s, enum durability level, struct index_write *w,
		      struct error *err)
{
	const struct bytes key = bytes_of_string(UNSYNCED_KEY);
	uint8_t one[8];
	struct bytes value;
	int rc = index_write_get(w, INDEX_META, key, &value, err);

	if (rc < 0 || (rc > 0) == (level == DURABILITY_NONE)) {
		return MIN(rc, 0);
	}
	if (level == DURABILITY_NONE) {
		put_le64(one, 1);
		rc = index_write_put(w, INDEX_META, key, bytes_of(one, sizeof(one)), true, err);
	} else {
		/* Nobody else commits meanwhile, so this is all that the index refers to. */
		rc = local_sync_all(s, err);
		rc = rc ? rc : index_write_delete(w, INDEX_META, key, err);
	}
	return rc < 0 ? rc : 1;
}

int durable_write_begin(struct local_store *s, bool names, struct index_write **out,
			struct error *err)
{
	enum durability level = (enum durability)atomic_load(&s->durability);
	enum index_sync sync = level == DURABILITY_NONE              ? INDEX_SYNC_NEVER
			       : level == DURABILITY_BATCH && !names ? INDEX_SYNC_LATER
								     : INDEX_SYNC_NOW;
	struct index_write *w = NULL;
	int rc = index_write_begin_as(s->index, sync, &w, err);

	if (rc) {
		return rc;
	}
	rc = note_level(s, level, w, err);
	if (rc < 0) {
		index_write_abort(w);
		return rc;
	}
	*out = w;
	return rc;
}

int durability_settle(struct local_store *s, struct error *err)
{
	struct index_write *w = NULL;
	uint8_t value[8];
	int rc = 0;

	if (atomic_load(&s->durability) == DURABILITY_FULL && !s->read_only) {
		rc = index_get(s->index, INDEX_META, bytes_of_string(UNSYNCED_KEY), value,
			       sizeof(value), err);
	}
	if (rc > 0) {
		rc = durable_write_begin(s, true, &w, err);
		rc = rc < 0 ? rc : index_write_commit(w, err);
	}
	return rc;
}
