/* cairn nix path-info */

#include <inttypes.h>

#include "cli/json.h"
#include "cli/nix_json.h"
#include "cli/nix_paths.h"
#include "nix/signature.h"

struct path_info_run {
	struct cli *cli;
	struct nix_paths paths;
	struct path_closure *closure; /* with closure_size */
	bool all, recursive;
	bool size, closure_size, signatures;
	bool first;
};

static char *text_of(struct buffer *b)
{
	buffer_append_byte(b, '\0');
	return (char *)b->ptr;
}

/* The keys of `nix path-info --json`, and those of the tree as `cairn roots --json` has them.
 */
static void print_json(struct path_info_run *run, const struct path_info *info,
		       uint64_t closure_size)
{
	struct json j;

	json_array_item(&run->first);
	json_begin(&j);
	nix_json_path_info(&j, info);
	if (run->closure_size) {
		json_number(&j, "closureSize", closure_size);
	}
	json_end(&j);
}

static void print_text(struct path_info_run *run, const struct path_info *info,
		       uint64_t closure_size)
{
	fputs(store_path_text(&info->path), stdout);
	if (run->size) {
		printf("\t%" PRIu64, info->nar_size);
	}
	if (run->closure_size) {
		printf("\t%" PRIu64, closure_size);
	}
	if (run->signatures && info->has_ca) {
		struct buffer text cleanup(buffer_done) = {0};

		content_address_format(&info->ca, &text);
		printf("\tca:%s", text_of(&text));
	}
	for (size_t i = 0; run->signatures && i < info->signature_count; i++) {
		struct buffer text cleanup(buffer_done) = {0};

		signature_format(&info->signatures[i], &text);
		printf("\t%s", text_of(&text));
	}
	putchar('\n');
}

/* As `nix path-info --json` says it: then it is no failure. */
static void print_absent(struct path_info_run *run, const struct store_path *path)
{
	struct json j;

	json_array_item(&run->first);
	json_begin(&j);
	json_text(&j, "path", store_path_text(path));
	json_bool(&j, "valid", false);
	json_end(&j);
}

static int print_one(struct path_info_run *run, const struct store_path *path,
		     struct error *err)
{
	struct path_info info cleanup(path_info_done) = {0};
	uint64_t closure_size = 0;
	int r = nix_paths_get(&run->paths, path, &info, err);

	if (r == -ERROR_NOT_FOUND && run->cli->json) {
		print_absent(run, path);
		return 0;
	}
	if (r == 0 && run->closure_size) {
		r = path_closure_add(run->closure, path, err);
	}
	if (r < 0) {
		return r;
	}
	if (run->closure_size) {
		closure_size = path_closure_size(run->closure, path);
	}
	(run->cli->json ? print_json : print_text)(run, &info, closure_size);
	return 0;
}

static int print_all(struct path_info_run *run, struct error *err)
{
	int r = 0;

	run->closure = path_closure_new(run->paths.infos);
	for (size_t i = 0; r == 0 && i < run->paths.count && !ferror(stdout); i++) {
		r = print_one(run, &run->paths.paths[i], err);
	}
	path_closure_free(run->closure);
	if (r == 0 && run->cli->json) {
		json_array_end(run->first);
	}
	return r;
}

static int show(struct path_info_run *run, char **arguments, size_t count, struct error *err)
{
	int r = nix_paths_open(&run->paths, run->cli, STORE_READ_ONLY, run->all, arguments,
			       count, err);

	if (r == 0 && run->recursive) {
		r = nix_paths_recurse(&run->paths, err);
	}
	if (r == 0) {
		r = print_all(run, err);
	}
	nix_paths_close(&run->paths);
	return r;
}

enum { ALL = CLI_OPTION_OWN, SIGNATURES };

static int run_path_info(struct cli *cli, const struct cli_command *command, int argc,
			 char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"all", no_argument, NULL, ALL},
						{"recursive", no_argument, NULL, 'r'},
						{"size", no_argument, NULL, 's'},
						{"closure-size", no_argument, NULL, 'S'},
						{"sigs", no_argument, NULL, SIGNATURES},
						{0}};
	struct path_info_run run = {.cli = cli, .first = true};
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "rsS", options,
				    &code)) != -1) {
		switch (c) {
		case ALL:
			run.all = true;
			break;
		case 'r':
			run.recursive = true;
			break;
		case 's':
			run.size = true;
			break;
		case 'S':
			run.closure_size = true;
			break;
		case SIGNATURES:
			run.signatures = true;
			break;
		default:
			return code;
		}
	}
	size_t count = (size_t)(argc - optind);

	if (!nix_paths_check(command, run.all, count)) {
		return EXIT_CODE_USAGE;
	}
	return show(&run, argv + optind, count, &err) < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char path_info_help[] =
	"Usage: cairn nix path-info [OPTION]... PATH...\n"
	"  or:  cairn nix path-info [OPTION]... --all\n"
	"\n"
	"Lists store paths, one a line, and with options what the store knows of them,\n"
	"separated by tabs, sizes in bytes. A PATH is /nix/store/HASH-NAME or HASH-NAME.\n"
	"\n"
	"      --all           all paths that the store has\n"
	"  -r, --recursive     also what they refer to, and what that refers to\n"
	"  -s, --size          the size of the NAR\n"
	"  -S, --closure-size  the size of its NAR and those of all that it refers to\n"
	"      --sigs          content address and signatures\n"
	"      --json          everything, as 'nix path-info --json' does: one array; a\n"
	"                      path that the store does not have is \"valid\": false\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command nix_path_info_command = {
	.name = "path-info",
	.program = "cairn nix path-info",
	.help = path_info_help,
	.run = run_path_info,
};
