/*
 * The client of the tree scenarios: goes over every entry of a tree the way find, rsync or a
 * compiler's include search does, and says how long it took.
 *
 *   walk names DIR   list every directory, stat nothing, as find does
 *   walk stat DIR    list every directory, stat every entry
 *   walk small DIR   the same, and read the files of at most 4 KiB
 *   walk read DIR    the same, and read every file from end to end
 *   walk check DIR   the same, and sum up names, kinds, modes and contents in an
 * order-independent way: two trees with one sum are the same tree
 *
 * Prints one JSON object. Any error ends the program with status 1: a figure of half a tree
 * would be worse than none.
 */

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define READ_SIZE (128 * 1024)
#define DEPTH_MAX 512
#define FNV_START UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

#define SMALL_SIZE 4096

enum mode { MODE_NAMES, MODE_STAT, MODE_SMALL, MODE_READ, MODE_CHECK };

struct walk {
	enum mode mode;
	unsigned depth;
	uint64_t files;
	uint64_t directories; /* without the top, as entries are counted */
	uint64_t symlinks;
	uint64_t bytes;
	uint64_t name_bytes;
	uint64_t sum;
	char buffer[READ_SIZE];
};

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++) {
		hash = (hash ^ bytes[i]) * FNV_PRIME;
	}
	return hash;
}

static uint64_t hash_number(uint64_t hash, uint64_t number)
{
	return hash_bytes(hash, &number, sizeof(number));
}

/* Adding up plain FNV values would let many small changes cancel out; a mixed one does not. */
static uint64_t hash_mix(uint64_t hash)
{
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return hash ^ (hash >> 33);
}

static uint64_t read_file(struct walk *w, int dir, const char *name, uint64_t hash)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	if (fd < 0) {
		err(1, "open %s", name);
	}
	while ((n = read(fd, w->buffer, sizeof(w->buffer))) > 0) {
		w->bytes += (uint64_t)n;
		if (w->mode == MODE_CHECK) {
			hash = hash_bytes(hash, w->buffer, (size_t)n);
		}
	}
	if (n < 0) {
		err(1, "read %s", name);
	}
	close(fd);
	return hash;
}

static uint64_t visit_file(struct walk *w, int dir, const char *name, const struct stat *st,
			   uint64_t hash)
{
	uint64_t before = w->bytes;

	w->files++;
	if (w->mode == MODE_STAT || (w->mode == MODE_SMALL && st->st_size > SMALL_SIZE)) {
		w->bytes += (uint64_t)st->st_size;
		return hash;
	}
	hash = hash_number(hash, (st->st_mode & S_IXUSR) ? 1 : 0);
	hash = read_file(w, dir, name, hash);
	if (w->bytes - before != (uint64_t)st->st_size) {
		errx(1, "%s: size %jd, but %" PRIu64 " bytes came", name, (intmax_t)st->st_size,
		     w->bytes - before);
	}
	return hash;
}

static uint64_t visit_symlink(struct walk *w, int dir, const char *name, uint64_t hash)
{
	ssize_t n;

	w->symlinks++;
	if (w->mode == MODE_STAT || w->mode == MODE_SMALL) {
		return hash;
	}
	n = readlinkat(dir, name, w->buffer, sizeof(w->buffer));
	if (n < 0) {
		err(1, "readlink %s", name);
	}
	return hash_bytes(hash, w->buffer, (size_t)n);
}

static void visit_directory(struct walk *w, int fd, uint64_t path);

static void descend(struct walk *w, int dir, const char *name, uint64_t path)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		err(1, "open %s", name);
	}
	w->directories++;
	visit_directory(w, fd, path);
}

/* What the directory says of the entry is all that is asked. */
static void visit_name(struct walk *w, int dir, const struct dirent *entry)
{
	w->name_bytes += strlen(entry->d_name);
	switch (entry->d_type) {
	case DT_DIR:
		descend(w, dir, entry->d_name, 0);
		break;
	case DT_REG:
		w->files++;
		break;
	case DT_LNK:
		w->symlinks++;
		break;
	default:
		errx(1, "%s: the directory does not say what it is", entry->d_name);
	}
}

static void visit_entry(struct walk *w, int dir, const char *name, uint64_t path)
{
	uint64_t hash = hash_bytes(hash_number(path, '/'), name, strlen(name));
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		err(1, "stat %s", name);
	}
	w->name_bytes += strlen(name);
	if (S_ISDIR(st.st_mode)) {
		descend(w, dir, name, hash);
		hash = hash_number(hash, 'd');
	} else if (S_ISREG(st.st_mode)) {
		hash = visit_file(w, dir, name, &st, hash_number(hash, 'f'));
	} else if (S_ISLNK(st.st_mode)) {
		hash = visit_symlink(w, dir, name, hash_number(hash, 'l'));
	} else {
		errx(1, "%s: of a kind that this tree should not have", name);
	}
	w->sum += hash_mix(hash);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Takes fd. path is the hash of the way down to here. */
static void visit_directory(struct walk *w, int fd, uint64_t path)
{
	DIR *stream = fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		err(1, "fdopendir");
	}
	if (++w->depth > DEPTH_MAX) {
		errx(1, "directories are more than %d deep", DEPTH_MAX);
	}
	for (errno = 0; (entry = readdir(stream)); errno = 0) {
		if (is_dots(entry->d_name)) {
			continue;
		}
		if (w->mode == MODE_NAMES) {
			visit_name(w, fd, entry);
		} else {
			visit_entry(w, fd, entry->d_name, path);
		}
	}
	if (errno != 0) {
		err(1, "readdir");
	}
	w->depth--;
	closedir(stream);
}

static enum mode mode_parse(const char *text)
{
	static const char *const modes[] = {
		[MODE_NAMES] = "names", [MODE_STAT] = "stat",   [MODE_SMALL] = "small",
		[MODE_READ] = "read",   [MODE_CHECK] = "check",
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(text, modes[i]) == 0) {
			return (enum mode)i;
		}
	}
	errx(2, "%s: not one of names, stat, small, read, check", text);
}

static void print_result(const struct walk *w, double seconds, double cpu)
{
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"files\": %" PRIu64
	       ", \"directories\": %" PRIu64 ", \"symlinks\": %" PRIu64 ", \"bytes\": %" PRIu64
	       ", \"name_bytes\": %" PRIu64,
	       seconds, cpu, w->files, w->directories, w->symlinks, w->bytes, w->name_bytes);
	if (w->mode == MODE_CHECK) {
		printf(", \"sum\": \"%016" PRIx64 "\"", w->sum);
	}
	printf("}\n");
}

int main(int argc, char **argv)
{
	static struct walk w;
	double start;
	double cpu;
	int fd;

	if (argc != 3) {
		errx(2, "usage: walk names|stat|small|read|check DIR");
	}
	w.mode = mode_parse(argv[1]);
	start = seconds_now();
	cpu = cpu_seconds_now();
	fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		err(1, "open %s", argv[2]);
	}
	visit_directory(&w, fd, FNV_START);
	print_result(&w, seconds_now() - start, cpu_seconds_now() - cpu);
	return 0;
}
