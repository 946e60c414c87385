#include "crash_state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

/* Disks write this much or nothing. */
#define SECTOR ((size_t)512)

const char *const crash_names[CRASH_KIND_COUNT] = {
	[CRASH_KEEPS_ALL] = "keeps-all",     [CRASH_LOSES_ALL] = "loses-all",
	[CRASH_KEEPS_NAMES] = "keeps-names", [CRASH_KEEPS_DATA] = "keeps-data",
	[CRASH_LOSES_ONE] = "loses-one",     [CRASH_KEEPS_ONE] = "keeps-one",
	[CRASH_IN_ORDER] = "in-order",       [CRASH_AT_RANDOM] = "at-random",
};

/* How much of a change of a file is there. */
enum part {
	PART_NONE,
	PART_SIZE, /* the file is as long, the bytes are zeros */
	PART_TORN, /* some sectors */
	PART_ALL,
};

/* Chance that depends on nothing but what it is for, so that it is the same each time. */
static uint64_t chance(const struct crash *c, uint64_t what, uint64_t which)
{
	uint64_t x = c->seed * 0x9e3779b97f4a7c15u + what * 0xbf58476d1ce4e5b9u + which;

	for (int i = 0; i < 3; i++) {
		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	}
	return x ^ (x >> 31);
}

/* ---- choosing ---- */

static void choose_one(struct crash *c)
{
	size_t total = 0;

	for (size_t i = 0; i < c->model->count; i++) {
		total += c->model->files[i]->change_count;
	}
	if (total == 0) {
		return;
	}
	size_t at = (size_t)(chance(c, 1, 0) % total);

	for (size_t i = 0;; i++) {
		const struct node_file *f = c->model->files[i];

		if (at < f->change_count) {
			c->one = f;
			c->one_at = at;
			return;
		}
		at -= f->change_count;
	}
}

void crash_init(struct crash *c, const struct model *m, enum crash_kind kind, uint64_t seed)
{
	*c = (struct crash){.kind = kind, .seed = seed, .model = m};
	choose_one(c);
	if (c->one) {
		c->cut = c->one->changes[c->one_at].number;
	}
}

/* How many of a folder's changes are there: always the first ones. */
static size_t changes_kept(const struct crash *c, const struct node_file *folder)
{
	size_t count = folder->change_count, kept = 0;

	switch (c->kind) {
	case CRASH_KEEPS_ALL:
	case CRASH_KEEPS_NAMES:
		return count;
	case CRASH_LOSES_ALL:
	case CRASH_KEEPS_DATA:
		return 0;
	case CRASH_LOSES_ONE:
		return folder == c->one ? c->one_at : count;
	case CRASH_KEEPS_ONE:
		return folder == c->one ? c->one_at + 1 : 0;
	case CRASH_IN_ORDER:
		while (kept < count && folder->changes[kept].number <= c->cut) {
			kept++;
		}
		return kept;
	case CRASH_AT_RANDOM:
	case CRASH_KIND_COUNT:
		break;
	}
	return (size_t)(chance(c, 2, folder->id) % (count + 1));
}

/* A name that moved elsewhere is gone only when it is there. */
static bool has_arrived(const struct crash *c, const struct change *removal)
{
	const struct node_file *to = removal->other;
	size_t kept;

	if (!to) {
		return true;
	}
	kept = changes_kept(c, to);
	return to->change_count == 0 || to->changes[0].number > removal->number ||
	       (kept > 0 && to->changes[kept - 1].number >= removal->number);
}

/* By chance, but files differ in how much they lose. */
static enum part part_by_chance(const struct crash *c, const struct node_file *f, size_t i)
{
	switch (chance(c, 3, f->id) % 6) {
	case 0:
		return PART_ALL;
	case 1:
		return PART_NONE;
	case 2:
		return PART_SIZE;
	case 3:
		return PART_TORN;
	case 4: /* up to some point, which is torn */
	{
		size_t end = (size_t)(chance(c, 4, f->id) % f->change_count);

		return i < end ? PART_ALL : i == end ? PART_TORN : PART_NONE;
	}
	default:
		return (enum part)(chance(c, 5, f->changes[i].number) % (PART_ALL + 1));
	}
}

static enum part part_kept(const struct crash *c, const struct node_file *f, size_t i)
{
	if (f->changes[i].durable) {
		return PART_ALL;
	}
	switch (c->kind) {
	case CRASH_KEEPS_ALL:
	case CRASH_KEEPS_DATA:
		return PART_ALL;
	case CRASH_LOSES_ALL:
		return PART_NONE;
	case CRASH_KEEPS_NAMES:
		return PART_SIZE;
	case CRASH_LOSES_ONE:
		return f == c->one && i == c->one_at ? PART_NONE : PART_ALL;
	case CRASH_KEEPS_ONE:
		return f == c->one && i == c->one_at ? PART_ALL : PART_NONE;
	case CRASH_IN_ORDER:
	case CRASH_AT_RANDOM:
	case CRASH_KIND_COUNT:
		break;
	}
	return part_by_chance(c, f, i);
}

