#include "cli/service_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"

/* The first descriptor that is passed on; the protocol has it so. */
#define FIRST_PASSED_FD 3

/* Connected to $NOTIFY_SOCKET, or -1. */
static int connect_notify(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len > sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@')) {
		return -1;
	}
	memcpy(to.sun_path, path, len);
	if (path[0] == '@') {
		to.sun_path[0] = '\0';
	}
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 &&
	    connect(fd, (void *)&to,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int notify_fd = -1;

void service_manager_connect(void)
{
	static bool tried;

	/* Once: later, in a sandbox, even trying would be deadly. */
	if (!tried) {
		tried = true;
		notify_fd = connect_notify();
	}
}

void service_manager_notify(const char *state)
{
	service_manager_connect();
	if (notify_fd >= 0) {
		ssize_t n = send(notify_fd, state, strlen(state), MSG_NOSIGNAL);
		(void)n;
	}
}

/* The variable's whole number, or -1. */
static long environment_number(const char *name)
{
	const char *text = getenv(name);
	char *end;

	if (!text || text[0] < '0' || text[0] > '9') {
		return -1;
	}
	long n = strtol(text, &end, 10);

	return *end ? -1 : n;
}

int service_manager_sockets(int *fds, size_t max, size_t *count, struct error *err)
{
	*count = 0;
	/* They may be meant for another process of the same family. */
	if (environment_number("LISTEN_PID") != (long)getpid()) {
		return 0;
	}
	long passed = environment_number("LISTEN_FDS");

	if (passed > (long)max) {
		return error_set(
			err, ERROR_UNSUPPORTED,
			"the service manager passes %ld sockets; %zu at most are expected",
			passed, max);
	}
	for (long i = 0; i < passed; i++) {
		fds[i] = FIRST_PASSED_FD + (int)i;
		if (fcntl(fds[i], F_SETFD, FD_CLOEXEC) != 0) {
			return error_set_errno(err, errno, "the socket of the service manager");
		}
	}
	*count = passed > 0 ? (size_t)passed : 0;
	return 0;
}
