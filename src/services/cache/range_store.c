#include "services/cache/range_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "base/log.h"
#include "services/lru_map.h"

#define UNIT_KEY_SIZE (DIGEST_SIZE + 8)

/* A blob of which there are units. */
struct partial {
	struct lru_entry entry;
	struct digest digest; /* its key */
	uint64_t size;
	uint64_t units;
};

struct unit {
	struct lru_entry entry;
	struct partial *partial;
	uint8_t key[UNIT_KEY_SIZE];
	struct digest digest;
	uint32_t slot; /* its place in the file, in units */
	uint32_t len;
	unsigned users; /* who reads it just now */
	bool dropped;   /* goes with the last of them */
};

struct range_store {
	int fd;
	uint32_t slot_max;
	pthread_mutex_t lock; /* guards the rest; not held while the file is read or written */
	struct lru_map units;
	struct lru_map partials;
	uint32_t *free_slots;
	uint32_t free_count, free_capacity;
	uint32_t slots_made;
	bool failed; /* the disk refused, and it was said */
};

static int open_file(const char *folder, struct error *err)
{
	int fd = folder ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
			: memfd_create("cairn ranges", MFD_CLOEXEC);

	return fd < 0 ? error_set_errno(err, errno,
					"cannot make a file for ranges of blobs%s%s",
					folder ? " in " : "", folder ? folder : "")
		      : fd;
}

int range_store_new(const char *folder, uint64_t bytes_max, struct range_store **out,
		    struct error *err)
{
	int fd = bytes_max >= RANGE_UNIT ? open_file(folder, err) : -1;

	if (fd < 0 && bytes_max >= RANGE_UNIT) {
		return fd;
	}
	struct range_store *r = xcalloc(1, sizeof(*r));

	r->fd = fd;
	r->slot_max = (uint32_t)MIN(bytes_max / RANGE_UNIT, UINT32_MAX);
	pthread_mutex_init(&r->lock, NULL);
	*out = r;
	return 0;
}

/* ---- Units, with the lock ---- */

static void unit_key(uint8_t key[UNIT_KEY_SIZE], const struct digest *digest, uint64_t number)
{
	memcpy(key, digest->bytes, DIGEST_SIZE);
	put_le64(key + DIGEST_SIZE, number);
}

static struct unit *find_locked(struct range_store *r, const struct digest *digest,
				uint64_t number)
{
	uint8_t key[UNIT_KEY_SIZE];

	unit_key(key, digest, number);
	struct lru_entry *e = lru_map_get(&r->units, bytes_of(key, sizeof(key)));

	return e ? container_of(e, struct unit, entry) : NULL;
}

static void free_slot_locked(struct range_store *r, uint32_t slot)
{
	if (r->free_count == r->free_capacity) {
		r->free_capacity = MAX(r->free_capacity * 2, 64u);
		r->free_slots =
			xrealloc(r->free_slots, r->free_capacity * sizeof(*r->free_slots));
	}
	r->free_slots[r->free_count++] = slot;
}

static void release_locked(struct range_store *r, struct unit *u)
{
	if (--u->users == 0 && u->dropped) {
		free_slot_locked(r, u->slot);
		free(u);
	}
}

/* The unit is found no more; it goes when nobody reads it. */
static void drop_locked(struct range_store *r, struct unit *u)
{
	lru_map_remove(&r->units, &u->entry);
	if (--u->partial->units == 0) {
		lru_map_remove(&r->partials, &u->partial->entry);
		free(u->partial);
	}
	u->dropped = true;
	u->users++;
	release_locked(r, u);
}

void range_store_free(struct range_store *r)
{
	if (!r) {
		return;
	}
	while (r->units.oldest) {
		drop_locked(r, container_of(r->units.oldest, struct unit, entry));
	}
	lru_map_done(&r->units);
	lru_map_done(&r->partials);
	free(r->free_slots);
	cleanup_close(&r->fd);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static struct partial *find_partial_locked(struct range_store *r, const struct digest *digest)
{
	struct lru_entry *e = lru_map_get(&r->partials, digest_bytes(digest));

	return e ? container_of(e, struct partial, entry) : NULL;
}

static struct partial *make_partial_locked(struct range_store *r, const struct digest *digest,
					   uint64_t size)
{
	struct partial *p = find_partial_locked(r, digest);

	if (p) {
		return p;
	}
	p = xcalloc(1, sizeof(*p));
	p->digest = *digest;
	p->size = size;
	p->entry.key = digest_bytes(&p->digest);
	lru_map_add(&r->partials, &p->entry);
	return p;
}

/* False when all slots are being read. */
static bool take_slot_locked(struct range_store *r, uint32_t *slot)
{
	if (r->free_count == 0 && r->slots_made < r->slot_max) {
		*slot = r->slots_made++;
		return true;
	}
	if (r->free_count == 0 && r->units.oldest) {
		drop_locked(r, container_of(r->units.oldest, struct unit, entry));
	}
	if (r->free_count == 0) {
		return false;
	}
	*slot = r->free_slots[--r->free_count];
	return true;
}

/* ---- Reading ---- */

/* Asker: a whole unit, checked, into buf. */
static int read_unit(struct range_store *r, struct unit *u, uint8_t *buf)
{
	ssize_t n = pread_full(r->fd, buf, u->len, (off_t)(u->slot * (uint64_t)RANGE_UNIT));
	struct digest found;

	if (n == (ssize_t)u->len) {
		digest_of(&found, bytes_of(buf, u->len));
		if (digest_equal(&found, &u->digest)) {
			return 1;
		}
	}
	log_warning("a range of a blob was damaged in its file, and is fetched again");
	return 0;
}

/* Asker: the part of one unit that is asked for. */
static int read_part(struct range_store *r, const struct digest *digest, uint64_t number,
		     size_t skip, uint8_t *buf, size_t len)
{
	pthread_mutex_lock(&r->lock);
	struct unit *u = find_locked(r, digest, number);

	if (!u || skip + len > u->len) {
		pthread_mutex_unlock(&r->lock);
		return 0;
	}
	u->users++;
	pthread_mutex_unlock(&r->lock);

	bool whole = skip == 0 && len == u->len;
	uint8_t *unit cleanup(cleanup_free) = whole ? NULL : xmalloc(RANGE_UNIT);
	int found = read_unit(r, u, whole ? buf : unit);

	if (found && !whole) {
		memcpy(buf, unit + skip, len);
	}
	pthread_mutex_lock(&r->lock);
	if (!found && !u->dropped) {
		drop_locked(r, u);
	}
	release_locked(r, u);
	pthread_mutex_unlock(&r->lock);
	return found;
}

int range_store_read(struct range_store *r, const struct digest *digest, uint64_t size,
		     uint64_t offset, void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len > 0) {
		uint64_t number = offset / RANGE_UNIT;
		size_t skip = (size_t)(offset % RANGE_UNIT);
		size_t unit = (size_t)MIN(RANGE_UNIT, size - number * RANGE_UNIT);
		size_t n = MIN(len, unit - skip);

		if (!read_part(r, digest, number, skip, at, n)) {
			return 0;
		}
		at += n;
		offset += n;
		len -= n;
	}
	return 1;
}

