#include "cli/held.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "cli/fd_message.h"

struct held {
	unsigned flags;
	char *mountpoint;
	char *tree; /* NULL: none */
	struct fuse_mount *mount;
	pthread_t watcher;
	bool watches;
	atomic_bool closing;
};

static int expect(uint32_t kind, struct fd_message *m, struct error *err)
{
	int rc = fd_message_receive(HELD_FD_SOCKET, m, err);

	if (rc > 0 && m->fd >= 0) {
		close(m->fd);
	}
	if (rc == 0) {
		rc = error_set(err, ERROR_CANCELED, "the holder of the mount has ended");
	}
	if (rc > 0 && m->kind != kind) {
		rc = error_set(err, ERROR_INVALID, "the holder of the mount says %u, not %u",
			       m->kind, kind);
	}
	return MIN(rc, 0);
}

static int meet_holder(struct held *h, struct error *err)
{
	struct fd_message m;
	int rc = expect(HELD_BEGIN, &m, err);

	if (rc == 0) {
		h->flags = m.value;
		h->mountpoint = xstrdup(m.text);
		rc = expect(HELD_TREE, &m, err);
	}
	if (rc == 0 && m.text[0]) {
		h->tree = xstrdup(m.text);
	}
	return rc;
}

int held_begin(struct held **out, struct error *err)
{
	if (!getenv(HELD_VARIABLE)) {
		return 0;
	}
	unsetenv(HELD_VARIABLE);
	struct held *h = xcalloc(1, sizeof(*h));
	int rc = meet_holder(h, err);

	for (int fd = HELD_FD_SOCKET; rc == 0 && fd <= HELD_FD_DEVICE; fd++) {
		bool expected = fd != HELD_FD_DEVICE || held_takes_over(h);

		if (expected && fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
			rc = error_set_errno(err, errno, "what the holder passes on");
		}
	}
	if (rc != 0) {
		held_free(h);
		return rc;
	}
	*out = h;
	return 1;
}

void held_free(struct held *h)
{
	if (h) {
		free(h->mountpoint);
		free(h->tree);
		free(h);
	}
}

bool held_takes_over(const struct held *h)
{
	return (h->flags & HELD_TAKES_OVER) != 0;
}

bool held_has_no_terminal(const struct held *h)
{
	return (h->flags & HELD_HAS_NO_TERMINAL) != 0;
}

const char *held_mountpoint(const struct held *h)
{
	return h->mountpoint;
}

const char *held_tree(const struct held *h)
{
	return h->tree;
}

int held_memory(const struct held *h unused)
{
	return HELD_FD_MEMORY;
}

/* A holder that has gone is noticed where it matters. */
static void tell(uint32_t kind, uint32_t value, const char *text, int fd)
{
	int rc = fd_message_send(HELD_FD_SOCKET, kind, value, text, fd, NULL);

	(void)rc;
}

int held_wait(struct held *h unused, int *device, struct error *err)
{
	struct fd_message m;

	tell(HELD_PREPARED, 0, NULL, -1);
	int rc = expect(HELD_GO, &m, err);

	if (rc == 0) {
		*device = HELD_FD_DEVICE;
	}
	return rc;
}

void held_tell_mounted(struct held *h unused, int device)
{
	tell(HELD_MOUNTED, 0, NULL, device);
}

void held_tell_serving(struct held *h unused, unsigned abilities, const char *tree)
{
	tell(HELD_SERVING, abilities, tree, -1);
}

void held_tell_failed(struct held *h, int code, const char *text)
{
	if (h) {
		tell(HELD_FAILED, (uint32_t)code, text, -1);
	}
}

static void *watcher_main(void *context)
{
	struct held *h = context;
	struct fd_message m;

	while (fd_message_receive(HELD_FD_SOCKET, &m, NULL) > 0) {
		if (m.fd >= 0) {
			close(m.fd);
		}
		if (m.kind == HELD_LEAVE) {
			fuse_mount_leave(h->mount);
			return NULL;
		}
	}
	if (!atomic_load(&h->closing)) {
		log_warning("the holder of %s has ended: the mount goes on, but would not "
			    "survive this process, nor can it be upgraded",
			    h->mountpoint);
	}
	return NULL;
}

int held_watch(struct held *h, struct fuse_mount *mount, struct error *err)
{
	h->mount = mount;
	int rc = thread_start(&h->watcher, 0, watcher_main, h);

	h->watches = rc == 0;
	return rc ? error_set_errno(err, rc, "cannot start a thread") : 0;
}

void held_unwatch(struct held *h)
{
	if (h->watches) {
		atomic_store(&h->closing, true);
		shutdown(HELD_FD_SOCKET, SHUT_RD);
		pthread_join(h->watcher, NULL);
		h->watches = false;
	}
}
