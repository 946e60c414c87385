/* base/io.h: transfers made whole, small files, folders. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/disk.h"
#include "base/io.h"
#include "base/proc.h"

#define PIPED ((size_t)1 << 20)

static char folder[] = "/tmp/cairn-test-io-XXXXXX";
static int folder_fd;

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

static int setup(void **state unused)
{
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	if (!mkdtemp(folder)) {
		return -1;
	}
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder_fd < 0 ? -1 : 0;
}

static int teardown(void **state unused)
{
	close(folder_fd);
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static size_t count_names(void)
{
	DIR *dir = opendir(folder);
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir)) {
		n++;
	}
	closedir(dir);
	return n - 2;
}

/* ---- Transfers ---- */

struct reader {
	int fd;
	uint8_t *out;
	ssize_t got;
};

static void *read_all(void *context)
{
	struct reader *r = context;

	r->got = read_full(r->fd, r->out, PIPED);
	return NULL;
}

static void ignore_signal(int number unused)
{
}

/* A pipe holds 64 KiB, so that both sides see short transfers; signals cut into the reads. */
static void test_pipe_is_read_whole(void **state unused)
{
	struct sigaction action = {.sa_handler = ignore_signal}, old;
	uint8_t *in = malloc(PIPED), *out = malloc(PIPED);
	pthread_t thread;
	int fds[2];

	assert_non_null(in);
	assert_non_null(out);
	for (size_t i = 0; i < PIPED; i++) {
		in[i] = (uint8_t)(i * 7 + i / 251);
	}
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
	struct reader r = {.fd = fds[0], .out = out};

	assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
	for (size_t i = 0; i < 64; i++) {
		assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
		assert_int_equal(write_full(fds[1], in + i * 100, 100), 0);
	}
	assert_int_equal(write_full(fds[1], in + 6400, PIPED - 6400), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
	assert_int_equal(r.got, PIPED);
	assert_memory_equal(in, out, PIPED);
	close(fds[0]);
	close(fds[1]);
	free(in);
	free(out);
}

static void test_end_of_file_is_short(void **state unused)
{
	char buf[16];
	int fd cleanup(cleanup_close) =
		openat(folder_fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, "hello", 5, 3), 0);
	assert_int_equal(pread_full(fd, buf, sizeof(buf), 0), 8);
	assert_memory_equal(buf, "\0\0\0hello", 8);
	assert_int_equal(pread_full(fd, buf, 2, 4), 2);
	assert_memory_equal(buf, "el", 2);
	assert_int_equal(pread_full(fd, buf, sizeof(buf), 8), 0);
	assert_int_equal(read_full(fd, buf, sizeof(buf)), 8);
	assert_int_equal(read_full(fd, buf, sizeof(buf)), 0);
}

