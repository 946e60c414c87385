/* The file system by its requests: sessions, names, attributes, content, faults. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "test_fs_driver.h"

static int setup(void **state)
{
	*state = driver_new();
	return 0;
}

static int teardown(void **state)
{
	driver_free(*state);
	return 0;
}

/* ---- Sessions ---- */

static struct fuse_init_out init_out(const struct driver *d)
{
	struct fuse_init_out out;

	assert_int_equal(d->reply.fixed_len, sizeof(out));
	memcpy(&out, d->reply.fixed, sizeof(out));
	return out;
}

static void test_init_negotiates(void **state)
{
	struct driver *d = *state;

	d->flags = FS_CAN_INVALIDATE;
	assert_int_equal(driver_init(d, UINT64_MAX), 0);
	struct fuse_init_out out = init_out(d);

	assert_int_equal(out.major, 7);
	assert_int_equal(out.minor, 41);
	assert_int_equal(out.max_pages, 256);
	assert_int_equal(out.max_readahead, 131072);
	assert_int_equal(out.time_gran, 1);
	assert_true(out.flags & FUSE_DO_READDIRPLUS);
	assert_true(out.flags & FUSE_CACHE_SYMLINKS);
	assert_true(out.flags & FUSE_INIT_EXT);
	assert_false(out.flags & (FUSE_READDIRPLUS_AUTO | FUSE_WRITEBACK_CACHE |
				  FUSE_AUTO_INVAL_DATA | FUSE_POSIX_ACL | FUSE_SPLICE_READ));
	assert_int_equal(out.flags2, FUSE_HAS_RESEND >> 32);
	/* What is not offered is not asked for. */
	assert_int_equal(driver_init(d, FUSE_ASYNC_READ), 0);
	out = init_out(d);
	assert_int_equal(out.flags, FUSE_ASYNC_READ);
	assert_int_equal(out.flags2, 0);
}

static void test_init_versions(void **state)
{
	struct driver *d = *state;
	/* As Linux 5.4 sends it: without the second word of flags. */
	const uint32_t old[4] = {7, 31, 65536, FUSE_ASYNC_READ};
	const uint32_t too_old[4] = {7, 22, 65536, 0};
	const uint32_t too_new[4] = {8, 0, 65536, 0};
	const uint32_t ancient[2] = {6, 1};
	struct fuse_attr attr;

	assert_int_equal(request(d, FUSE_INIT, 0, old, sizeof(old)), 0);
	assert_int_equal(init_out(d).minor, 31);
	assert_int_equal(init_out(d).flags, FUSE_ASYNC_READ);
	assert_int_equal(request(d, FUSE_INIT, 0, too_old, sizeof(too_old)), -EPROTO);
	assert_int_equal(request(d, FUSE_INIT, 0, ancient, sizeof(ancient)), -EPROTO);
	/* A later major version: we name ours, the kernel begins again. */
	assert_int_equal(request(d, FUSE_INIT, 0, too_new, sizeof(too_new)), 0);
	assert_int_equal(init_out(d).major, 7);
	assert_false(fs_has_session(d->fs));
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), -EIO);
	assert_int_equal(driver_init(d, 0), 0);
	assert_true(fs_has_session(d->fs));
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), 0);
}

struct report {
	char text[4096];
	size_t len;
};

static void add_line(void *context, const char *text)
{
	struct report *r = context;
	int n = snprintf(r->text + r->len, sizeof(r->text) - r->len, "%s\n", text);

	assert_true(n > 0 && (size_t)n < sizeof(r->text) - r->len);
	r->len += (size_t)n;
}

static void expect_report(const struct driver *d, const char *wanted, bool there)
{
	struct report r = {.len = 0};

	fs_describe_session(d->fs, add_line, &r);
	if (there != (strstr(r.text, wanted) != NULL)) {
		fail_msg("%s '%s' in:\n%s", there ? "no" : "there is", wanted, r.text);
	}
}

