/* cairn nix remove */

#include "castore/digest_map.h"
#include "cli/nix_paths.h"

struct removal {
	struct nix_paths paths;
	struct digest_map going; /* by store_path_key() */
	struct store_path referrer, referred;
	bool conflict;
};

static bool is_going(const struct removal *r, const struct store_path *path)
{
	struct digest key = store_path_key(path);

	return digest_map_get(&r->going, &key) != NULL;
}

static bool check_referrer(void *context, const struct path_info *info)
{
	struct removal *r = context;

	for (size_t i = 0; i < info->reference_count && !is_going(r, &info->path); i++) {
		if (is_going(r, &info->references[i])) {
			r->conflict = true;
			r->referrer = info->path;
			r->referred = info->references[i];
			return false;
		}
	}
	return true;
}

/* What stays must not refer to what goes. */
static int check_referrers(struct removal *r, struct error *err)
{
	int rc = path_info_service_list(r->paths.infos, NULL, check_referrer, r, err);

	if (rc == 0 && r->conflict) {
		char referrer[STORE_PATH_MAX + 1];

		store_path_absolute(&r->referrer, referrer);
		rc = error_set(err, ERROR_DENIED, "%s: %s refers to it",
			       store_path_text(&r->referred), referrer);
	}
	return rc;
}

static int check_there(struct removal *r, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->paths.count; i++) {
		struct path_info info cleanup(path_info_done) = {0};
		struct digest key = store_path_key(&r->paths.paths[i]);

		rc = nix_paths_get(&r->paths, &r->paths.paths[i], &info, err);
		digest_map_put(&r->going, &key, 0);
	}
	return rc;
}

static int remove_paths(struct removal *r, const struct cli *cli, bool ignore_references,
			char **arguments, size_t count, struct error *err)
{
	size_t removed = 0;
	int rc = nix_paths_open(&r->paths, cli, 0, false, arguments, count, err);

	/* Both look at infos, so they are left out for those that are damaged. */
	if (rc == 0 && !ignore_references) {
		rc = check_there(r, err);
		if (rc == 0) {
			rc = check_referrers(r, err);
		}
	}
	if (rc == 0) {
		rc = path_info_service_remove_many(r->paths.infos, r->paths.paths,
						   r->paths.count, &removed, err);
	}
	if (rc == 0 && removed == 0) {
		rc = error_set(err, ERROR_NOT_FOUND, "%s: not in the store",
			       store_path_text(&r->paths.paths[0]));
	}
	digest_map_done(&r->going);
	nix_paths_close(&r->paths);
	return rc;
}

enum { IGNORE_REFERENCES = CLI_OPTION_OWN };

static int run_remove(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"ignore-references", no_argument, NULL, IGNORE_REFERENCES},
		{0}};
	struct removal r = {0};
	bool ignore_references = false;
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options,
				    &code)) != -1) {
		if (c != IGNORE_REFERENCES) {
			return code;
		}
		ignore_references = true;
	}
	size_t count = (size_t)(argc - optind);

	if (!nix_paths_check(command, false, count)) {
		return EXIT_CODE_USAGE;
	}
	return remove_paths(&r, cli, ignore_references, argv + optind, count, &err) < 0
		       ? cli_fail(&err)
		       : EXIT_CODE_OK;
}

static const char remove_help[] =
	"Usage: cairn nix remove [OPTION]... PATH...\n"
	"\n"
	"Takes store paths away: all of them, or none when one is not there, or when a\n"
	"path that stays refers to one. Their trees stay until 'cairn gc'.\n"
	"\n"
	"      --ignore-references  take them away whatever refers to them, and also when\n"
	"                           what is known of them is damaged\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command nix_remove_command = {
	.name = "remove",
	.program = "cairn nix remove",
	.help = remove_help,
	.run = run_remove,
};
