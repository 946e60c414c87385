/*
 * The client of the scenarios with one large file.
 *
 *   pread seq FILE               read it from end to end, 1 MiB at a time
 *   pread rand FILE COUNT SEED   COUNT reads of 4 KiB at random aligned places
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SEQ_SIZE (1024 * 1024)
#define RAND_SIZE 4096

static char buffer[SEQ_SIZE];

static double seconds_now(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) != 0) {
		err(1, "clock_gettime");
	}
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

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

	if (places == 0) {
		errx(1, "the file is smaller than one read");
	}
	for (uint64_t i = 0; i < count; i++) {
		uint64_t place = random_next(&seed) % places;

		if (pread(fd, buffer, RAND_SIZE, (off_t)(place * RAND_SIZE)) != RAND_SIZE) {
			err(1, "pread");
		}
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
	double start = seconds_now(CLOCK_MONOTONIC);
	double cpu = seconds_now(CLOCK_PROCESS_CPUTIME_ID);
	struct stat st;
	uint64_t bytes;
	int fd;

	if (!((argc == 3 && strcmp(argv[1], "seq") == 0) ||
	      (argc == 5 && strcmp(argv[1], "rand") == 0))) {
		errx(2, "usage: pread seq FILE | pread rand FILE COUNT SEED");
	}
	fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		err(1, "open %s", argv[2]);
	}
	if (argc == 3) {
		bytes = read_sequential(fd);
	} else {
		bytes = read_random(fd, (uint64_t)st.st_size, number_parse(argv[3]),
				    number_parse(argv[4]));
	}
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"bytes\": %" PRIu64 "}\n",
	       seconds_now(CLOCK_MONOTONIC) - start,
	       seconds_now(CLOCK_PROCESS_CPUTIME_ID) - cpu, bytes);
	return 0;
}