/* People are told what their kernel lacks, and what that means. */
static void test_negotiation_is_described(void **state)
{
	struct driver *d = *state;
	/* Linux 5.10: no second word of flags, and nothing that came later. */
	const uint32_t linux_5_10[4] = {
		7, 32, 131072,
		FUSE_ASYNC_READ | FUSE_DO_READDIRPLUS | FUSE_NO_OPEN_SUPPORT |
			FUSE_NO_OPENDIR_SUPPORT | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
			FUSE_EXPLICIT_INVAL_DATA | FUSE_PARALLEL_DIROPS | FUSE_ASYNC_DIO |
			FUSE_AUTO_INVAL_DATA};
	/* Nothing but the version: all of it works, with more requests. */
	const uint32_t bare[4] = {7, 31, 65536, 0};

	d->flags = FS_CAN_INVALIDATE;
	assert_int_equal(request(d, FUSE_INIT, 0, linux_5_10, sizeof(linux_5_10)), 0);
	expect_report(d, "the kernel speaks FUSE 7.32; 7.32 is used\n", true);
	expect_report(d, "no PASSTHROUGH, which comes with Linux 6.9: large files are read",
		      true);
	expect_report(d, "no INIT_EXT, which comes with Linux 5.17", true);
	expect_report(d, "\nNO_OPEN_SUPPORT: files are opened without a request\n", true);
	expect_report(d, "\nNO_OPENDIR_SUPPORT: ", true);
	expect_report(d, "AUTO_INVAL_DATA", false);
	assert_int_equal(walk(d, "tree/sub").attr.mode & 0777, 0555);

	assert_int_equal(request(d, FUSE_INIT, 0, bare, sizeof(bare)), 0);
	expect_report(d, "no DO_READDIRPLUS, which this kernel does not offer: a walk costs",
		      true);
	expect_report(d, "no MAX_PAGES, which this kernel does not offer: at most 128 KiB",
		      true);
	uint64_t hello = walk(d, "tree/a").nodeid;

	assert_int_equal(read_at(d, FUSE_READ, hello, 0, 4096), 0);
	assert_int_equal(d->reply.data_len, 5);

	assert_int_equal(driver_init(d, UINT64_MAX), 0);
	expect_report(d, "the kernel speaks FUSE 7.45; 7.41 is used\n", true);
	expect_report(d, "no PASSTHROUGH, because --io or a lack", true);
	d->options.list_root = false;
	driver_remount(d);
	assert_int_equal(driver_init(d, UINT64_MAX), 0);
	expect_report(d, "no NO_OPENDIR_SUPPORT, because the root must not be listed", true);
}

static void test_session_ends(void **state)
{
	struct driver *d = *state;
	uint64_t sub = walk(d, "tree/sub").nodeid;
	uint64_t file = walk(d, "tree/a").nodeid;
	struct fuse_attr attr;
	struct fs_stats stats;

	assert_int_equal(driver_init(d, 0), 0);
	fs_get_stats(d->fs, &stats);
	assert_int_equal(stats.directories, 0);
	assert_int_equal(stats.contents, 0);
	assert_int_equal(getattr(d, sub, &attr), -ESTALE);
	assert_int_equal(getattr(d, file, &attr), -ESTALE);
	assert_int_not_equal(walk(d, "tree/sub").nodeid, sub);
	assert_int_equal(request(d, FUSE_DESTROY, 0, NULL, 0), 0);
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), -EIO);
	assert_int_equal(driver_init(d, 0), 0);
}

static void test_requests_are_counted(void **state)
{
	struct driver *d = *state;
	char text[FS_REQUESTS_TEXT_SIZE];
	struct fuse_entry_out entry;

	driver_remount(d);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "file", &entry), 0);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "missing", &entry), -ENOENT);
	forget(d, entry.nodeid, 1);
	assert_int_equal(request(d, FUSE_WRITE, FUSE_ROOT_ID, NULL, 0), -EROFS);
	assert_int_equal(request(d, 4711, FUSE_ROOT_ID, NULL, 0), -ENOSYS);
	assert_string_equal(fs_describe_requests(d->fs, text),
			    "6 requests: unknown 1, LOOKUP 2, FORGET 1, #16 1, INIT 1");
}

/* ---- Names and attributes ---- */

