/* Texts that claim to be narinfos: what is written from what was read says the same again. */

#include <stdint.h>
#include <stdlib.h>

#include "nix/narinfo.h"

#include "fuzz.h"

/* Said once more, so that the code under test does not judge itself. */
static void check_rules(const struct narinfo *n)
{
	const struct path_info *info = &n->info;

	check(n->url && n->url[0] && n->compression && n->compression[0]);
	check(info->nar_size != 0 && info->path.name_len >= 1);
	for (size_t i = 0; i < info->reference_count; i++) {
		check(info->references[i].name_len >= 1);
		check(i == 0 ||
		      store_path_compare(&info->references[i - 1], &info->references[i]) < 0);
	}
	check(info->signature_count <= PATH_INFO_SIGNATURES_MAX);
	for (size_t i = 0; i < info->signature_count; i++) {
		check(info->signatures[i].name[0] && !strchr(info->signatures[i].name, ':'));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct narinfo n = {0}, again = {0};
	struct buffer first = {0}, second = {0};
	struct error err = {0};

	if (narinfo_parse(bytes_of(data, size), &n, &err) != 0) {
		check((err.code == ERROR_INVALID || err.code == ERROR_LIMIT) && told(&err));
		check(!n.url && !n.info.references && !n.info.signatures);
		return 0;
	}
	check_rules(&n);
	(void)path_info_content_addressed(&n.info);
	narinfo_format(&n, &first);
	check(narinfo_parse(buffer_bytes(&first), &again, &err) == 0);
	narinfo_format(&again, &second);
	check(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)));
	narinfo_done(&n);
	narinfo_done(&again);
	buffer_done(&first);
	buffer_done(&second);
	return 0;
}
