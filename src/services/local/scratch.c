#include "services/local/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

void scratch_init(struct scratch *s)
{
	*s = (struct scratch){.fd = -1};
	pthread_mutex_init(&s->lock, NULL);
}

/* Takes over the descriptor. Returns the bytes on disk that are free now. */
static uint64_t remove_files(int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	uint64_t freed = 0;

	if (!dir) {
		close(fd);
		return 0;
	}
	while ((entry = readdir(dir))) {
		struct stat st;
		bool last = fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    st.st_nlink == 1;

		if (unlinkat(dirfd(dir), entry->d_name, 0) == 0 && last) {
			freed += (uint64_t)st.st_blocks * 512;
		}
	}
	closedir(dir);
	return freed;
}

/*
 * With its files. Takes over the descriptor, whose lock is held until the folder is gone.
 * Failures are left to the next who cleans up.
 */
static uint64_t remove_folder(int parent, const char *name, int fd)
{
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	uint64_t freed = again >= 0 ? remove_files(again) : 0;

	unlinkat(parent, name, AT_REMOVEDIR);
	close(fd);
	return freed;
}

void scratch_clear(struct scratch *s, int store_dirfd)
{
	pthread_mutex_lock(&s->lock);
	if (s->fd >= 0) {
		remove_folder(store_dirfd, s->folder, s->fd);
		s->fd = -1;
	}
	pthread_mutex_unlock(&s->lock);
}

void scratch_done(struct scratch *s, int store_dirfd)
{
	scratch_clear(s, store_dirfd);
	pthread_mutex_destroy(&s->lock);
}

static uint64_t remove_abandoned(int tmp, const char *name)
{
	int fd = openat(tmp, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		/* A file: of the time before folders, or not ours to understand. */
		return 0;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		return 0;
	}
	return remove_folder(tmp, name, fd);
}

uint64_t scratch_remove_dead(int store_dirfd)
{
	int fd = openat(store_dirfd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t freed = 0;

	if (!dir) {
		cleanup_close(&fd);
		return 0;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.') {
			freed += remove_abandoned(dirfd(dir), entry->d_name);
		}
	}
	closedir(dir);
	return freed;
}

/* Asker: 0 when somebody's cleaning up was faster than our lock. */
static int claim(struct scratch *s, int store_dirfd, struct error *err)
{
	struct stat here, named;
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		return error_set_errno(err, errno, "cannot name a folder");
	}
	snprintf(s->folder, sizeof(s->folder), "tmp/%016" PRIx64, random);
	if (mkdirat(store_dirfd, s->folder, 0755) != 0) {
		return error_set_errno(err, errno, "cannot create %s", s->folder);
	}
	int fd = openat(store_dirfd, s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		return errno == ENOENT
			       ? 0
			       : error_set_errno(err, errno, "cannot open %s", s->folder);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &here) != 0 ||
	    fstatat(store_dirfd, s->folder, &named, 0) != 0 || here.st_ino != named.st_ino) {
		close(fd);
		return 0;
	}
	s->fd = fd;
	return 1;
}

int scratch_name(struct scratch *s, int store_dirfd, char out[SCRATCH_NAME_SIZE],
		 struct error *err)
{
	int rc = 1;

	pthread_mutex_lock(&s->lock);
	if (s->fd < 0) {
		/* I/O under the lock, once: whoever comes meanwhile needs the folder too. */
		scratch_remove_dead(store_dirfd);
		do {
			rc = claim(s, store_dirfd, err);
		} while (rc == 0);
	}
	if (rc > 0) {
		snprintf(out, SCRATCH_NAME_SIZE, "%s/%lu", s->folder, s->serial++);
	}
	pthread_mutex_unlock(&s->lock);
	return MIN(rc, 0);
}

bool scratch_find(struct scratch *s, const char *name, char out[SCRATCH_NAME_SIZE])
{
	pthread_mutex_lock(&s->lock);
	bool found = s->fd >= 0;

	if (found) {
		snprintf(out, SCRATCH_NAME_SIZE, "%s/%s", s->folder, name);
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}
