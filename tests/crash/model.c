#include "model.h"

#include <stdarg.h>
#include <stdio.h>

_Noreturn void give_up(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static struct bytes take(struct bytes *rest, uint64_t len)
{
	struct bytes part = bytes_of(rest->ptr, (size_t)len);

	if (len > rest->len) {
		give_up("the log ends in the middle of an entry");
	}
	*rest = bytes_of(rest->ptr + len, rest->len - (size_t)len);
	return part;
}

bool log_next(struct bytes *rest, struct log_view *out)
{
	static struct log_entry entry; /* entries are not aligned */

	if (rest->len == 0) {
		return false;
	}
	memcpy(&entry, take(rest, sizeof(entry)).ptr, sizeof(entry));
	if (entry.magic != LOG_MAGIC) {
		give_up("this is no log of the recorder");
	}
	out->entry = &entry;
	out->name = take(rest, entry.name_len);
	out->name2 = take(rest, entry.name2_len);
	out->data = take(rest, entry.data_len);
	return true;
}

/* ---- changes ---- */

static void resize(uint8_t **content, size_t *size, size_t wanted)
{
	*content = xrealloc(*content, wanted + 1);
	if (wanted > *size) {
		memset(*content + *size, 0, wanted - *size);
	}
	*size = wanted;
}

void content_change(uint8_t **content, size_t *size, const struct change *c)
{
	if (c->kind == CHANGE_SIZE) {
		resize(content, size, (size_t)c->offset);
		return;
	}
	if (c->offset + c->data.len > *size) {
		resize(content, size, (size_t)c->offset + c->data.len);
	}
	if (c->data.len) {
		memcpy(*content + c->offset, c->data.ptr, c->data.len);
	}
}

static size_t find_entry(const struct folder_entry *entries, size_t count, struct bytes name)
{
	size_t i = 0;

	while (i < count && !bytes_equal(entries[i].name, name)) {
		i++;
	}
	return i;
}

static void put_entry(struct folder_entry **entries, size_t *count, struct bytes name,
		      struct node_file *file)
{
	size_t i = find_entry(*entries, *count, name);

	*count += i == *count;
	*entries = xrealloc(*entries, *count * sizeof(**entries));
	(*entries)[i] = (struct folder_entry){.name = name, .file = file};
}

void entries_change(struct folder_entry **entries, size_t *count, const struct change *c)
{
	size_t i = find_entry(*entries, *count, c->name);
	struct node_file *file = i < *count ? (*entries)[i].file : NULL;

	if (c->kind == CHANGE_ADD) {
		put_entry(entries, count, c->name, c->file);
		return;
	}
	if (c->kind == CHANGE_SWAP) {
		size_t k = find_entry(*entries, *count, c->new_name);

		if (!file || k == *count) {
			give_up("an exchange with a name that is not there");
		}
		(*entries)[i].file = (*entries)[k].file;
		(*entries)[k].file = file;
		return;
	}
	if (file) {
		(*entries)[i] = (*entries)[--*count];
	}
	if (file && c->kind == CHANGE_MOVE) {
		put_entry(entries, count, c->new_name, file);
	}
}

static void apply(struct node_file *f, const struct change *c)
{
	if (f->is_folder) {
		entries_change(&f->entries, &f->entry_count, c);
	} else {
		content_change(&f->content, &f->size, c);
	}
}

static void add_change(struct model *m, struct node_file *f, struct change c)
{
	c.number = m->number;
	if (f->change_count == f->change_capacity) {
		f->change_capacity = f->change_capacity ? 2 * f->change_capacity : 8;
		f->changes = xrealloc(f->changes, f->change_capacity * sizeof(c));
	}
	f->changes[f->change_count++] = c;
}

static void sync_file(struct model *m, struct node_file *f)
{
	size_t count = f->change_count;

	f->change_count = 0;
	f->version = m->number;
	for (size_t i = 0; i < count; i++) {
		const struct change *c = &f->changes[i];

		apply(f, c);
		/* A rename is one step: what has left a folder has arrived. */
		if (c->kind == CHANGE_REMOVE && c->other) {
			sync_file(m, c->other);
		}
	}
}

/* ---- files ---- */

static struct node_file *new_file(struct model *m, uint64_t inode, bool is_folder)
{
	struct node_file *f = xcalloc(1, sizeof(*f));

	if (m->count == m->capacity) {
		m->capacity = m->capacity ? 2 * m->capacity : 64;
		m->files = xrealloc(m->files, m->capacity * sizeof(struct node_file *));
	}
	f->inode = inode;
	f->id = m->count;
	f->is_folder = is_folder;
	m->files[m->count++] = f;
	return f;
}

/* The last one that was made with this number. */
static struct node_file *find_file(const struct model *m, uint64_t inode)
{
	for (size_t i = m->count; i > 0; i--) {
		if (m->files[i - 1]->inode == inode) {
			return m->files[i - 1];
		}
	}
	give_up("entry %llu is about a file that nobody made", (unsigned long long)m->number);
}

static struct node_file *named_file(const struct model *m, const struct node_file *folder,
				    struct bytes name)
{
	struct folder_entry *entries = NULL;
	size_t count = 0;

	for (size_t i = 0; i < folder->entry_count; i++) {
		put_entry(&entries, &count, folder->entries[i].name, folder->entries[i].file);
	}
	for (size_t i = 0; i < folder->change_count; i++) {
		entries_change(&entries, &count, &folder->changes[i]);
	}
	size_t i = find_entry(entries, count, name);
	struct node_file *file = i < count ? entries[i].file : NULL;

	free(entries);
	if (!file) {
		give_up("entry %llu is about a name that nobody made",
			(unsigned long long)m->number);
	}
	return file;
}

static void rename_file(struct model *m, const struct log_view *e)
{
	struct node_file *from = find_file(m, e->entry->folder);
	struct node_file *to = find_file(m, e->entry->folder2);

	if (from == to) {
		add_change(m, from,
			   (struct change){.kind = e->entry->flags & LOG_EXCHANGE ? CHANGE_SWAP
										  : CHANGE_MOVE,
					   .name = e->name,
					   .new_name = e->name2});
		return;
	}
	struct node_file *file = named_file(m, from, e->name);

	add_change(m, to, (struct change){.kind = CHANGE_ADD, .name = e->name2, .file = file});
	add_change(m, from,
		   (struct change){.kind = CHANGE_REMOVE, .name = e->name, .other = to});
}

static void add_name(struct model *m, const struct log_view *e, struct node_file *file)
{
	add_change(m, find_file(m, e->entry->folder),
		   (struct change){.kind = CHANGE_ADD, .name = e->name, .file = file});
}

static void write_file(struct model *m, const struct log_view *e)
{
	struct node_file *f = find_file(m, e->entry->inode);

	add_change(m, f,
		   (struct change){.kind = CHANGE_WRITE,
				   .durable = e->entry->flags & LOG_DURABLE,
				   .offset = e->entry->offset,
				   .data = e->data});
	if (f->change_count == 1 && f->changes[0].durable) {
		sync_file(m, f);
	}
}

void model_add(struct model *m, const struct log_view *e)
{
	switch ((enum log_op)e->entry->op) {
	case LOG_ROOT:
		if (!m->top) {
			m->top = new_file(m, e->entry->inode, true);
		}
		break;
	case LOG_CREATE:
	case LOG_MKDIR:
		add_name(m, e, new_file(m, e->entry->inode, e->entry->op == LOG_MKDIR));
		break;
	case LOG_LINK:
		add_name(m, e, find_file(m, e->entry->inode));
		break;
	case LOG_RENAME:
		rename_file(m, e);
		break;
	case LOG_UNLINK:
		add_change(m, find_file(m, e->entry->folder),
			   (struct change){.kind = CHANGE_REMOVE, .name = e->name});
		break;
	case LOG_WRITE:
		write_file(m, e);
		break;
	case LOG_TRUNCATE:
		add_change(m, find_file(m, e->entry->inode),
			   (struct change){.kind = CHANGE_SIZE, .offset = e->entry->offset});
		break;
	case LOG_SYNC:
		sync_file(m, find_file(m, e->entry->inode));
		break;
	case LOG_SYNC_ALL:
		for (size_t i = 0; i < m->count; i++) {
			sync_file(m, m->files[i]);
		}
		break;
	case LOG_BEGIN:
	case LOG_SAY:
	case LOG_END:
		break;
	case LOG_UNKNOWN:
		give_up("entry %llu cannot be replayed: %s", (unsigned long long)m->number,
			bytes_printable(e->name));
	}
	m->number++;
}

void model_done(struct model *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->files[i]->content);
		free(m->files[i]->entries);
		free(m->files[i]->changes);
		free(m->files[i]);
	}
	free(m->files);
}
