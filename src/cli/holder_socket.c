#include "cli/holder_socket.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "transports/mount_table.h"

/* The name begins so, behind its zero; then the mount's device, a slash, and a number. */
#define PREFIX "cairn-mount/"
#define NAME_MAX_SIZE 100

struct holder_socket {
	int fd;
};

static socklen_t address_of(const char *name, struct sockaddr_un *out)
{
	size_t len = strlen(name);

	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(out->sun_path + 1, name, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

/* A name of its own: nobody can be there before. */
static int bind_to(int fd, const char *device, struct error *err)
{
	struct sockaddr_un address;
	char name[NAME_MAX_SIZE];
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number)) {
		return error_set_errno(err, errno, "no random number to be had");
	}
	snprintf(name, sizeof(name), PREFIX "%s/%016llx", device, (unsigned long long)number);
	socklen_t len = address_of(name, &address);

	if (bind(fd, (void *)&address, len) != 0 || listen(fd, 8) != 0) {
		return error_set_errno(err, errno, "cannot listen");
	}
	return 0;
}

int holder_socket_new(const char *mountpoint, struct holder_socket **out, struct error *err)
{
	struct mount_table_entry mount;
	int rc = mount_table_find(mountpoint, &mount, err);

	if (rc <= 0) {
		return rc < 0 ? rc : error_set(err, ERROR_NOT_FOUND, "nothing is mounted");
	}
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot make a socket");
	}
	rc = bind_to(fd, mount.device, err);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	*out = xcalloc(1, sizeof(**out));
	(*out)->fd = fd;
	return 0;
}

void holder_socket_free(struct holder_socket *s)
{
	if (s) {
		close(s->fd);
		free(s);
	}
}

int holder_socket_fd(const struct holder_socket *s)
{
	return s ? s->fd : -1;
}

/* (uid_t)-1: unknown. */
static uid_t peer_user(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.uid : (uid_t)-1;
}

int holder_socket_accept(struct holder_socket *s)
{
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0) {
		uid_t user = peer_user(fd);

		if (user == 0 || user == geteuid()) {
			return fd;
		}
		close(fd);
	}
	return -1;
}

/* A connection to this name, if the mount's owner listens there; else -1. */
static int try_name(const char *name, uid_t owner)
{
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		return -1;
	}
	if (connect(fd, (void *)&address, address_of(name, &address)) != 0 ||
	    peer_user(fd) != owner) {
		close(fd);
		return -1;
	}
	return fd;
}

int holder_socket_connect(const char *mountpoint, int *out, struct error *err)
{
	struct mount_table_entry mount;
	char line[512], prefix[NAME_MAX_SIZE];
	int rc = mount_table_find(mountpoint, &mount, err);

	if (rc <= 0) {
		return rc < 0 ? rc
			      : error_set(err, ERROR_NOT_FOUND, "nothing is mounted on %s",
					  mountpoint);
	}
	FILE *sockets = fopen("/proc/net/unix", "re");

	if (!sockets) {
		return error_set_errno(err, errno, "cannot read /proc/net/unix");
	}
	snprintf(prefix, sizeof(prefix), " @" PREFIX "%s/", mount.device);
	*out = -1;
	while (*out < 0 && fgets(line, sizeof(line), sockets)) {
		char *name = strstr(line, prefix);

		line[strcspn(line, "\n")] = '\0';
		if (name && strlen(name) < NAME_MAX_SIZE) {
			*out = try_name(name + strlen(" @"), mount.owner);
		}
	}
	fclose(sockets);
	return *out >= 0;
}
