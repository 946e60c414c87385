/* The sandbox, tried from inside: each test enters it in a process of its own. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/disk.h"
#include "base/io.h"
#include "base/sandbox.h"

#define NO_SANDBOX 100
#define NOT_CONFINED 101

static char top[PATH_MAX];
static int status_fd; /* of a process inside: its /proc/self/status */

/* A file in a folder, both below `top`. */
static char *path_of(const char *folder, const char *name)
{
	return xasprintf("%s/%s/%s", top, folder, name);
}

static int make_file(const char *folder, const char *name)
{
	char *dir cleanup(cleanup_free) = path_of(folder, "");
	char *path cleanup(cleanup_free) = path_of(folder, name);

	if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
		return -1;
	}
	int fd cleanup(cleanup_close) = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	return fd < 0 ? -1 : write_full(fd, "x", 1);
}

static int setup(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/cairn-sandbox-XXXXXX");
	if (!mkdtemp(top)) {
		return -1;
	}
	return make_file("readable", "file") || make_file("removable", "file") ||
			       make_file("outside", "file")
		       ? -1
		       : 0;
}

static void remove_folder(const char *folder)
{
	char *file cleanup(cleanup_free) = path_of(folder, "file");
	char *dir cleanup(cleanup_free) = path_of(folder, "");

	unlink(file);
	rmdir(dir);
}

static int teardown(void **state)
{
	(void)state;
	remove_folder("readable");
	remove_folder("removable");
	remove_folder("outside");
	return rmdir(top);
}

/*
 * Runs fn in a process inside the sandbox, and returns how that ended: fn's result, or minus
 * the signal.
 */
static int inside(int (*fn)(void))
{
	char *readable cleanup(cleanup_free) = path_of("readable", "");
	char *removable cleanup(cleanup_free) = path_of("removable", "");
	struct sandbox_options options = {
		.readable = &readable, .readable_count = 1, .removable = removable};
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct error err;
		bool confined;

		status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
		if (sandbox_enter(&options, &confined, &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			_exit(NO_SANDBOX);
		}
		_exit(confined ? fn() : NOT_CONFINED);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status)) {
		return -WTERMSIG(status);
	}
	if (WEXITSTATUS(status) == NOT_CONFINED) {
		print_message("this kernel has no Landlock\n");
		skip();
	}
	return WEXITSTATUS(status);
}

/* For processes inside: the errno of opening a file, 0 when that worked. */
static int open_errno(const char *folder, int flags)
{
	char *path cleanup(cleanup_free) = path_of(folder, "file");
	int fd cleanup(cleanup_close) = open(path, flags | O_CLOEXEC, 0644);

	return fd < 0 ? errno : 0;
}

static int open_inside(void)
{
	return open_errno("readable", O_RDONLY);
}

static int list_inside(void)
{
	char *dir cleanup(cleanup_free) = path_of("readable", "");
	int fd cleanup(cleanup_close) = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? errno : 0;
}

static int open_outside(void)
{
	return open_errno("outside", O_RDONLY);
}

static int open_removable(void)
{
	return open_errno("removable", O_RDONLY);
}

static int open_for_writing(void)
{
	return open_errno("readable", O_WRONLY);
}

static int open_truncating(void)
{
	return open_errno("readable", O_RDONLY | O_TRUNC);
}

static int open_creating(void)
{
	return open_errno("readable", O_RDONLY | O_CREAT);
}

/* Whether the page cache may be asked, which a large read does; as outside. */
static int ask_what_is_cached(void)
{
	char *path cleanup(cleanup_free) = path_of("readable", "file");
	int fd cleanup(cleanup_close) = open(path, O_RDONLY | O_CLOEXEC);

	errno = 0;
	(void)disk_cached(fd, 0, 1);
	return errno;
}

static void test_files(void **state)
{
	(void)state;
	assert_int_equal(inside(open_inside), 0);
	assert_int_equal(inside(list_inside), 0);
	assert_int_equal(inside(open_outside), EACCES);
	assert_int_equal(inside(open_removable), EACCES);
	assert_int_equal(inside(open_for_writing), ENOSYS);
	assert_int_equal(inside(open_truncating), ENOSYS);
	assert_int_equal(inside(open_creating), ENOSYS);
	assert_int_equal(inside(ask_what_is_cached), ask_what_is_cached());
}

