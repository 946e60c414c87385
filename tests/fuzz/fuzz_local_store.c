/*
 * A local store on a damaged disk: everything is read, written to, and rebuilt.
 *
 * Input: a byte of flags (HOW_*), then steps that change a store which was good: a byte for the
 * kind, and what the kind takes. Whatever was done to it, nobody gets other bytes than those of
 * the digest, what is wrong is said, and what can still be read outlives those who write. What
 * somebody could not read, a check of the store finds, and a repair from the good store brings
 * back. A collection of garbage takes nothing that a name stands for, or may stand for.
 * LMDB's own pages are left alone: it does not check them.
 */

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "castore/closure.h"
#include "castore/outboard.h"
#include "nix/path_info_service.h"
#include "services/local/codec.h"
#include "services/local/index.h"
#include "services/local/local_store.h"
#include "services/local/record.h"
#include "services/store_check.h"

#include "fuzz.h"
#include "fuzz_folder.h"

#define STEPS_MAX 64
#define LARGE_SIZE 300000u
#define PACK_NAME "packs/00000001.pack"

enum how {
	HOW_READ_ONLY = 1,
	HOW_REBUILD = 2,
	HOW_WRITE = 4,
	HOW_CHECK = 8,
	HOW_REPAIR = 16,
	HOW_COLLECT = 32
};

/* Places of what the good store has; numbers beyond are of the absent one. */
enum object { SMALL, PACKED, LARGE, INNER, OUTER, ABSENT, OBJECT_COUNT };

struct good_store {
	char *folder; /* for stores: as it was made, and as it is changed */
	struct store store;
	struct buffer content[ABSENT];
	struct digest digests[OBJECT_COUNT];
	struct buffer format, index, pack, info;
	char large_name[96]; /* in the store */
	uint8_t hash[STORE_PATH_HASH_SIZE];
};

static struct good_store good;
/* Of what was read since this was last cleared: something that a check must find failed. */
static bool failed;
/* Of the last reading: a name stands for the root, or it cannot be told what names stand for.
 */
static bool named;
/* Likewise: the root is absent, in which case nobody knows what is below it. */
static bool rootless;
static char *store_path; /* of the one that is changed */

/* ---- the good store ---- */

static void remove_folder(void)
{
	fuzz_folder_remove(good.folder);
	free(good.folder);
	free(store_path);
}

static void read_file(struct buffer *out, const char *store, const char *name)
{
	char *path cleanup(cleanup_free) = xasprintf("%s/%s", store, name);

	check(read_small_file(AT_FDCWD, path, 64 << 20, out, NULL) == 1);
}

static void write_file(const char *name, struct bytes content)
{
	char *path cleanup(cleanup_free) = xasprintf("%s/%s", store_path, name);
	int fd cleanup(cleanup_close) = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	check(fd >= 0 && write_full(fd, content.ptr, content.len) == 0);
}

static struct node put_directory(struct store *s, enum object o, const struct node *entries,
				 const char *const *names, size_t count)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;

	for (size_t i = 0; i < count; i++) {
		check(directory_builder_add(b, bytes_of_string(names[i]), &entries[i], NULL) ==
		      0);
	}
	check(directory_builder_finish(b, &d, NULL) == 0);
	check(directory_service_put(s->directories, d, NULL) == 0);
	struct bytes encoding = directory_encoding(d);

	buffer_append(&good.content[o], encoding.ptr, encoding.len);
	good.digests[o] = *directory_digest(d);
	return directory_node(d);
}

static struct node put_blob(struct store *s, enum object o, size_t size)
{
	struct buffer *b = &good.content[o];

	/* Half of it can be compressed. */
	for (size_t i = 0; i < size; i++) {
		buffer_append_byte(b, (uint8_t)(i % 2 ? i / 64 : i * i / 7));
	}
	check(blob_service_put(s->blobs, buffer_bytes(b), &good.digests[o], NULL) == 0);
	return (struct node){.kind = NODE_FILE, .digest = good.digests[o], .size = size};
}

