/* Listening sockets with a name: when the name appears, is replaced, and goes. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/unix_listener.h"

static const struct unix_listener_options defaults = {
	.mode = 0600,
	.owner = (uid_t)-1,
	.group = (gid_t)-1,
};

static char folder[PATH_MAX];

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/cairn-listener-XXXXXX");
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

/* Every test has to take away what it made, or this fails. */
static int teardown(void **state)
{
	(void)state;
	return chdir("/") == 0 ? rmdir(folder) : -1;
}

static struct sockaddr_un address_of(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
	return address;
}

static bool can_connect(const char *name)
{
	struct sockaddr_un to = address_of(name);
	int fd cleanup(cleanup_close) = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return connect(fd, (void *)&to, sizeof(to)) == 0;
}

static unsigned count_names(void)
{
	DIR *dir = opendir(folder);
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir)) {
		count++;
	}
	closedir(dir);
	return count - 2;
}

/* As a process leaves it that was killed. */
static void leave_stale(const char *name)
{
	struct sockaddr_un at = address_of(name);
	int fd cleanup(cleanup_close) = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (void *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 1), 0);
}

static struct unix_listener *new_listener(const char *path)
{
	struct unix_listener *l = NULL;
	struct error err = {.text = ""};

	if (unix_listener_new(path, &defaults, &l, &err) < 0) {
		fail_msg("%s", err.text);
	}
	return l;
}

static void assert_refused(const char *path, enum error_code code, const char *words)
{
	struct unix_listener *l = NULL;
	struct error err;
	unsigned names = count_names();

	assert_int_equal(unix_listener_new(path, &defaults, &l, &err), -(int)code);
	assert_non_null(strstr(err.text, words));
	assert_null(l);
	assert_int_equal(count_names(), names);
}

static void test_name_comes_and_goes(void **state)
{
	(void)state;
	struct unix_listener *l = new_listener("s");

	assert_true(can_connect("s"));
	assert_int_equal(count_names(), 1);
	assert_int_equal(unix_listener_check(unix_listener_fd(l), NULL), 0);
	unix_listener_free(l);
	assert_int_equal(count_names(), 0);
}

static void test_relative_path_holds_elsewhere(void **state)
{
	(void)state;
	struct unix_listener *l = new_listener("./s");

	assert_string_equal(unix_listener_folder(l), folder);
	assert_int_equal(chdir("/"), 0);
	unix_listener_free(l);
	assert_int_equal(count_names(), 0);
}

static void test_mode_and_group(void **state)
{
	(void)state;
	struct unix_listener_options options = defaults;
	struct unix_listener *l;
	struct stat st;
	mode_t before = umask(077);

	options.mode = 0666;
	options.group = getegid();
	assert_int_equal(unix_listener_new("s", &options, &l, NULL), 0);
	umask(before);
	assert_int_equal(stat("s", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	assert_int_equal(st.st_gid, getegid());
	unix_listener_free(l);
}

static void test_owner(void **state)
{
	(void)state;
	struct unix_listener_options options = defaults;
	struct unix_listener *l = NULL;
	struct stat st;

	options.owner = 4711;
	if (geteuid() != 0) {
		assert_int_equal(unix_listener_new("s", &options, &l, NULL), -ERROR_DENIED);
		assert_int_equal(count_names(), 0);
		return;
	}
	assert_int_equal(unix_listener_new("s", &options, &l, NULL), 0);
	assert_int_equal(stat("s", &st), 0);
	assert_int_equal(st.st_uid, 4711);
	unix_listener_free(l);
}

static void test_stale_socket_is_replaced(void **state)
{
	(void)state;
	leave_stale("s");
	assert_false(can_connect("s"));
	struct unix_listener *l = new_listener("s");

	assert_true(can_connect("s"));
	assert_int_equal(count_names(), 1);
	unix_listener_free(l);
	assert_int_equal(count_names(), 0);
}

static void test_live_socket_is_not_replaced(void **state)
{
	(void)state;
	struct unix_listener *l = new_listener("s");

	assert_refused("s", ERROR_EXISTS, "another process listens there");
	assert_true(can_connect("s"));
	unix_listener_free(l);
}

static void test_stale_socket_is_replaced_once(void **state)
{
	(void)state;
	int lock cleanup(cleanup_close) = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	leave_stale("s");
	assert_int_equal(flock(lock, LOCK_EX), 0);
	/* As if another process was just about to do it. */
	assert_refused("s", ERROR_UNAVAILABLE, "stale");
	assert_int_equal(unlink("s"), 0);
}

static void test_other_files_are_not_replaced(void **state)
{
	(void)state;
	int fd cleanup(cleanup_close) = open("file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(mkdir("dir", 0755), 0);
	assert_int_equal(symlink("nowhere", "link"), 0);
	assert_refused("file", ERROR_EXISTS, "is no socket");
	assert_refused("dir", ERROR_EXISTS, "is no socket");
	assert_refused("link", ERROR_EXISTS, "is no socket");
	assert_int_equal(unlink("file"), 0);
	assert_int_equal(rmdir("dir"), 0);
	assert_int_equal(unlink("link"), 0);
}

static void test_another_name_is_left_alone(void **state)
{
	(void)state;
	struct unix_listener *first = new_listener("s");

	assert_int_equal(unlink("s"), 0);
	struct unix_listener *second = new_listener("s");

	unix_listener_free(first);
	assert_true(can_connect("s"));
	unix_listener_free(second);
}

static void test_bad_paths(void **state)
{
	(void)state;
	char name[200];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_refused(name, ERROR_LIMIT, "at most");
	assert_refused("missing/s", ERROR_NOT_FOUND, "missing/s");
	assert_refused("dir/", ERROR_INVALID, "a name for the socket is missing");
}

static void test_check(void **state)
{
	(void)state;
	int pair[2];
	int fd cleanup(cleanup_close) = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_int_equal(unix_listener_check(fd, NULL), -ERROR_INVALID);
	assert_int_equal(unix_listener_check(-1, NULL), -ERROR_INVALID);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(unix_listener_check(pair[0], NULL), -ERROR_INVALID);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_name_comes_and_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_relative_path_holds_elsewhere, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mode_and_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale_socket_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_socket_is_not_replaced, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_stale_socket_is_replaced_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_other_files_are_not_replaced, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_another_name_is_left_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_bad_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
