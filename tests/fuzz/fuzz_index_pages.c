/*
 * An index whose pages are damaged: the check of pages finds it, or LMDB, which checks nothing,
 * can use it all the same.
 *
 * Input: steps that change an index that was good, a byte for the kind and what the kind takes.
 * Fields of pages and of their entries are met on purpose, bytes anywhere by the way. When the
 * check has nothing to say, all tables are read and written to, and it has nothing to say
 * afterwards either.
 */

#include <fcntl.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/index.h"
#include "services/local/index_pages.h"

#include "fuzz.h"
#include "fuzz_folder.h"

#define STEPS_MAX 16
#define ENTRIES 130u
#define PAGE 4096u
#define HEADER 16u

static struct buffer good;
static char *folder, *data_path;

static void remove_folder(void)
{
	fuzz_folder_remove(folder);
	free(folder);
	free(data_path);
}

/* Entries whose keys and values follow from a number. */
static void put_entries(struct index *ix, unsigned from, unsigned to)
{
	uint8_t key[32] = {0}, value[24] = {0};
	struct index_write *w;

	check(index_write_begin(ix, &w, NULL) == 0);
	for (unsigned i = from; i < to; i++) {
		put_le32(key, i * 2654435761u);
		check(index_write_put(w, INDEX_BLOBS, bytes_of(key, 32), bytes_of(value, 24),
				      true, NULL) == 0);
	}
	check(index_write_commit(w, NULL) == 0);
}

/* Values in pages of their own, one of them gone again, so that there are free pages. */
static void put_long_values(struct index *ix)
{
	static const uint8_t value[9000];
	struct index_write *w;

	check(index_write_begin(ix, &w, NULL) == 0);
	for (const char *key = "abcd"; *key; key++) {
		check(index_write_put(w, INDEX_PATH_INFOS, bytes_of(key, 1),
				      bytes_of(value, *key == 'a' ? 9000 : 3000), true,
				      NULL) == 0);
	}
	check(index_write_commit(w, NULL) == 0);
	check(index_write_begin(ix, &w, NULL) == 0);
	check(index_write_delete(w, INDEX_PATH_INFOS, bytes_of_string("b"), NULL) == 1);
	check(index_write_commit(w, NULL) == 0);
}

static void make_good_index(void)
{
	struct index *ix;

	folder = fuzz_folder_new();
	atexit(remove_folder);
	data_path = xasprintf("%s/data.mdb", folder);
	check(index_open(&ix, folder, INDEX_CREATE, NULL) == 0);
	put_entries(ix, 0, ENTRIES / 2);
	put_long_values(ix);
	put_entries(ix, ENTRIES / 2, ENTRIES);
	index_close(ix);
	check(read_small_file(AT_FDCWD, data_path, 8 << 20, &good, NULL) == 1);
}

/* ---- steps ---- */

static uint8_t *take_page(struct buffer *file, struct input *in)
{
	return file->ptr + input_number(in, 1) % (file->len / PAGE) * PAGE;
}

/* What LMDB's tables are most likely to be wrong by: a little, or by much. */
static uint64_t take_value(struct input *in, uint64_t old, uint64_t pages)
{
	uint64_t choice = input_number(in, 1);

	switch (choice % 8) {
	case 0:
		return old + 1;
	case 1:
		return old - 1;
	case 2:
		return 0;
	case 3:
		return UINT64_MAX;
	case 4:
		return choice / 8 % pages;
	case 5:
		return old ^ 1ull << (choice / 8);
	default:
		return input_number(in, 8);
	}
}

static void change_number(uint8_t *at, size_t bytes, struct input *in, uint64_t pages)
{
	uint64_t value = 0;

	for (size_t i = bytes; i > 0; i--) {
		value = value << 8 | at[i - 1];
	}
	value = take_value(in, value, pages);
	for (size_t i = 0; i < bytes; i++) {
		at[i] = (uint8_t)(value >> 8 * i);
	}
}

/* Its number, its kind, and the bounds of its free room (or the length of a run). */
static void change_header(uint8_t *page, struct input *in, uint64_t pages)
{
	static const uint8_t offsets[] = {0, 8, 10, 12, 14}, sizes[] = {8, 2, 2, 2, 2};
	size_t field = (size_t)input_number(in, 1) % ARRAY_SIZE(offsets);

	change_number(page + offsets[field], sizes[field], in, pages);
}

