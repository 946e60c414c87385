#pragma once

/*
 * The server of a mount that outlives it, and its socket to the holder (holder.h), which has
 * started it: with this socket, the memory of the session and, to go on with a mount, the open
 * /dev/fuse as descriptors of fixed numbers, and a variable that says so.
 */

#include <stdbool.h>

#include "base/error.h"
#include "transports/fuse_mount.h"

#define HELD_VARIABLE "CAIRN_MOUNT_IS_HELD"

enum held_fd { HELD_FD_SOCKET = 3, HELD_FD_MEMORY, HELD_FD_DEVICE };

/* Kinds of messages, each with what comes along. */
enum held_message {
	/* To the server. */
	HELD_BEGIN = 1, /* held_begin_flags, the absolute mount point */
	HELD_TREE,      /* the tree that is shown (a ROOT argument), or nothing */
	HELD_GO,        /* the server before has ended */
	HELD_LEAVE,     /* leave the mount to the next one */
	/* From it. */
	HELD_PREPARED, /* its store is open */
	HELD_MOUNTED,  /* the open /dev/fuse */
	HELD_SERVING,  /* held_abilities, the tree that is shown, if it is one */
	HELD_FAILED,   /* an exit code, a message */
	/* Between a holder and whoever asks it for an upgrade. */
	HELD_UPGRADE = 16, /* the program, open */
	HELD_UPGRADED,     /* the process of the server */
	HELD_REFUSED,      /* a message */
};

enum held_begin_flags {
	HELD_TAKES_OVER = 1,      /* there is a session to go on with */
	HELD_HAS_NO_TERMINAL = 2, /* messages go to syslog */
};

enum held_abilities {
	HELD_IS_KEPT = 1, /* the session is in the memory */
	HELD_RESENDS = 2, /* the kernel gives the next server what was taken and not answered */
};

struct held;

/* Asker: whether a holder has started this process. The variable is gone then. */
int held_begin(struct held **out, struct error *err);
/* NULL is allowed. */
void held_free(struct held *h);

bool held_takes_over(const struct held *h);
bool held_has_no_terminal(const struct held *h);
const char *held_mountpoint(const struct held *h);
/* NULL: what the command says. */
const char *held_tree(const struct held *h);
/* Borrowed. */
int held_memory(const struct held *h);

/* Says that all is prepared, and waits until it is this server's turn: the open /dev/fuse. */
int held_wait(struct held *h, int *device, struct error *err);
void held_tell_mounted(struct held *h, int device);
/* tree may be NULL. */
void held_tell_serving(struct held *h, unsigned abilities, const char *tree);
/* h may be NULL here. */
void held_tell_failed(struct held *h, int code, const char *text);

/* While this runs, the mount is left to the next server when the holder wants it. Doer. */
int held_watch(struct held *h, struct fuse_mount *mount, struct error *err);
void held_unwatch(struct held *h);
