/*
 * Runs a fuzz target on files, or on the files of folders, once each: the corpus as an ordinary
 * test. Nothing to run is a failure.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"

#include "fuzz.h"

static int replay_file(const char *path)
{
	int fd cleanup(cleanup_close) = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	/* Exactly as large as the input, so that sanitizers see a step too far. */
	size_t size = (size_t)st.st_size;
	uint8_t *data cleanup(cleanup_free) = xmalloc(size);

	if (read_full(fd, data, size) != (ssize_t)size) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return -1;
	}
	printf("%s\n", path);
	(void)fflush(stdout); /* the last line is the one that crashed */
	LLVMFuzzerTestOneInput(data, size);
	return 1;
}

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* How many files have run, or -1. Folders in a folder are not looked into. */
static int replay_folder(const char *path)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;
	int count = 0;

	if (!folder) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	while (count >= 0 && (entry = readdir(folder))) {
		char *file cleanup(cleanup_free) = xasprintf("%s/%s", path, entry->d_name);

		if (!is_folder(file)) {
			count = replay_file(file) < 0 ? -1 : count + 1;
		}
	}
	closedir(folder);
	return count;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int count = is_folder(argv[i]) ? replay_folder(argv[i]) : replay_file(argv[i]);

		if (count <= 0) {
			fprintf(stderr, "%s: no inputs\n", argv[i]);
			return 1;
		}
		total += count;
	}
	printf("%d inputs\n", total);
	return total > 0 ? 0 : 1;
}
