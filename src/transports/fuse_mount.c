#include "transports/fuse_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/thread.h"
#include "transports/fuse_backing.h"
#include "transports/fuse_dev.h"
#include "transports/fusermount.h"
#include "transports/mount_table.h"

#define SOURCE_DEFAULT "cairn"
/* /proc/mounts has lines of at most a page, with the other options on them. */
#define SOURCE_MAX 1000

struct fuse_mount {
	char *mountpoint; /* absolute: the program may change its directory */
	struct fuse_dev *dev;
	int stop_fd; /* an eventfd: readable when stopped, or when serving is over */
	bool mounted;
	atomic_bool served; /* the reader has ended */
	atomic_bool left;   /* the mount stays, for somebody else */
};

/* ---- Unmounting ---- */

static int unmount_error(const char *mountpoint, int errnum, struct error *err)
{
	if (errnum == EBUSY) {
		return error_set(err, ERROR_UNAVAILABLE, "cannot unmount %s: it is in use",
				 mountpoint);
	}
	if (errnum == EINVAL) {
		return error_set(err, ERROR_NOT_FOUND, "cannot unmount %s: nothing is mounted",
				 mountpoint);
	}
	return error_set_errno(err, errnum, "cannot unmount %s", mountpoint);
}

/* Root may unmount anything; this program should not. */
static int check_is_fuse(const char *path, struct error *err)
{
	struct mount_table_entry entry;
	int rc = mount_table_find(path, &entry, err);

	if (rc == 0) {
		return error_set(err, ERROR_NOT_FOUND, "cannot unmount %s: nothing is mounted",
				 path);
	}
	if (rc > 0 && strncmp(entry.type, "fuse", 4) != 0) {
		return error_set(err, ERROR_INVALID,
				 "cannot unmount %s: it is a mount of type %s", path,
				 entry.type);
	}
	return MIN(rc, 0);
}

static int unmount_path(const char *path, bool lazy, struct error *err)
{
	int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);

	if (geteuid() == 0) {
		if (umount2(path, flags) == 0) {
			return 0;
		}
		/* Root of a container may be as powerless as any user. */
		if (errno != EPERM) {
			return unmount_error(path, errno, err);
		}
	}
	return fusermount_unmount(path, lazy, err);
}

int fuse_unmount(const char *mountpoint, bool lazy, struct error *err)
{
	/* It only fails where there is no such path, or no way to it. */
	char *path cleanup(cleanup_free) = realpath(mountpoint, NULL);

	if (!path) {
		return error_set_errno(err, errno, "cannot unmount %s", mountpoint);
	}
	int rc = check_is_fuse(path, err);

	return rc != 0 ? rc : unmount_path(path, lazy, err);
}

/* ---- Mounting ---- */

/* The absolute path of a directory that can be mounted on, for the caller to free. */
static int resolve_mountpoint(const char *mountpoint, char **out, struct error *err)
{
	char *path cleanup(cleanup_free) = realpath(mountpoint, NULL);
	struct stat st;

	if (!path && errno == ENOENT) {
		return error_set(err, ERROR_NOT_FOUND, "the mount point %s does not exist",
				 mountpoint);
	}
	if ((!path && errno == ENOTCONN) ||
	    (path && stat(path, &st) != 0 && errno == ENOTCONN)) {
		return error_set(err, ERROR_UNAVAILABLE,
				 "at %s is a mount whose server died: unmount it first",
				 mountpoint);
	}
	if (!path || stat(path, &st) != 0) {
		return error_set_errno(err, errno, "cannot use the mount point %s", mountpoint);
	}
	if (!S_ISDIR(st.st_mode)) {
		return error_set(err, ERROR_INVALID, "the mount point %s is not a directory",
				 mountpoint);
	}
	*out = path;
	path = NULL;
	return 0;
}

static int open_device(struct error *err)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		return fd;
	}
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "there is no /dev/fuse: is the kernel module fuse loaded?");
	}
	return error_set_errno(err, errno, "cannot open /dev/fuse");
}

/*
 * 0, a negative error, or 1 when mount(2) is not permitted. noatime: a read must not make the
 * kernel doubt its attributes.
 */