static void test_attributes(void **state)
{
	struct driver *d = *state;
	const struct node huge = {.kind = NODE_DIRECTORY, .size = 1000};

	put_root(d, "huge", huge);
	struct fuse_entry_out a = walk(d, "tree/a");
	struct fuse_entry_out b = walk(d, "tree/b");
	struct fuse_entry_out link = walk(d, "tree/link");
	struct fuse_entry_out sub = walk(d, "tree/sub");
	struct fuse_entry_out big = walk(d, "tree/big");

	assert_int_equal(a.attr.mode, S_IFREG | 0444);
	assert_int_equal(a.attr.size, 5);
	assert_int_equal(a.attr.blocks, 1);
	assert_int_equal(a.attr.nlink, 1);
	assert_int_equal(b.attr.mode, S_IFREG | 0555);
	assert_int_equal(link.attr.mode, S_IFLNK | 0444);
	assert_int_equal(link.attr.size, 1);
	assert_int_equal(sub.attr.mode, S_IFDIR | 0555);
	assert_int_equal(sub.attr.size, 2); /* in, and deep in it */
	assert_int_not_equal(sub.attr.nlink, 0);
	assert_int_equal(big.attr.blocks, BIG_SIZE / 512);
	/* Only large directories are worth large listings. */
	assert_int_equal(big.attr.blksize, 4096);
	assert_int_equal(sub.attr.blksize, 4096);
	assert_int_equal(walk(d, "huge").attr.blksize, 262144);
	assert_int_equal(a.entry_valid, UINT64_MAX);
	assert_int_equal(a.attr_valid, UINT64_MAX);
	assert_int_equal(a.attr.mtime | a.attr.ctime | a.attr.uid | a.attr.gid, 0);
}

static void test_getattr_says_the_same(void **state)
{
	static const char *const paths[] = {"tree",     "tree/a", "tree/b",      "tree/link",
					    "tree/sub", "file",   "tree/sub/in", "link",
					    "lost",     "many",   "lostfile"};
	struct driver *d = *state;
	struct fuse_attr attr;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct fuse_entry_out e = walk(d, paths[i]);

		assert_int_equal(getattr(d, e.nodeid, &attr), 0);
		assert_memory_equal(&attr, &e.attr, sizeof(attr));
	}
	assert_int_equal(getattr(d, FUSE_ROOT_ID, &attr), 0);
	assert_int_equal(attr.ino, 1);
	assert_int_equal(attr.mode, S_IFDIR | 0555);
}

static void test_equal_content_has_equal_ino(void **state)
{
	struct driver *d = *state;
	uint64_t a = walk(d, "tree/a").attr.ino;
	struct fuse_entry_out sub = walk(d, "tree/sub");
	struct fuse_entry_out sub2 = walk(d, "tree/sub2");

	assert_int_equal(a, walk(d, "tree/c").attr.ino);
	assert_int_equal(a, walk(d, "file").attr.ino);
	assert_int_not_equal(a, walk(d, "tree/b").attr.ino);
	assert_int_equal(walk(d, "tree/link").attr.ino, walk(d, "tree/link2").attr.ino);
	assert_int_not_equal(walk(d, "link").attr.ino, walk(d, "tree/link").attr.ino);
	assert_int_equal(sub.attr.ino, sub2.attr.ino);
	/* The kernel allows a directory one place, so its node is the path's. */
	assert_int_not_equal(sub.nodeid, sub2.nodeid);
	assert_int_not_equal(walk(d, "tree/sub/in").nodeid, walk(d, "tree/sub2/in").nodeid);
	assert_int_equal(walk(d, "tree/sub").nodeid, sub.nodeid);
}

static void test_empty_directory_is_no_empty_file(void **state)
{
	struct driver *d = *state;
	const struct node file = {.kind = NODE_FILE, .digest = digest_empty};
	const struct node directory = {.kind = NODE_DIRECTORY, .digest = digest_empty};

	put_root(d, "e1", file);
	put_root(d, "e2", directory);
	assert_int_not_equal(walk(d, "e1").attr.ino, walk(d, "e2").attr.ino);
}

