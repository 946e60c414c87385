#include "fs/backing_table.h"

#include <pthread.h>

#include "base/log.h"
#include "fs/slot_table.h"

#define ENTRIES_MAX (1u << 20)

struct entry {
	struct digest digest;
	uint32_t id;
	uint8_t passed;        /* by the id */
	uint32_t opened;       /* files open with it */
	uint32_t newer, older; /* the list of those that are not opened; else SLOT_NONE */
};

struct backing_table {
	struct fs_backing ops;
	pthread_mutex_t lock; /* guards everything below */
	struct slot_table entries;
	uint32_t newest, oldest; /* ends of the list of unopened ones */
	uint32_t idle;
	uint64_t passed;
	bool complained;
};

static uint64_t entry_hash(const void *item, const void *context unused)
{
	const struct entry *e = item;

	return digest_hash(&e->digest);
}

struct backing_table *backing_table_new(const struct fs_backing *ops, const struct keep *k)
{
	struct backing_table *t = xcalloc(1, sizeof(*t));

	t->ops = *ops;
	t->newest = t->oldest = SLOT_NONE;
	pthread_mutex_init(&t->lock, NULL);
	slot_table_init(&t->entries, sizeof(struct entry), ENTRIES_MAX, entry_hash, NULL);
	if (k) {
		slot_table_keep(&t->entries, k, KEEP_BACKINGS);
	}
	return t;
}

