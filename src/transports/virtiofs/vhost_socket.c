#include "transports/virtiofs/vhost_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* As much as the kernel sends at once: what does not fit would be closed unseen. */
#define CONTROL_FDS_MAX 253

/* Keeps what came with a piece of a message. False: more than any message has. */
static bool keep_fds(struct vhost_message *m, struct msghdr *msg)
{
	bool fits = !(msg->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (m->fd_count < VHOST_FDS_MAX) {
				m->fds[m->fd_count++] = fd;
			} else {
				close(fd);
				fits = false;
			}
		}
	}
	return fits;
}

/* Asker: exactly len bytes; 0 when the connection ends before the first of them. */
static int receive(int fd, struct vhost_message *m, void *buf, size_t len, struct error *err)
{
	size_t done = 0;

	while (done < len) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(int) * CONTROL_FDS_MAX)];
		} control;
		struct iovec iov = {(char *)buf + done, len - done};
		struct msghdr msg = {.msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = &control,
				     .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno != ECONNRESET) {
			return error_set_errno(err, errno, "cannot read a message");
		}
		if (n > 0 && !keep_fds(m, &msg)) {
			return error_set(err, ERROR_LIMIT,
					 "a message with more descriptors than can be had");
		}
		if (n <= 0) {
			return done == 0 ? 0
					 : error_set(err, ERROR_INVALID,
						     "the connection ended in a message");
		}
		done += (size_t)n;
	}
	return 1;
}

int vhost_socket_receive(int fd, struct vhost_message *m, struct error *err)
{
	m->fd_count = 0;
	memset(&m->payload, 0, sizeof(m->payload));
	int rc = receive(fd, m, &m->header, sizeof(m->header), err);

	if (rc <= 0) {
		return rc;
	}
	if ((m->header.flags & VHOST_VERSION_MASK) != VHOST_VERSION ||
	    (m->header.flags & VHOST_REPLY)) {
		return error_set(err, ERROR_INVALID, "message %u has the flags %#x",
				 m->header.request, m->header.flags);
	}
	if (m->header.size > sizeof(m->payload)) {
		return error_set(err, ERROR_INVALID, "message %u has %u bytes",
				 m->header.request, m->header.size);
	}
	if (m->header.size == 0) {
		return 1;
	}
	rc = receive(fd, m, &m->payload, m->header.size, err);
	return rc != 0 ? rc
		       : error_set(err, ERROR_INVALID, "the connection ended in a message");
}

void vhost_message_done(struct vhost_message *m)
{
	for (size_t i = 0; i < m->fd_count; i++) {
		if (m->fds[i] >= 0) {
			close(m->fds[i]);
		}
	}
	m->fd_count = 0;
}

int vhost_socket_reply(int fd, struct vhost_message *m, size_t size, struct error *err)
{
	m->header.flags = VHOST_VERSION | VHOST_REPLY;
	m->header.size = (uint32_t)size;
	struct iovec iov[2] = {{&m->header, sizeof(m->header)}, {&m->payload, size}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	size_t left = sizeof(m->header) + size;

	while (left > 0) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return error_set_errno(err, errno, "cannot answer message %u",
					       m->header.request);
		}
		left -= (size_t)n;
		for (size_t i = 0; i < 2; i++) {
			size_t part = MIN((size_t)n, iov[i].iov_len);

			iov[i].iov_base = (char *)iov[i].iov_base + part;
			iov[i].iov_len -= part;
			n -= (ssize_t)part;
		}
	}
	return 0;
}
