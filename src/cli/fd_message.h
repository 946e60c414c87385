#pragma once

/*
 * Short messages between processes of a mount, over a SOCK_SEQPACKET socket: a kind, a number,
 * a text, and maybe an open file. Numbers are this machine's; what comes is checked for its
 * form only.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define FD_MESSAGE_TEXT_MAX 4096

struct fd_message {
	uint32_t kind;
	uint32_t value;
	int fd; /* -1: none; what was received is the caller's to close */
	char text[FD_MESSAGE_TEXT_MAX]; /* with a 0 behind it */
};

/* text may be NULL, and is cut where it is too long; fd is borrowed, or -1. Doer. */
int fd_message_send(int socket, uint32_t kind, uint32_t value, const char *text, int fd,
		    struct error *err);
/*
 * Asker: 0 at the end, and for a socket that does not block when nothing is there
 * (ERROR_WOULD_BLOCK). A file that comes is closed on exec.
 */
int fd_message_receive(int socket, struct fd_message *m, struct error *err);
