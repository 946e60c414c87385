#include "base/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

#define BACKLOG 64

struct unix_listener {
	int fd;
	char *folder; /* absolute, without symlinks */
	char *path;
	bool bound;   /* it has some name, */
	bool named;   /* and this is its path */
	dev_t device; /* of the name; those of the descriptor are others */
	ino_t inode;
};

static int set_address(struct sockaddr_un *address, const char *path, struct error *err)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path)) {
		return error_set(err, ERROR_LIMIT, "%s: a socket's path has at most %zu bytes",
				 path, sizeof(address->sun_path) - 1);
	}
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

/* The path without symlinks in its folder, so that it holds in any working directory. */
static int resolve(struct unix_listener *l, const char *path, struct error *err)
{
	char *copy cleanup(cleanup_free) = xstrdup(path);
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (!name[0]) {
		return error_set(err, ERROR_INVALID, "%s: a name for the socket is missing",
				 path);
	}
	l->folder = realpath(dirname(copy), NULL);
	if (!l->folder) {
		return error_set_errno(err, errno, "cannot make the socket %s", path);
	}
	l->path = xasprintf("%s/%s", l->folder, name);
	struct sockaddr_un address;

	/* Whoever connects must be able to name it. */
	return set_address(&address, l->path, err);
}

static int make_socket(struct unix_listener *l, const char *path,
		       const struct unix_listener_options *o, struct error *err)
{
	struct sockaddr_un address;
	int rc = set_address(&address, path, err);
	struct stat st;

	if (rc < 0) {
		return rc;
	}
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	l->bound = l->fd >= 0 && bind(l->fd, (void *)&address, sizeof(address)) == 0;
	if (!l->bound) {
		return error_set_errno(err, errno, "cannot make the socket %s", path);
	}
	/* The owner first: giving a file away may change its mode. */
	bool failed = chown(path, o->owner, o->group) != 0 || chmod(path, o->mode) != 0 ||
		      listen(l->fd, BACKLOG) != 0 || stat(path, &st) != 0;

	if (failed) {
		return error_set_errno(err, errno, "cannot set up the socket %s", path);
	}
	l->device = st.st_dev;
	l->inode = st.st_ino;
	return 0;
}

/* Asker: 1 when nobody listens there any more; an error when somebody does, or no socket is. */
static int is_stale(const char *path, struct error *err)
{
	struct sockaddr_un address;
	struct stat st;
	int rc = set_address(&address, path, err);

	if (rc < 0) {
		return rc;
	}
	if (lstat(path, &st) != 0) {
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "%s", path);
	}
	if (!S_ISSOCK(st.st_mode)) {
		return error_set(err, ERROR_EXISTS, "%s exists, and is no socket", path);
	}
	int fd cleanup(cleanup_close) =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot make a socket");
	}
	if (connect(fd, (void *)&address, sizeof(address)) == 0 || errno == EAGAIN) {
		return error_set(err, ERROR_EXISTS, "%s: another process listens there", path);
	}
	return errno == ECONNREFUSED || errno == ENOENT
		       ? 1
		       : error_set_errno(err, errno, "cannot tell whether %s is in use", path);
}

/*
 * Two processes that find the same stale socket must not replace each other's: who looks and
 * replaces holds a lock on the folder.
 */
static int replace_stale(const struct unix_listener *l, const char *temporary,
			 struct error *err)
{
	int folder cleanup(cleanup_close) = open(l->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (folder < 0) {
		return error_set_errno(err, errno, "cannot open %s", l->folder);
	}
	if (flock(folder, LOCK_EX | LOCK_NB) != 0) {
		return error_set(err, ERROR_UNAVAILABLE,
				 "%s: another process is replacing the stale socket", l->path);
	}
	int rc = is_stale(l->path, err);

	if (rc >= 0 && rename(temporary, l->path) != 0) {
		rc = error_set_errno(err, errno, "cannot replace the stale socket %s", l->path);
	}
	return MIN(rc, 0);
}

/* Gives the socket its name, at once with all its properties. */
static int publish(const struct unix_listener *l, const char *temporary, struct error *err)
{
	if (link(temporary, l->path) == 0) {
		unlink(temporary);
		return 0;
	}
	return errno == EEXIST
		       ? replace_stale(l, temporary, err)
		       : error_set_errno(err, errno, "cannot make the socket %s", l->path);
}

static int open_listener(struct unix_listener *l, const char *path,
			 const struct unix_listener_options *o, struct error *err)
{
	uint32_t chance = (uint32_t)getpid();
	int rc = resolve(l, path, err);

	if (rc < 0) {
		return rc;
	}
	/* It only has to be unlikely that somebody who was killed has left such a file. */
	ssize_t n = getrandom(&chance, sizeof(chance), GRND_NONBLOCK);
	(void)n;
	char *temporary cleanup(cleanup_free) = xasprintf("%s/.cairn-%08x", l->folder, chance);

	rc = make_socket(l, temporary, o, err);
	if (rc == 0) {
		rc = publish(l, temporary, err);
	}
	if (rc < 0 && l->bound) {
		unlink(temporary);
	}
	l->named = rc == 0;
	return rc;
}

int unix_listener_new(const char *path, const struct unix_listener_options *o,
		      struct unix_listener **out, struct error *err)
{
	struct unix_listener *l = xcalloc(1, sizeof(*l));

	l->fd = -1;
	int rc = open_listener(l, path, o, err);

	if (rc < 0) {
		unix_listener_free(l);
		return rc;
	}
	*out = l;
	return 0;
}

/* While it still listens: nobody else takes the name for a stale one. */
static void remove_name(const struct unix_listener *l)
{
	struct stat st;
	bool ours = lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode;

	if (ours && unlinkat(AT_FDCWD, l->path, 0) != 0) {
		log_info("the socket %s stays behind", l->path);
	}
}

void unix_listener_free(struct unix_listener *l)
{
	if (!l) {
		return;
	}
	if (l->named) {
		remove_name(l);
	}
	cleanup_close(&l->fd);
	free(l->folder);
	free(l->path);
	free(l);
}

int unix_listener_fd(const struct unix_listener *l)
{
	return l->fd;
}

const char *unix_listener_folder(const struct unix_listener *l)
{
	return l->folder;
}

/* An integer among a socket's options; -1 when there is none. */
static int socket_option(int fd, int name)
{
	int value;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

int unix_listener_check(int fd, struct error *err)
{
	if (socket_option(fd, SO_DOMAIN) != AF_UNIX ||
	    socket_option(fd, SO_TYPE) != SOCK_STREAM ||
	    socket_option(fd, SO_ACCEPTCONN) != 1) {
		return error_set(err, ERROR_INVALID,
				 "descriptor %d is not a listening Unix stream socket", fd);
	}
	return 0;
}