static void test_inodes_by_path(void **state)
{
	struct driver *d = *state;

	d->options.inodes_by_path = true;
	driver_remount(d);
	struct fuse_entry_out sub = walk(d, "tree/sub");
	uint64_t in = walk(d, "tree/sub/in").attr.ino;

	assert_int_not_equal(sub.attr.ino, walk(d, "tree/sub2").attr.ino);
	assert_int_not_equal(in, walk(d, "tree/sub2/in").attr.ino);
	assert_int_equal(walk(d, "tree/a").attr.ino, walk(d, "tree/c").attr.ino);
	driver_remount(d);
	assert_int_equal(in, walk(d, "tree/sub/in").attr.ino);
}

static void test_absent_names(void **state)
{
	struct driver *d = *state;
	uint64_t tree = walk(d, "tree").nodeid;
	struct fuse_entry_out e;
	char longest[300];

	assert_int_equal(lookup(d, tree, "nope", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_int_equal(e.entry_valid, UINT64_MAX);
	/* This root may grow. */
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "nope", &e), -ENOENT);
	put_root(d, "nope", symlink_node("now"));
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "nope", &e), 0);
	memset(longest, 'x', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(lookup(d, tree, longest, &e), -ENAMETOOLONG);
	longest[255] = '\0';
	assert_int_equal(lookup(d, tree, longest, &e), 0);
	assert_int_equal(lookup(d, tree, "", &e), -EINVAL);
	assert_int_equal(lookup(d, tree, "..", &e), -EINVAL);
	assert_int_equal(lookup(d, FUSE_ROOT_ID, "a/b", &e), -EINVAL);
	assert_int_equal(request(d, FUSE_LOOKUP, tree, "ab", 2), -EINVAL); /* no NUL */
}

static void test_replaced_root(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out old = walk(d, "file");
	struct fuse_attr attr;

	put_root(d, "file", put_blob(d, "other", 5, true));
	struct fuse_entry_out new = walk(d, "file");

	assert_int_not_equal(old.nodeid, new.nodeid);
	assert_int_equal(new.attr.mode, S_IFREG | 0555);
	assert_int_equal(getattr(d, old.nodeid, &attr), 0);
	assert_int_equal(attr.ino, old.attr.ino);
	assert_int_equal(walk(d, "file").nodeid, new.nodeid);
}

/* ---- Content ---- */

static void test_read(void **state)
{
	struct driver *d = *state;
	uint64_t a = walk(d, "tree/a").nodeid;
	uint64_t big = walk(d, "tree/big").nodeid;

	assert_int_equal(read_at(d, FUSE_READ, a, 0, 4096), 0);
	assert_int_equal(d->reply.data_len, 5);
	assert_memory_equal(d->reply.data, "hello", 5);
	assert_int_equal(read_at(d, FUSE_READ, a, 3, 1), 0);
	assert_int_equal(d->reply.data_len, 1);
	assert_memory_equal(d->reply.data, "l", 1);
	assert_int_equal(read_at(d, FUSE_READ, a, 5, 10), 0);
	assert_int_equal(d->reply.data_len, 0);
	assert_int_equal(read_at(d, FUSE_READ, a, UINT64_MAX, UINT32_MAX), 0);
	assert_int_equal(d->reply.data_len, 0);
	assert_int_equal(read_at(d, FUSE_READ, walk(d, "file").nodeid, 0, 4096), 0);
	assert_memory_equal(d->reply.data, "hello", 5);
	for (uint32_t at = 0; at < BIG_SIZE; at += 77777) {
		assert_int_equal(read_at(d, FUSE_READ, big, at, 131072), 0);
		assert_int_equal(d->reply.data_len, MIN(131072u, BIG_SIZE - at));
		for (uint32_t i = at; i < at + d->reply.data_len; i += 4099) {
			const uint8_t *data = d->reply.data;

			assert_int_equal(data[i - at], (uint8_t)(i >> 8 ^ i));
		}
	}
}