static void put_path_info(struct store *s, const struct node *node)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(s);
	struct path_info info = {.nar_size = 1000};

	check(store_path_parse(bytes_of_string("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x"),
			       &info.path, NULL) == 0);
	root_node_set(&info.node, node);
	check(path_info_service_put(infos, &info, NULL, NULL) == 0);
	memcpy(good.hash, info.path.hash, sizeof(good.hash));
	path_info_encode(&good.info, &info);
	path_info_done(&info);
}

static void fill_store(struct store *s)
{
	static const char *const names[] = {"inner", "large", "packed", "small"};
	struct node small = put_blob(s, SMALL, 100), packed = put_blob(s, PACKED, 9000);
	struct node large = put_blob(s, LARGE, LARGE_SIZE);
	struct node inner = put_directory(s, INNER, &small, names + 3, 1);
	const struct node entries[] = {inner, large, packed, small};
	struct node outer = put_directory(s, OUTER, entries, names, 4);

	check(root_nodes_put(s->roots, bytes_of_string("outer"), &outer, false, NULL) == 0);
	check(root_nodes_put(s->roots, bytes_of_string("small"), &small, false, NULL) == 0);
	check(root_nodes_remove(s->roots, bytes_of_string("small"), NULL) == 1);
	put_path_info(s, &outer);
	check(seen_cache_remember(s->seen, &(struct seen_key){.device = 1, .inode = 2},
				  &(struct seen_value){.size = 3}, NULL) == 0);
	check(store_sync(s, NULL) == 0);
}

static void make_good_store(void)
{
	struct store s;

	good.folder = fuzz_folder_new();
	atexit(remove_folder);
	store_path = xasprintf("%s/store", good.folder);
	char *path cleanup(cleanup_free) = xasprintf("%s/good", good.folder);

	check(local_store_open(&s, path, STORE_CREATE, NULL) == 0);
	fill_store(&s);
	store_close(&s);
	memset(&good.digests[ABSENT], 0xee, DIGEST_SIZE);
	digest_to_hex(good.large_name + 9, &good.digests[LARGE]);
	memcpy(good.large_name, "files/", 6);
	memcpy(good.large_name + 6, good.large_name + 9, 2);
	good.large_name[8] = '/';
	read_file(&good.format, path, "format");
	read_file(&good.index, path, "index/data.mdb");
	read_file(&good.pack, path, PACK_NAME);
	check(local_store_open(&good.store, path, STORE_READ_ONLY, NULL) == 0);
}

static void restore_store(void)
{
	static const char *const folders[] = {"", "/index", "/packs", "/files", "/tmp"};

	fuzz_folder_remove(store_path);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		char *path cleanup(cleanup_free) = xasprintf("%s%s", store_path, folders[i]);

		check(mkdir(path, 0755) == 0);
	}
	char *path cleanup(cleanup_free) = xasprintf("%s/%.8s", store_path, good.large_name);

	check(mkdir(path, 0755) == 0);
	write_file("index/data.mdb", buffer_bytes(&good.index));
	write_file(good.large_name, buffer_bytes(&good.content[LARGE]));
}

/* ---- steps ---- */

struct damage {
	struct input *in;
	struct index_write *index;
	struct buffer pack;
	struct bytes format;
};

static const struct digest *take_digest(struct input *in)
{
	return &good.digests[input_number(in, 1) % OBJECT_COUNT];
}

/* A key that the table has or may have, or any bytes. */
static struct bytes take_key(struct input *in, enum index_table table, uint8_t room[64])
{
	uint64_t choice = input_number(in, 1);

	if (choice >= 0x80) {
		struct bytes any = input_bytes(in, choice - 0x7f);

		return any.len ? any : bytes_of("x", 1);
	}
	switch (table) {
	case INDEX_LARGE_SIZES:
		put_be64(room, choice % 2 ? LARGE_SIZE : choice);
		memcpy(room + 8, take_digest(in)->bytes, DIGEST_SIZE);
		return bytes_of(room, 8 + DIGEST_SIZE);
	case INDEX_ROOTS:
		return bytes_of_string(choice % 2 ? "outer" : "small");
	case INDEX_PACKS:
		put_be64(room, choice);
		return bytes_of(room, 8);
	case INDEX_SEEN:
		put_be64(room, 1);
		put_be64(room + 8, choice);
		return bytes_of(room, 16);
	case INDEX_META:
		return bytes_of_string(choice % 2 ? "root-sequence" : "path-info-sequence");
	case INDEX_PATH_INFOS:
		return bytes_of(good.hash, sizeof(good.hash));
	case INDEX_BLOBS:
	case INDEX_DIRECTORIES:
	case INDEX_TABLE_COUNT:
		break;
	}
	return digest_bytes(&good.digests[choice % OBJECT_COUNT]);
}

