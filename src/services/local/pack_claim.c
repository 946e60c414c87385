#include "services/local/pack_claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "services/local/logged_table.h"
#include "services/local/pack_scan.h"

/* 0 when the index knows no such pack. */
static int committed_length(struct local_store *s, uint64_t number, uint64_t *out,
			    struct error *err)
{
	uint8_t key[8], value[8];

	put_be64(key, number);
	int rc = index_get(s->index, INDEX_PACKS, bytes_of(key, 8), value, 8, err);

	*out = rc > 0 ? get_le64(value) : 0;
	return rc < 0 ? rc : 0;
}

static int compare_down(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x < *y) - (*x > *y);
}

int pack_list(struct local_store *s, uint64_t **out, size_t *count, struct error *err)
{
	int fd = openat(s->dirfd, "packs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct buffer numbers = {0};
	struct dirent *entry;

	if (!dir) {
		int errnum = errno;

		if (fd >= 0) {
			close(fd);
		}
		return error_set_errno(err, errnum, "cannot list %s/packs", s->path);
	}
	while ((entry = readdir(dir))) {
		char *end;
		uint64_t number = strtoull(entry->d_name, &end, 16);

		if (end == entry->d_name + 8 && strcmp(end, ".pack") == 0 && number > 0) {
			buffer_append(&numbers, &number, sizeof(number));
		}
	}
	closedir(dir);
	*out = (uint64_t *)(void *)numbers.ptr;
	*count = numbers.len / sizeof(uint64_t);
	if (*count) {
		qsort(*out, *count, sizeof(uint64_t), compare_down);
	}
	return 0;
}

/* Has a pack whose committed length is known all of it? */
static bool pack_whole(const struct local_store *s, int fd, uint64_t number, uint64_t length)
{
	uint8_t header[PACK_HEADER_SIZE];
	struct stat st;

	return length < PACK_HEADER_SIZE ||
	       (length % RECORD_ALIGN == 0 && fstat(fd, &st) == 0 &&
		(uint64_t)st.st_size >= length &&
		pread_full(fd, header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
		pack_header_valid(header, number, s->id));
}

/* Asker: does the index have this record as an object? */
static int record_in_use(struct local_store *s, const struct record *r, uint64_t number,
			 uint64_t offset, struct error *err)
{
	uint8_t value[LOCATION_SIZE];
	struct location l;

	if (logged_table_of(r->kind)) {
		return 0;
	}
	int rc = index_get(s->index,
			   r->kind == RECORD_DIRECTORY ? INDEX_DIRECTORIES : INDEX_BLOBS,
			   digest_bytes(&r->digest), value, sizeof(value), err);

	return rc <= 0 ? rc
		       : location_decode(value, &l, NULL) == 0 && l.pack == number &&
				 l.offset == offset;
}

/*
 * Asker: is anything in use behind the committed length? Then it is not what the index says it
 * is, and whoever cut the pack off there would destroy it. Usually there is nothing at all.
 */
static int tail_in_use(struct local_store *s, int fd, uint64_t number, uint64_t length,
		       struct error *err)
{
	uint64_t offset = MAX(length, PACK_HEADER_SIZE);
	struct pack_scan scan;
	struct record r;
	struct stat st;
	int rc = 0;

	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size <= offset) {
		return 0;
	}
	pack_scan_init(&scan, fd, offset, (uint64_t)st.st_size);
	while (rc == 0 && pack_scan_next(&scan, &r, &offset) > 0) {
		rc = record_in_use(s, &r, number, offset, err);
	}
	pack_scan_done(&scan);
	return rc;
}

/* Asker: a damaged pack is left alone, for whoever can still use it. */
static int pack_usable(struct local_store *s, int fd, uint64_t number, uint64_t length,
		       struct error *err)
{
	int rc =
		pack_whole(s, fd, number, length) ? tail_in_use(s, fd, number, length, err) : 1;

	return rc < 0 ? rc : rc == 0;
}

/*
 * What nobody committed goes, for good: a change of a table that was being written when its
 * process died would be taken for one that happened, by whoever makes the index again.
 */
static int cut(struct local_store *s, int fd, uint64_t length)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return -1;
	}
	if ((uint64_t)st.st_size <= length) {
		return 0;
	}
	return ftruncate(fd, (off_t)length) == 0 && (!local_syncs(s) || fdatasync(fd) == 0)
		       ? 0
		       : -1;
}

/* Of a pack in which nobody committed anything, the name may not be durable yet. */
static int begin_pack(struct local_store *s, int fd, uint64_t number, struct error *err)
{
	uint8_t header[PACK_HEADER_SIZE];

	pack_header_encode(header, number, s->id);
	if (pwrite_full(fd, header, sizeof(header), 0) != 0) {
		return error_set_errno(err, errno, "cannot write to a pack of %s", s->path);
	}
	return local_folder_sync(s, "packs", err);
}

