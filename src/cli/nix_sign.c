/* cairn nix sign */

#include "cli/nix_paths.h"

/* Infos that are put at once. */
#define SIGNED_AT_ONCE ((size_t)256)

static int sign_some(struct nix_paths *p, struct path_info_service *signer, size_t from,
		     size_t to, struct error *err)
{
	struct path_info *infos cleanup(cleanup_free) = xcalloc(to - from, sizeof(*infos));
	int r = 0;

	for (size_t i = from; r == 0 && i < to; i++) {
		r = nix_paths_get(p, &p->paths[i], &infos[i - from], err);
	}
	if (r == 0) {
		r = path_info_service_put_many(signer, infos, to - from, err);
	}
	for (size_t i = from; i < to; i++) {
		path_info_done(&infos[i - from]);
	}
	return r;
}

static int sign_all(struct nix_paths *p, const struct signing_key *key, struct error *err)
{
	struct path_info_service *signer cleanup(cleanup_path_info_service) =
		path_info_signer_new(p->infos, key);
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->count; i += SIGNED_AT_ONCE) {
		r = sign_some(p, signer, i, MIN(i + SIGNED_AT_ONCE, p->count), err);
	}
	return r;
}

struct sign_run {
	const char *key_file;
	bool all, recursive;
};

static int sign_paths(const struct cli *cli, const struct sign_run *run, char **arguments,
		      size_t count, struct error *err)
{
	struct signing_key *key cleanup(cleanup_signing_key) = NULL;
	struct nix_paths paths = {0};
	int r = signing_key_load(run->key_file, &key, err);

	if (r == 0) {
		r = nix_paths_open(&paths, cli, 0, run->all, arguments, count, err);
	}
	if (r == 0 && run->recursive) {
		r = nix_paths_recurse(&paths, err);
	}
	if (r == 0) {
		r = sign_all(&paths, key, err);
	}
	nix_paths_close(&paths);
	return r;
}

enum { ALL = CLI_OPTION_OWN };

static int run_sign(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"key-file", required_argument, NULL, 'k'},
						{"all", no_argument, NULL, ALL},
						{"recursive", no_argument, NULL, 'r'},
						{0}};
	struct sign_run run = {0};
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "k:r", options,
				    &code)) != -1) {
		switch (c) {
		case 'k':
			run.key_file = optarg;
			break;
		case ALL:
			run.all = true;
			break;
		case 'r':
			run.recursive = true;
			break;
		default:
			return code;
		}
	}
	size_t count = (size_t)(argc - optind);

	if (!run.key_file) {
		return cli_usage(command, "--key-file is needed");
	}
	if (!nix_paths_check(command, run.all, count)) {
		return EXIT_CODE_USAGE;
	}
	return sign_paths(cli, &run, argv + optind, count, &err) < 0 ? cli_fail(&err)
								     : EXIT_CODE_OK;
}

static const char sign_help[] =
	"Usage: cairn nix sign --key-file FILE [OPTION]... PATH...\n"
	"  or:  cairn nix sign --key-file FILE --all\n"
	"\n"
	"Adds a signature to what is known of store paths. It takes the place of another\n"
	"one of a key with this name.\n"
	"\n"
	"  -k, --key-file FILE  the secret key, as 'cairn nix generate-key' makes it\n"
	"      --all            all paths that the store has\n"
	"  -r, --recursive      also what they refer to, and what that refers to\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command nix_sign_command = {
	.name = "sign",
	.program = "cairn nix sign",
	.help = sign_help,
	.run = run_sign,
};
