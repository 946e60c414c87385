/*
 * Puts a path info, right or wrong: nothing is compared with the tree.
 *
 * usage: put_path_info ADDRESS BASENAME ROOT NAR-SIZE NAR-SHA256 [REFERENCE]...
 * ROOT is the name of a tree in the store, NAR-SHA256 in hex, a REFERENCE a basename.
 */

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "nix/path_info_service.h"

static int set_references(struct path_info *info, char **names, size_t count, struct error *err)
{
	struct store_path *paths cleanup(cleanup_free) = xcalloc(count + 1, sizeof(*paths));

	for (size_t i = 0; i < count; i++) {
		int rc = store_path_parse_basename(bytes_of_string(names[i]), &paths[i], err);

		if (rc < 0) {
			return rc;
		}
	}
	return path_info_set_references(info, paths, count, err);
}

static int put(struct store *s, char **args, size_t count, struct error *err)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(s);
	struct path_info info cleanup(path_info_done) = {0};
	int rc = store_path_parse_basename(bytes_of_string(args[0]), &info.path, err);

	if (rc == 0) {
		rc = root_nodes_lookup(s->roots, bytes_of_string(args[1]), &info.node, err);
	}
	if (rc <= 0) {
		return rc ? rc : error_set(err, ERROR_NOT_FOUND, "no root %s", args[1]);
	}
	info.nar_size = strtoull(args[2], NULL, 10);
	if (!hex_decode(info.nar_sha256, SHA256_SIZE, bytes_of_string(args[3]))) {
		return error_set(err, ERROR_INVALID, "no SHA-256: %s", args[3]);
	}
	rc = set_references(&info, args + 4, count - 4, err);
	return rc < 0 ? rc : path_info_service_put(infos, &info, NULL, err);
}

int main(int argc, char **argv)
{
	struct store s = {0};
	struct error err;

	if (argc < 6) {
		fprintf(stderr,
			"usage: %s ADDRESS BASENAME ROOT NAR-SIZE NAR-SHA256 [REFERENCE]...\n",
			argv[0]);
		return 2;
	}
	int rc = store_open(&s, argv[1], 0, &err);

	if (rc == 0) {
		rc = put(&s, argv + 2, (size_t)argc - 2, &err);
	}
	store_close(&s);
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
	}
	return rc < 0 ? 1 : 0;
}
