#pragma once

/*
 * A table of the index whose every change is also a record in a pack, from which the table can
 * be made again. Payload of such a record: le64 sequence | u8 1 put or 2 removal | u8 length of
 * the key | key | value (nothing for a removal). Each table counts its own changes; for each
 * key the highest sequence counts.
 */

#include "services/local/local_internal.h"

struct logged_table {
	enum index_table table;
	enum record_kind record;
	const char *sequence; /* of the last change: a key of INDEX_META */
	/* ERROR_CORRUPT unless the table may hold this: for what comes from a disk. */
	int (*check)(struct bytes key, struct bytes value, struct error *err);
};

extern const struct logged_table logged_roots, logged_path_infos;

/* The table whose changes are records of this kind; NULL for records of objects. */
const struct logged_table *logged_table_of(enum record_kind kind);

/* The payload of a record; borrowed. */
struct table_change {
	uint64_t sequence;
	bool removal;
	struct bytes key;
	struct bytes value;
};

/* ERROR_CORRUPT unless it is a change that this table may have. */
int table_change_decode(const struct logged_table *table, struct bytes payload,
			struct table_change *out, struct error *err);

/* Notes the sequence of the table's last change. */
int logged_table_set_sequence(const struct logged_table *table, struct index_write *w,
			      uint64_t sequence, struct error *err);

/* Changes that become durable and visible together. Belongs to one thread. */
struct logged_write {
	const struct logged_table *table;
	struct local_store *store;
	struct index_write *index;
	struct buffer records;  /* not yet in a pack */
	struct buffer appended; /* struct appended of those that are */
	uint64_t sequence;      /* of the last change */
	bool changed;
	bool settles; /* to be committed even if nothing changes */
};

/* First syncs all that was put into the store before. Others cannot write until it ends. */
int logged_write_begin(struct logged_write *w, const struct logged_table *table,
		       struct local_store *s, bool read_only, struct error *err);
/* Changes nothing where the key has this very value. */
int logged_write_put(struct logged_write *w, struct bytes key, struct bytes value,
		     struct error *err);
/* Asker: 0 when there is no such key. */
int logged_write_remove(struct logged_write *w, struct bytes key, struct error *err);
/* Asker: logs once more what the index says of a key: its value or, if removal, that there is
 * none.
 */
int logged_write_again(struct logged_write *w, struct bytes key, bool removal,
		       struct error *err);
/* Ends the write: gives it up when rc is negative. Returns rc, or why it could not commit. */
int logged_write_end(struct logged_write *w, int rc, struct error *err);

/*
 * Asker, of a change that is to leave its pack: is it needed to make the table again? So is the
 * last put of each key, and of a key that is not there any more any removal, because an older
 * put may be in another pack. What cannot be decoded is needed: nobody knows what it was.
 */
int logged_change_needed(struct index *ix, const struct logged_table *table,
			 struct bytes payload, struct error *err);