static int mount_directly(const char *mountpoint, const struct fuse_mount_options *o, int *out,
			  struct error *err)
{
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME;
	char options[200];
	int fd = open_device(err);

	if (fd < 0) {
		return fd;
	}
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions,max_read=%zu%"
		 "s",
		 fd, geteuid(), getegid(), FS_DATA_MAX, o->allow_other ? ",allow_other" : "");
	if (mount(o->source, mountpoint, "fuse.cairn", flags, options) == 0) {
		*out = fd;
		return 0;
	}
	int errnum = errno;

	close(fd);
	if (errnum == EPERM) {
		return 1;
	}
	return error_set_errno(err, errnum, "cannot mount on %s", mountpoint);
}

/* Options for the helper; commas and backslashes of the source are its separators. */
static char *helper_options(const struct fuse_mount_options *o)
{
	struct buffer escaped = {.ptr = NULL};

	for (const char *p = o->source; *p; p++) {
		if (*p == ',' || *p == '\\') {
			buffer_append_byte(&escaped, '\\');
		}
		buffer_append_byte(&escaped, (uint8_t)*p);
	}
	buffer_append_byte(&escaped, 0);
	char *options = xasprintf("ro,nosuid,nodev,noatime,default_permissions,max_read=%zu,"
				  "subtype=cairn%s,fsname=%s",
				  FS_DATA_MAX, o->allow_other ? ",allow_other" : "",
				  (const char *)escaped.ptr);

	buffer_done(&escaped);
	return options;
}

static int mount_anyhow(const char *mountpoint, const struct fuse_mount_options *o, int *fd,
			struct error *err)
{
	if (geteuid() == 0) {
		int rc = mount_directly(mountpoint, o, fd, err);

		if (rc <= 0) {
			return rc;
		}
	}
	char *options cleanup(cleanup_free) = helper_options(o);

	return fusermount_mount(mountpoint, options, fd, err);
}

/* What may not be done is an error if it was asked for, and else not tried. */
static int choose_io(struct fuse_mount_options *o, struct error *err)
{
	int rc = o->io == FUSE_MOUNT_CACHED ? 0 : fuse_backing_permitted(err);

	if (rc < 0 && o->io == FUSE_MOUNT_PREFER_PASSTHROUGH) {
		log_info("files are not passed through: %s", err->text);
		o->io = FUSE_MOUNT_CACHED;
		return 0;
	}
	return rc;
}

static int begin_session(struct fuse_dev *dev, const struct fs *fs, enum fuse_mount_io io,
			 struct error *err)
{
	if (io != FUSE_MOUNT_CACHED) {
		fuse_dev_offer_passthrough(dev);
	}
	int rc = fuse_dev_handshake(dev, err);

	if (rc == 0 && io == FUSE_MOUNT_PASSTHROUGH && !fs_passes_through(fs)) {
		return error_set(err, ERROR_UNSUPPORTED,
				 "the kernel has no FUSE passthrough (Linux 6.9 and newer do)");
	}
	return rc;
}

int fuse_mount_new(struct fs *fs, const struct fuse_mount_options *o, struct fuse_mount **out,
		   struct error *err)
{
	struct fuse_mount_options options = *o;
	struct fuse_mount *m = xcalloc(1, sizeof(*m));
	int fd = -1;

	if (!options.source || !options.source[0]) {
		options.source = SOURCE_DEFAULT;
	}
	m->stop_fd = eventfd(0, EFD_CLOEXEC);
	int rc = m->stop_fd < 0 ? error_set_errno(err, errno, "cannot make an eventfd") : 0;

