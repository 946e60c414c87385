/*
 * What a large blob over gRPC is compared with: the same bytes over a plain socket.
 *
 *   stream tcp|unix FILE
 *
 * A child connects, over loopback TCP or a unix socket, and sends the file with sendfile(); the
 * parent receives into a buffer and does nothing with it. Prints one JSON object: the time from
 * before the connection to the last byte, and the bytes.
 */

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define PIECE (1024 * 1024)

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

static char buffer[PIECE];

/* Any free port, or a name that the kernel chooses. */
static int listen_somewhere(int family, union address *address, socklen_t *size)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(address, 0, sizeof(*address));
	address->any.sa_family = (sa_family_t)family;
	*size = sizeof(sa_family_t);
	if (family == AF_INET) {
		address->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		*size = sizeof(address->in);
	}
	if (fd < 0 || bind(fd, &address->any, *size) != 0 || listen(fd, 1) != 0) {
		err(1, "listen");
	}
	*size = sizeof(*address);
	if (getsockname(fd, &address->any, size) != 0) {
		err(1, "getsockname");
	}
	return fd;
}

static void send_file(const union address *address, socklen_t size, const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (file < 0) {
		err(1, "%s", path);
	}
	if (fd < 0 || connect(fd, &address->any, size) != 0) {
		err(1, "connect");
	}
	for (;;) {
		ssize_t n = sendfile(fd, file, NULL, PIECE);

		if (n == 0) {
			return;
		}
		if (n < 0 && errno != EINTR) {
			err(1, "sendfile");
		}
	}
}

static uint64_t receive_all(int fd)
{
	uint64_t bytes = 0;

	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

		if (n == 0) {
			return bytes;
		}
		if (n > 0) {
			bytes += (uint64_t)n;
		} else if (errno != EINTR) {
			err(1, "recv");
		}
	}
}

int main(int argc, char **argv)
{
	union address address;
	socklen_t size;
	int status;

	if (argc != 3 || (strcmp(argv[1], "tcp") != 0 && strcmp(argv[1], "unix") != 0)) {
		errx(2, "usage: stream tcp|unix FILE");
	}
	int listener = listen_somewhere(argv[1][0] == 't' ? AF_INET : AF_UNIX, &address, &size);
	double begin = seconds_now();
	pid_t pid = fork();

	if (pid < 0) {
		err(1, "fork");
	}
	if (pid == 0) {
		send_file(&address, size, argv[2]);
		return 0;
	}
	int fd = accept(listener, NULL, NULL);

	if (fd < 0) {
		err(1, "accept");
	}
	uint64_t bytes = receive_all(fd);
	double seconds = seconds_now() - begin;

	if (waitpid(pid, &status, 0) != pid || status != 0) {
		errx(1, "the sender failed");
	}
	printf("{\"seconds\": %.9f, \"bytes\": %" PRIu64 "}\n", seconds, bytes);
	return 0;
}
