#include "services/local/logged_table.h"

#include "base/endian.h"
#include "services/local/pack_claim.h"

#define CHANGE_PUT 1
#define CHANGE_REMOVAL 2
#define CHANGE_HEAD_SIZE 10
/* So much of a write is held in memory before it goes into a pack. */
#define RECORDS_HELD ((size_t)4 << 20)

const struct logged_table *logged_table_of(enum record_kind kind)
{
	switch (kind) {
	case RECORD_ROOT:
		return &logged_roots;
	case RECORD_PATH_INFO:
		return &logged_path_infos;
	case RECORD_BLOB:
	case RECORD_DIRECTORY:
	case RECORD_OUTBOARD:
		break;
	}
	return NULL;
}

static void change_encode(struct buffer *out, const struct table_change *c)
{
	uint8_t head[CHANGE_HEAD_SIZE];

	put_le64(head, c->sequence);
	head[8] = c->removal ? CHANGE_REMOVAL : CHANGE_PUT;
	head[9] = (uint8_t)c->key.len;
	buffer_append(out, head, sizeof(head));
	buffer_append(out, c->key.ptr, c->key.len);
	buffer_append(out, c->value.ptr, c->value.len);
}

int table_change_decode(const struct logged_table *table, struct bytes payload,
			struct table_change *out, struct error *err)
{
	if (payload.len < CHANGE_HEAD_SIZE || payload.len - CHANGE_HEAD_SIZE < payload.ptr[9] ||
	    payload.ptr[9] == 0 ||
	    (payload.ptr[8] != CHANGE_PUT && payload.ptr[8] != CHANGE_REMOVAL)) {
		return error_set(err, ERROR_CORRUPT, "a record of a change is damaged");
	}
	size_t key_len = payload.ptr[9];

	*out = (struct table_change){
		.sequence = get_le64(payload.ptr),
		.removal = payload.ptr[8] == CHANGE_REMOVAL,
		.key = bytes_of(payload.ptr + CHANGE_HEAD_SIZE, key_len),
		.value = bytes_of(payload.ptr + CHANGE_HEAD_SIZE + key_len,
				  payload.len - CHANGE_HEAD_SIZE - key_len),
	};
	return out->removal ? 0 : table->check(out->key, out->value, err);
}

int logged_table_set_sequence(const struct logged_table *table, struct index_write *w,
			      uint64_t sequence, struct error *err)
{
	uint8_t value[8];

	put_le64(value, sequence);
	return index_write_put(w, INDEX_META, bytes_of_string(table->sequence),
			       bytes_of(value, sizeof(value)), true, err);
}

static int get_sequence(struct logged_write *w, struct error *err)
{
	struct bytes value;
	int rc = index_write_get(w->index, INDEX_META, bytes_of_string(w->table->sequence),
				 &value, err);

	if (rc > 0 && value.len != 8) {
		return error_set(err, ERROR_CORRUPT, "the index of the store is damaged (%s)",
				 w->table->sequence);
	}
	w->sequence = rc > 0 ? get_le64(value.ptr) : 0;
	return MIN(rc, 0);
}

int logged_write_begin(struct logged_write *w, const struct logged_table *table,
		       struct local_store *s, bool read_only, struct error *err)
{
	*w = (struct logged_write){.table = table, .store = s};
	int rc = local_check_writable(s, read_only, err);

	/* What a name or a path info stands for is durable before it is. */
	if (rc == 0) {
		rc = committer_sync(&s->committer, err);
	}
	if (rc == 0) {
		rc = durable_write_begin(s, true, &w->index, err);
	}
	if (rc < 0) {
		return rc;
	}
	w->settles = rc > 0;
	rc = pack_cut_abandoned(s, err);
	if (rc == 0) {
		rc = get_sequence(w, err);
	}
	if (rc) {
		index_write_abort(w->index);
	}
	return rc;
}

static int flush_records(struct logged_write *w, struct error *err)
{
	int rc = 0;

	if (w->records.len) {
		struct appended a;

		rc = committer_append_now(&w->store->committer, w->index,
					  buffer_bytes(&w->records), &a, err);
		buffer_append(&w->appended, &a, sizeof(a));
		w->records.len = 0;
	}
	return rc;
}

static void take_back(struct logged_write *w)
{
	struct appended a;

	for (size_t at = 0; at < w->appended.len; at += sizeof(a)) {
		memcpy(&a, w->appended.ptr + at, sizeof(a));
		committer_take_back(&w->store->committer, &a);
	}
}

static int log_change(struct logged_write *w, struct table_change *c, struct error *err)
{
	struct buffer payload cleanup(buffer_done) = {0};

	w->changed = true;
	c->sequence = ++w->sequence;
	change_encode(&payload, c);
	record_append_raw(&w->records, w->table->record, buffer_bytes(&payload));
	return w->records.len < RECORDS_HELD ? 0 : flush_records(w, err);
}

int logged_write_put(struct logged_write *w, struct bytes key, struct bytes value,
		     struct error *err)
{
	struct table_change change = {.key = key, .value = value};
	struct bytes old;
	int rc = index_write_get(w->index, w->table->table, key, &old, err);

	if (rc < 0 || (rc > 0 && bytes_equal(old, value))) {
		return MIN(rc, 0);
	}
	rc = log_change(w, &change, err);
	return rc ? rc : index_write_put(w->index, w->table->table, key, value, true, err);
}

int logged_write_remove(struct logged_write *w, struct bytes key, struct error *err)
{
	struct table_change change = {.removal = true, .key = key};
	int rc = index_write_delete(w->index, w->table->table, key, err);

	if (rc <= 0) {
		return rc;
	}
	rc = log_change(w, &change, err);
	return rc ? rc : 1;
}

int logged_write_again(struct logged_write *w, struct bytes key, bool removal,
		       struct error *err)
{
	struct table_change change = {.key = key};
	int rc = index_write_get(w->index, w->table->table, key, &change.value, err);

	if (rc < 0 || (rc == 0 && !removal)) {
		return rc;
	}
	change.removal = rc == 0;
	rc = log_change(w, &change, err);
	return rc ? rc : 1;
}

int logged_write_end(struct logged_write *w, int rc, struct error *err)
{
	int failed = MIN(rc, 0);

	if (!failed && w->changed) {
		failed = logged_table_set_sequence(w->table, w->index, w->sequence, err);
	}
	if (!failed) {
		failed = flush_records(w, err);
	}
	buffer_done(&w->records);
	if (!failed && (w->changed || w->settles)) {
		failed = index_write_commit(w->index, err);
	} else {
		index_write_abort(w->index);
		/* What stays under a name may have been put anew. */
		failed = failed ? failed : index_settle(w->store->index, err);
	}
	if (failed) {
		take_back(w);
	}
	buffer_done(&w->appended);
	return failed ? failed : rc;
}

int logged_change_needed(struct index *ix, const struct logged_table *table,
			 struct bytes payload, struct error *err)
{
	struct buffer now cleanup(buffer_done) = {0};
	struct table_change change;

	if (table_change_decode(table, payload, &change, NULL) != 0) {
		return 1;
	}
	int rc = index_get_append(ix, table->table, change.key, &now, err);

	if (rc < 0) {
		return rc;
	}
	return change.removal ? rc == 0
			      : rc > 0 && bytes_equal(buffer_bytes(&now), change.value);
}