static void test_read_needs_room(void **state)
{
	struct driver *d = *state;
	uint64_t big = walk(d, "tree/big").nodeid;

	/* Less than was asked for would be the end of the file. */
	d->reply.data_capacity = 4096;
	assert_int_equal(read_at(d, FUSE_READ, big, 0, 8192), -EINVAL);
	assert_int_equal(read_at(d, FUSE_READ, big, 0, 4096), 0);
	d->reply.data_capacity = FS_DATA_MAX;
}

static void test_readlink(void **state)
{
	struct driver *d = *state;

	assert_int_equal(request(d, FUSE_READLINK, walk(d, "tree/link").nodeid, NULL, 0), 0);
	assert_int_equal(d->reply.data_len, 1);
	assert_memory_equal(d->reply.data, "a", 1);
	assert_int_equal(request(d, FUSE_READLINK, walk(d, "link").nodeid, NULL, 0), 0);
	assert_int_equal(d->reply.data_len, 6);
	assert_memory_equal(d->reply.data, "tree/a", 6);
}

static void test_wrong_kinds(void **state)
{
	struct driver *d = *state;
	const struct fuse_open_in open_in = {.flags = O_RDONLY};
	uint64_t dir = walk(d, "tree").nodeid;
	uint64_t file = walk(d, "tree/a").nodeid;
	uint64_t link = walk(d, "tree/link").nodeid;
	struct fuse_entry_out e;

	assert_int_equal(read_at(d, FUSE_READ, dir, 0, 10), -EISDIR);
	assert_int_equal(read_at(d, FUSE_READ, FUSE_ROOT_ID, 0, 10), -EISDIR);
	assert_int_equal(read_at(d, FUSE_READ, link, 0, 10), -EINVAL);
	assert_int_equal(request(d, FUSE_READLINK, dir, NULL, 0), -EINVAL);
	assert_int_equal(request(d, FUSE_READLINK, file, NULL, 0), -EINVAL);
	assert_int_equal(lookup(d, file, "x", &e), -ENOTDIR);
	assert_int_equal(lookup(d, link, "x", &e), -ENOTDIR);
	assert_int_equal(lookup(d, walk(d, "file").nodeid, "x", &e), -ENOTDIR);
	assert_int_equal(read_at(d, FUSE_READDIR, file, 0, 4096), -ENOTDIR);
	assert_int_equal(request(d, FUSE_OPEN, dir, &open_in, sizeof(open_in)), -EISDIR);
	assert_int_equal(request(d, FUSE_OPEN, link, &open_in, sizeof(open_in)), -ELOOP);
	assert_int_equal(request(d, FUSE_OPENDIR, file, &open_in, sizeof(open_in)), -ENOTDIR);
}

static void test_open(void **state)
{
	struct driver *d = *state;
	const struct fuse_open_in reading = {.flags = O_RDONLY};
	const struct fuse_open_in writing = {.flags = O_WRONLY};
	const struct fuse_release_in release = {.fh = 0};
	struct fuse_open_out out;
	uint64_t a = walk(d, "tree/a").nodeid;

	assert_int_equal(request(d, FUSE_OPEN, a, &reading, sizeof(reading)), 0);
	assert_int_equal(d->reply.fixed_len, sizeof(out));
	memcpy(&out, d->reply.fixed, sizeof(out));
	assert_true(out.open_flags & FOPEN_KEEP_CACHE);
	assert_int_equal(request(d, FUSE_RELEASE, a, &release, sizeof(release)), 0);
	assert_int_equal(request(d, FUSE_OPEN, a, &writing, sizeof(writing)), -EROFS);
	assert_int_equal(driver_init(d, FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT), 0);
	a = walk(d, "tree/a").nodeid;
	assert_int_equal(request(d, FUSE_OPEN, a, &reading, sizeof(reading)), -ENOSYS);
	/* This root grows: its listing must not be cached, so directories are opened. */
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &reading, sizeof(reading)), 0);
	memcpy(&out, d->reply.fixed, sizeof(out));
	assert_int_equal(out.open_flags, 0);
	uint64_t tree = walk(d, "tree").nodeid;

	assert_int_equal(request(d, FUSE_OPENDIR, tree, &reading, sizeof(reading)), 0);
	memcpy(&out, d->reply.fixed, sizeof(out));
	assert_int_equal(out.open_flags, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR);
}

