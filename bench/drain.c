/*
 * The client of the scenarios with archives: runs a command and takes all that it writes.
 *
 *   drain COMMAND [ARGUMENT…]
 *
 * Prints one JSON object: the time from the start of the command to its end, the processor time
 * that it took, and the bytes that came. Through a pipe, because that is how archives travel,
 * and because what is written to /dev/null may never have been read.
 */

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define PIECE (1024 * 1024)

static char buffer[PIECE];

static uint64_t take_all(int fd)
{
	uint64_t bytes = 0;

	for (;;) {
		ssize_t n = read(fd, buffer, sizeof(buffer));

		if (n == 0) {
			return bytes;
		}
		if (n > 0) {
			bytes += (uint64_t)n;
		} else if (errno != EINTR) {
			err(1, "read");
		}
	}
}

static pid_t start(char **command, int *from)
{
	int ends[2];

	if (pipe(ends) != 0) {
		err(1, "pipe");
	}
	pid_t pid = fork();

	if (pid < 0) {
		err(1, "fork");
	}
	if (pid == 0) {
		if (dup2(ends[1], STDOUT_FILENO) < 0) {
			err(127, "dup2");
		}
		close(ends[0]);
		close(ends[1]);
		execvp(command[0], command);
		err(127, "%s", command[0]);
	}
	close(ends[1]);
	*from = ends[0];
	return pid;
}

static double of_timeval(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	struct rusage used;
	int from = -1, status;

	if (argc < 2) {
		errx(2, "usage: drain COMMAND [ARGUMENT…]");
	}
	double begin = seconds_now();
	pid_t pid = start(argv + 1, &from);
	uint64_t bytes = take_all(from);

	if (wait4(pid, &status, 0, &used) != pid) {
		err(1, "wait");
	}
	double seconds = seconds_now() - begin;

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		errx(1, "%s: status %d", argv[1], status);
	}
	printf("{\"seconds\": %.9f, \"cpu_seconds\": %.6f, \"bytes\": %" PRIu64 "}\n", seconds,
	       of_timeval(used.ru_utime) + of_timeval(used.ru_stime), bytes);
	return 0;
}
