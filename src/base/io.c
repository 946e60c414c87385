#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the system does not say. */
#define OPEN_FILES_USUAL 1024
/* The grain of holes. */
#define HOLE_BLOCK ((size_t)4096)

void cleanup_close(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
	}
}

int openat_quietly(int dirfd, const char *name, int flags)
{
	int fd = openat(dirfd, name, flags | O_RDONLY | O_CLOEXEC | O_NOATIME);

	return fd < 0 && errno == EPERM ? openat(dirfd, name, flags | O_RDONLY | O_CLOEXEC)
					: fd;
}

ssize_t read_full(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -1;
		}
		if (n == 0) {
			break;
		}
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t pread_full(int fd, void *buf, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -1;
		}
		if (n == 0) {
			break;
		}
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int write_full(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -1;
		}
		done += (size_t)n;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			pwrite(fd, (const char *)buf + done, len - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -1;
		}
		done += (size_t)n;
	}
	return 0;
}

/* Bytes at the front that are zero, in whole blocks (the last block may be short). */
static size_t count_zeros(const uint8_t *data, size_t len)
{
	static const uint8_t zeros[HOLE_BLOCK];
	size_t n = 0;

	while (n < len) {
		size_t block = MIN(len - n, HOLE_BLOCK);

		if (memcmp(data + n, zeros, block) != 0) {
			break;
		}
		n += block;
	}
	return n;
}

int pwrite_sparse(int fd, const void *buf, size_t len, off_t offset)
{
	const uint8_t *data = buf;
	size_t begin = 0, at = 0;

	while (at < len) {
		size_t zeros = count_zeros(data + at, len - at);

		if (zeros < HOLE_SIZE_MIN) {
			at += MIN(zeros + HOLE_BLOCK, len - at);
			continue;
		}
		if (pwrite_full(fd, data + begin, at - begin, offset + (off_t)begin) != 0) {
			return -1;
		}
		at += zeros;
		begin = at;
	}
	return pwrite_full(fd, data + begin, len - begin, offset + (off_t)begin);
}

static int make_directory(const char *path, mode_t mode, struct error *err)
{
	struct stat st;

	if (mkdir(path, mode) == 0) {
		return 0;
	}
	int errnum = errno;

	if (errnum == EEXIST && stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			return 0;
		}
		errnum = ENOTDIR;
	}
	return error_set_errno(err, errnum, "cannot create directory %s", path);
}

int make_directories(const char *path, mode_t mode, struct error *err)
{
	char *copy cleanup(cleanup_free) = xstrdup(path);
	int rc = 0;

	for (char *slash = strchr(copy, '/'); rc == 0 && slash;
	     slash = strchr(slash + 1, '/')) {
		if (slash == copy) {
			continue;
		}
		*slash = '\0';
		rc = make_directory(copy, mode, err);
		*slash = '/';
	}
	return rc ? rc : make_directory(copy, mode, err);
}

static int check_empty(int fd, struct error *err)
{
	uint8_t buffer[4096] __attribute__((aligned(8)));
	size_t entries = 0;
	ssize_t n;

	while ((n = getdents64(fd, buffer, sizeof(buffer))) > 0) {
		for (size_t at = 0; at < (size_t)n; entries++) {
			at += ((const struct dirent64 *)(const void *)(buffer + at))->d_reclen;
		}
	}
	if (n < 0) {
		return error_set_errno(err, errno, "cannot list the directory");
	}
	/* "." and "..". */
	return entries <= 2 ? 0 : error_set(err, ERROR_EXISTS, "the directory is not empty");
}

int make_empty_directory(const char *path, struct error *err)
{
	bool made = mkdir(path, 0755) == 0;

	if (!made && errno != EEXIST) {
		return error_set_errno(err, errno, "cannot create the directory");
	}
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && !made && (errno == ENOTDIR || errno == ELOOP)) {
		return error_set(err, ERROR_EXISTS, "exists and is not a directory");
	}
	if (fd < 0) {
		return error_set_errno(err, errno, "cannot open the directory");
	}
	int r = made ? 0 : check_empty(fd, err);

	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int sync_directory(int fd, struct error *err)
{
	if (fsync(fd) != 0) {
		return error_set_errno(err, errno, "cannot sync a directory");
	}
	return 0;
}

int read_small_file(int dirfd, const char *name, size_t limit, struct buffer *out,
		    struct error *err)
{
	int fd cleanup(cleanup_close) = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno == ENOENT) {
			return 0;
		}
		return error_set_errno(err, errno, "cannot open %s", name);
	}
	out->len = 0;
	ssize_t n = read_full(fd, buffer_reserve(out, limit + 1), limit + 1);

	if (n < 0) {
		return error_set_errno(err, errno, "cannot read %s", name);
	}
	if ((size_t)n > limit) {
		return error_set(err, ERROR_LIMIT, "%s is larger than %zu bytes", name, limit);
	}
	out->len = (size_t)n;
	return 1;
}

int write_file_durably(int dirfd, const char *name, struct bytes content, struct error *err)
{
	char *temporary cleanup(cleanup_free) = xasprintf("%s.%ld.tmp", name, (long)getpid());
	int fd cleanup(cleanup_close) =
		openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot create %s", temporary);
	}
	if (write_full(fd, content.ptr, content.len) != 0 || fsync(fd) != 0 ||
	    renameat(dirfd, temporary, dirfd, name) != 0) {
		int errnum = errno;

		unlinkat(dirfd, temporary, 0);
		return error_set_errno(err, errnum, "cannot write %s", name);
	}
	return sync_directory(dirfd, err);
}

#define PIPE_SIZE (1 << 20)

void widen_pipe(int fd)
{
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE);
}

void close_inherited(int kept)
{
	const int first = STDERR_FILENO + 1;

	if (kept < first) {
		(void)close_range((unsigned)first, ~0U, 0);
		return;
	}
	if (kept > first) {
		(void)close_range((unsigned)first, (unsigned)kept - 1, 0);
	}
	(void)close_range((unsigned)kept + 1, ~0U, 0);
}

size_t open_file_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? MIN(limit.rlim_cur, SIZE_MAX)
						     : OPEN_FILES_USUAL;
}

size_t raise_open_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	return open_file_limit();
}

int fd_of_message(const struct msghdr *msg)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int))) {
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	}
	return fd;
}