static void get_root(struct driver *d, struct fuse_attr_out *out)
{
	const struct fuse_getattr_in in = {.dummy = 0};

	assert_int_equal(request(d, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in)), 0);
	memcpy(out, d->reply.fixed, sizeof(*out));
}

/*
 * With one that cannot, and a kernel that looks at times: no OPENDIR, but the root's time is
 * another one whenever it is asked for.
 */
static void test_no_opendir_with_times(void **state)
{
	struct driver *d = *state;
	const struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_init_out init;
	struct fuse_attr_out one, other;
	struct fuse_attr tree;

	assert_int_equal(driver_init(d, FUSE_NO_OPENDIR_SUPPORT | FUSE_AUTO_INVAL_DATA), 0);
	memcpy(&init, d->reply.fixed, sizeof(init));
	assert_true(init.flags & FUSE_AUTO_INVAL_DATA);
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in)), -ENOSYS);
	get_root(d, &one);
	get_root(d, &other);
	assert_int_equal(one.attr_valid, 1);
	assert_int_equal(one.attr.mtime + one.attr.ctime, 0);
	assert_int_not_equal(one.attr.mtimensec, other.attr.mtimensec);
	assert_int_equal(getattr(d, walk(d, "tree").nodeid, &tree), 0);
	assert_int_equal(tree.mtimensec, 0);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, FUSE_ROOT_ID, 1 << 20, 4096), 0);
	assert_false(d->reply.invalidate_root);

	/* Not asked of a kernel that is told, nor where the root's listing is refused. */
	d->flags = FS_CAN_INVALIDATE;
	assert_int_equal(driver_init(d, FUSE_NO_OPENDIR_SUPPORT | FUSE_AUTO_INVAL_DATA), 0);
	memcpy(&init, d->reply.fixed, sizeof(init));
	assert_false(init.flags & FUSE_AUTO_INVAL_DATA);
	get_root(d, &one);
	assert_int_equal(one.attr.mtimensec, 0);
	d->flags = 0;
	d->options.list_root = false;
	driver_remount(d);
	assert_int_equal(driver_init(d, FUSE_NO_OPENDIR_SUPPORT | FUSE_AUTO_INVAL_DATA), 0);
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in)), -EPERM);
}

/* With a transport that can tell the kernel to drop the root's listing. */
static void test_no_opendir_with_notices(void **state)
{
	struct driver *d = *state;
	const struct fuse_open_in in = {.flags = O_RDONLY};

	d->flags = FS_CAN_INVALIDATE;
	assert_int_equal(driver_init(d, FUSE_NO_OPENDIR_SUPPORT), 0);
	assert_int_equal(request(d, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in)), -ENOSYS);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, FUSE_ROOT_ID, 0, 4096), 0);
	assert_false(d->reply.invalidate_root);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, FUSE_ROOT_ID, 1 << 20, 4096), 0);
	assert_int_equal(d->reply.data_len, 0);
	assert_true(d->reply.invalidate_root);
	assert_int_equal(read_at(d, FUSE_READDIR, walk(d, "many").nodeid, 1 << 20, 4096), 0);
	assert_false(d->reply.invalidate_root);
}

/* ---- Faults of the store ---- */

static void test_missing_directory(void **state)
{
	struct driver *d = *state;
	struct fuse_entry_out lost = walk(d, "lost");
	struct fuse_entry_out e;

	assert_int_equal(lost.attr.size, 1);
	assert_int_equal(lookup(d, lost.nodeid, "nothing", &e), -EIO);
	assert_int_equal(read_at(d, FUSE_READDIR, lost.nodeid, 0, 4096), -EIO);
	assert_int_equal(read_at(d, FUSE_READDIRPLUS, lost.nodeid, 0, 4096), -EIO);
}

static void test_corrupt_directory(void **state)
{
	struct driver *d = *state;
	uint64_t tree = walk(d, "tree").nodeid;
	struct fuse_entry_out e;

	assert_true(memory_directory_corrupt(d->store.directories, &d->tree,
					     bytes_of_string("garbage")));
	assert_int_equal(lookup(d, tree, "a", &e), -EIO);
	assert_int_equal(lookup(d, tree, "nope", &e), -EIO);
}

