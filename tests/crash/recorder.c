/*
 * A library to be preloaded: notes what a program does to the files below one folder (log.h).
 *
 * Each call is made and noted under a lock over all processes, so that the log has the order of
 * what happened. Nothing is synced in truth: a sync is only noted, since the machine does not
 * crash. Descriptors are told apart by what they are at the moment (/proc/self/fd), so nothing
 * has to be kept in step with dup, fork and close.
 *
 * Not seen: system calls made without the C library, writes to mapped memory. A writable shared
 * mapping is noted as unknown, but for the lock file of LMDB: its content means nothing after a
 * crash, when nobody holds it (the first to come writes it anew).
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"

#define EXPORT __attribute__((visibility("default")))
/* Programs that use 64-bit offsets know most calls under a second name. */
#define ALSO(name, of) \
	extern __typeof__(of) name __attribute__((alias(#of), visibility("default")));

static const char *log_path, *folder;
static size_t folder_len;

/* ---- the log ---- */

/* Also the lock: closing the descriptor lets go of it. -1: nothing is recorded. */
static int log_open(void)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (!log_path) {
		return -1;
	}
	int fd = (int)syscall(SYS_openat, AT_FDCWD, log_path,
			      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || syscall(SYS_fcntl, fd, F_OFD_SETLKW, &whole) != 0) {
		abort();
	}
	return fd;
}

static void log_close(int log)
{
	int errnum = errno;

	if (log >= 0) {
		syscall(SYS_close, log);
	}
	errno = errnum;
}

struct noted {
	struct log_entry entry;
	const char *name, *name2;
	const struct iovec *data;
	int data_count;
};

static void log_append(int log, struct noted *n)
{
	struct iovec parts[64];
	int count = 0;
	size_t total = sizeof(n->entry);

	n->entry.magic = LOG_MAGIC;
	n->entry.process = (uint32_t)getpid();
	n->entry.name_len = n->name ? (uint32_t)strlen(n->name) : 0;
	n->entry.name2_len = n->name2 ? (uint32_t)strlen(n->name2) : 0;
	parts[count++] = (struct iovec){.iov_base = &n->entry, .iov_len = sizeof(n->entry)};
	parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)n->name,
					.iov_len = n->entry.name_len};
	parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)n->name2,
					.iov_len = n->entry.name2_len};
	total += n->entry.name_len + n->entry.name2_len;
	uint64_t left = n->entry.data_len;

	for (int i = 0; left && i < n->data_count; i++) {
		size_t len = n->data[i].iov_len < left ? n->data[i].iov_len : (size_t)left;

		parts[count].iov_base = n->data[i].iov_base;
		parts[count++].iov_len = len;
		left -= len;
		total += len;
		if (count == 64 && i + 1 < n->data_count) {
			abort();
		}
	}
	if (syscall(SYS_writev, log, parts, count) != (ssize_t)total) {
		abort();
	}
}

static void log_unknown(int log, const char *what)
{
	log_append(log, &(struct noted){.entry.op = LOG_UNKNOWN, .name = what});
}

/* ---- what is recorded ---- */

/* What the path is below the folder ("" for itself); NULL: it is not there, or has no name. */
static const char *below(const char *path)
{
	size_t len = strlen(path);
	static const char gone[] = " (deleted)";

	if (strncmp(path, folder, folder_len) != 0 ||
	    (path[folder_len] != '/' && path[folder_len])) {
		return NULL;
	}
	if (len > sizeof(gone) && strcmp(path + len - (sizeof(gone) - 1), gone) == 0) {
		return NULL;
	}
	return path[folder_len] ? path + folder_len + 1 : "";
}

static const char *path_of(int fd, char path[PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);

	if (n <= 0) {
		return NULL;
	}
	path[n] = '\0';
	return below(path);
}

