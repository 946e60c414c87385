#include "services/local/lease.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/io.h"
#include "base/log.h"

/*
 * A file is a row of entries of 40 bytes: u8 kind, u8 flag, 6 zeros, then 32 bytes: a digest,
 * or le64 pack | le64 offset | le64 seconds | zeros. The first one is LEASE_BEGINS.
 */
#define ENTRY_SIZE 40
#define ENTRY_BODY 8
#define FLAG_LONG_LIVED 1

enum entry_kind {
	LEASE_BEGINS = 1,    /* le64 0 | le64 0 | le64 seconds */
	LEASE_DIRECTORY = 2, /* held: a tree */
	LEASE_FILE = 3,      /* held: a blob */
	LEASE_WRITES = 4,    /* writes to the pack from the offset on, since then */
};

/* A process that lives on is asked again and again; who wants a tree named has done so. */
#define WRITES_PROTECTED ((uint64_t)3600)
#define NOTES_APART ((uint64_t)60)
#define ENTRIES_AT_ONCE 1024

uint64_t lease_clock(void)
{
	struct timespec t;

	/* What the kernel gives to files. */
	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return (uint64_t)t.tv_sec;
}

void lease_init(struct lease *l, bool long_lived)
{
	*l = (struct lease){.folder_fd = -1, .fd = -1, .long_lived = long_lived};
	pthread_mutex_init(&l->lock, NULL);
}

void lease_done(struct lease *l)
{
	if (l->fd >= 0) {
		/* Who may not remove it leaves it to others, as the dead do. */
		unlinkat(l->folder_fd, l->name, 0);
	}
	cleanup_close(&l->fd);
	cleanup_close(&l->folder_fd);
	mark_set_done(&l->held);
	pthread_mutex_destroy(&l->lock);
}

static int open_folder(int store_dirfd, bool create)
{
	int fd = openat(store_dirfd, LEASE_FOLDER,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT || !create ||
	    (mkdirat(store_dirfd, LEASE_FOLDER, 0755) != 0 && errno != EEXIST)) {
		return fd;
	}
	return openat(store_dirfd, LEASE_FOLDER,
		      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* True while others keep the file: its owner lives. */
static bool is_locked(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) != 0;
}

/* Our files have 16 hexadecimal digits; others are not ours to remove. */
static bool is_lease_name(const char *name)
{
	return strlen(name) == 16 && strspn(name, "0123456789abcdef") == 16;
}

static void remove_if_dead(int folder_fd, const char *name)
{
	int fd cleanup(cleanup_close) =
		openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 && !is_locked(fd)) {
		unlinkat(folder_fd, name, 0);
	}
}

static DIR *list_folder(int folder_fd)
{
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		cleanup_close(&fd);
	}
	return dir;
}

static void remove_dead(int folder_fd)
{
	DIR *dir = list_folder(folder_fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (is_lease_name(entry->d_name)) {
			remove_if_dead(folder_fd, entry->d_name);
		}
	}
	if (dir) {
		closedir(dir);
	}
}

/* ---- Appending ---- */

static void encode_entry(uint8_t out[ENTRY_SIZE], enum entry_kind kind, uint8_t flag)
{
	memset(out, 0, ENTRY_SIZE);
	out[0] = (uint8_t)kind;
	out[1] = flag;
}

static void encode_numbers(uint8_t out[ENTRY_SIZE], uint64_t pack, uint64_t offset,
			   uint64_t seconds)
{
	put_le64(out + ENTRY_BODY, pack);
	put_le64(out + ENTRY_BODY + 8, offset);
	put_le64(out + ENTRY_BODY + 16, seconds);
}

static int lock_folder(int fd, int how)
{
	int rc;

	do {
		rc = flock(fd, how);
	} while (rc != 0 && errno == EINTR);
	return rc;
}

/* Whoever reads in earnest has the folder to himself, so nobody sees half of it. */
static bool append_locked(struct lease *l, const uint8_t entry[ENTRY_SIZE])
{
	bool done = lock_folder(l->folder_fd, LOCK_SH) == 0 &&
		    write_full(l->fd, entry, ENTRY_SIZE) == 0;
	int errnum = errno;

	lock_folder(l->folder_fd, LOCK_UN);
	errno = errnum;
	return done;
}