static void test_missing_and_wrong_blobs(void **state)
{
	struct driver *d = *state;
	struct fuse_attr attr;
	uint64_t lost = walk(d, "lostfile").nodeid;

	assert_int_equal(getattr(d, lost, &attr), 0);
	assert_int_equal(read_at(d, FUSE_READ, lost, 0, 4096), -EIO);
	/* The kernel would take a short reply for the end of the file. */
	assert_int_equal(read_at(d, FUSE_READ, walk(d, "lies/longer").nodeid, 0, 4096), -EIO);
	assert_true(memory_blob_corrupt(d->store.blobs, &d->hello, bytes_of_string("jello")));
	assert_int_equal(read_at(d, FUSE_READ, walk(d, "tree/a").nodeid, 0, 4096), -EIO);
}

static void test_read_only(void **state)
{
	static const uint32_t opcodes[] = {
		FUSE_SETATTR, FUSE_SYMLINK,   FUSE_MKNOD,           FUSE_MKDIR,
		FUSE_UNLINK,  FUSE_RMDIR,     FUSE_RENAME,          FUSE_LINK,
		FUSE_WRITE,   FUSE_SETXATTR,  FUSE_REMOVEXATTR,     FUSE_CREATE,
		FUSE_RENAME2, FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE, FUSE_TMPFILE,
	};
	static const uint32_t ignored[] = {FUSE_FLUSH, FUSE_ACCESS, FUSE_IOCTL, FUSE_LSEEK,
					   FUSE_POLL,  FUSE_BMAP,   52,         1000,
					   4096,       UINT32_MAX,  0};
	struct driver *d = *state;
	const uint8_t arg[256] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		assert_int_equal(request(d, opcodes[i], FUSE_ROOT_ID, arg, sizeof(arg)),
				 -EROFS);
	}
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++) {
		assert_int_equal(request(d, ignored[i], FUSE_ROOT_ID, arg, sizeof(arg)),
				 -ENOSYS);
	}
	assert_int_equal(request(d, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0), 0);
	assert_int_equal(request(d, FUSE_INTERRUPT, 0, arg, 8), 1);
}

/* ---- Extended attributes ---- */

static int getxattr(struct driver *d, uint64_t nodeid, const char *name, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};
	uint8_t arg[sizeof(in) + 256];
	size_t len = strlen(name) + 1;

	memcpy(arg, &in, sizeof(in));
	memcpy(arg + sizeof(in), name, len);
	return request(d, FUSE_GETXATTR, nodeid, arg, sizeof(in) + len);
}

static uint32_t xattr_size(const struct driver *d)
{
	struct fuse_getxattr_out out;

	assert_int_equal(d->reply.fixed_len, sizeof(out));
	memcpy(&out, d->reply.fixed, sizeof(out));
	return out.size;
}

#define BLOB_XATTR "user.tvix.castore.blob.digest"
#define DIRECTORY_XATTR "user.snix.castore.directory.digest"

static void test_xattr_values(void **state)
{
	struct driver *d = *state;
	uint64_t a = walk(d, "tree/a").nodeid;
	uint64_t tree = walk(d, "tree").nodeid;
	size_t len = strlen(digest_text(&d->hello));

	assert_int_equal(getxattr(d, a, BLOB_XATTR, 0), 0);
	assert_int_equal(xattr_size(d), len);
	assert_int_equal(getxattr(d, a, BLOB_XATTR, (uint32_t)len), 0);
	assert_int_equal(d->reply.data_len, len);
	assert_memory_equal(d->reply.data, digest_text(&d->hello), len);
	assert_int_equal(getxattr(d, a, BLOB_XATTR, (uint32_t)len - 1), -ERANGE);
	assert_int_equal(getxattr(d, a, DIRECTORY_XATTR, 0), -ENODATA);
	assert_int_equal(getxattr(d, tree, DIRECTORY_XATTR, 64), 0);
	assert_memory_equal(d->reply.data, digest_text(&d->tree), len);
	assert_int_equal(getxattr(d, FUSE_ROOT_ID, DIRECTORY_XATTR, 64), -ENODATA);
	assert_int_equal(getxattr(d, walk(d, "link").nodeid, BLOB_XATTR, 64), -ENODATA);
	assert_int_equal(getxattr(d, a, "security.capability", 64), -ENODATA);
}

