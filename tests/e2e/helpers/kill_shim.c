/*
 * Loaded before a program with LD_PRELOAD: kills it with SIGKILL right before one of the calls
 * by which it changes files. CAIRN_KILL_COUNTER names a file of at least 8 bytes where the
 * calls are counted, also beyond the end of the process; CAIRN_KILL_AT is the number of the
 * last one, 0 for none. With CAIRN_KILL_WRITE=half or =whole, a write by which it ends is done
 * so first.
 *
 * What a kill cannot show is what a lost machine would: all that was written stays.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic uint64_t *counter;
static uint64_t kill_at;
static unsigned halves; /* of the last write, that are done */

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CAIRN_KILL_COUNTER"), *at = getenv("CAIRN_KILL_AT"),
		   *how = getenv("CAIRN_KILL_WRITE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED
			   : mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED,
				  fd, 0);

	if (fd >= 0) {
		close(fd);
	}
	kill_at = at ? strtoull(at, NULL, 10) : 0;
	halves = !how ? 0 : strcmp(how, "half") == 0 ? 1 : 2;
	counter = map == MAP_FAILED ? NULL : map;
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	/* Nothing else of this thread, however long the signal takes. */
	for (;;) {
		pause();
	}
}

/* True when this call is the one. */
static int is_the_one(void)
{
	return counter && atomic_fetch_add(counter, 1) + 1 == kill_at;
}

static void count(void)
{
	if (is_the_one()) {
		die();
	}
}

/* The next function of this name; looked up each time, since these calls take long anyway. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define COUNTED(result, name, parameters, arguments) \
	result name parameters;                      \
	result name parameters                       \
	{                                            \
		count();                             \
		return NEXT(name) arguments;         \
	}

COUNTED(int, fsync, (int fd), (fd))
COUNTED(int, fdatasync, (int fd), (fd))
COUNTED(int, syncfs, (int fd), (fd))
COUNTED(int, msync, (void *at, size_t len, int flags), (at, len, flags))
COUNTED(int, ftruncate, (int fd, off_t size), (fd, size))
COUNTED(int, ftruncate64, (int fd, off64_t size), (fd, size))
COUNTED(int, rename, (const char *from, const char *to), (from, to))
COUNTED(int, renameat, (int f, const char *from, int t, const char *to), (f, from, t, to))
COUNTED(int, renameat2, (int f, const char *from, int t, const char *to, unsigned flags),
	(f, from, t, to, flags))
COUNTED(int, link, (const char *from, const char *to), (from, to))
COUNTED(int, unlink, (const char *path), (path))
COUNTED(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
COUNTED(int, mkdir, (const char *path, mode_t mode), (path, mode))
COUNTED(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
COUNTED(int, sync_file_range, (int fd, off64_t at, off64_t len, unsigned flags),
	(fd, at, len, flags))

/* Pipes and sockets wake threads and talk to peers: not counted. */
static int is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

#define COUNTED_WRITE(name, parameters, arguments, part) \
	ssize_t name parameters;                         \
	ssize_t name parameters                          \
	{                                                \
		if (is_file(fd) && is_the_one()) {       \
			long done = halves ? (part) : 0; \
                                                         \
			(void)done;                      \
			die();                           \
		}                                        \
		return NEXT(name) arguments;             \
	}

COUNTED_WRITE(write, (int fd, const void *data, size_t len), (fd, data, len),
	      syscall(SYS_write, fd, data, len *halves / 2))
COUNTED_WRITE(pwrite, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at),
	      syscall(SYS_pwrite64, fd, data, len *halves / 2, at))
COUNTED_WRITE(pwrite64, (int fd, const void *data, size_t len, off64_t at), (fd, data, len, at),
	      syscall(SYS_pwrite64, fd, data, len *halves / 2, at))
COUNTED_WRITE(writev, (int fd, const struct iovec *v, int n), (fd, v, n),
	      syscall(SYS_writev, fd, v, n *(int)halves / 2))
COUNTED_WRITE(pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at),
	      syscall(SYS_pwritev, fd, v, n *(int)halves / 2, at, 0))
COUNTED_WRITE(pwritev64, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at),
	      syscall(SYS_pwritev, fd, v, n *(int)halves / 2, at, 0))