/* Asker: 0 when somebody's cleaning up was faster than our lock. */
static int claim_locked(struct lease *l)
{
	uint8_t entry[ENTRY_SIZE];
	struct stat st;
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		return -1;
	}
	snprintf(l->name, sizeof(l->name), "%016" PRIx64, random);
	l->fd = openat(l->folder_fd, l->name,
		       O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (l->fd < 0) {
		return -1;
	}
	if (is_locked(l->fd) || fstat(l->fd, &st) != 0 || st.st_nlink == 0) {
		cleanup_close(&l->fd);
		return 0;
	}
	encode_entry(entry, LEASE_BEGINS, l->long_lived ? FLAG_LONG_LIVED : 0);
	encode_numbers(entry, 0, 0, lease_clock());
	return append_locked(l, entry) ? 1 : -1;
}

static void give_up_locked(struct lease *l)
{
	/* A disk without room may have some later; one that is read-only stays so. */
	l->impossible = errno == EROFS || errno == EACCES || errno == EPERM;
	log_debug("no lease: %s", strerrordesc_np(errno));
	if (l->fd >= 0) {
		unlinkat(l->folder_fd, l->name, 0);
	}
	cleanup_close(&l->fd);
	cleanup_close(&l->folder_fd);
}

static bool begin_locked(struct lease *l, int store_dirfd)
{
	int rc = 0;

	if (l->fd >= 0 || l->impossible) {
		return l->fd >= 0;
	}
	l->folder_fd = open_folder(store_dirfd, true);
	if (l->folder_fd >= 0) {
		remove_dead(l->folder_fd);
		do {
			rc = claim_locked(l);
		} while (rc == 0);
	}
	if (rc <= 0) {
		give_up_locked(l);
	}
	return rc > 0;
}

void lease_begin(struct lease *l, int store_dirfd)
{
	pthread_mutex_lock(&l->lock);
	begin_locked(l, store_dirfd);
	pthread_mutex_unlock(&l->lock);
}

/* False when the tree is in the file, or no room is left to remember it. */
static bool is_new_locked(struct lease *l, const struct node *node)
{
	return (l->held.slots || mark_set_init(&l->held, 0, NULL) == 0) &&
	       !mark_set_has(&l->held, node->kind, &node->digest);
}

bool lease_hold(struct lease *l, int store_dirfd, const struct node *node)
{
	uint8_t entry[ENTRY_SIZE];
	bool held = false;

	if (node->kind == NODE_SYMLINK) {
		return false;
	}
	pthread_mutex_lock(&l->lock);
	if (begin_locked(l, store_dirfd) && is_new_locked(l, node)) {
		encode_entry(entry, node->kind == NODE_DIRECTORY ? LEASE_DIRECTORY : LEASE_FILE,
			     0);
		memcpy(entry + ENTRY_BODY, node->digest.bytes, DIGEST_SIZE);
		held = mark_set_add(&l->held, node->kind, &node->digest, NULL) > 0 &&
		       append_locked(l, entry);
	}
	pthread_mutex_unlock(&l->lock);
	return held;
}

void lease_note_writes(struct lease *l, int store_dirfd, uint64_t pack, uint64_t offset)
{
	uint8_t entry[ENTRY_SIZE];
	uint64_t now = lease_clock();

	pthread_mutex_lock(&l->lock);
	/* What lies behind the first note is protected until a later one says "not so far". */
	bool known = pack == l->pack && (!l->long_lived || now - l->noted < NOTES_APART);

	if (!known && begin_locked(l, store_dirfd)) {
		encode_entry(entry, LEASE_WRITES, 0);
		encode_numbers(entry, pack, offset, now);
		if (append_locked(l, entry)) {
			l->pack = pack;
			l->noted = now;
		}
	}
	pthread_mutex_unlock(&l->lock);
}

/* ---- Reading ---- */

int lease_reader_init(struct lease_reader *r, int store_dirfd, struct error *err)
{
	*r = (struct lease_reader){.folder_fd = open_folder(store_dirfd, true)};
	return r->folder_fd < 0
		       ? error_set_errno(err, errno, "cannot open the folder " LEASE_FOLDER)
		       : 0;
}

void lease_reader_done(struct lease_reader *r)
{
	cleanup_close(&r->folder_fd);
	free(r->files);
	free(r->notes);
}

int lease_reader_lock(struct lease_reader *r, struct error *err)
{
	return lock_folder(r->folder_fd, LOCK_EX) == 0
		       ? 0
		       : error_set_errno(err, errno, "cannot lock the folder " LEASE_FOLDER);
}

