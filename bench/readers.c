/*
 * The client of the scenario with several readers at once: threads read all files of a tree,
 * whoever is free takes the next one.
 *
 *   readers COUNT DIR
 *
 * The files are listed before the clock starts. Prints one JSON object.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define READ_SIZE (128 * 1024)
#define READERS_MAX 256
#define DESCRIPTORS 64

static char **paths;
static size_t path_count;
static atomic_size_t next_path;
static atomic_uint_least64_t bytes_read;

static int list_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
	(void)st;
	(void)place;
	if (kind == FTW_NS || kind == FTW_DNR) {
		errx(1, "%s: cannot be listed", path);
	}
	if (kind == FTW_F && S_ISREG(st->st_mode)) {
		if ((path_count & (path_count - 1)) == 0) {
			size_t room = path_count ? 2 * path_count : 1;

			paths = realloc(paths, room * sizeof(*paths));
		}
		paths[path_count] = strdup(path);
		if (!paths[path_count++]) {
			err(1, "memory");
		}
	}
	return 0;
}

static void read_one(const char *path, char *buffer)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	if (fd < 0) {
		err(1, "open %s", path);
	}
	while ((n = read(fd, buffer, READ_SIZE)) > 0) {
		bytes_read += (uint64_t)n;
	}
	if (n < 0) {
		err(1, "read %s", path);
	}
	close(fd);
}

static void *read_files(void *unused)
{
	char *buffer = malloc(READ_SIZE);
	size_t i;

	if (!buffer) {
		err(1, "memory");
	}
	while ((i = next_path++) < path_count) {
		read_one(paths[i], buffer);
	}
	free(buffer);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t threads[READERS_MAX];
	unsigned long count = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;

	if (count == 0 || count > READERS_MAX) {
		errx(2, "usage: readers COUNT DIR");
	}
	if (nftw(argv[2], list_one, DESCRIPTORS, FTW_PHYS) != 0) {
		err(1, "%s", argv[2]);
	}
	double start = seconds_now(), cpu = cpu_seconds_now();

	for (unsigned long i = 0; i < count; i++) {
		if (pthread_create(&threads[i], NULL, read_files, NULL) != 0) {
			errx(1, "no more threads");
		}
	}
	for (unsigned long i = 0; i < count; i++) {
		pthread_join(threads[i], NULL);
	}
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"files\": %zu, \"bytes\": %" PRIu64
	       "}\n",
	       seconds_now() - start, cpu_seconds_now() - cpu, path_count,
	       (uint64_t)bytes_read);
	return 0;
}
