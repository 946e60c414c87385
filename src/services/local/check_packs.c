/* The check of packs as a whole, and of what the index holds beside objects and names. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/batch.h"
#include "services/local/check.h"

struct pack_list {
	struct check *check;
	struct checked_pack *packs;
	size_t count;
};

static bool visit_pack(void *context, struct bytes key, struct bytes value)
{
	struct pack_list *l = context;
	uint64_t number = key.len == 8 ? get_be64(key.ptr) : 0;

	if (value.len != 8 || number < 1 || number > UINT32_MAX ||
	    get_le64(value.ptr) > PACK_SIZE_MAX) {
		check_add_index(l->check, "its table of packs has an impossible entry");
		return true;
	}
	const struct checked_pack *known = check_find_pack(l->check, number);

	if ((l->count & (l->count - 1)) == 0) {
		l->packs = xrealloc(l->packs, MAX(2 * l->count, (size_t)1) * sizeof(*l->packs));
	}
	l->packs[l->count++] =
		(struct checked_pack){.number = number,
				      .end = get_le64(value.ptr),
				      .scanned = known ? known->scanned : PACK_HEADER_SIZE};
	return true;
}

int check_load_packs(struct check *c, struct error *err)
{
	struct pack_list l = {.check = c};
	int rc = index_scan(c->store->index, INDEX_PACKS, bytes_of(NULL, 0), visit_pack, &l,
			    err);

	free(c->packs);
	c->packs = l.packs;
	c->pack_count = l.count;
	return rc;
}

static int compare_packs(const void *a, const void *b)
{
	uint64_t x = ((const struct checked_pack *)a)->number,
		 y = ((const struct checked_pack *)b)->number;

	return (x > y) - (x < y);
}

struct checked_pack *check_find_pack(const struct check *c, uint64_t number)
{
	const struct checked_pack key = {.number = number};

	return c->pack_count
		       ? bsearch(&key, c->packs, c->pack_count, sizeof(key), compare_packs)
		       : NULL;
}

/* What is wrong with a pack; 0 and no text: nothing. */
static int look_at_pack(struct check *c, const struct checked_pack *pack, const char *name,
			char *text, size_t size, struct error *err)
{
	uint8_t header[PACK_HEADER_SIZE];
	struct stat st;
	int fd cleanup(cleanup_close) = openat_quietly(c->store->dirfd, name, 0);

	if (fd < 0 && errno == ENOENT) {
		snprintf(text, size, "the pack is missing");
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) != 0) {
		return error_set_errno(err, errno, "cannot open %s/%s", c->store->path, name);
	}
	if (pread_full(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    !pack_header_valid(header, pack->number, c->store->id)) {
		snprintf(text, size,
			 "it does not begin as a pack of this store with its number");
	} else if ((uint64_t)st.st_size < pack->end) {
		snprintf(text, size, "it has %lld bytes, of %llu that were committed",
			 (long long)st.st_size, (unsigned long long)pack->end);
	}
	return 0;
}

/* Asker: has the index still got the pack? A collection of garbage may have dropped it. */
static int still_known(struct check *c, uint64_t number, struct error *err)
{
	uint8_t key[8], value[8];

	put_be64(key, number);
	return index_get(c->store->index, INDEX_PACKS, bytes_of(key, 8), value, 8, err);
}

static int check_pack(struct check *c, const struct checked_pack *pack, struct error *err)
{
	char name[LOCAL_NAME_SIZE], text[200] = "";

	local_pack_name(name, pack->number);
	int rc = look_at_pack(c, pack, name, text, sizeof(text), err);

	if (rc == 0 && text[0]) {
		rc = still_known(c, pack->number, err);
		if (rc > 0) {
			check_add(c, &(struct store_fault){.kind = STORE_FAULT_PACK,
							   .file = name,
							   .text = text});
		}
	}
	return MIN(rc, 0);
}

int check_packs(struct check *c, struct error *err)
{
	int rc = check_load_packs(c, err);

	for (size_t i = 0; rc == 0 && i < c->pack_count; i++) {
		rc = check_pack(c, &c->packs[i], err);
	}
	return rc;
}

/* ---- small tables ---- */

/* A large-sizes entry; a writer may have taken it away since. */
static int check_size_entry(struct check *c, struct bytes key, struct error *err)
{
	uint8_t location[LOCATION_SIZE];
	struct digest digest;
	struct location l;

	if (key.len != 8 + DIGEST_SIZE) {
		check_add_index(c, "its table of large blobs has an impossible entry");
		return 0;
	}
	memcpy(digest.bytes, key.ptr + 8, DIGEST_SIZE);
	int rc = index_get(c->store->index, INDEX_BLOBS, digest_bytes(&digest), location,
			   sizeof(location), err);

	if (rc > 0 && location_decode(location, &l, NULL) == 0 && l.kind == LOCATION_FILE &&
	    l.size == get_be64(key.ptr)) {
		return 0;
	}
	if (rc >= 0) {
		rc = index_get(c->store->index, INDEX_LARGE_SIZES, key, location, 0, err);
	}
	if (rc > 0) {
		check_add_index(c, "its table of large blobs has %s, which is no such blob",
				digest_text(&digest));
	}
	return MIN(rc, 0);
}

struct table_walk {
	struct check *check;
	int rc;
	struct error *err;
};

static bool visit_size(void *context, struct bytes key, struct bytes value unused)
{
	struct table_walk *w = context;

	w->rc = check_size_entry(w->check, key, w->err);
	return w->rc == 0;
}

static bool visit_seen(void *context, struct bytes key, struct bytes value)
{
	struct table_walk *w = context;

	if (key.len != SEEN_KEY_SIZE || value.len != SEEN_VALUE_SIZE) {
		check_add_index(w->check, "its table of seen files has an impossible entry");
		return false;
	}
	return true;
}

static bool visit_meta(void *context, struct bytes key unused, struct bytes value)
{
	struct table_walk *w = context;

	if (value.len != 8) {
		check_add_index(w->check, "its table of numbers has an impossible entry");
	}
	return true;
}

int check_small_tables(struct check *c, struct error *err)
{
	static const struct {
		enum index_table table;
		index_visit visit;
	} tables[] = {{INDEX_LARGE_SIZES, visit_size},
		      {INDEX_SEEN, visit_seen},
		      {INDEX_META, visit_meta}};
	struct table_walk w = {.check = c, .err = err};

	for (size_t i = 0; w.rc == 0 && i < ARRAY_SIZE(tables); i++) {
		int rc = index_scan(c->store->index, tables[i].table, bytes_of(NULL, 0),
				    tables[i].visit, &w, err);

		w.rc = w.rc ? w.rc : rc;
	}
	return w.rc;
}