static void put_entry(struct damage *d, enum index_table table, struct bytes key,
		      struct bytes value)
{
	struct error err;

	/* Too long a key is LMDB's to refuse. */
	result(index_write_put(d->index, table, key, value, true, &err), &err);
}

static void put_any_entry(struct damage *d)
{
	enum index_table table = input_number(d->in, 1) % INDEX_TABLE_COUNT;
	uint8_t room[64], value[256] = {0};
	struct bytes key = take_key(d->in, table, room), any = input_string(d->in);

	if (any.len) {
		memcpy(value, any.ptr, any.len);
	}
	/* A location may speak of gigabytes, for which the sanitizer would need memory. */
	if ((table == INDEX_BLOBS || table == INDEX_DIRECTORIES) && any.len >= 16) {
		value[15] = 0;
	}
	put_entry(d, table, key, bytes_of(value, any.len));
}

static void put_location(struct damage *d)
{
	enum index_table table = input_number(d->in, 1) % 2 ? INDEX_BLOBS : INDEX_DIRECTORIES;
	const struct digest *digest = take_digest(d->in);
	uint8_t value[LOCATION_SIZE] = {0};

	value[0] = (uint8_t)input_number(d->in, 1);
	value[1] = (uint8_t)input_number(d->in, 1);
	put_le32(value + 4, (uint32_t)input_number(d->in, 1));
	put_le32(value + 8, (uint32_t)input_number(d->in, 2));
	put_le32(value + 12, (uint32_t)input_number(d->in, 3));
	put_le64(value + 16, input_number(d->in, 5));
	put_entry(d, table, digest_bytes(digest), bytes_of(value, sizeof(value)));
}

static void delete_entry(struct damage *d)
{
	enum index_table table = input_number(d->in, 1) % INDEX_TABLE_COUNT;
	uint8_t room[64];

	index_write_delete(d->index, table, take_key(d->in, table, room), NULL);
}

static void patch(struct buffer *b, struct input *in)
{
	size_t at = (size_t)input_number(in, 3);
	struct bytes with = input_string(in);

	if (at < b->len && with.len) {
		memcpy(b->ptr + at, with.ptr, MIN(with.len, b->len - at));
	}
}

/* A whole record, whose header is right in itself; its payload is whatever was wanted. */
static void append_record(struct damage *d)
{
	static const uint8_t zeros[RECORD_ALIGN];
	struct record r = {
		.kind = (enum record_kind)(1 + input_number(d->in, 1) % RECORD_PATH_INFO),
		.encoding = (uint8_t)input_number(d->in, 1),
		.size = input_number(d->in, 4),
	};
	uint64_t choice = input_number(d->in, 1);
	struct bytes payload = input_string(d->in);

	r.stored = (uint32_t)payload.len;
	if (choice & 1) {
		r.size = payload.len;
	}
	if (choice & 2) {
		digest_of(&r.digest, payload);
	} else {
		r.digest = good.digests[(choice >> 2) % OBJECT_COUNT];
	}
	buffer_reserve(&d->pack, RECORD_HEADER_SIZE);
	record_encode(d->pack.ptr + d->pack.len, &r);
	d->pack.len += RECORD_HEADER_SIZE;
	buffer_append(&d->pack, payload.ptr, payload.len);
	buffer_append(&d->pack, zeros, (size_t)(-d->pack.len % RECORD_ALIGN));
}

static void truncate_pack(struct damage *d)
{
	size_t len = (size_t)input_number(d->in, 2);

	d->pack.len = MIN(d->pack.len, len);
}

static void append_bytes(struct damage *d)
{
	struct bytes any = input_string(d->in);

	buffer_append(&d->pack, any.ptr, any.len);
}

