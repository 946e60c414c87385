/*
 * The client of the scenario with many entries: asks for every entry of a tree of wide_store
 * by its path, without listing anything, each once, neighbours far apart.
 *
 *   lookup DIR DIRECTORIES FILES
 *
 * FILES is how many each directory has. Prints one JSON object.
 */

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "clock.h"

/* A prime, larger than any count here: its multiples visit every entry. */
#define STEP UINT64_C(2147483647)

int main(int argc, char **argv)
{
	uint64_t directories = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
	uint64_t files = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
	uint64_t count = directories * files;

	if (directories == 0 || files == 0 || count >= STEP) {
		errx(2, "usage: lookup DIR DIRECTORIES FILES");
	}
	int top = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (top < 0) {
		err(1, "open %s", argv[1]);
	}
	double start = seconds_now(), cpu = cpu_seconds_now();

	for (uint64_t i = 0; i < count; i++) {
		uint64_t number = i * STEP % count;
		struct stat st;
		char path[64];

		snprintf(path, sizeof(path), "folder%06" PRIu64 "/file%06" PRIu64,
			 number / files, number);
		if (fstatat(top, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
			err(1, "stat %s", path);
		}
	}
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"entries\": %" PRIu64 "}\n",
	       seconds_now() - start, cpu_seconds_now() - cpu, count);
	return 0;
}
