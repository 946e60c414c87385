/* Names below the folder of a local store, and how what has them becomes durable. */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "services/local/local_internal.h"

void local_pack_name(char out[LOCAL_NAME_SIZE], uint64_t number)
{
	snprintf(out, LOCAL_NAME_SIZE, "packs/%08llx.pack", (unsigned long long)number);
}

void local_file_name(char out[LOCAL_NAME_SIZE], const struct digest *digest)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(hex, digest);
	snprintf(out, LOCAL_NAME_SIZE, "files/%.2s/%s", hex, hex);
}

/* The folder that the name is in. */
static void file_folder(char out[LOCAL_NAME_SIZE], const struct digest *digest)
{
	local_file_name(out, digest);
	*strrchr(out, '/') = '\0';
}

bool local_syncs(const struct local_store *s)
{
	return atomic_load(&s->durability) != DURABILITY_NONE;
}

void local_start_writing(const struct local_store *s, int fd, uint64_t offset, uint64_t len)
{
	if (local_syncs(s)) {
		sync_file_range(fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
	}
}

static int sync_path(const struct local_store *s, const char *name, struct error *err)
{
	if (!local_syncs(s)) {
		return 0;
	}
	int fd cleanup(cleanup_close) = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) != 0) {
		return error_set_errno(err, errno, "cannot sync %s", name);
	}
	return 0;
}

int local_folder_sync(struct local_store *s, const char *name, struct error *err)
{
	return sync_path(s, name, err);
}

/* The folder of a large file's name, when it is the first one there. */
static int make_file_folder(struct local_store *s, const struct digest *digest,
			    struct error *err)
{
	char name[LOCAL_NAME_SIZE];

	file_folder(name, digest);
	return mkdirat(s->dirfd, name, 0755) == 0 || errno == EEXIST
		       ? 0
		       : error_set_errno(err, errno, "cannot create %s/%s", s->path, name);
}

void local_index_remove(struct local_store *s, const char *name)
{
	static const char *const files[] = {"data.mdb", "lock.mdb"};
	char path[LOCAL_NAME_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		unlinkat(s->dirfd, path, 0);
	}
	unlinkat(s->dirfd, name, AT_REMOVEDIR);
}

int local_file_place(struct local_store *s, const char *temporary, const struct digest *digest,
		     bool sync, struct error *err)
{
	unsigned flags = RENAME_NOREPLACE;
	char name[LOCAL_NAME_SIZE];
	bool made_folder = false;
	int rc = sync ? sync_path(s, temporary, err) : 0;

	local_file_name(name, digest);
	while (rc == 0 && renameat2(s->dirfd, temporary, s->dirfd, name, flags) != 0) {
		int errnum = errno;

		if (errnum == ENOENT && !made_folder) {
			made_folder = true;
			rc = make_file_folder(s, digest, err);
		} else if (flags && (errnum == EEXIST || errnum == EINVAL)) {
			/* EINVAL: a file system without NOREPLACE. */
			flags = 0;
			rc = sync ? 0 : sync_path(s, temporary, err);
		} else {
			rc = error_set_errno(err, errnum, "cannot create %s/%s", s->path, name);
		}
	}
	return rc;
}

int local_file_check_placed(struct local_store *s, const struct digest *digest,
			    struct error *err)
{
	char name[LOCAL_NAME_SIZE];
	struct stat st;

	local_file_name(name, digest);
	if (fstatat(s->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		return 0;
	}
	return errno == ENOENT
		       ? error_set(err, ERROR_COLLECTED,
				   "%s/%s was collected as garbage while it was put "
				   "again; the same command will succeed",
				   s->path, name)
		       : error_set_errno(err, errno, "cannot find %s/%s", s->path, name);
}

int local_file_sync_name(struct local_store *s, const struct digest *digest, struct error *err)
{
	_Atomic bool *known = &s->file_folders[digest->bytes[0]];
	char name[LOCAL_NAME_SIZE];

	/* The folder may be new, and its maker dead, or not so far yet. */
	if (!atomic_load(known)) {
		int rc = sync_path(s, "files", err);

		if (rc) {
			return rc;
		}
		atomic_store(known, true);
	}
	file_folder(name, digest);
	return sync_path(s, name, err);
}

int local_pack_sync(struct local_store *s, int fd, struct error *err)
{
	if (local_syncs(s) && fdatasync(fd) != 0) {
		return error_set_errno(err, errno, "cannot sync a pack of %s", s->path);
	}
	return 0;
}

int local_sync_all(struct local_store *s, struct error *err)
{
	if (local_syncs(s) && syncfs(s->dirfd) != 0) {
		return error_set_errno(err, errno, "cannot sync %s", s->path);
	}
	return 0;
}