static int unlink_errno(const char *folder)
{
	char *path cleanup(cleanup_free) = path_of(folder, "file");

	return unlinkat(AT_FDCWD, path, 0) == 0 ? 0 : errno;
}

static int unlink_outside(void)
{
	return unlink_errno("outside");
}

static int unlink_readable(void)
{
	return unlink_errno("readable");
}

static int unlink_removable(void)
{
	return unlink_errno("removable");
}

static void test_unlinking(void **state)
{
	(void)state;
	assert_int_equal(inside(unlink_outside), EACCES);
	assert_int_equal(inside(unlink_readable), EACCES);
	assert_int_equal(inside(unlink_removable), 0);
}

static void *thread_main(void *context)
{
	*(int *)context = open_errno("outside", O_RDONLY);
	return NULL;
}

static int start_thread(void)
{
	pthread_t thread;
	int result = -1;

	if (pthread_create(&thread, NULL, thread_main, &result) != 0) {
		return ECHILD;
	}
	pthread_join(thread, NULL);
	return result;
}

/* Threads can be started, and are inside too. */
static void test_threads(void **state)
{
	(void)state;
	assert_int_equal(inside(start_thread), EACCES);
}

static int map_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? errno : 0;
}

static int make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		return ENOMEM;
	}
	return mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 ? 0 : errno;
}

static void test_no_new_code(void **state)
{
	(void)state;
	assert_int_equal(inside(map_executable), ENOSYS);
	assert_int_equal(inside(make_executable), ENOSYS);
}

static int run_program(void)
{
	char *const arguments[] = {NULL};

	execve("/bin/true", arguments, arguments);
	return errno;
}

static int start_process(void)
{
	return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) < 0 ? errno : 0;
}

static int make_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int trace_parent(void)
{
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 ? errno : 0;
}

static int signal_parent(void)
{
	return kill(getppid(), 0) < 0 ? errno : 0;
}

static int make_namespace(void)
{
	return unshare(CLONE_NEWUSER) < 0 ? errno : 0;
}

static void test_deadly_calls(void **state)
{
	(void)state;
	assert_int_equal(inside(run_program), -SIGSYS);
	assert_int_equal(inside(make_socket), -SIGSYS);
	assert_int_equal(inside(trace_parent), -SIGSYS);
	assert_int_equal(inside(signal_parent), -SIGSYS);
	assert_int_equal(inside(make_namespace), -SIGSYS);
}

static int thread_signal_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0) < 0 ? errno : 0;
}

static int own_descriptor(void)
{
	/* F_SETOWN, so that another process gets SIGIO. */
	return fcntl(STDERR_FILENO, F_SETOWN, getppid()) < 0 ? errno : 0;
}

static int unknown_call(void)
{
	return syscall(SYS_sethostname, "x", 1) < 0 ? errno : 0;
}

static void test_refused_calls(void **state)
{
	(void)state;
	assert_int_equal(inside(start_process), ENOSYS);
	assert_int_equal(inside(thread_signal_parent), ENOSYS);
	assert_int_equal(inside(own_descriptor), ENOSYS);
	assert_int_equal(inside(unknown_call), ENOSYS);
}

/* What the kernel says of the process; a line is "Name:\tvalue". */
static bool status_has(const char *line)
{
	static char text[8192];
	ssize_t n = pread_full(status_fd, text, sizeof(text) - 1, 0);

	text[MAX(n, 0)] = '\0';
	return strstr(text, line) != NULL;
}

static int privileges_left(void)
{
	static const char *const lines[] = {
		"\nCapInh:\t0000000000000000\n",
		"\nCapPrm:\t0000000000000000\n",
		"\nCapEff:\t0000000000000000\n",
		"\nCapAmb:\t0000000000000000\n",
		"\nNoNewPrivs:\t1\n",
		"\nSeccomp:\t2\n",
	};
	int missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		missing += !status_has(lines[i]);
	}
	/* Only who has privileges can take them from all programs to come. */
	if (geteuid() == 0) {
		missing += !status_has("\nCapBnd:\t0000000000000000\n");
	}
	return missing;
}

static void test_privileges(void **state)
{
	(void)state;
	assert_int_equal(inside(privileges_left), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlinking, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_new_code, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadly_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_privileges, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
