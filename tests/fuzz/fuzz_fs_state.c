/*
 * A session that comes from anywhere: restored, used a little, saved, and restored again.
 * Directories that it can name: two, one with a file and the other one in it.
 *
 * Input that begins with "keep" is about a session in memory that outlives a process, and says
 * what of it is changed, eight bytes a change: page (of which there are five), zero, u16
 * offset, u32 value.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "fs/fs.h"
#include "fs/keep.h"
#include "services/memory.h"

#include "fuzz.h"

static struct node put_directory(struct store *s, const char *name, struct node entry)
{
	struct directory_builder *b cleanup(cleanup_directory_builder) =
		directory_builder_new();
	struct directory *d cleanup(cleanup_directory) = NULL;

	check(directory_builder_add(b, bytes_of_string(name), &entry, NULL) == 0);
	check(directory_builder_finish(b, &d, NULL) == 0);
	check(directory_service_put(s->directories, d, NULL) == 0);
	return directory_node(d);
}

static const struct fs_options *the_options(void)
{
	static struct store s;
	static struct fs_options options;
	const struct node file = {.kind = NODE_FILE, .digest = digest_empty};

	if (!options.blobs) {
		memory_store_open(&s);
		struct node top = put_directory(&s, "sub", put_directory(&s, "file", file));

		check(root_nodes_put(s.roots, bytes_of_string("top"), &top, false, NULL) == 0);
		options = (struct fs_options){.blobs = s.blobs,
					      .directories = s.directories,
					      .roots = s.roots,
					      .list_root = true};
	}
	return &options;
}

/* A lookup; the node id, or 0. */
static uint64_t lookup(struct fs *fs, uint64_t parent, const char *name)
{
	struct {
		struct fuse_in_header header;
		char name[8];
	} request = {
		.header = {.len = sizeof(request), .opcode = FUSE_LOOKUP, .nodeid = parent}};
	uint8_t data[64];
	struct fs_reply reply = {.data = data, .data_capacity = sizeof(data)};
	struct fuse_entry_out e = {.nodeid = 0};

	memcpy(request.name, name, strlen(name));
	check(fs_handle(fs, bytes_of(&request, sizeof(request)), 0, &reply) == FS_REPLY);
	if (reply.header.error == 0) {
		memcpy(&e, reply.fixed, sizeof(e));
	}
	return e.nodeid;
}

static void forget(struct fs *fs, uint64_t id)
{
	const struct {
		struct fuse_in_header header;
		struct fuse_forget_in in;
	} request = {.header = {.len = sizeof(request), .opcode = FUSE_FORGET, .nodeid = id},
		     .in = {.nlookup = 2}};
	struct fs_reply reply = {.data_capacity = 0};

	fs_handle(fs, bytes_of(&request, sizeof(request)), 0, &reply);
}

static void use(struct fs *fs)
{
	uint64_t top = lookup(fs, FUSE_ROOT_ID, "top");
	uint64_t sub = top ? lookup(fs, top, "sub") : 0;

	if (sub) {
		forget(fs, lookup(fs, sub, "file"));
		forget(fs, sub);
	}
	forget(fs, top);
}

/* ---- Kept sessions ---- */

#define PAGE 4096
#define PAGES 5u
#define CHANGE 8u

static off_t page_offset(size_t page)
{
	if (page == 0) {
		return 0;
	}
	return (off_t)(page <= KEEP_TABLES ? keep_table_offset((enum keep_table)(page - 1))
					   : keep_log_offset());
}

static int new_memory(void)
{
	int fd = memfd_create("session", MFD_CLOEXEC);

	check(fd >= 0);
	return fd;
}

static void begin_session(struct fs *fs)
{
	struct {
		struct fuse_in_header header;
		struct fuse_init_in in;
	} request = {.header = {.len = sizeof(request), .opcode = FUSE_INIT},
		     .in = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_MINOR_SPOKEN}};
	struct fs_reply reply = {.data_capacity = 0};

	check(fs_handle(fs, bytes_of(&request, sizeof(request)), 0, &reply) == FS_REPLY);
}

/* The first pages of a session in use. */
static const uint8_t *the_pages(off_t *size)
{
	static uint8_t pages[PAGES][PAGE];
	static off_t file_size;

	if (file_size == 0) {
		int fd cleanup(cleanup_close) = new_memory();
		struct fs *fs;

		check(fs_new(the_options(), &fs, NULL) == 0);
		check(fs_keep(fs, fd, NULL) == 0);
		begin_session(fs);
		lookup(fs, lookup(fs, lookup(fs, FUSE_ROOT_ID, "top"), "sub"), "file");
		for (size_t i = 0; i < PAGES; i++) {
			check(pread_full(fd, pages[i], PAGE, page_offset(i)) == PAGE);
		}
		file_size = lseek(fd, 0, SEEK_END);
		fs_free(fs);
	}
	*size = file_size;
	return pages[0];
}

static int changed_memory(struct bytes changes)
{
	off_t size;
	const uint8_t *pages = the_pages(&size);
	int fd = new_memory();

	check(ftruncate(fd, size) == 0);
	for (size_t i = 0; i < PAGES; i++) {
		check(pwrite_full(fd, pages + i * PAGE, PAGE, page_offset(i)) == 0);
	}
	for (size_t at = 0; at + CHANGE <= changes.len; at += CHANGE) {
		const uint8_t *c = changes.ptr + at;
		off_t offset = c[2] | (off_t)(c[3] & 0xf) << 8;

		check(pwrite_full(fd, c + 4, 4, page_offset(c[0] % PAGES) + offset) == 0);
	}
	return fd;
}

static bool resume(struct fs **fs, int fd)
{
	struct error err = {.code = ERROR_NONE};

	check(fs_new(the_options(), fs, NULL) == 0);
	int rc = fs_keep(*fs, fd, &err);

	if (rc > 0) {
		rc = fs_resume(*fs, &err);
		check(rc == 0 || (err.text[0] && !fs_has_session(*fs)));
		return rc == 0;
	}
	check(rc == 0 || err.text[0]);
	return false;
}

static void change_kept(struct bytes changes)
{
	int fd cleanup(cleanup_close) = changed_memory(changes);
	struct fs *fs;

	log_set_level(LOG_LEVEL_ERROR);
	if (resume(&fs, fd)) {
		use(fs);
		fs_free(fs);
		/* What was taken over once is sound. */
		check(resume(&fs, fd));
		use(fs);
	}
	fs_free(fs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= 4 && memcmp(data, "keep", 4) == 0) {
		change_kept(bytes_of(data + 4, size - 4));
		return 0;
	}
	struct buffer saved = {.ptr = NULL};
	struct error err = {.code = ERROR_NONE};
	struct fs *fs;

	check(fs_new(the_options(), &fs, NULL) == 0);
	if (fs_restore(fs, bytes_of(data, size), &err) == 0) {
		use(fs);
		check(fs_save(fs, &saved, NULL) == 0);
		fs_free(fs);
		check(fs_new(the_options(), &fs, NULL) == 0);
		check(fs_restore(fs, buffer_bytes(&saved), NULL) == 0);
		use(fs);
		buffer_done(&saved);
	} else {
		check(told(&err) && !fs_has_session(fs));
	}
	fs_free(fs);
	return 0;
}