static void test_failures_are_told(void **state unused)
{
	char buf[4] = {0};

	assert_int_equal(read_full(-1, buf, 4), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(pread_full(-1, buf, 4, 0), -1);
	assert_int_equal(write_full(-1, buf, 4), -1);
	assert_int_equal(pwrite_full(-1, buf, 4, 0), -1);
	assert_int_equal(errno, EBADF);
}

static void test_cleanup_close(void **state unused)
{
	int fd = dup(folder_fd), none = -1;

	assert_true(fd >= 0);
	cleanup_close(&fd);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	cleanup_close(&none);
}

/* ---- Folders ---- */

static bool is_folder(const char *name)
{
	struct stat st;

	return fstatat(folder_fd, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static void test_make_directories(void **state unused)
{
	struct error err = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/a/b/c", folder);
	assert_int_equal(make_directories(path, 0755, &err), 0);
	assert_true(is_folder("a/b/c"));
	assert_int_equal(make_directories(path, 0755, &err), 0);
	snprintf(path, sizeof(path), "%s/d/", folder);
	assert_int_equal(make_directories(path, 0755, &err), 0);
	assert_true(is_folder("d"));
}

static void test_make_directories_below_a_file(void **state unused)
{
	struct error err = {0};
	char path[128];

	assert_int_equal(write_file_durably(folder_fd, "f", bytes_of("x", 1), &err), 0);
	snprintf(path, sizeof(path), "%s/f/g", folder);
	assert_true(make_directories(path, 0755, &err) < 0);
	assert_int_equal(err.os_errno, ENOTDIR);
	/* Names the file that is in the way, and not what should have come below it. */
	path[strlen(path) - strlen("/g")] = '\0';
	assert_non_null(strstr(err.text, path));
	assert_null(strstr(err.text, "/f/g"));

	err = (struct error){0};
	assert_true(make_directories(path, 0755, &err) < 0);
	assert_int_equal(err.os_errno, ENOTDIR);
}

static void test_make_directories_of_nothing(void **state unused)
{
	struct error err = {0};

	assert_true(make_directories("", 0755, &err) < 0);
	assert_int_equal(err.os_errno, ENOENT);
	assert_int_equal(make_directories("/", 0755, &err), 0);
}

static void test_sync_directory(void **state unused)
{
	struct error err = {0};

	assert_int_equal(sync_directory(folder_fd, &err), 0);
	assert_true(sync_directory(-1, &err) < 0);
	assert_int_equal(err.os_errno, EBADF);
}

/* ---- Small files ---- */

static void test_small_file(void **state unused)
{
	struct buffer out = {0};
	struct error err = {0};

	assert_int_equal(read_small_file(folder_fd, "f", 100, &out, &err), 0);
	assert_int_equal(write_file_durably(folder_fd, "f", bytes_of("first one", 9), &err), 0);
	assert_int_equal(read_small_file(folder_fd, "f", 100, &out, &err), 1);
	assert_true(bytes_equal(buffer_bytes(&out), bytes_of("first one", 9)));
	/* Replaced, in the file and in the buffer. */
	assert_int_equal(write_file_durably(folder_fd, "f", bytes_of("two", 3), &err), 0);
	assert_int_equal(read_small_file(folder_fd, "f", 3, &out, &err), 1);
	assert_true(bytes_equal(buffer_bytes(&out), bytes_of("two", 3)));
	assert_int_equal(write_file_durably(folder_fd, "e", bytes_of(NULL, 0), &err), 0);
	assert_int_equal(read_small_file(folder_fd, "e", 0, &out, &err), 1);
	assert_int_equal(out.len, 0);
	assert_int_equal(count_names(), 2);
	buffer_done(&out);
}

static void test_small_file_limit(void **state unused)
{
	struct buffer out = {0};
	struct error err = {0};

	assert_int_equal(write_file_durably(folder_fd, "f", bytes_of("four", 4), &err), 0);
	assert_int_equal(read_small_file(folder_fd, "f", 3, &out, &err), -ERROR_LIMIT);
	assert_non_null(strstr(err.text, "f is larger than 3 bytes"));
	assert_int_equal(read_small_file(folder_fd, ".", 3, &out, &err), -ERROR_IO);
	assert_int_equal(err.os_errno, EISDIR);
	buffer_done(&out);
}

static void test_failed_write_leaves_nothing(void **state unused)
{
	struct buffer out = {0};
	struct error err = {0};

	assert_int_equal(mkdirat(folder_fd, "taken", 0755), 0);
	/* A folder cannot be replaced by a file. */
	assert_true(write_file_durably(folder_fd, "taken", bytes_of("x", 1), &err) < 0);
	assert_int_equal(err.os_errno, EISDIR);
	assert_true(write_file_durably(folder_fd, "no/f", bytes_of("x", 1), &err) < 0);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	assert_int_equal(count_names(), 1);
	buffer_done(&out);
}

static void test_open_file_limit(void **state unused)
{
	struct rlimit limit, old;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	raise_open_file_limit();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(limit.rlim_cur, old.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_mapping_of_a_file(void **state unused)
{
	int fd = openat(folder_fd, "mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(ftruncate(fd, PIPED), 0);
	assert_null(proc_mapping_of(fd));
	int memory cleanup(cleanup_close) = proc_open_memory();
	size_t before = proc_resident_file_bytes(memory);
	uint8_t *map = mmap(NULL, PIPED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 1, PIPED);
	assert_ptr_equal(proc_mapping_of(fd), map);
	/* The counters behind it lag by some pages for each CPU. */
	assert_true(proc_resident_file_bytes(memory) > before + PIPED / 2);
	munmap(map, PIPED);
	close(fd);
}

/* Only runs of zeros that are long become holes, wherever they are. */
static void test_sparse_writing(void **state unused)
{
	size_t size = 4 * HOLE_SIZE_MIN + 100;
	uint8_t *data cleanup(cleanup_free) = xcalloc(1, size),
		      *got cleanup(cleanup_free) = xmalloc(size);
	int fd cleanup(cleanup_close) =
		openat(folder_fd, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct stat st;

	assert_true(fd >= 0);
	data[5] = 1;
	memset(data + 2 * HOLE_SIZE_MIN, 2, HOLE_SIZE_MIN);
	assert_int_equal(pwrite_sparse(fd, data, size, 0), 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pread_full(fd, got, size, 0), size);
	assert_memory_equal(got, data, size);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true((size_t)st.st_blocks * 512 <= HOLE_SIZE_MIN + 2 * 4096);
	/* Nothing at all, and what cannot be written. */
	assert_int_equal(pwrite_sparse(fd, data, 0, 4096), 0);
	assert_int_equal(pwrite_sparse(folder_fd, data, 4, 0), -1);
}

static void make_badly(const char *path, enum error_code code)
{
	struct error err = {0};

	assert_int_equal(make_empty_directory(path, &err), -(int)code);
	assert_int_equal(err.code, code);
}

static void test_make_empty_directory(void **state unused)
{
	char path[128], link[128];
	struct error err;

	snprintf(path, sizeof(path), "%s/new", folder);
	for (int i = 0; i < 2; i++) {
		int fd = make_empty_directory(path, &err);

		assert_true(fd >= 0);
		if (i) {
			close(openat(fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
		}
		close(fd);
	}
	make_badly(path, ERROR_EXISTS);
	snprintf(link, sizeof(link), "%s/link", folder);
	assert_int_equal(symlink("elsewhere", link), 0);
	make_badly(link, ERROR_EXISTS);
	snprintf(path, sizeof(path), "%s/new/file", folder);
	make_badly(path, ERROR_EXISTS);
	snprintf(path, sizeof(path), "%s/missing/new", folder);
	make_badly(path, ERROR_NOT_FOUND);
	snprintf(path, sizeof(path), "%s/elsewhere", folder);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_disk_read_ahead(void **state unused)
{
	struct buffer text cleanup(buffer_done) = {0};
	struct stat st;
	char path[64];

	assert_int_equal(disk_read_ahead(makedev(4000, 77)), 0);
	assert_int_equal(fstat(folder_fd, &st), 0);
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev),
		 minor(st.st_dev));
	if (read_small_file(AT_FDCWD, path, 32, &text, NULL) <= 0) {
		skip(); /* a partition, or no /sys */
	}
	buffer_append_byte(&text, 0);
	assert_int_equal(disk_read_ahead(st.st_dev), strtoul((char *)text.ptr, NULL, 10));
}

static void test_disk_cached(void **state unused)
{
	static const uint8_t zeros[3 << 16];
	int64_t cached;
	int fd cleanup(cleanup_close) =
		openat(folder_fd, "cached", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(write_full(fd, zeros, sizeof(zeros)), 0);
	cached = disk_cached(fd, 0, sizeof(zeros));
	if (cached < 0) {
		assert_int_equal(errno, ENOSYS);
		skip(); /* a kernel before 6.5 */
	}
	/* What was only just written is there, and nothing beyond it. */
	assert_int_equal(cached, sizeof(zeros));
	assert_int_equal(disk_cached(fd, 1 << 16, 1 << 16), 1 << 16);
	assert_int_equal(disk_cached(fd, sizeof(zeros), sizeof(zeros)), 0);
	assert_int_equal(disk_cached(-1, 0, sizeof(zeros)), -1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_pipe_is_read_whole),
		TEST(test_end_of_file_is_short),
		TEST(test_failures_are_told),
		TEST(test_cleanup_close),
		TEST(test_make_directories),
		TEST(test_make_directories_below_a_file),
		TEST(test_make_directories_of_nothing),
		TEST(test_sync_directory),
		TEST(test_small_file),
		TEST(test_small_file_limit),
		TEST(test_failed_write_leaves_nothing),
		TEST(test_open_file_limit),
		TEST(test_mapping_of_a_file),
		TEST(test_sparse_writing),
		TEST(test_make_empty_directory),
		TEST(test_disk_read_ahead),
		TEST(test_disk_cached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
