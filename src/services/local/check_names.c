/*
 * The check of names: roots and path infos, and whether the changes that the packs hold give
 * what the index says. From these changes the index is made again, so that one that is lost
 * would take a name along, or bring one back.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/check.h"
#include "services/local/logged_table.h"
#include "services/local/pack_scan.h"

/* Who changes names all the time is not waited for longer. */
#define TRIES_MAX 8

/* The last change of a name that the packs hold. */
struct last_change {
	struct buffer key;
	uint64_t sequence;
	bool removal, matched;
	struct digest value;
	char *name;
};

struct log {
	struct check *check;
	const struct logged_table *table;
	struct digest_map map; /* digest of the key -> number of the change */
	struct last_change *changes;
	size_t count, capacity;
	struct buffer payload;
	uint64_t newest; /* sequence */
	bool incomplete; /* a pack could not be read */
};

void checked_names_done(struct checked_names *n)
{
	for (size_t i = 0; i < n->count; i++) {
		free((void *)(uintptr_t)n->items[i].key.ptr);
		free(n->items[i].name);
		root_node_done(&n->items[i].node);
	}
	free(n->items);
	*n = (struct checked_names){0};
}

/* ---- the names of the index ---- */

struct name_list {
	struct check *check;
	struct checked_names *names;
	struct digest_map *values; /* digest of the key -> number in digests */
	struct buffer digests;     /* of the values */
	enum index_table table;
	bool again; /* faults were told of before */
};

static void read_value(struct check *c, struct checked_name *n, struct bytes value,
		       struct error *why)
{
	struct buffer name cleanup(buffer_done) = {0};
	struct bytes none;
	struct node node;
	int rc;

	why->code = ERROR_NONE;
	if (n->table == INDEX_ROOTS) {
		rc = node_name_valid(n->key)
			     ? node_decode(value, &none, &node, why)
			     : error_set(why, ERROR_CORRUPT, "an impossible name");
		if (rc == 0) {
			root_node_set(&n->node, &node);
		}
	} else if (c->options->read_path_info) {
		rc = c->options->read_path_info(n->key, value, &name, &n->node, why);
	} else {
		return;
	}
	n->understood = rc == 0;
	if (rc == 0 && name.len) {
		free(n->name);
		buffer_append_byte(&name, 0);
		n->name = xstrdup((const char *)name.ptr);
	}
}

static char *hex_of(struct bytes key)
{
	char *out = xmalloc(2 * key.len + 1);

	for (size_t i = 0; i < key.len; i++) {
		snprintf(out + 2 * i, 3, "%02x", key.ptr[i]);
	}
	out[2 * key.len] = 0;
	return out;
}

static struct checked_name *new_name(struct checked_names *names, enum index_table table,
				     struct bytes key)
{
	uint8_t *copy = xmalloc(MAX(key.len, (size_t)1));

	if (names->count == names->capacity) {
		names->capacity = names->capacity ? 2 * names->capacity : 64;
		names->items = xrealloc(names->items, names->capacity * sizeof(*names->items));
	}
	memcpy(copy, key.ptr, key.len);
	struct checked_name *n = &names->items[names->count++];

	*n = (struct checked_name){.table = table, .key = bytes_of(copy, key.len)};
	n->name = table == INDEX_ROOTS ? xstrdup(bytes_printable(key)) : hex_of(key);
	return n;
}

static bool visit_name(void *context, struct bytes key, struct bytes value)
{
	struct name_list *l = context;
	struct checked_name *n = new_name(l->names, l->table, key);
	struct digest key_digest, value_digest;
	struct error why;

	digest_of(&key_digest, key);
	digest_of(&value_digest, value);
	digest_map_put(l->values, &key_digest, l->digests.len / DIGEST_SIZE);
	buffer_append(&l->digests, value_digest.bytes, DIGEST_SIZE);
	read_value(l->check, n, value, &why);
	if (why.code != ERROR_NONE && !l->again) {
		char text[1200];

		snprintf(text, sizeof(text),
			 "\"%s\" stands for nothing that can be understood: %s", n->name,
			 why.text);
		check_add(l->check,
			  &(struct store_fault){.kind = STORE_FAULT_NAME, .text = text});
	}
	return true;
}

static void visit_damaged(void *context, struct bytes key, const struct error *why)
{
	struct name_list *l = context;

	new_name(l->names, l->table, key);
	if (!l->again) {
		check_add_index(l->check, "%s", why->text);
	}
}

/* ---- the changes in the packs ---- */