static void test_xattr_lists(void **state)
{
	static const char expected[] = "user.tvix.castore.blob.digest\0"
				       "user.snix.castore.blob.digest";
	struct driver *d = *state;
	struct fuse_getxattr_in in = {.size = 0};
	uint64_t a = walk(d, "tree/a").nodeid;

	assert_int_equal(request(d, FUSE_LISTXATTR, a, &in, sizeof(in)), 0);
	assert_int_equal(xattr_size(d), sizeof(expected));
	in.size = sizeof(expected);
	assert_int_equal(request(d, FUSE_LISTXATTR, a, &in, sizeof(in)), 0);
	assert_int_equal(d->reply.data_len, sizeof(expected));
	assert_memory_equal(d->reply.data, expected, sizeof(expected));
	in.size--;
	assert_int_equal(request(d, FUSE_LISTXATTR, a, &in, sizeof(in)), -ERANGE);
	assert_int_equal(request(d, FUSE_LISTXATTR, FUSE_ROOT_ID, &in, sizeof(in)), 0);
	assert_int_equal(d->reply.data_len, 0);
	d->options.show_xattr = false;
	driver_remount(d);
	a = walk(d, "tree/a").nodeid;
	assert_int_equal(request(d, FUSE_LISTXATTR, a, &in, sizeof(in)), -ENOSYS);
	assert_int_equal(getxattr(d, a, BLOB_XATTR, 64), -ENOSYS);
}

/* ---- Garbage ---- */

/* Every opcode with arguments of every length up to that of the longest structure. */
static void test_garbage(void **state)
{
	struct driver *d = *state;
	uint64_t nodes[] = {0, FUSE_ROOT_ID, 2, walk(d, "tree").nodeid, UINT64_MAX, 1ULL << 62};
	uint8_t arg[120];

	for (unsigned fill = 0; fill < 3; fill++) {
		memset(arg, (int)(fill * 127), sizeof(arg));
		for (uint32_t opcode = 0; opcode < 60; opcode++) {
			for (size_t len = 0; len <= sizeof(arg); len++) {
				uint64_t node = nodes[(len + opcode) % ARRAY_SIZE(nodes)];

				request(d, opcode, node, arg, len);
			}
		}
		driver_init(d, 0);
		nodes[3] = walk(d, "tree").nodeid;
	}
}

/* The header says another length than there is. */
static void test_bad_headers(void **state)
{
	static const uint32_t lengths[] = {0, 1, 39, 40, 41, 1000, UINT32_MAX};
	struct driver *d = *state;
	uint8_t bytes[60] = {0};

	for (size_t len = 0; len <= sizeof(bytes); len++) {
		for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
			struct fuse_in_header header = {.len = lengths[i],
							.opcode = FUSE_LOOKUP,
							.nodeid = FUSE_ROOT_ID,
							.total_extlen = i % 2 ? 0xffff : 0};

			memcpy(bytes, &header, sizeof(header));
			uint8_t *exact = xmalloc(len + 1);

			memcpy(exact, bytes, len);
			enum fs_outcome outcome =
				fs_handle(d->fs, bytes_of(exact, len), 0, &d->reply);

			free(exact);
			assert_int_equal(outcome,
					 len < sizeof(header) ? FS_NO_REPLY : FS_REPLY);
			if (outcome == FS_REPLY) {
				assert_int_not_equal(d->reply.header.error, 0);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_init_negotiates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_init_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_negotiation_is_described, setup, teardown),
		cmocka_unit_test_setup_teardown(test_session_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attributes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_getattr_says_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_equal_content_has_equal_ino, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_empty_directory_is_no_empty_file, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_inodes_by_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absent_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_needs_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readlink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_opendir_with_notices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_opendir_with_times, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_corrupt_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_and_wrong_blobs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xattr_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xattr_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_headers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
