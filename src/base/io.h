#pragma once

/* System calls made whole: interrupted and short transfers are gone on with. */

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/error.h"

/* Scope exit for descriptors: closes unless negative. */
void cleanup_close(int *fd);

/*
 * openat for reading that leaves the access time alone where this process may do so (its own
 * files, or as root): every read of a file would otherwise be noted in its inode.
 */
int openat_quietly(int dirfd, const char *name, int flags);

/* Reads until len bytes or end of file; returns the count, or -1 with errno. */
ssize_t read_full(int fd, void *buf, size_t len);
ssize_t pread_full(int fd, void *buf, size_t len, off_t offset);

/* Write everything; 0, or -1 with errno. */
int write_full(int fd, const void *buf, size_t len);
int pwrite_full(int fd, const void *buf, size_t len, off_t offset);

/*
 * Makes room in a pipe, so that writer and reader take turns less often. What is no pipe, or
 * may not grow, stays as it is.
 */
void widen_pipe(int fd);

/* Zeros in a row that pwrite_sparse() makes a hole of: so many, or more. */
#define HOLE_SIZE_MIN ((size_t)64 << 10)
/*
 * pwrite_full() to a new file, where nothing was written yet; long runs of zeros become holes.
 * Offsets are multiples of 4096. A hole at the end of the file is only there once ftruncate()
 * tells the size.
 */
int pwrite_sparse(int fd, const void *buf, size_t len, off_t offset);

/* Creates the directory and its missing parents, each with this mode. */
int make_directories(const char *path, mode_t mode, struct error *err);

/*
 * Opens a directory to be filled, which is created, or is there and empty: ERROR_EXISTS for
 * anything else. A symlink is not followed. The descriptor, or a negative error code.
 */
int make_empty_directory(const char *path, struct error *err);

/* fsync of a directory, so that names created or renamed in it are durable. */
int sync_directory(int fd, struct error *err);

/*
 * Reads a whole small file into out (replaced). A file larger than limit is ERROR_LIMIT.
 * Asker: 0 when there is no such file.
 */
int read_small_file(int dirfd, const char *name, size_t limit, struct buffer *out,
		    struct error *err);

/* Creates or replaces a file durably: temporary name, fsync, rename, fsync of the directory. */
int write_file_durably(int dirfd, const char *name, struct bytes content, struct error *err);

/* Closes what whoever started this process left open, except standard streams and one more. */
void close_inherited(int kept);

/* How many files this process may have open. */
size_t open_file_limit(void);
/* Raises the soft limit of open files to the hard one; how many there may be then. */
size_t raise_open_file_limit(void);

/* The one descriptor that came with a message over a Unix socket, the caller's; -1: none. */
int fd_of_message(const struct msghdr *msg);
