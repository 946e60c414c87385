/* cairn nar dump */

#include <errno.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "nix/nar_writer.h"

static int dump(struct cli *cli, const char *root, bool quiet, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct nar_stats stats = {0};
	struct nar_options options = {.stats = &stats};
	struct progress progress = {
		.verb = "written", .files = &stats.files, .bytes = &stats.bytes};
	struct store store = {0};
	int r = cli_open_store(cli, STORE_READ_ONLY, &store, err);

	if (r == 0) {
		r = cli_resolve(&store, root, false, &node, err);
	}
	if (r == 0) {
		options.cancel = cli_catch_interrupts();
		progress_start(&progress, !quiet);
		r = nar_write_fd(&store, &node.node, STDOUT_FILENO, &options, err);
		progress_stop(&progress);
	}
	store_close(&store);
	return r;
}

static int run_dump(struct cli *cli, const struct cli_command *command, int argc, char **argv)
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
	if (argc - optind != 1) {
		return cli_usage(command, "one root is needed");
	}
	if (isatty(STDOUT_FILENO)) {
		return cli_usage(command, "standard output is a terminal; redirect it");
	}
	int r = dump(cli, argv[optind], quiet, &err);

	/* A reader that has seen enough is no fault worth a message. */
	if (r < 0 && err.os_errno == EPIPE) {
		return EXIT_CODE_FAILURE;
	}
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char dump_help[] =
	"Usage: cairn nar dump [OPTION]... ROOT[/PATH]\n"
	"\n"
	"Writes the NAR of a tree, file or symlink to standard output, which must not be\n"
	"a terminal. It is what 'nix-store --dump' writes of the same tree.\n"
	"\n"
	"  -q, --quiet    no progress\n"
	"      --store ADDRESS, -v, -h: see 'cairn --help'\n";

const struct cli_command nar_dump_command = {
	.name = "dump",
	.program = "cairn nar dump",
	.help = dump_help,
	.run = run_dump,
};