static void keep_change(struct log *log, const struct table_change *change)
{
	struct digest key;

	digest_of(&key, change->key);
	const uint64_t *known = digest_map_get(&log->map, &key);

	log->newest = MAX(log->newest, change->sequence);
	if (known && log->changes[*known].sequence > change->sequence) {
		return;
	}
	if (!known) {
		if (log->count == log->capacity) {
			log->capacity = log->capacity ? 2 * log->capacity : 64;
			log->changes =
				xrealloc(log->changes, log->capacity * sizeof(*log->changes));
		}
		digest_map_put(&log->map, &key, log->count);
		log->changes[log->count++] = (struct last_change){
			.name = log->table->table == INDEX_ROOTS
					? xstrdup(bytes_printable(change->key))
					: hex_of(change->key)};
		buffer_append(&log->changes[log->count - 1].key, change->key.ptr,
			      change->key.len);
		known = digest_map_get(&log->map, &key);
	}
	struct last_change *last = &log->changes[*known];

	last->sequence = change->sequence;
	last->removal = change->removal;
	digest_of(&last->value, change->value);
}

static void scan_changes(struct log *log, int fd, struct checked_pack *pack)
{
	struct table_change change;
	struct pack_scan scan;
	struct record rec;
	struct digest actual;
	uint64_t offset;

	pack_scan_init(&scan, fd, pack->scanned, pack->end);
	while (pack_scan_next(&scan, &rec, &offset) && check_canceled(log->check, NULL) == 0) {
		if (rec.kind != log->table->record) {
			continue;
		}
		bool whole = pack_scan_payload(&scan, &rec, offset, &log->payload);

		if (whole) {
			digest_of(&actual, buffer_bytes(&log->payload));
		}
		if (!whole || !digest_equal(&actual, &rec.digest) ||
		    table_change_decode(log->table, buffer_bytes(&log->payload), &change,
					NULL) != 0) {
			pack_scan_reject(&scan, offset);
			continue;
		}
		keep_change(log, &change);
	}
	pack_scan_done(&scan);
	pack->scanned = MAX(pack->end, pack->scanned);
}

/*
 * What came since the last look. A pack that cannot be read has a fault of its own, or went
 * because its records were moved.
 */
static int read_changes(struct log *log, struct error *err)
{
	struct check *c = log->check;
	int rc = check_load_packs(c, err);

	log->incomplete = false;
	for (size_t i = 0; rc == 0 && i < c->pack_count; i++) {
		struct checked_pack *pack = &c->packs[i];
		struct cached_file *file;

		if (pack->scanned >= pack->end) {
			continue;
		}
		if (local_pack_open(c->store, pack->number, &file, NULL) == 0) {
			scan_changes(log, file->fd, pack);
			file_cache_release(&c->store->packs, file);
		} else {
			log->incomplete = true;
		}
		rc = check_canceled(c, err);
	}
	return rc;
}

/* ---- the comparison ---- */

/* Names on which index and log disagree: digests of keys, and a message for each. */
struct differences {
	struct digest_map map;
	struct store_fault *faults;
	size_t count;
};

static void differences_done(struct differences *d)
{
	for (size_t i = 0; i < d->count; i++) {
		free(d->faults[i].text);
		free(d->faults[i].key);
	}
	free(d->faults);
	digest_map_done(&d->map);
	*d = (struct differences){0};
}

/* before: what differed in the look before, or NULL: only what differs still counts. */
static void add_difference(struct differences *d, const struct differences *before,
			   const struct log *log, struct bytes key, char *text)
{
	struct digest digest;

	digest_of(&digest, key);
	if (before && !digest_map_get(&before->map, &digest)) {
		free(text);
		return;
	}
	if ((d->count & (d->count - 1)) == 0) {
		d->faults =
			xrealloc(d->faults, MAX(2 * d->count, (size_t)1) * sizeof(*d->faults));
	}
	digest_map_put(&d->map, &digest, d->count);
	struct store_fault *f = &d->faults[d->count++];

	*f = (struct store_fault){.kind = STORE_FAULT_LOG,
				  .text = text,
				  .key = xmalloc(key.len),
				  .key_len = key.len,
				  .is_root = log->table->table == INDEX_ROOTS};
	memcpy(f->key, key.ptr, key.len);
}

static void compare_name(const struct log *log, const struct name_list *l, size_t i,
			 const struct differences *before, struct differences *out)
{
	const struct checked_name *n = &l->names->items[i];
	struct digest key;

	digest_of(&key, n->key);
	const uint64_t *number = digest_map_get(&log->map, &key);
	const uint64_t *value = digest_map_get(l->values, &key);
	struct last_change *change = number ? &log->changes[*number] : NULL;

	if (change) {
		change->matched = true;
	}
	/* A value that does not check was told of already. */
	if (!value || (change && !change->removal &&
		       memcmp(change->value.bytes, l->digests.ptr + *value * DIGEST_SIZE,
			      DIGEST_SIZE) == 0)) {
		return;
	}
	add_difference(out, before, log, n->key,
		       xasprintf("no whole change in the packs gives \"%s\" what the index "
				 "says; a new index would not have it so",
				 n->name));
}

