#include "cli/fd_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

struct head {
	uint32_t kind;
	uint32_t value;
};

/* Room for one descriptor. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int fd_message_send(int socket, uint32_t kind, uint32_t value, const char *text, int fd,
		    struct error *err)
{
	struct head head = {.kind = kind, .value = value};
	size_t len = text ? strnlen(text, FD_MESSAGE_TEXT_MAX - 1) : 0;
	struct iovec iov[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)text, len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	union control control = {0};
	ssize_t n;

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	do {
		n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? error_set_errno(err, errno, "cannot send a message") : 0;
}

int fd_message_receive(int socket, struct fd_message *m, struct error *err)
{
	struct head head = {.kind = 0};
	struct iovec iov[2] = {{&head, sizeof(head)}, {m->text, sizeof(m->text) - 1}};
	union control control;
	struct msghdr msg = {.msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n;

	do {
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno == ECONNRESET)) {
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		return error_set(err, ERROR_WOULD_BLOCK, "there is no message");
	}
	if (n < 0) {
		return error_set_errno(err, errno, "cannot receive a message");
	}
	m->fd = fd_of_message(&msg);
	if ((size_t)n < sizeof(head)) {
		if (m->fd >= 0) {
			close(m->fd);
		}
		return error_set(err, ERROR_INVALID, "a message is too short");
	}
	m->kind = head.kind;
	m->value = head.value;
	m->text[(size_t)n - sizeof(head)] = '\0';
	return 1;
}
