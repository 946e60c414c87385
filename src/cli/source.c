#include "cli/source.h"

#include <limits.h>
#include <sys/stat.h>

char *source_name(const char *path)
{
	size_t end = strlen(path), begin;

	while (end > 1 && path[end - 1] == '/') {
		end--;
	}
	for (begin = end; begin && path[begin - 1] != '/'; begin--) {
	}
	struct bytes last = bytes_of(path + begin, end - begin);

	if (bytes_equal(last, bytes_of_string(".")) ||
	    bytes_equal(last, bytes_of_string(".."))) {
		char *real cleanup(cleanup_free) = realpath(path, NULL);

		return real ? xstrdup(strrchr(real, '/') + 1) : NULL;
	}
	return xasprintf("%.*s", (int)last.len, (const char *)last.ptr);
}

void source_exclude_store(const struct cli *cli, struct ingest_options *options)
{
	char *address cleanup(cleanup_free) = cli_store_address(cli);
	const char *path = address;
	struct stat st;

	if (strncmp(path, "file://", 7) == 0) {
		path += 7;
	}
	if (stat(path, &st) == 0) {
		options->store_device = st.st_dev;
		options->store_inode = st.st_ino;
	}
}
