/* cairn export */

#include "ingest/export.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/progress.h"

struct export_run {
	struct cli *cli;
	struct export_options options;
	bool quiet;
};

static void print_result(const char *dest, const struct node *node,
			 const struct export_stats *stats)
{
	struct json j;

	json_begin(&j);
	json_bytes(&j, "destination", bytes_of_string(dest));
	json_node(&j, node);
	json_number(&j, "files", stats->files);
	json_number(&j, "directories", stats->directories);
	json_number(&j, "symlinks", stats->symlinks);
	json_number(&j, "bytes", stats->bytes);
	json_end(&j);
}

static int export_root(struct export_run *run, struct store *store, const char *root,
		       const char *dest, struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct export_stats stats = {0};
	struct progress progress = {
		.verb = "exported", .files = &stats.files, .bytes = &stats.bytes};
	int r = cli_resolve(store, root, false, &node, err);

	if (r < 0) {
		return r;
	}
	run->options.cancel = cli_catch_interrupts();
	progress_start(&progress, !run->quiet);
	r = export_tree(store, &node.node, dest, &run->options, &stats, err);
	progress_stop(&progress);
	if (r == 0 && run->cli->json) {
		print_result(dest, &node.node, &stats);
	}
	return r;
}

enum { THREADS = CLI_OPTION_OWN };

static int run_export(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS,
						{"threads", required_argument, NULL, THREADS},
						{"quiet", no_argument, NULL, 'q'},
						{0}};
	struct export_run run = {.cli = cli};
	struct store store = {0};
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "q", options,
				    &code)) != -1) {
		switch (c) {
		case THREADS:
			if (!cli_parse_count(command, "--threads", optarg, 16,
					     &run.options.threads)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case 'q':
			run.quiet = true;
			break;
		default:
			return code;
		}
	}
	if (argc - optind != 2) {
		return cli_usage(command, "a root and a destination are needed");
	}
	int r = cli_open_store(cli, STORE_READ_ONLY, &store, &err);

	if (r == 0) {
		r = export_root(&run, &store, argv[optind], argv[optind + 1], &err);
	}
	store_close(&store);
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char export_help[] =
	"Usage: cairn export [OPTION]... ROOT[/PATH] DEST\n"
	"\n"
	"Writes a tree, file or symlink to DEST, which must not exist; for a tree it may\n"
	"be an empty directory. Directories get mode 0755, files 0644 or 0755, less the\n"
	"umask. Long runs of zeros become holes.\n"
	"\n"
	"      --threads N  write with N threads, 1 to 16 (default: one for each CPU,\n"
	"                   up to 12 while they wait for a disk; 8 when the store is far)\n"
	"  -q, --quiet      no progress\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

const struct cli_command export_command = {
	.name = "export",
	.program = "cairn export",
	.help = export_help,
	.run = run_export,
};
