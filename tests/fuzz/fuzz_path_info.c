/* Messages that claim to be PathInfos: what decodes is, but for the order of references,
 * exactly what encoding it gives. */

#include <stdint.h>
#include <stdlib.h>

#include "nix/path_info.h"

#include "fuzz.h"

/* Said once more, so that the code under test does not judge itself. */
static void check_rules(const struct path_info *info)
{
	const struct node *node = &info->node.node;

	check(info->path.name_len >= 1 && !strchr(info->path.name, '/'));
	check(node->kind >= NODE_DIRECTORY && node->kind <= NODE_SYMLINK);
	check(node->kind != NODE_SYMLINK || node_target_valid(node->target));
	check(info->nar_size != 0);
	for (size_t i = 1; i < info->reference_count; i++) {
		check(store_path_compare(&info->references[i - 1], &info->references[i]) < 0);
	}
	check(!info->has_deriver || info->deriver.name_len + 4 <= STORE_PATH_NAME_MAX);
	check(!info->has_ca || info->ca.method != CA_TEXT ||
	      info->ca.hash.algorithm == HASH_SHA256);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct path_info info = {0}, again = {0};
	struct buffer first = {0}, second = {0};
	struct error err = {0};

	if (path_info_decode(bytes_of(data, size), &info, &err) != 0) {
		check((err.code == ERROR_INVALID || err.code == ERROR_LIMIT) && told(&err));
		check(!info.references && !info.signatures && info.nar_size == 0);
		return 0;
	}
	check_rules(&info);
	path_info_encode(&first, &info);
	/* Signatures that are there twice are there once afterwards. */
	check(first.len <= size);
	check(path_info_decode(buffer_bytes(&first), &again, &err) == 0);
	path_info_encode(&second, &again);
	check(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)));
	path_info_done(&info);
	path_info_done(&again);
	buffer_done(&first);
	buffer_done(&second);
	return 0;
}
