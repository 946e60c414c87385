/* cairn nar restore */

#include "nix/nar_restore.h"
#include "cli/cli.h"
#include "cli/nar_file.h"
#include "cli/progress.h"

static void print_result(const char *dest, const struct nar_stats *stats)
{
	struct json j;

	json_begin(&j);
	json_bytes(&j, "destination", bytes_of_string(dest));
	json_number(&j, "files", stats->files);
	json_number(&j, "directories", stats->directories);
	json_number(&j, "symlinks", stats->symlinks);
	json_end(&j);
}

static int restore(const struct cli *cli, const char *path, const char *dest, bool quiet,
		   struct error *err)
{
	const atomic_bool *cancel = cli_catch_interrupts();
	struct nar_file file;
	struct nar_stats stats = {0};
	struct nar_options options = {.cancel = cancel, .stats = &stats};
	struct progress progress = {
		.verb = "restored", .files = &stats.files, .bytes = &stats.bytes};
	int r = nar_file_open(&file, path, cancel, err);

	if (r == 0) {
		progress_start(&progress, !quiet);
		r = nar_restore(&file.source.base, dest, &options, err);
		progress_stop(&progress);
		r = nar_file_result(&file, r, err);
	}
	nar_file_close(&file);
	if (r == 0 && cli->json) {
		print_result(dest, &stats);
	}
	return r;
}

static int run_restore(struct cli *cli, const struct cli_command *command, int argc,
		       char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, {"quiet", no_argument, NULL, 'q'}, {0}};
	bool quiet = false;
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "q", options,
				    &code)) != -1) {
		if (c != 'q') {
			return code;
		}
		quiet = true;
	}
	if (argc - optind != 1 && argc - optind != 2) {
		return cli_usage(command, "a destination is needed, and at most one file");
	}
	return restore(cli, argv[optind + 1], argv[optind], quiet, &err) < 0 ? cli_fail(&err)
									     : EXIT_CODE_OK;
}

static const char restore_help[] =
	"Usage: cairn nar restore [OPTION]... DEST [FILE]\n"
	"\n"
	"Writes what a NAR holds to DEST, which must not exist; for a tree it may be an\n"
	"empty directory. No store is needed. Reads standard input when there is no\n"
	"FILE, or when it is '-'. Nothing outside of DEST is touched, whatever the NAR\n"
	"holds. Directories get mode 0755, files 0644 or 0755, less the umask. When the\n"
	"NAR turns out to be broken (exit status 4), what was written until then stays.\n"
	"\n"
	"  -q, --quiet    no progress\n"
	"      --json, -v, -h: see 'cairn --help'\n";

const struct cli_command nar_restore_command = {
	.name = "restore",
	.program = "cairn nar restore",
	.help = restore_help,
	.run = run_restore,
};