static bool is_recorded(int fd)
{
	char path[PATH_MAX];

	return log_path && path_of(fd, path);
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* A name in a folder that is recorded. */
struct place {
	bool recorded, exists;
	uint64_t folder, inode;
	char name[NAME_MAX + 1];
};

static struct place find_place(int dirfd, const char *path)
{
	struct place p = {0};
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX] = ".", full[PATH_MAX];
	struct stat st;
	int errnum = errno;

	if (slash) {
		snprintf(parent, sizeof(parent), "%.*s",
			 slash == path ? 1 : (int)(slash - path), path);
	}
	snprintf(p.name, sizeof(p.name), "%s", slash ? slash + 1 : path);
	int fd = (int)syscall(SYS_openat, dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		p.recorded = path_of(fd, full) != NULL;
		p.folder = inode_of(fd);
		if (p.recorded && fstatat(fd, p.name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			p.exists = true;
			p.inode = st.st_ino;
		}
		syscall(SYS_close, fd);
	}
	errno = errnum;
	return p;
}

/* Standard output goes on as it was, but its writes, which are the C library's own, are seen.
 */
static ssize_t say(void *context, const char *buf, size_t len)
{
	(void)context;
	return write(STDOUT_FILENO, buf, len);
}

__attribute__((constructor)) static void begin(void)
{
	const char *mark = getenv(RECORD_MARK);
	struct stat st;

	folder = getenv(RECORD_FOLDER);
	if (!folder || stat(folder, &st) != 0) {
		return;
	}
	folder_len = strlen(folder);
	log_path = getenv(RECORD_LOG);
	int log = log_open();

	if (log < 0) {
		return;
	}
	struct iovec data = {.iov_base = (void *)(uintptr_t)mark,
			     .iov_len = mark ? strlen(mark) : 0};

	log_append(log, &(struct noted){.entry = {.op = LOG_ROOT, .inode = st.st_ino}});
	if (mark) {
		log_append(log,
			   &(struct noted){.entry = {.op = LOG_BEGIN, .data_len = data.iov_len},
					   .data = &data,
					   .data_count = 1});
	}
	log_close(log);
	FILE *out = fopencookie(NULL, "w", (cookie_io_functions_t){.write = say});

	if (out) {
		stdout = out;
	}
}

__attribute__((destructor)) static void end(void)
{
	int log = log_open();

	if (log >= 0) {
		log_append(log, &(struct noted){.entry.op = LOG_END});
		log_close(log);
	}
}

/* ---- names ---- */

static int open_recorded(int dirfd, const char *path, int flags, mode_t mode)
{
	if (!log_path || !(flags & (O_CREAT | O_TRUNC | __O_TMPFILE))) {
		return (int)syscall(SYS_openat, dirfd, path, flags, mode);
	}
	int log = log_open();
	struct place p = find_place(dirfd, path);
	int fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);

	if (fd >= 0 && p.recorded && (flags & __O_TMPFILE) == __O_TMPFILE) {
		log_unknown(log, "O_TMPFILE");
	} else if (fd >= 0 && p.recorded && !p.exists) {
		log_append(log, &(struct noted){.entry = {.op = LOG_CREATE,
							  .folder = p.folder,
							  .inode = inode_of(fd)},
						.name = p.name});
	} else if (fd >= 0 && p.recorded && (flags & O_TRUNC)) {
		log_append(log, &(struct noted){
					.entry = {.op = LOG_TRUNCATE, .inode = inode_of(fd)}});
	}
	log_close(log);
	return fd;
}

static mode_t mode_argument(int flags, va_list args)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
	va_list args;

	va_start(args, flags);
	mode_t mode = mode_argument(flags, args);

	va_end(args);
	return open_recorded(AT_FDCWD, path, flags, mode);
}
ALSO(open64, open)

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	va_list args;

	va_start(args, flags);
	mode_t mode = mode_argument(flags, args);

	va_end(args);
	return open_recorded(dirfd, path, flags, mode);
}
ALSO(openat64, openat)

EXPORT int creat(const char *path, mode_t mode)
{
	return open_recorded(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
ALSO(creat64, creat)

EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
	int log = log_open();
	int rc = (int)syscall(SYS_mkdirat, dirfd, path, mode);

	if (log >= 0 && rc == 0) {
		struct place p = find_place(dirfd, path);

		if (p.recorded) {
			log_append(log, &(struct noted){.entry = {.op = LOG_MKDIR,
								  .folder = p.folder,
								  .inode = p.inode},
							.name = p.name});
		}
	}
	log_close(log);
	return rc;
}

EXPORT int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
	int log = log_open();
	struct place p = log >= 0 ? find_place(dirfd, path) : (struct place){0};
	int rc = (int)syscall(SYS_unlinkat, dirfd, path, flags);

	if (rc == 0 && p.recorded) {
		log_append(log, &(struct noted){.entry = {.op = LOG_UNLINK, .folder = p.folder},
						.name = p.name});
	}
	log_close(log);
	return rc;
}

EXPORT int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	int log = log_open();
	struct place a = {0}, b = {0};

	if (log >= 0) {
		a = find_place(from_dir, from);
		b = find_place(to_dir, to);
	}
	int rc = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);

	if (rc == 0 && (a.recorded || b.recorded)) {
		bool exchange = flags & RENAME_EXCHANGE;

		if (a.recorded && b.recorded && (!exchange || a.folder == b.folder)) {
			log_append(log, &(struct noted){
						.entry = {.op = LOG_RENAME,
							  .flags = exchange ? LOG_EXCHANGE : 0,
							  .folder = a.folder,
							  .folder2 = b.folder},
						.name = a.name,
						.name2 = b.name});
		} else {
			log_unknown(log, "a rename or an exchange between folders");
		}
	}
	log_close(log);
	return rc;
}

EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return renameat2(from_dir, from, to_dir, to, 0);
}

EXPORT int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	int log = log_open();
	int rc = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);

	if (log >= 0 && rc == 0) {
		struct place p = find_place(to_dir, to);

		if (p.recorded) {
			log_append(log, &(struct noted){.entry = {.op = LOG_LINK,
								  .folder = p.folder,
								  .inode = p.inode},
							.name = p.name});
		}
	}
	log_close(log);
	return rc;
}

EXPORT int link(const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int symlinkat(const char *target, int dirfd, const char *path)
{
	int log = log_open();
	int rc = (int)syscall(SYS_symlinkat, target, dirfd, path);

	if (log >= 0 && rc == 0 && find_place(dirfd, path).recorded) {
		log_unknown(log, "symlink");
	}
	log_close(log);
	return rc;
}

EXPORT int symlink(const char *target, const char *path)
{
	return symlinkat(target, AT_FDCWD, path);
}

/* ---- contents ---- */

/* offset: negative for what was written at the position of the descriptor, which has moved. */
static void note_write(int log, int fd, const struct iovec *data, int count, off_t offset,
		       ssize_t written)
{
	int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);

	if (offset < 0) {
		offset = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR) - written;
	}
	log_append(log, &(struct noted){.entry = {.op = LOG_WRITE,
						  .flags = flags & O_DSYNC ? LOG_DURABLE : 0,
						  .inode = inode_of(fd),
						  .offset = (uint64_t)offset,
						  .data_len = (uint64_t)written},
					.data = data,
					.data_count = count});
}

static ssize_t write_recorded(int fd, const struct iovec *data, int count, off_t offset)
{
	bool here = offset < 0;
	bool said = log_path && fd == STDOUT_FILENO && here;
	int log = said || is_recorded(fd) ? log_open() : -1;
	/* What says that something is done comes after that in the log, and before it is seen.
	 */
	ssize_t rc = here ? syscall(SYS_writev, fd, data, count)
			  : syscall(SYS_pwritev, fd, data, count, offset, 0);

	if (log >= 0 && rc > 0 && said) {
		log_append(log,
			   &(struct noted){.entry = {.op = LOG_SAY, .data_len = (uint64_t)rc},
					   .data = data,
					   .data_count = count});
	} else if (log >= 0 && rc > 0) {
		note_write(log, fd, data, count, offset, rc);
	}
	log_close(log);
	return rc;
}

static struct iovec one(const void *buf, size_t len)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	struct iovec data = one(buf, len);

	return write_recorded(fd, &data, 1, -1);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	struct iovec data = one(buf, len);

	return write_recorded(fd, &data, 1, offset);
}
ALSO(pwrite64, pwrite)

/* The log takes 61 parts at a time; LMDB writes up to 64. */
#define PARTS_MAX 60

EXPORT ssize_t writev(int fd, const struct iovec *data, int count)
{
	ssize_t total = 0;

	if (count <= PARTS_MAX || !is_recorded(fd)) {
		return write_recorded(fd, data, count, -1);
	}
	for (int at = 0; at < count; at += PARTS_MAX) {
		int some = count - at < PARTS_MAX ? count - at : PARTS_MAX;
		ssize_t n = write_recorded(fd, data + at, some, -1);

		if (n < 0) {
			return total ? total : n;
		}
		total += n;
	}
	return total;
}

EXPORT ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset)
{
	/* Fewer than asked for is an answer that callers go on from. */
	return write_recorded(fd, data, count < PARTS_MAX ? count : PARTS_MAX, offset);
}
ALSO(pwritev64, pwritev)

/* Copied by the kernel: the data is read back. */
static void note_copied(int log, int fd, uint64_t offset, uint64_t len)
{
	char link[64];
	static char piece[1 << 20]; /* under the lock of the log, in this process one thread */

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	int in = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);

	while (len) {
		ssize_t n = syscall(SYS_pread64, in, piece,
				    len < sizeof(piece) ? (size_t)len : sizeof(piece), offset);
		struct iovec data = one(piece, n > 0 ? (size_t)n : 0);

		if (n <= 0) {
			abort();
		}
		note_write(log, fd, &data, 1, (off_t)offset, n);
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	syscall(SYS_close, in);
}