/* One of the numbers in the two pages that say where the trees are. */
static void change_head(struct buffer *file, struct input *in, uint64_t pages)
{
	uint64_t choice = input_number(in, 1);
	uint8_t *head = file->ptr + (pages > 1 ? choice % 2 * PAGE : 0) + HEADER;

	change_number(head + choice / 2 % 17 * 8, choice & 0x80 ? 2 : 8, in, pages);
}

/* The place of an entry, or a field of it: its data's length or child, flags, key's length. */
static void change_entry(uint8_t *page, struct input *in, uint64_t pages)
{
	unsigned count = (get_le16(page + 12) - HEADER) / 2u % 512;
	unsigned i = count ? (unsigned)input_number(in, 1) % count : 0;
	uint8_t *place = page + HEADER + (size_t)2 * i;
	unsigned at = get_le16(place);
	uint64_t field = input_number(in, 1) % 6;

	if (field == 0 || at + 72 > PAGE) {
		change_number(place, 2, in, pages);
	} else if (field < 4) {
		change_number(page + at + 2 * field, 2, in, pages);
	} else {
		/* The first word behind a key of usual length: a table's root, a run's page. */
		change_number(page + at + 8 + get_le16(page + at + 6) % 48 +
				      (field == 4 ? 0 : 8),
			      8, in, pages);
	}
}

static void patch(uint8_t *page, struct input *in)
{
	size_t at = (size_t)input_number(in, 2) % PAGE;
	struct bytes with = input_string(in);

	if (with.len) {
		memcpy(page + at, with.ptr, MIN(with.len, PAGE - at));
	}
}

static void take_step(struct buffer *file, struct input *in)
{
	uint64_t pages = file->len / PAGE, kind = input_number(in, 1) % 6;
	uint8_t *page = take_page(file, in);

	switch (kind) {
	case 0:
		change_header(page, in, pages);
		break;
	case 1:
		change_head(file, in, pages);
		break;
	case 2:
		change_entry(page, in, pages);
		break;
	case 3:
		patch(page, in);
		break;
	case 4:
		memcpy(page, take_page(file, in), PAGE);
		break;
	default:
		file->len = MAX((size_t)(page - file->ptr), (size_t)PAGE);
		break;
	}
}

/* ---- what comes of it ---- */

static void count_fault(void *context, uint64_t page unused, const char *text)
{
	check(text[0] && printable(text));
	++*(size_t *)context;
}

static size_t faults(void)
{
	struct index_pages_counts counts;
	size_t found = 0;
	const struct index_pages_watch watch = {.fault = count_fault, .context = &found};
	struct error err = {0};
	int fd cleanup(cleanup_close) = open(data_path, O_RDONLY | O_CLOEXEC);

	check(fd >= 0);
	check(result(index_pages_check(fd, 0, &watch, &counts, &err), &err) == 0);
	return found;
}

static bool touch(void *context, struct bytes key, struct bytes value)
{
	unsigned *sum = context;

	for (size_t i = 0; i < key.len; i++) {
		*sum += key.ptr[i];
	}
	for (size_t i = 0; i < value.len; i++) {
		*sum += value.ptr[i];
	}
	return true;
}

static void touch_damaged(void *context, struct bytes key, const struct error *why)
{
	check(told(why));
	touch(context, key, bytes_of(NULL, 0));
}

static void use_index(void)
{
	struct index *ix;
	struct error err = {0};
	unsigned sum = 0;

	if (result(index_open(&ix, folder, 0, &err), &err) < 0) {
		return;
	}
	for (enum index_table t = 0; t < INDEX_TABLE_COUNT; t++) {
		result(index_scan_damaged(ix, t, touch, touch_damaged, &sum, &err), &err);
	}
	put_entries(ix, ENTRIES - 1, ENTRIES + 20);
	put_long_values(ix);
	index_close(ix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	struct buffer file = {0};

	if (!folder) {
		make_good_index();
	}
	buffer_append(&file, good.ptr, good.len);
	for (unsigned i = 0; in.left && i < STEPS_MAX; i++) {
		take_step(&file, &in);
	}
	int fd = open(data_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	check(fd >= 0 && write_full(fd, file.ptr, file.len) == 0);
	close(fd);
	buffer_done(&file);
	if (faults() == 0) {
		use_index();
		check(faults() == 0);
	}
	return 0;
}
