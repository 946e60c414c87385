#include "rpc/stage_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/io.h"

#define PREFIX "cairn-stage-"
#define DEPTH_FDS 16

struct stage_folder {
	int fd; /* locked */
	char *path;
};

static const char *parent_path(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && dir[0] ? dir : "/tmp";
}

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	/* What cannot be removed is left to the next who looks. */
	(void)nftw(path, remove_one, DEPTH_FDS, FTW_DEPTH | FTW_PHYS);
}

/* Others may have folders of such names in a place that is everybody's. */
static bool is_abandoned(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
	       flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* The lock is held until it is gone. */
static void remove_abandoned(int parent, const char *name)
{
	int fd cleanup(cleanup_close) =
		openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 && is_abandoned(fd)) {
		char *path cleanup(cleanup_free) = xasprintf("%s/%s", parent_path(), name);

		remove_tree(path);
	}
}

static void clean_up(void)
{
	DIR *dir = opendir(parent_path());
	struct dirent *entry;

	if (!dir) {
		return;
	}
	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) == 0) {
			remove_abandoned(dirfd(dir), entry->d_name);
		}
	}
	closedir(dir);
}

/* Waits for who may be cleaning up; false when that one has removed it. */
static bool lock(const struct stage_folder *f)
{
	struct stat here, named;

	return flock(f->fd, LOCK_EX) == 0 && fstat(f->fd, &here) == 0 &&
	       lstat(f->path, &named) == 0 && here.st_ino == named.st_ino;
}

/* Asker: 0 when somebody's cleaning up was faster than our lock. */
static int claim(struct stage_folder *f, struct error *err)
{
	f->path = xasprintf("%s/" PREFIX "XXXXXX", parent_path());
	if (!mkdtemp(f->path)) {
		return error_set_errno(err, errno, "cannot make a folder like %s", f->path);
	}
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (f->fd < 0 && errno != ENOENT) {
		int rc = error_set_errno(err, errno, "cannot open %s", f->path);

		rmdir(f->path);
		return rc;
	}
	return f->fd >= 0 && lock(f);
}

static void let_go(struct stage_folder *f)
{
	cleanup_close(&f->fd);
	free(f->path);
	*f = (struct stage_folder){.fd = -1};
}

int stage_folder_new(struct stage_folder **out, struct error *err)
{
	struct stage_folder f = {.fd = -1};
	int rc;

	clean_up();
	while ((rc = claim(&f, err)) == 0) {
		let_go(&f);
	}
	if (rc < 0) {
		let_go(&f);
		return rc;
	}
	*out = xmalloc(sizeof(f));
	**out = f;
	return 0;
}

void stage_folder_free(struct stage_folder *f)
{
	if (f) {
		remove_tree(f->path);
		let_go(f);
		free(f);
	}
}

const char *stage_folder_path(const struct stage_folder *f)
{
	return f->path;
}
