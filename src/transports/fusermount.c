#include "transports/fusermount.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

#define HELPER "fusermount3"
/* The socket's number in the helper. */
#define HELPER_SOCKET 3
#define HELPER_TEXT_MAX 500

extern char **environ;

/* A running helper and what it says. */
struct helper {
	pid_t pid;
	int errors; /* a pipe from its stderr */
};

/* The environment, and the helper's variable in front. The array is the caller's to free. */
static char **helper_environment(char *variable)
{
	size_t count = 0;

	while (environ[count]) {
		count++;
	}
	char **list = xcalloc(count + 2, sizeof(*list));

	list[0] = variable;
	for (size_t i = 0; i < count; i++) {
		list[i + 1] = environ[i];
	}
	return list;
}

/* socket: -1, or what the helper gets as HELPER_SOCKET. Its number must be above 3. */
static int helper_spawn(struct helper *h, char *const *argv, int socket, int errors)
{
	char variable[] = "_FUSE_COMMFD=3";
	char **environment cleanup(cleanup_free) = helper_environment(variable);
	posix_spawn_file_actions_t actions;

	_Static_assert(HELPER_SOCKET == 3, "named in the variable");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
	if (socket >= 0) {
		posix_spawn_file_actions_adddup2(&actions, socket, HELPER_SOCKET);
	}
	int rc = posix_spawnp(&h->pid, HELPER, &actions, NULL, argv, environment);

	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

static int helper_start(struct helper *h, char *const *argv, int socket, struct error *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0) {
		return error_set_errno(err, errno, "cannot make a pipe");
	}
	int rc = helper_spawn(h, argv, socket, ends[1]);

	close(ends[1]);
	if (rc == 0) {
		h->errors = ends[0];
		return 0;
	}
	close(ends[0]);
	if (rc == ENOENT) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "%s is not installed (package fuse3); without it only root "
				 "can mount",
				 HELPER);
	}
	return error_set_errno(err, rc, "cannot run %s", HELPER);
}

/* Waits for the end of the helper. text gets what it wrote, one line of it without its name. */
static bool helper_finish(struct helper *h, char text[HELPER_TEXT_MAX])
{
	char buf[HELPER_TEXT_MAX];
	char rest[256];
	ssize_t n = read_full(h->errors, buf, sizeof(buf) - 1);
	int status = -1;

	while (read_full(h->errors, rest, sizeof(rest)) > 0) {
		continue;
	}
	close(h->errors);
	while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR) {
		continue;
	}
	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	const char *start = buf;

	if (strncmp(start, HELPER ": ", strlen(HELPER ": ")) == 0) {
		start += strlen(HELPER ": ");
	}
	snprintf(text, HELPER_TEXT_MAX, "%s", *start ? start : "no reason given");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The descriptor that comes over a socket, or -1. */
static int receive_fd(int socket)
{
	char byte;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n;

	do {
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? fd_of_message(&msg) : -1;
}

/* A pair of sockets, the second one numbered so that it survives the helper's redirections. */
static int make_sockets(int pair[2], struct error *err)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
		return error_set_errno(err, errno, "cannot make a socket");
	}
	int high = fcntl(pair[1], F_DUPFD_CLOEXEC, HELPER_SOCKET + 1);

	if (high < 0) {
		int errnum = errno;

		close(pair[0]);
		close(pair[1]);
		return error_set_errno(err, errnum, "cannot make a socket");
	}
	close(pair[1]);
	pair[1] = high;
	return 0;
}

int fusermount_mount(const char *mountpoint, const char *options, int *fd, struct error *err)
{
	char *argv[] = {(char *)(uintptr_t)HELPER,     (char *)(uintptr_t) "-o",
			(char *)(uintptr_t)options,    (char *)(uintptr_t) "--",
			(char *)(uintptr_t)mountpoint, NULL};
	char text[HELPER_TEXT_MAX];
	struct helper h;
	int pair[2];
	int rc = make_sockets(pair, err);

	if (rc != 0) {
		return rc;
	}
	rc = helper_start(&h, argv, pair[1], err);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	int got = receive_fd(pair[0]);
	bool good = helper_finish(&h, text);

	close(pair[0]);
	if (good && got >= 0) {
		*fd = got;
		return 0;
	}
	if (got >= 0) {
		close(got);
	}
	return error_set(err, ERROR_DENIED, "cannot mount on %s: %s", mountpoint, text);
}

int fusermount_unmount(const char *mountpoint, bool lazy, struct error *err)
{
	char *argv[] = {(char *)(uintptr_t)HELPER, (char *)(uintptr_t)(lazy ? "-uz" : "-u"),
			(char *)(uintptr_t) "--", (char *)(uintptr_t)mountpoint, NULL};
	char text[HELPER_TEXT_MAX];
	struct helper h;
	int rc = helper_start(&h, argv, -1, err);

	if (rc != 0) {
		return rc;
	}
	if (helper_finish(&h, text)) {
		return 0;
	}
	if (strstr(text, "busy")) {
		return error_set(err, ERROR_UNAVAILABLE, "cannot unmount %s: it is in use",
				 mountpoint);
	}
	return error_set(err, ERROR_DENIED, "cannot unmount %s: %s", mountpoint, text);
}