static void change_file(struct damage *d)
{
	struct buffer content = {0};
	struct bytes all = buffer_bytes(&good.content[LARGE]);
	size_t len = (size_t)input_number(d->in, 3);

	buffer_append(&content, all.ptr, MIN(all.len, len));
	patch(&content, d->in);
	write_file(good.large_name, buffer_bytes(&content));
	buffer_done(&content);
}

static void take_step(struct damage *d)
{
	switch (input_number(d->in, 1) % 9) {
	case 0:
		put_any_entry(d);
		break;
	case 1:
		put_location(d);
		break;
	case 2:
		delete_entry(d);
		break;
	case 3:
		append_record(d);
		break;
	case 4:
		patch(&d->pack, d->in);
		break;
	case 5:
		truncate_pack(d);
		break;
	case 6:
		append_bytes(d);
		break;
	case 7:
		change_file(d);
		break;
	default:
		d->format = input_string(d->in);
		break;
	}
}

static void do_damage(struct input *in)
{
	char *path cleanup(cleanup_free) = xasprintf("%s/index", store_path);
	struct damage d = {.in = in, .format = buffer_bytes(&good.format)};
	struct index *ix;

	buffer_append(&d.pack, good.pack.ptr, good.pack.len);
	check(index_open(&ix, path, 0, NULL) == 0);
	check(index_write_begin(ix, &d.index, NULL) == 0);
	for (unsigned i = 0; in->left && i < STEPS_MAX; i++) {
		take_step(&d);
	}
	check(index_write_commit(d.index, NULL) == 0);
	index_close(ix);
	write_file("format", d.format);
	write_file(PACK_NAME, buffer_bytes(&d.pack));
	buffer_done(&d.pack);
}

/* ---- use ---- */

/* For what a check looks at too: objects and roots. */
static int note(int rc, const struct error *err)
{
	failed |= rc < 0;
	return result(rc, err);
}

static void check_part(enum object o, const uint8_t *got, uint64_t offset, size_t len)
{
	const struct buffer *content = &good.content[o];

	check(o < ABSENT && offset + len <= content->len);
	check(memcmp(got, content->ptr + offset, len) == 0);
}

static void use_reader(struct store *s, enum object o)
{
	static const uint64_t offsets[] = {0, 16383, 200001};
	uint8_t part[20000], values[2 * DIGEST_SIZE];
	struct blob_reader *r;
	struct error err = {0};
	size_t got;

	if (note(blob_service_open(s->blobs, &good.digests[o], &r, &err), &err) <= 0) {
		return;
	}
	check(o < ABSENT && blob_reader_size(r) == good.content[o].len);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		if (note(blob_reader_pread(r, part, sizeof(part), offsets[i], &got, &err),
			 &err) == 0 &&
		    got) {
			check_part(o, part, offsets[i], got);
		}
	}
	if (blob_reader_size(r) > OUTBOARD_GROUP) {
		note(blob_reader_outboard(r, 0, 2, values, &err), &err);
	}
	blob_reader_free(r);
}

/* True when all of it can be read. */
static bool use_blob(struct store *s, enum object o)
{
	static uint8_t whole[LARGE_SIZE + 1];
	struct error err = {0};
	uint64_t size;
	bool whole_read = false;
	size_t got;

	note(blob_service_size(s->blobs, &good.digests[o], &size, &err), &err);
	if (note(blob_service_read(s->blobs, &good.digests[o], 0, whole, sizeof(whole), 0, &got,
				   &err),
		 &err) > 0) {
		check(o < ABSENT && got == good.content[o].len);
		check_part(o, whole, 0, got);
		whole_read = true;
	}
	if (note(blob_service_read(s->blobs, &good.digests[o], 50, whole, 30, 0, &got, &err),
		 &err) > 0) {
		check_part(o, whole, 50, got);
	}
	use_reader(s, o);
	return whole_read;
}