void crash_fingerprint(const struct crash *c, struct buffer *out)
{
	for (size_t i = 0; i < c->model->count; i++) {
		const struct node_file *f = c->model->files[i];
		uint64_t head[] = {f->id, f->version,
				   f->is_folder ? changes_kept(c, f) : f->change_count};

		if (f->change_count == 0 && f->version == 0) {
			continue;
		}
		buffer_append(out, head, sizeof(head));
		for (size_t k = 0; k < f->change_count && !f->is_folder; k++) {
			enum part part = part_kept(c, f, k);

			buffer_append_byte(out, (uint8_t)part);
			if (part == PART_TORN) {
				buffer_append(out, &c->seed, sizeof(c->seed));
			}
		}
	}
}

/* ---- making ---- */

static void write_torn(const struct crash *c, uint8_t **content, size_t *size,
		       const struct change *change)
{
	for (size_t at = 0; at < change->data.len;) {
		uint64_t offset = change->offset + at;
		size_t len = MIN(change->data.len - at, SECTOR - (size_t)(offset % SECTOR));

		if (chance(c, change->number, offset / SECTOR) % 2) {
			content_change(
				content, size,
				&(struct change){.kind = CHANGE_WRITE,
						 .offset = offset,
						 .data = bytes_of(change->data.ptr + at, len)});
		}
		at += len;
	}
}

static void change_file(const struct crash *c, const struct node_file *f, size_t i,
			uint8_t **content, size_t *size)
{
	const struct change *change = &f->changes[i];
	enum part part = part_kept(c, f, i);
	uint64_t end = change->offset + change->data.len;

	if (part == PART_ALL || (part != PART_NONE && change->kind == CHANGE_SIZE)) {
		content_change(content, size, change);
	} else if (part == PART_TORN) {
		write_torn(c, content, size, change);
	} else if (part == PART_SIZE && end > *size) {
		content_change(content, size,
			       &(struct change){.kind = CHANGE_SIZE, .offset = end});
	}
}

/* LMDB keeps its locks there through a mapping, so that nobody knows what the disk has. */
static void fill_with_garbage(const struct crash *c, uint8_t *content, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		content[i] = (uint8_t)chance(c, 6, i / 64);
	}
}

static void make_file(const struct crash *c, const struct node_file *f, int folder,
		      const char *name)
{
	uint8_t *content cleanup(cleanup_free) = xmalloc(f->size + 1);
	size_t size = f->size;
	int fd cleanup(cleanup_close) =
		openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (size) {
		memcpy(content, f->content, size);
	}
	for (size_t i = 0; i < f->change_count; i++) {
		change_file(c, f, i, &content, &size);
	}
	if (strcmp(name, "lock.mdb") == 0) {
		fill_with_garbage(c, content, size);
	}
	if (fd < 0 || pwrite_sparse(fd, content, size, 0) != 0 ||
	    ftruncate(fd, (off_t)size) != 0) {
		give_up("cannot create %s: %s", name, strerror(errno));
	}
}

static void make_folder(const struct crash *c, const struct node_file *f, int folder)
{
	size_t count = f->entry_count;
	struct folder_entry *entries = xmalloc((count + 1) * sizeof(*entries));

	memcpy(entries, f->entries, count * sizeof(*entries));
	for (size_t i = 0; i < changes_kept(c, f); i++) {
		if (f->changes[i].kind != CHANGE_REMOVE || has_arrived(c, &f->changes[i])) {
			entries_change(&entries, &count, &f->changes[i]);
		}
	}
	for (size_t i = 0; i < count; i++) {
		char *name cleanup(cleanup_free) =
			xasprintf("%.*s", (int)entries[i].name.len, entries[i].name.ptr);

		if (!entries[i].file->is_folder) {
			make_file(c, entries[i].file, folder, name);
			continue;
		}
		int fd cleanup(cleanup_close) =
			mkdirat(folder, name, 0755) == 0
				? openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				: -1;
		if (fd < 0) {
			give_up("cannot create %s: %s", name, strerror(errno));
		}
		make_folder(c, entries[i].file, fd);
	}
	free(entries);
}

void crash_make(const struct crash *c, int folder)
{
	if (c->model->top) {
		make_folder(c, c->model->top, folder);
	}
}
