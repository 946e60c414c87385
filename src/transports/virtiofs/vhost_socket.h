#pragma once

/* Messages of the vhost-user protocol, and the descriptors that come with them. */

#include "base/error.h"
#include "transports/virtiofs/vhost_protocol.h"

struct vhost_message {
	struct vhost_header header;
	union vhost_payload payload;
	int fds[VHOST_FDS_MAX]; /* owned; -1: taken */
	size_t fd_count;
};

/*
 * Asker: waits for a message; 0: the other side has closed the connection. Whatever it returns,
 * vhost_message_done() ends the message.
 */
int vhost_socket_receive(int fd, struct vhost_message *m, struct error *err);
/* Closes the descriptors that nobody took. */
void vhost_message_done(struct vhost_message *m);

/* Answers a message with its own payload, of this size. */
int vhost_socket_reply(int fd, struct vhost_message *m, size_t size, struct error *err);