/* True when it is there and well. */
static bool use_directory(struct store *s, enum object o)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	struct closure_walk *walk cleanup(cleanup_closure_walk) = NULL;
	struct error err = {0};

	int rc = note(directory_service_get(s->directories, &good.digests[o], &d, &err), &err);

	if (rc > 0) {
		check(o < ABSENT);
		check(bytes_equal(directory_encoding(d), buffer_bytes(&good.content[o])));
	}
	rootless = o == OUTER ? rc == 0 : rootless;
	note(directory_service_has(s->directories, &good.digests[o], &err), &err);
	rc = result(
		directory_service_get_recursive(s->directories, &good.digests[o], &walk, &err),
		&err);

	while (rc > 0) {
		struct directory *next cleanup(cleanup_directory) = NULL;

		rc = result(closure_walk_next(walk, &next, &err), &err);
	}
	return d != NULL;
}

/* The last key that was listed: they come in order. */
struct listed {
	struct buffer last;
	bool any;
};

static void note_key(struct listed *l, struct bytes key)
{
	check(!l->any || bytes_compare(buffer_bytes(&l->last), key) < 0);
	l->any = true;
	l->last.len = 0;
	buffer_append(&l->last, key.ptr, key.len);
}

static bool see_root(void *context, struct bytes name, const struct node *node)
{
	check(node_name_valid(name));
	check(node->kind != NODE_SYMLINK || node_target_valid(node->target));
	note_key(context, name);
	return true;
}

static bool see_record(void *context, struct bytes key, struct bytes value)
{
	check(value.len == 0 || value.ptr);
	note_key(context, key);
	return true;
}

static bool see_path_info(void *context, const struct path_info *info)
{
	note_key(context, bytes_of(info->path.name, info->path.name_len));
	((struct listed *)context)->any = false;
	return true;
}

/* whole: all objects can be read. */
static void use_names(struct store *s, bool whole)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(s);
	struct listed roots = {0}, records = {0}, paths = {0};
	struct root_node root = {0};
	struct path_info info = {0};
	struct error err = {0};

	int rc = note(root_nodes_lookup(s->roots, bytes_of_string("outer"), &root, &err), &err);

	named = rc > 0 && digest_equal(&root.node.digest, &good.digests[OUTER]);
	failed |= named && !whole;
	named = named && !rootless;
	named |= note(root_nodes_list(s->roots, bytes_of(NULL, 0), see_root, &roots, &err),
		      &err) < 0;
	result(record_table_list(s->path_infos, bytes_of(NULL, 0), see_record, &records, &err),
	       &err);
	if (result(path_info_service_get(infos, good.hash, &info, &err), &err) > 0) {
		check(memcmp(info.path.hash, good.hash, sizeof(good.hash)) == 0);
	}
	result(path_info_service_list(infos, NULL, see_path_info, &paths, &err), &err);
	root_node_done(&root);
	path_info_done(&info);
	buffer_done(&roots.last);
	buffer_done(&records.last);
	buffer_done(&paths.last);
}

static void use_rest(struct store *s)
{
	const struct seen_key keys[] = {{.device = 1, .inode = 2}, {.device = 1, .inode = 3}};
	struct seen_value values[2];
	struct blob_counts counts;
	struct error err = {0};
	bool found[2];

	result(blob_service_count(s->blobs, &counts, &err), &err);
	if (s->seen) {
		result(seen_cache_lookup(s->seen, keys, 2, values, found, &err), &err);
	}
}

/* A bit for each object that can be read. */
static unsigned read_all(struct store *s)
{
	unsigned readable = 0;

	for (enum object o = SMALL; o < OBJECT_COUNT; o++) {
		readable |= (unsigned)use_blob(s, o) << o;
		readable |= (unsigned)use_directory(s, o) << o;
	}
	use_names(s, readable == (1u << ABSENT) - 1);
	use_rest(s);
	return readable;
}