void lease_reader_unlock(struct lease_reader *r)
{
	lock_folder(r->folder_fd, LOCK_UN);
}

static size_t file_number(struct lease_reader *r, const char *name)
{
	for (size_t i = 0; i < r->file_count; i++) {
		if (strcmp(r->files[i].name, name) == 0) {
			return i;
		}
	}
	r->files = xrealloc(r->files, (r->file_count + 1) * sizeof(*r->files));
	r->files[r->file_count] = (struct lease_file){.read = 0};
	snprintf(r->files[r->file_count].name, LEASE_NAME_SIZE, "%s", name);
	return r->file_count++;
}

static void take_note(struct lease_reader *r, size_t file, const uint8_t *body, uint64_t now)
{
	struct lease_note note = {
		.file = file, .pack = get_le64(body), .offset = get_le64(body + 8)};
	bool old = r->files[file].long_lived && get_le64(body + 16) + WRITES_PROTECTED < now;

	for (size_t i = 0; i < r->note_count; i++) {
		if (r->notes[i].file == file && r->notes[i].pack == note.pack) {
			r->notes[i].offset = old ? note.offset : r->notes[i].offset;
			return;
		}
	}
	r->notes = xrealloc(r->notes, (r->note_count + 1) * sizeof(*r->notes));
	r->notes[r->note_count++] = note;
}

/* What is no entry that we know was written by a newer program, or is damaged: passed over. */
static int take_entry(struct lease_reader *r, size_t file, const uint8_t *entry, uint64_t now,
		      lease_visit visit, void *context, struct error *err)
{
	struct node node = {.kind = entry[0] == LEASE_DIRECTORY ? NODE_DIRECTORY : NODE_FILE};

	memcpy(node.digest.bytes, entry + ENTRY_BODY, DIGEST_SIZE);
	switch (entry[0]) {
	case LEASE_BEGINS:
		r->files[file].long_lived = entry[1] & FLAG_LONG_LIVED;
		r->files[file].began = get_le64(entry + ENTRY_BODY + 16);
		return 0;
	case LEASE_DIRECTORY:
	case LEASE_FILE:
		return visit(context, &node, err);
	case LEASE_WRITES:
		r->files[file].writes = true;
		take_note(r, file, entry + ENTRY_BODY, now);
		return 0;
	default:
		return 0;
	}
}

static int read_entries(struct lease_reader *r, size_t file, int fd, uint64_t now,
			lease_visit visit, void *context, struct error *err)
{
	uint8_t entries[ENTRIES_AT_ONCE * ENTRY_SIZE];
	ssize_t n;
	int rc = 0;

	do {
		n = pread_full(fd, entries, sizeof(entries), (off_t)r->files[file].read);
		if (n < 0) {
			return error_set_errno(err, errno, "cannot read a lease");
		}
		for (size_t at = 0; rc == 0 && at + ENTRY_SIZE <= (size_t)n; at += ENTRY_SIZE) {
			rc = take_entry(r, file, entries + at, now, visit, context, err);
			r->files[file].read += ENTRY_SIZE;
		}
	} while (rc == 0 && (size_t)n == sizeof(entries));
	return rc;
}

static int read_lease(struct lease_reader *r, const char *name, uint64_t now, lease_visit visit,
		      void *context, struct error *err)
{
	int fd cleanup(cleanup_close) =
		openat(r->folder_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		return errno == ENOENT ? 0
				       : error_set_errno(err, errno, "cannot open %s/%s",
							 LEASE_FOLDER, name);
	}
	if (!is_locked(fd)) {
		unlinkat(r->folder_fd, name, 0);
		return 0;
	}
	size_t file = file_number(r, name);
	int rc = read_entries(r, file, fd, now, visit, context, err);
	const struct lease_file *f = &r->files[file];

	if (f->writes) {
		r->oldest = r->oldest ? MIN(r->oldest, f->began) : f->began;
	}
	return rc;
}

int lease_reader_read(struct lease_reader *r, uint64_t now, lease_visit visit, void *context,
		      struct error *err)
{
	DIR *dir = list_folder(r->folder_fd);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		return error_set_errno(err, errno, "cannot list " LEASE_FOLDER);
	}
	r->oldest = 0;
	while (rc == 0 && (entry = readdir(dir))) {
		if (is_lease_name(entry->d_name)) {
			rc = read_lease(r, entry->d_name, now, visit, context, err);
		}
	}
	closedir(dir);
	return rc;
}