static void compare(struct log *log, const struct name_list *l, size_t first,
		    const struct differences *before, struct differences *out)
{
	for (size_t i = 0; i < log->count; i++) {
		log->changes[i].matched = false;
	}
	for (size_t i = first; i < l->names->count; i++) {
		compare_name(log, l, i, before, out);
	}
	for (size_t i = 0; i < log->map.capacity; i++) {
		const struct digest_map_slot *slot = &log->map.slots[i];
		const struct last_change *change =
			slot->used ? &log->changes[slot->value] : NULL;

		if (change && !change->matched && !change->removal) {
			add_difference(out, before, log, buffer_bytes(&change->key),
				       xasprintf("the packs have \"%s\", which the index lacks",
						 change->name));
		}
	}
}

/* Asker: the sequence of the last change that the index has. */
static int index_sequence(const struct log *log, uint64_t *out, struct error *err)
{
	uint8_t value[8] = {0};
	int rc = index_get(log->check->store->index, INDEX_META,
			   bytes_of_string(log->table->sequence), value, sizeof(value), err);

	*out = get_le64(value);
	return rc;
}

/* One look at both; names from number `first` on are this table's, and are read anew. */
static int look(struct log *log, struct name_list *l, size_t first,
		const struct differences *before, struct differences *out, struct error *err)
{
	while (l->names->count > first) {
		struct checked_names last = {.items = &l->names->items[--l->names->count]};

		free((void *)(uintptr_t)last.items->key.ptr);
		free(last.items->name);
		root_node_done(&last.items->node);
	}
	digest_map_done(l->values);
	l->digests.len = 0;
	int rc = index_scan_damaged(log->check->store->index, l->table, visit_name,
				    visit_damaged, l, err);

	if (rc == 0) {
		rc = read_changes(log, err);
	}
	if (rc == 0) {
		compare(log, l, first, before, out);
	}
	return rc;
}

static int check_sequence(struct log *log, struct error *err)
{
	uint64_t sequence;
	int rc = index_sequence(log, &sequence, err);

	if (rc >= 0 && sequence < log->newest) {
		check_add_index(log->check,
				"%s is %llu, but a change in the packs is number %llu",
				log->table->sequence, (unsigned long long)sequence,
				(unsigned long long)log->newest);
	}
	return MIN(rc, 0);
}

static int check_table(struct log *log, struct checked_names *names, struct error *err)
{
	struct digest_map values = {0};
	struct name_list l = {.check = log->check,
			      .names = names,
			      .values = &values,
			      .table = log->table->table};
	struct differences old = {0}, now = {0};
	uint64_t before = 0, after = 0;
	size_t first = names->count;
	int rc = index_sequence(log, &before, err);

	for (unsigned tries = 0; rc >= 0 && tries < TRIES_MAX; tries++) {
		l.again = tries > 0;
		rc = look(log, &l, first, tries ? &old : NULL, &now, err);
		differences_done(&old);
		old = now;
		now = (struct differences){0};
		if (rc == 0) {
			rc = index_sequence(log, &after, err);
		}
		/* The names may have changed between the two readings, or their changes moved.
		 */
		if (rc < 0 || old.count == 0 || (after == before && !log->incomplete)) {
			break;
		}
		before = after;
	}
	for (size_t i = 0; rc >= 0 && i < old.count; i++) {
		check_add(log->check, &old.faults[i]);
	}
	differences_done(&old);
	digest_map_done(&values);
	buffer_done(&l.digests);
	return rc < 0 ? rc : check_sequence(log, err);
}

static void log_done(struct log *log)
{
	for (size_t i = 0; i < log->count; i++) {
		free(log->changes[i].name);
		buffer_done(&log->changes[i].key);
	}
	free(log->changes);
	digest_map_done(&log->map);
	buffer_done(&log->payload);
}

int check_names(struct check *c, struct checked_names *out, struct error *err)
{
	static const struct logged_table *const tables[] = {&logged_roots, &logged_path_infos};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(tables); i++) {
		struct log log = {.check = c, .table = tables[i]};

		for (size_t p = 0; p < c->pack_count; p++) {
			c->packs[p].scanned = PACK_HEADER_SIZE;
		}
		rc = check_table(&log, out, err);
		log_done(&log);
	}
	c->report->names += out->count;
	return rc;
}