/* What was put and synced is there, whatever else is wrong. */
static void write_some(struct store *s)
{
	static const char text[] = "new";
	struct bytes name = bytes_of_string(text);
	struct node node = {.kind = NODE_FILE, .size = name.len};
	struct root_node found = {0};
	struct error err = {0};
	uint8_t got[sizeof(text)];
	size_t n;

	result(blob_service_discard(s->blobs, &good.digests[PACKED], &err), &err);
	result(directory_service_discard(s->directories, &good.digests[INNER], &err), &err);
	result(blob_service_put(s->blobs, buffer_bytes(&good.content[PACKED]), NULL, &err),
	       &err);
	if (result(blob_service_put(s->blobs, name, &node.digest, &err), &err) != 0 ||
	    result(root_nodes_put(s->roots, name, &node, true, &err), &err) != 0) {
		return;
	}
	check(blob_service_read(s->blobs, &node.digest, 0, got, sizeof(got), 0, &n, &err) == 1);
	check(bytes_equal(bytes_of(got, n), name));
	check(root_nodes_lookup(s->roots, name, &found, &err) == 1);
	check(root_node_same(&found.node, &node));
	root_node_done(&found);
	result(root_nodes_remove(s->roots, bytes_of_string("outer"), &err), &err);
}

/* Which objects could be read. */
static unsigned use_store(unsigned how)
{
	struct store s;
	struct error err = {0};
	unsigned readable = 0;

	if (result(local_store_open(&s, store_path, how & HOW_READ_ONLY ? STORE_READ_ONLY : 0,
				    &err),
		   &err) == 0) {
		readable = read_all(&s);
		if ((how & HOW_WRITE) && !(how & HOW_READ_ONLY)) {
			write_some(&s);
		}
		store_close(&s);
	}
	return readable;
}

/* What somebody cannot read, the check finds. */
static void check_store(void)
{
	const struct store_check_options options = {.read_data = true};
	char *address cleanup(cleanup_free) = xasprintf("file://%s", store_path);
	struct store_check_report report;
	struct error err = {0};

	failed = false;
	use_store(HOW_READ_ONLY);
	struct store_figures figures;

	result(store_take_stock(address, &figures, &err), &err);
	if (result(store_check(address, &options, &report, &err), &err) == 0) {
		check(!failed || report.fault_count > 0);
	}
	store_check_report_done(&report);
}

/* Nothing that the good store has is amiss. */
static void check_repaired(const struct store_check_report *after)
{
	for (size_t i = 0; i < after->fault_count; i++) {
		const struct store_fault *f = &after->faults[i];

		for (enum object o = SMALL; f->has_digest && o < ABSENT; o++) {
			check(f->is_directory != (o >= INNER) ||
			      !digest_equal(&f->digest, &good.digests[o]));
		}
	}
	failed = false;
	use_store(HOW_READ_ONLY);
	check(!failed || after->fault_count > 0);
}

static void repair_store(void)
{
	const struct store_repair_options options = {.check = {.read_data = true},
						     .from = &good.store};
	char *address cleanup(cleanup_free) = xasprintf("file://%s", store_path);
	struct store_check_report before, after;
	struct error err = {0};

	if (result(store_repair(address, &options, &before, &after, &err), &err) == 0) {
		check_repaired(&after);
	}
	store_check_report_done(&before);
	store_check_report_done(&after);
}

static void collect_store(void)
{
	struct store_collect_stats stats = {0};
	const struct store_collect_options options = {.stats = &stats};
	char *address cleanup(cleanup_free) = xasprintf("file://%s", store_path);
	struct store_collected collected;
	struct error err = {0};
	unsigned before = use_store(HOW_READ_ONLY);
	bool keeps = named;

	result(store_collect(address, &options, &collected, &err), &err);
	check(!keeps || (before & ~use_store(HOW_READ_ONLY)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	unsigned how = (unsigned)input_number(&in, 1);
	const unsigned discarded = 1u << PACKED | 1u << INNER;
	struct store_rebuilt rebuilt;
	struct error err = {0};

	if (!good.folder) {
		make_good_store();
	}
	restore_store();
	do_damage(&in);
	unsigned before = use_store(how);

	check(!(how & HOW_WRITE) || (before & ~use_store(HOW_READ_ONLY) & ~discarded) == 0);
	if (how & HOW_COLLECT) {
		collect_store();
	}
	if (how & HOW_CHECK) {
		check_store();
	}
	if (how & HOW_REPAIR) {
		repair_store();
	}
	if ((how & HOW_REBUILD) &&
	    result(local_store_rebuild(store_path, &rebuilt, &err), &err) == 0) {
		use_store(HOW_READ_ONLY);
	}
	return 0;
}
