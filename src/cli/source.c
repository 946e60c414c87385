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
	struct store_needs needs cleanup(store_needs_done) = {0};
	struct stat st;

	/* What is written to comes first in all that stores are composed of. */
	if (store_needs(address, &needs, NULL) == 0 && needs.folder_count &&
	    stat(needs.folders[0], &st) == 0) {
		options->store_device = st.st_dev;
		options->store_inode = st.st_ino;
	}
}