EXPORT ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset,
			       size_t len, unsigned flags)
{
	int log = is_recorded(out) ? log_open() : -1;
	ssize_t rc = syscall(SYS_copy_file_range, in, in_offset, out, out_offset, len, flags);

	if (log >= 0 && rc > 0) {
		off_t end = out_offset ? *out_offset : syscall(SYS_lseek, out, 0, SEEK_CUR);

		note_copied(log, out, (uint64_t)(end - rc), (uint64_t)rc);
	}
	log_close(log);
	return rc;
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
	int log = is_recorded(out) ? log_open() : -1;
	ssize_t rc = syscall(SYS_sendfile, out, in, offset, len);

	if (log >= 0 && rc > 0) {
		off_t end = syscall(SYS_lseek, out, 0, SEEK_CUR);

		note_copied(log, out, (uint64_t)(end - rc), (uint64_t)rc);
	}
	log_close(log);
	return rc;
}
ALSO(sendfile64, sendfile)

/* A clone is a copy: so a file system that has none records what another would do. */
static int clone_by_copying(int out, int in)
{
	struct stat st;
	off_t at = 0;

	if (fstat(in, &st) != 0) {
		return -1;
	}
	while (at < st.st_size) {
		off_t to = at;
		ssize_t n = syscall(SYS_copy_file_range, in, &at, out, &to,
				    (size_t)(st.st_size - at), 0);

		if (n <= 0) {
			return -1;
		}
	}
	return 0;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list args;

	va_start(args, request);
	void *argument = va_arg(args, void *);

	va_end(args);
	if (request != FICLONE || !is_recorded(fd)) {
		return (int)syscall(SYS_ioctl, fd, request, argument);
	}
	int log = log_open();
	int rc = clone_by_copying(fd, (int)(intptr_t)argument);
	struct stat st;

	if (rc == 0 && fstat(fd, &st) == 0) {
		note_copied(log, fd, 0, (uint64_t)st.st_size);
	}
	log_close(log);
	return rc;
}

EXPORT int ftruncate(int fd, off_t size)
{
	int log = is_recorded(fd) ? log_open() : -1;
	int rc = (int)syscall(SYS_ftruncate, fd, size);

	if (log >= 0 && rc == 0) {
		log_append(log, &(struct noted){.entry = {.op = LOG_TRUNCATE,
							  .inode = inode_of(fd),
							  .offset = (uint64_t)size}});
	}
	log_close(log);
	return rc;
}
ALSO(ftruncate64, ftruncate)

EXPORT int fallocate(int fd, int mode, off_t offset, off_t len)
{
	int log = is_recorded(fd) ? log_open() : -1;
	int rc = (int)syscall(SYS_fallocate, fd, mode, offset, len);

	if (log >= 0 && rc == 0) {
		log_unknown(log, "fallocate");
	}
	log_close(log);
	return rc;
}
ALSO(fallocate64, fallocate)

EXPORT void *mmap(void *address, size_t len, int protection, int flags, int fd, off_t offset)
{
	char path[PATH_MAX];
	const char *name;

	if (log_path && fd >= 0 && protection & PROT_WRITE && flags & MAP_SHARED &&
	    (name = path_of(fd, path)) != NULL &&
	    (strlen(name) < 9 || strcmp(name + strlen(name) - 9, "/lock.mdb") != 0)) {
		int log = log_open();

		log_unknown(log, "a writable mapping");
		log_close(log);
	}
	return (void *)syscall(SYS_mmap, address, len, protection, flags, fd, offset);
}
ALSO(mmap64, mmap)

/* ---- syncs ---- */

static int note_sync(int fd, enum log_op op)
{
	char path[PATH_MAX];
	const char *name = log_path ? path_of(fd, path) : NULL;

	if (name) {
		int log = log_open();

		log_append(log,
			   &(struct noted){.entry = {.op = (uint16_t)op, .inode = inode_of(fd)},
					   .name = name});
		log_close(log);
	}
	return 0;
}

EXPORT int fsync(int fd)
{
	return note_sync(fd, LOG_SYNC);
}

EXPORT int fdatasync(int fd)
{
	return note_sync(fd, LOG_SYNC);
}

EXPORT int syncfs(int fd)
{
	return note_sync(fd, LOG_SYNC_ALL);
}

/* Begins writing and promises nothing. */
EXPORT int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags)
{
	(void)fd;
	(void)offset;
	(void)len;
	(void)flags;
	return 0;
}

EXPORT int msync(void *address, size_t len, int flags)
{
	return (int)syscall(SYS_msync, address, len, flags);
}
