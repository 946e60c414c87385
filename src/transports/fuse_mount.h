#pragma once

/*
 * A FUSE mount on this machine: mounting, serving, unmounting. With privilege by mount(2), else
 * with the help of fusermount3.
 */

#include "fs/fs.h"
#include "transports/cpu_latency.h"

enum fuse_mount_io {
	FUSE_MOUNT_CACHED, /* files are read through this program and cached by the kernel */
	/* Large files are read by the kernel itself, where they lie, see fs_set_backing(). */
	FUSE_MOUNT_PASSTHROUGH,        /* ERROR_DENIED or ERROR_UNSUPPORTED if it cannot be */
	FUSE_MOUNT_PREFER_PASSTHROUGH, /* else cached */
};

struct fuse_mount_options {
	const char *mountpoint;
	const char *source; /* shown in /proc/mounts, e.g. the store address */
	unsigned threads;   /* 0: default */
	bool allow_other;
	enum fuse_mount_io io;
	enum cpu_latency_policy cpu_latency;
};

struct fuse_mount;

/* Mounted, and INIT answered, when it returns 0. fs is borrowed and outlives the mount. */
int fuse_mount_new(struct fs *fs, const struct fuse_mount_options *o, struct fuse_mount **out,
		   struct error *err);
/*
 * Goes on with the mount of another server, which has ended: fd is its open /dev/fuse, which is
 * taken over; the session is in memory that fs keeps (fs_keep). Of the options, mountpoint,
 * threads and cpu_latency count. When it fails, the mount is still there.
 */
int fuse_mount_take_over(struct fs *fs, const struct fuse_mount_options *o, int fd,
			 struct fuse_mount **out, struct error *err);
/* The open /dev/fuse; it stays the mount's. */
int fuse_mount_descriptor(const struct fuse_mount *m);
/* Blocks until unmounted, by whomever, or stopped. Once. */
int fuse_mount_serve(struct fuse_mount *m, struct error *err);
/*
 * Async-signal-safe, any thread: makes serve unmount (when processes still use the mount:
 * detach it, and end the connection) and return 0. Also before serve.
 */
void fuse_mount_stop(struct fuse_mount *m);
/*
 * Any thread: makes serve return once what it has taken is answered, and leaves the mount to
 * somebody else.
 */
void fuse_mount_leave(struct fuse_mount *m);
/* Unmounts if still mounted and not left. NULL is allowed. */
void fuse_mount_free(struct fuse_mount *m);

/*
 * Unmounts whatever FUSE mount is there. lazy: detaches it at once, although it is in use.
 * ERROR_UNAVAILABLE when it is in use and lazy was not given.
 */
int fuse_unmount(const char *mountpoint, bool lazy, struct error *err);