/* Without a name, it was removed between our opening and our lock. */
static bool lock_pack(int fd)
{
	struct stat st;

	return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/* Asker: 0 when the pack is full, damaged or somebody else's. */
static int claim_existing(struct local_store *s, uint64_t number, struct claimed_pack *out,
			  struct error *err)
{
	char name[LOCAL_NAME_SIZE];
	uint64_t length;

	local_pack_name(name, number);
	int rc = committed_length(s, number, &length, err);

	if (rc || length >= PACK_SIZE_TARGET) {
		return rc;
	}
	int fd = openat(s->dirfd, name, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		return errno == ENOENT ? 0
				       : error_set_errno(err, errno, "cannot open %s", name);
	}
	if (!lock_pack(fd)) {
		close(fd);
		return 0;
	}
	/* Again under the lock: its last writer may have committed since. */
	rc = committed_length(s, number, &length, err);
	if (rc == 0) {
		rc = length < PACK_SIZE_TARGET ? pack_usable(s, fd, number, length, err) : 0;
	}
	if (rc <= 0) {
		close(fd);
		return rc;
	}
	rc = 0;
	if (length < PACK_HEADER_SIZE) {
		length = PACK_HEADER_SIZE;
		rc = begin_pack(s, fd, number, err);
	}
	if (rc == 0 && cut(s, fd, length) != 0) {
		rc = error_set_errno(err, errno, "cannot write to %s/%s", s->path, name);
	}
	if (rc) {
		close(fd);
		return rc;
	}
	*out = (struct claimed_pack){.fd = fd, .number = number, .end = length};
	return 1;
}

/* Asker: 0 when another process took the number. */
static int claim_new(struct local_store *s, uint64_t number, struct claimed_pack *out,
		     struct error *err)
{
	char name[LOCAL_NAME_SIZE];

	local_pack_name(name, number);
	int fd = openat(s->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0) {
		return errno == EEXIST ? 0
				       : error_set_errno(err, errno, "cannot create %s/%s",
							 s->path, name);
	}
	close(fd);
	return claim_existing(s, number, out, err);
}

static int claim_after(struct local_store *s, uint64_t newest, struct claimed_pack *out,
		       struct error *err)
{
	int rc = 0;

	for (uint64_t next = newest + 1; rc == 0; next++) {
		if (next > UINT32_MAX) {
			return error_set(err, ERROR_LIMIT, "%s has no pack numbers left",
					 s->path);
		}
		rc = claim_new(s, next, out, err);
	}
	return MIN(rc, 0);
}

int pack_claim(struct local_store *s, struct claimed_pack *out, struct error *err)
{
	uint64_t *numbers cleanup(cleanup_free) = NULL;
	size_t count = 0;
	int rc = pack_list(s, &numbers, &count, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = claim_existing(s, numbers[i], out, err);
	}
	if (rc == 0) {
		rc = claim_after(s, count ? numbers[0] : 0, out, err);
	}
	if (rc >= 0) {
		lease_note_writes(&s->lease, s->dirfd, out->number, out->end);
	}
	return MIN(rc, 0);
}

int pack_claim_new(struct local_store *s, struct claimed_pack *out, struct error *err)
{
	uint64_t *numbers cleanup(cleanup_free) = NULL;
	size_t count = 0;
	int rc = pack_list(s, &numbers, &count, err);

	return rc ? rc : claim_after(s, count ? numbers[0] : 0, out, err);
}

int pack_claim_to_remove(struct local_store *s, uint64_t number, struct claimed_pack *out,
			 struct error *err)
{
	char name[LOCAL_NAME_SIZE];

	local_pack_name(name, number);
	int fd = openat(s->dirfd, name, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		return errno == ENOENT ? 0
				       : error_set_errno(err, errno, "cannot open %s/%s",
							 s->path, name);
	}
	*out = (struct claimed_pack){.fd = fd, .number = number};
	bool locked = lock_pack(fd);
	int rc = locked ? committed_length(s, number, &out->end, err) : 0;

	if (rc == 0 && locked) {
		rc = pack_usable(s, fd, number, out->end, err);
	}
	if (rc <= 0) {
		close(fd);
	}
	return rc;
}

void pack_release(struct local_store *s, int fd, uint64_t number)
{
	uint64_t length;
	int rc = committed_length(s, number, &length, NULL);

	if (rc == 0) {
		rc = cut(s, fd, MAX(length, PACK_HEADER_SIZE));
	}
	/* Where this fails the next writer of the pack does it. */
	(void)rc;
	close(fd);
}

/* Unless somebody writes to the pack. */
static int cut_abandoned(struct local_store *s, uint64_t number, const char *name,
			 struct error *err)
{
	int fd cleanup(cleanup_close) = openat(s->dirfd, name, O_RDWR | O_CLOEXEC);
	uint64_t length;

	if (fd < 0 && errno != ENOENT) {
		return error_set_errno(err, errno, "cannot open %s/%s", s->path, name);
	}
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
		return 0;
	}
	int rc = committed_length(s, number, &length, err);

	if (rc == 0) {
		rc = pack_usable(s, fd, number, length, err);
	}
	if (rc > 0 && cut(s, fd, MAX(length, PACK_HEADER_SIZE)) != 0) {
		return error_set_errno(err, errno, "cannot write to %s/%s", s->path, name);
	}
	return MIN(rc, 0);
}

int pack_cut_abandoned(struct local_store *s, struct error *err)
{
	uint64_t *numbers cleanup(cleanup_free) = NULL;
	size_t count = 0;
	int rc = pack_list(s, &numbers, &count, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		char name[LOCAL_NAME_SIZE];
		uint64_t length;
		struct stat st;

		local_pack_name(name, numbers[i]);
		rc = committed_length(s, numbers[i], &length, err);
		if (rc == 0 && fstatat(s->dirfd, name, &st, 0) == 0 &&
		    (uint64_t)st.st_size > MAX(length, PACK_HEADER_SIZE)) {
			rc = cut_abandoned(s, numbers[i], name, err);
		}
	}
	return rc;
}
