#include "transports/fuse_backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "fs/fuse_protocol.h"

static bool has_admin_capability(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

	return syscall(SYS_capget, &header, data) == 0 &&
	       (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN));
}

/* In the first user namespace every id stands for itself. */
static bool in_first_user_namespace(void)
{
	struct buffer map cleanup(buffer_done) = {0};
	struct error err;
	unsigned long numbers[3]; /* first id inside, first id outside, count */

	if (read_small_file(AT_FDCWD, "/proc/self/uid_map", 4096, &map, &err) <= 0) {
		return false;
	}
	buffer_append_byte(&map, 0);
	char *at = (char *)map.ptr;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		numbers[i] = strtoul(at, &at, 10);
	}
	return numbers[0] == 0 && numbers[1] == 0 && numbers[2] == UINT32_MAX;
}

int fuse_backing_permitted(struct error *err)
{
	if (has_admin_capability() && in_first_user_namespace()) {
		return 0;
	}
	return error_set(
		err, ERROR_DENIED,
		"passthrough needs the capability CAP_SYS_ADMIN, outside of containers");
}

/*
 * The same file through a mount of its own that keeps no access times: the kernel opens the
 * backing file anew and would otherwise update them with every read. -1 when that cannot be.
 */
static int reopen_without_atime(int fd)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOATIME,
				  .attr_clr = MOUNT_ATTR__ATIME};
	char path[40];
	int tree cleanup(cleanup_close) = (int)syscall(
		SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0 ||
	    syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0) {
		return -1;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", tree);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int fuse_backing_open(int dev_fd, int fd, uint32_t *id, struct error *err)
{
	int quiet cleanup(cleanup_close) = reopen_without_atime(fd);
	const struct fuse_backing_map map = {.fd = quiet >= 0 ? quiet : fd};
	int got = ioctl(dev_fd, FUSE_DEV_IOC_BACKING_OPEN, &map);

	if (got <= 0) {
		return error_set_errno(err, got < 0 ? errno : EINVAL,
				       "the kernel does not pass a file through");
	}
	*id = (uint32_t)got;
	return 0;
}

void fuse_backing_close(int dev_fd, uint32_t id)
{
	/* After the connection has ended there is nothing left to close. */
	int rc = ioctl(dev_fd, FUSE_DEV_IOC_BACKING_CLOSE, &id);

	(void)rc;
}