int range_store_size(struct range_store *r, const struct digest *digest, uint64_t *size)
{
	pthread_mutex_lock(&r->lock);
	const struct partial *p = find_partial_locked(r, digest);

	if (p) {
		*size = p->size;
	}
	pthread_mutex_unlock(&r->lock);
	return p != NULL;
}

bool range_store_has(struct range_store *r, const struct digest *digest, uint64_t offset)
{
	pthread_mutex_lock(&r->lock);
	bool found = find_locked(r, digest, offset / RANGE_UNIT);

	pthread_mutex_unlock(&r->lock);
	return found;
}

/* ---- Writing ---- */

static bool write_unit(struct range_store *r, uint32_t slot, struct bytes content)
{
	if (pwrite_full(r->fd, content.ptr, content.len,
			(off_t)(slot * (uint64_t)RANGE_UNIT)) == 0) {
		return true;
	}
	struct error err;

	error_set_errno(&err, errno, "cannot keep a range of a blob, going on without");
	pthread_mutex_lock(&r->lock);
	bool said = r->failed;

	r->failed = true;
	pthread_mutex_unlock(&r->lock);
	if (!said) {
		log_warning("%s", err.text);
	}
	return false;
}

/* What is put, at one place. */
struct addition {
	const struct digest *digest;
	uint64_t size; /* of the blob */
	uint64_t number;
	struct bytes content;
	struct digest unit_digest;
	uint32_t slot;
};

/* Returns how many units of the blob there are when this is a new one, else 0. */
static uint64_t add_locked(struct range_store *r, const struct addition *a)
{
	if (find_locked(r, a->digest, a->number)) {
		free_slot_locked(r, a->slot);
		return 0;
	}
	struct unit *u = xcalloc(1, sizeof(*u));

	u->partial = make_partial_locked(r, a->digest, a->size);
	u->slot = a->slot;
	u->len = (uint32_t)a->content.len;
	u->digest = a->unit_digest;
	unit_key(u->key, a->digest, a->number);
	u->entry.key = bytes_of(u->key, sizeof(u->key));
	lru_map_add(&r->units, &u->entry);
	return ++u->partial->units;
}

static uint64_t put_unit(struct range_store *r, struct addition *a)
{
	uint64_t units = 0;

	pthread_mutex_lock(&r->lock);
	bool room = !find_locked(r, a->digest, a->number) && take_slot_locked(r, &a->slot);

	pthread_mutex_unlock(&r->lock);
	if (!room) {
		return 0;
	}
	bool written = write_unit(r, a->slot, a->content);

	digest_of(&a->unit_digest, a->content);
	pthread_mutex_lock(&r->lock);
	if (written) {
		units = add_locked(r, a);
	} else {
		free_slot_locked(r, a->slot);
	}
	pthread_mutex_unlock(&r->lock);
	return units;
}

static uint64_t units_of(uint64_t size)
{
	return (size + RANGE_UNIT - 1) / RANGE_UNIT;
}

bool range_store_put(struct range_store *r, const struct digest *digest, uint64_t size,
		     uint64_t offset, struct bytes content)
{
	bool complete = false;

	for (size_t at = 0; at < content.len && r->slot_max; at += RANGE_UNIT) {
		struct addition a = {
			.digest = digest,
			.size = size,
			.number = (offset + at) / RANGE_UNIT,
			.content =
				bytes_of(content.ptr + at, MIN(RANGE_UNIT, content.len - at)),
		};

		complete |= put_unit(r, &a) == units_of(size);
	}
	return complete;
}

void range_store_drop(struct range_store *r, const struct digest *digest)
{
	pthread_mutex_lock(&r->lock);
	const struct partial *p = find_partial_locked(r, digest);
	uint64_t end = p ? units_of(p->size) : 0;

	/* As long as there are any: none are looked for in vain at the end of a huge blob. */
	for (uint64_t i = 0; i < end && find_partial_locked(r, digest); i++) {
		struct unit *u = find_locked(r, digest, i);

		if (u) {
			drop_locked(r, u);
		}
	}
	pthread_mutex_unlock(&r->lock);
}