	if (rc == 0 && strlen(options.source) > SOURCE_MAX) {
		rc = error_set(err, ERROR_LIMIT, "the source of a mount is too long");
	}
	if (rc == 0) {
		rc = resolve_mountpoint(o->mountpoint, &m->mountpoint, err);
	}
	if (rc == 0) {
		rc = choose_io(&options, err);
	}
	if (rc == 0) {
		rc = mount_anyhow(m->mountpoint, &options, &fd, err);
	}
	if (rc == 0) {
		m->mounted = true;
		rc = fuse_dev_new(fd, fs, o->threads, &m->dev, err);
	}
	if (rc == 0) {
		fuse_dev_set_cpu_latency(m->dev, o->cpu_latency);
	}
	if (rc == 0) {
		rc = begin_session(m->dev, fs, options.io, err);
	}
	if (rc != 0) {
		fuse_mount_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

static int resume_session(struct fuse_dev *dev, struct fs *fs, struct error *err)
{
	if (fs_passes_through(fs)) {
		fuse_dev_offer_passthrough(dev);
	}
	int rc = fs_resume(fs, err);

	if (rc == 0) {
		rc = fuse_dev_ask_again(dev, err);
	}
	/* Where the mount has ended, serving it will find that out. */
	return MIN(rc, 0);
}

int fuse_mount_take_over(struct fs *fs, const struct fuse_mount_options *o, int fd,
			 struct fuse_mount **out, struct error *err)
{
	struct fuse_mount *m = xcalloc(1, sizeof(*m));

	m->mountpoint = xstrdup(o->mountpoint);
	m->stop_fd = eventfd(0, EFD_CLOEXEC);
	int rc = m->stop_fd < 0 ? error_set_errno(err, errno, "cannot make an eventfd") : 0;

	if (rc == 0) {
		rc = fuse_dev_new(fd, fs, o->threads, &m->dev, err);
	}
	if (rc == 0) {
		fuse_dev_set_cpu_latency(m->dev, o->cpu_latency);
	}
	if (rc == 0) {
		rc = resume_session(m->dev, fs, err);
	}
	if (rc != 0) {
		fuse_mount_free(m);
		return rc;
	}
	m->mounted = true;
	*out = m;
	return 0;
}

int fuse_mount_descriptor(const struct fuse_mount *m)
{
	return fuse_dev_descriptor(m->dev);
}

void fuse_mount_free(struct fuse_mount *m)
{
	if (!m) {
		return;
	}
	/* First of all: unmounting may ask the file system, and nobody would answer. */
	fuse_dev_free(m->dev);
	if (m->mounted) {
		struct error err;

		if (fuse_unmount(m->mountpoint, true, &err) != 0) {
			log_warning("%s", err.text);
		}
	}
	if (m->stop_fd >= 0) {
		close(m->stop_fd);
	}
	free(m->mountpoint);
	free(m);
}

/* ---- Serving ---- */

void fuse_mount_stop(struct fuse_mount *m)
{
	const uint64_t one = 1;
	int saved = errno;
	ssize_t n = write(m->stop_fd, &one, sizeof(one));

	(void)n; /* full: stopped often enough */
	errno = saved;
}

void fuse_mount_leave(struct fuse_mount *m)
{
	atomic_store(&m->left, true);
	fuse_mount_stop(m);
}

/* Unmounts while the reader still answers what unmounting may ask. */
static void unmount_to_stop(struct fuse_mount *m)
{
	struct error err = {.code = ERROR_NONE};
	int rc = fuse_unmount(m->mountpoint, false, &err);

	if (rc == -ERROR_UNAVAILABLE) {
		log_warning("%s is in use; it is detached", m->mountpoint);
		rc = fuse_unmount(m->mountpoint, true, &err);
	}
	if (rc != 0) {
		log_warning("%s", err.text);
	}
}

static void *stopper_main(void *context)
{
	struct fuse_mount *m = context;
	uint64_t count;

	while (read(m->stop_fd, &count, sizeof(count)) < 0 && errno == EINTR) {
		continue;
	}
	if (!atomic_load(&m->served)) {
		if (!atomic_load(&m->left)) {
			unmount_to_stop(m);
		}
		/* Other mount namespaces, or open files, may keep the connection alive. */
		fuse_dev_stop(m->dev);
	}
	return NULL;
}

int fuse_mount_serve(struct fuse_mount *m, struct error *err)
{
	pthread_t stopper;
	int rc = thread_start(&stopper, 0, stopper_main, m);

	if (rc != 0) {
		return error_set_errno(err, rc, "cannot start a thread");
	}
	rc = fuse_dev_run(m->dev, err);
	atomic_store(&m->served, true);
	fuse_mount_stop(m);
	pthread_join(stopper, NULL);
	/* Unmounted by us or by someone else. After an error the mount is still there. */
	m->mounted = rc != 0;
	return rc;
}