void backing_table_free(struct backing_table *t)
{
	if (!t) {
		return;
	}
	if (!t->entries.keep) {
		backing_table_clear(t);
	}
	slot_table_done(&t->entries);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* ---- The list of entries that nothing has open, the lock held ---- */

static void idle_append(struct backing_table *t, uint32_t slot)
{
	struct entry *e = slot_table_get(&t->entries, slot);

	e->older = t->newest;
	e->newer = SLOT_NONE;
	if (t->newest == SLOT_NONE) {
		t->oldest = slot;
	} else {
		((struct entry *)slot_table_get(&t->entries, t->newest))->newer = slot;
	}
	t->newest = slot;
	t->idle++;
}

static void idle_remove(struct backing_table *t, struct entry *e)
{
	if (e->older == SLOT_NONE) {
		t->oldest = e->newer;
	} else {
		((struct entry *)slot_table_get(&t->entries, e->older))->newer = e->newer;
	}
	if (e->newer == SLOT_NONE) {
		t->newest = e->older;
	} else {
		((struct entry *)slot_table_get(&t->entries, e->newer))->older = e->older;
	}
	t->idle--;
}

static void drop(struct backing_table *t, uint32_t slot)
{
	struct entry *e = slot_table_get(&t->entries, slot);
	bool passed = e->passed;
	uint32_t id = e->id;

	if (e->opened == 0) {
		idle_remove(t, e);
	}
	/* Before the id goes: whoever takes a kept table over must not give out one that is
	 * gone. */
	slot_table_remove(&t->entries, slot);
	if (passed) {
		t->ops.close(t->ops.context, id);
		t->passed--;
	}
}

/* ---- Finding and adding, the lock held ---- */

static uint32_t find(const struct backing_table *t, const struct digest *digest)
{
	uint32_t slot = slot_table_first(&t->entries, digest_hash(digest));

	while (slot != SLOT_NONE) {
		const struct entry *e = slot_table_get(&t->entries, slot);

		if (digest_equal(&e->digest, digest)) {
			break;
		}
		slot = slot_table_next(&t->entries, slot);
	}
	return slot;
}

static void open_entry(struct backing_table *t, uint32_t slot, struct backing *out)
{
	struct entry *e = slot_table_get(&t->entries, slot);

	if (e->opened++ == 0) {
		idle_remove(t, e);
	}
	*out = (struct backing){
		.handle = (uint64_t)slot_table_generation(&t->entries, slot) << 32 | slot,
		.passed = e->passed,
		.id = e->id,
	};
}

int backing_table_find(struct backing_table *t, const struct digest *digest,
		       struct backing *out)
{
	pthread_mutex_lock(&t->lock);
	uint32_t slot = find(t, digest);

	if (slot != SLOT_NONE) {
		open_entry(t, slot, out);
	}
	pthread_mutex_unlock(&t->lock);
	return slot != SLOT_NONE;
}

/* Says once why files are not passed through: the next ones will have the same reason. */
static void complain(struct backing_table *t, const struct error *err)
{
	if (!t->complained) {
		t->complained = true;
		log_warning("files are read through this program: %s", err->text);
	}
}

/*
 * Registers under the lock: a system call that only counts references, and so nobody can
 * register the same blob twice.
 */
static uint32_t add_locked(struct backing_table *t, const struct digest *digest, int fd)
{
	struct entry e = {.digest = *digest};
	struct error err;

	if (fd >= 0 && t->ops.open(t->ops.context, fd, &e.id, &err) == 0) {
		e.passed = 1;
	} else if (fd >= 0) {
		complain(t, &err);
	}
	uint32_t slot = slot_table_add(&t->entries, &e);

	if (slot != SLOT_NONE) {
		t->passed += e.passed;
		idle_append(t, slot);
	} else if (e.passed) {
		t->ops.close(t->ops.context, e.id);
	}
	return slot;
}

int backing_table_add(struct backing_table *t, const struct digest *digest, int fd,
		      struct backing *out, struct error *err)
{
	pthread_mutex_lock(&t->lock);
	uint32_t slot = find(t, digest);

	if (slot == SLOT_NONE) {
		slot = add_locked(t, digest, fd);
	}
	if (slot != SLOT_NONE) {
		open_entry(t, slot, out);
	}
	pthread_mutex_unlock(&t->lock);
	return slot != SLOT_NONE ? 0
				 : error_set(err, ERROR_LIMIT,
					     "more than %u large files are open", ENTRIES_MAX);
}

static bool entry_fits(void *item)
{
	struct entry *e = item;

	e->passed = e->passed != 0;
	return true;
}

/* Asker: whether the entry stays. */
static bool take_in(struct backing_table *t, uint32_t slot)
{
	const struct entry *e = slot_table_get(&t->entries, slot);

	if (find(t, &e->digest) != slot) {
		return false;
	}
	t->passed += e->passed;
	if (e->opened == 0) {
		idle_append(t, slot);
	}
	return true;
}

size_t backing_table_item_size(void)
{
	return sizeof(struct entry);
}

int backing_table_adopt(struct backing_table *t, struct error *err)
{
	pthread_mutex_lock(&t->lock);
	bool good = slot_table_adopt(&t->entries, entry_fits);
	uint32_t slot = good ? slot_table_scan(&t->entries, 0) : SLOT_NONE;

	for (; slot != SLOT_NONE; slot = slot_table_scan(&t->entries, slot + 1)) {
		if (!take_in(t, slot)) {
			slot_table_remove(&t->entries, slot);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return good ? 0 : error_set(err, ERROR_LIMIT, "no memory for the files that are open");
}

void backing_table_release(struct backing_table *t, uint64_t handle)
{
	uint32_t slot = (uint32_t)handle;

	pthread_mutex_lock(&t->lock);
	struct entry *e = slot_table_get(&t->entries, slot);

	if (e && e->opened > 0 &&
	    slot_table_generation(&t->entries, slot) == (uint32_t)(handle >> 32)) {
		if (--e->opened == 0) {
			idle_append(t, slot);
		}
		if (t->idle > BACKING_IDLE_MAX) {
			drop(t, t->oldest);
		}
	}
	pthread_mutex_unlock(&t->lock);
}

void backing_table_clear(struct backing_table *t)
{
	uint32_t slot;

	pthread_mutex_lock(&t->lock);
	while ((slot = slot_table_scan(&t->entries, 0)) != SLOT_NONE) {
		drop(t, slot);
	}
	pthread_mutex_unlock(&t->lock);
}

uint64_t backing_table_count(struct backing_table *t)
{
	pthread_mutex_lock(&t->lock);
	uint64_t count = t->passed;

	pthread_mutex_unlock(&t->lock);
	return count;
}
