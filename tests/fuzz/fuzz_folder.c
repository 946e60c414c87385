#include "fuzz_folder.h"

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "fuzz.h"

char *fuzz_folder_new(void)
{
	const char *where = getenv("TMPDIR");

	if (!where) {
		where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	}
	char *path = xasprintf("%s/fuzz-XXXXXX", where);

	check(mkdtemp(path) != NULL);
	return path;
}

static int remove_one(const char *path, const struct stat *st unused, int type unused,
		      struct FTW *ftw unused)
{
	return remove(path);
}

void fuzz_folder_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
