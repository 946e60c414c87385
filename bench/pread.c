/*
 * The client of the scenarios with one large file.
 *
 *   pread seq FILE               read it from end to end, 1 MiB at a time
 *   pread rand FILE COUNT SEED   COUNT reads of 4 KiB at random aligned places
 *   pread mmap FILE COUNT SEED   the same places of a mapping
 *
 * Prints one JSON object. The places depend on SEED alone, so that every contender gets the
 * same.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "clock.h"
#include <unistd.h>

#define SEQ_SIZE (1024 * 1024)
#define RAND_SIZE 4096

static char buffer[SEQ_SIZE];

/* splitmix64: enough to spread the places, and the same on every machine. */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t read_sequential(int fd)
{
	uint64_t total = 0;
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		total += (uint64_t)n;
	}
	if (n < 0) {
		err(1, "read");
	}
	return total;
}

static uint64_t read_random(int fd, uint64_t size, uint64_t count, uint64_t seed)
{
	uint64_t places = size / RAND_SIZE;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t place = random_next(&seed) % places;

		if (pread(fd, buffer, RAND_SIZE, (off_t)(place * RAND_SIZE)) != RAND_SIZE) {
			err(1, "pread");
		}
	}
	return count * RAND_SIZE;
}

/* Takes from each place what read would copy. */
static uint64_t read_mapped(int fd, uint64_t size, uint64_t count, uint64_t seed)
{
	const char *mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (mapped == MAP_FAILED) {
		err(1, "mmap");
	}
	/* As pread has it: the next place is no neighbour, so nothing is to be read ahead. */
	if (madvise((void *)(uintptr_t)mapped, size, MADV_RANDOM) != 0) {
		err(1, "madvise");
	}
	for (uint64_t i = 0; i < count; i++) {
		uint64_t place = random_next(&seed) % (size / RAND_SIZE);

		memcpy(buffer, mapped + place * RAND_SIZE, RAND_SIZE);
		__asm__ volatile("" : : "r"(buffer) : "memory");
	}
	return count * RAND_SIZE;
}

static uint64_t number_parse(const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0') {
		errx(2, "%s: not a number", text);
	}
	return value;
}

int main(int argc, char **argv)
{
	double start = seconds_now();
	double cpu = cpu_seconds_now();
	struct stat st;
	uint64_t bytes;
	int fd;

	if (!((argc == 3 && strcmp(argv[1], "seq") == 0) ||
	      (argc == 5 && (strcmp(argv[1], "rand") == 0 || strcmp(argv[1], "mmap") == 0)))) {
		errx(2, "usage: pread seq FILE | pread rand|mmap FILE COUNT SEED");
	}
	fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		err(1, "open %s", argv[2]);
	}
	if (argc == 5 && st.st_size < RAND_SIZE) {
		errx(1, "the file is smaller than one read");
	}
	if (argc == 3) {
		bytes = read_sequential(fd);
	} else {
		bytes = (argv[1][0] == 'm' ? read_mapped : read_random)(
			fd, (uint64_t)st.st_size, number_parse(argv[3]), number_parse(argv[4]));
	}
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"bytes\": %" PRIu64 "}\n",
	       seconds_now() - start, cpu_seconds_now() - cpu, bytes);
	return 0;
}
