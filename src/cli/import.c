/* cairn import */

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/source.h"

struct import_run {
	struct cli *cli;
	const struct cli_command *command;
	struct store store;
	struct ingest_options options;
	const char *name; /* --name */
	bool no_name;
	bool replace;
	bool quiet;
};

static int find_name(const struct import_run *run, const char *path, char **out,
		     struct error *err)
{
	*out = run->name ? xstrdup(run->name) : source_name(path);
	if (!*out) {
		return error_set_errno(err, errno, "%s",
				       bytes_printable(bytes_of_string(path)));
	}
	int r = node_name_check(bytes_of_string(*out), err);

	if (r < 0) {
		error_wrap(err, "%s: no name for the store comes from this path; give --name",
			   bytes_printable(bytes_of_string(path)));
	}
	return r;
}

/* What one import read and what the store has grown by. */
struct import_result {
	struct ingest_stats read;
	uint64_t bytes_new, bytes_stored;
};

static void print_result(const struct import_run *run, const char *name,
			 const struct node *node, const struct import_result *result)
{
	const struct ingest_stats *stats = &result->read;

	if (run->cli->json) {
		struct json j;

		json_begin(&j);
		if (name) {
			json_bytes(&j, "name", bytes_of_string(name));
		}
		json_node(&j, node);
		json_number(&j, "files", stats->files);
		json_number(&j, "directories", stats->directories);
		json_number(&j, "symlinks", stats->symlinks);
		json_number(&j, "skipped", stats->skipped);
		json_number(&j, "bytes", stats->bytes);
		json_number(&j, "bytes_read", stats->bytes_read);
		json_number(&j, "bytes_new", result->bytes_new);
		json_number(&j, "bytes_stored", result->bytes_stored);
		json_end(&j);
		return;
	}
	output_digest(node);
	if (name) {
		fputs("  ", stdout);
		output_name(bytes_of_string(name), output_to_terminal());
	}
	putchar('\n');
}

/* The tree, and then its name. */
static int import_tree(struct import_run *run, const char *path, const char *name,
		       struct root_node *node, struct ingest_stats *stats, struct error *err)
{
	int r = ingest_path(&run->store, path, &run->options, node, stats, err);

	if (r == 0) {
		r = name ? root_nodes_put(run->store.roots, bytes_of_string(name), &node->node,
					  run->replace, err)
			 : store_sync(&run->store, err);
	}
	return r;
}

static int import_path(struct import_run *run, const char *path, const char *name,
		       struct error *err)
{
	struct root_node node cleanup(root_node_done) = {0};
	struct import_result result = {0};
	struct ingest_stats *stats = &result.read;
	unsigned tries = 0;
	struct progress progress = {
		.verb = "imported", .files = &stats->files, .bytes = &stats->bytes};
	struct blob_counts before = {0}, after = {0};
	int r = blob_service_count(run->store.blobs, &before, err);

	if (r < 0) {
		return r;
	}
	do {
		*stats = (struct ingest_stats){0};
		progress_start(&progress, !run->quiet);
		r = import_tree(run, path, name, &node, stats, err);
		progress_stop(&progress);
	} while (cli_once_more(r, &tries, err) &&
		 (r = blob_service_recover(run->store.blobs, err)) == 0);
	if (r == 0) {
		r = blob_service_count(run->store.blobs, &after, err);
	}
	if (r == -ERROR_EXISTS) {
		error_wrap(err, "--replace is needed");
	}
	if (r < 0) {
		return r;
	}
	result.bytes_new = after.put_bytes - before.put_bytes;
	result.bytes_stored = after.put_stored - before.put_stored;
	if (stats->skipped && !run->quiet) {
		log_warning("%s: %" PRIu64 " sockets, devices or FIFOs left out",
			    bytes_printable(bytes_of_string(path)), stats->skipped);
	}
	log_info("%s: %s in %" PRIu64 " files, %s of it new, stored in %s",
		 bytes_printable(bytes_of_string(path)), progress_size(stats->bytes),
		 stats->files, progress_size(result.bytes_new),
		 progress_size(result.bytes_stored));
	print_result(run, name, &node.node, &result);
	/*
	 * What is printed is durable, and a reader of the pipe may act on it now. A failure
	 * stays with the stream and is told at the end.
	 */
	(void)fflush(stdout);
	return 0;
}

static int import_named(struct import_run *run, char **paths, char **names, size_t count)
{
	struct error err;
	int r = cli_open_store(run->cli, STORE_CREATE, &run->store, &err);

	if (r == 0) {
		source_exclude_store(run->cli, &run->options);
		run->options.cancel = cli_catch_interrupts();
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = import_path(run, paths[i], run->no_name ? NULL : names[i], &err);
	}
	store_close(&run->store);
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static int check_names(const struct import_run *run, char **paths, char **names, size_t count)
{
	struct error err;

	for (size_t i = 0; i < count && !run->no_name; i++) {
		if (find_name(run, paths[i], &names[i], &err) < 0) {
			return cli_fail(&err);
		}
		for (size_t k = 0; k < i; k++) {
			if (strcmp(names[k], names[i]) == 0) {
				return cli_usage(run->command,
						 "two paths would get the name '%s'", names[i]);
			}
		}
	}
	return EXIT_CODE_OK;
}

static int import_all(struct import_run *run, char **paths, size_t count)
{
	if (count == 0) {
		return cli_usage(run->command, "a path is missing");
	}
	if (run->name && (count > 1 || run->no_name)) {
		return cli_usage(run->command,
				 "--name goes with one path and without --no-name");
	}
	char **names = xcalloc(count, sizeof(names[0]));
	int code = check_names(run, paths, names, count);

	if (code == EXIT_CODE_OK) {
		code = import_named(run, paths, names, count);
	}
	for (size_t i = 0; i < count; i++) {
		free(names[i]);
	}
	free(names);
	return code;
}

enum { NO_NAME = CLI_OPTION_OWN, REPLACE, SKIP_SPECIAL, SIZES, THREADS, NO_CACHE };

static bool parse_sizes(const struct cli_command *command, const char *text, bool *count_twice)
{
	*count_twice = strcmp(text, "tvix") == 0;
	if (!*count_twice && strcmp(text, "cairn") != 0) {
		cli_usage(command, "--sizes is cairn or tvix, not '%s'", text);
		return false;
	}
	return true;
}

static int run_import(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"name", required_argument, NULL, 'n'},
		{"no-name", no_argument, NULL, NO_NAME},
		{"replace", no_argument, NULL, REPLACE},
		{"force", no_argument, NULL, REPLACE},
		{"skip-special", no_argument, NULL, SKIP_SPECIAL},
		{"one-file-system", no_argument, NULL, 'x'},
		{"sizes", required_argument, NULL, SIZES},
		{"threads", required_argument, NULL, THREADS},
		{"no-cache", no_argument, NULL, NO_CACHE},
		{"quiet", no_argument, NULL, 'q'},
		{0}};
	struct import_run run = {.cli = cli, .command = command, .options = {.use_seen = true}};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "n:xq", options,
				    &code)) != -1) {
		switch (c) {
		case 'n':
			run.name = optarg;
			break;
		case NO_NAME:
			run.no_name = true;
			break;
		case REPLACE:
			run.replace = true;
			break;
		case SKIP_SPECIAL:
			run.options.skip_special = true;
			break;
		case 'x':
			run.options.one_file_system = true;
			break;
		case SIZES:
			if (!parse_sizes(command, optarg, &run.options.count_twice)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case THREADS:
			if (!cli_parse_count(command, "--threads", optarg, 16,
					     &run.options.threads)) {
				return EXIT_CODE_USAGE;
			}
			break;
		case NO_CACHE:
			run.options.use_seen = false;
			break;
		case 'q':
			run.quiet = true;
			break;
		default:
			return code;
		}
	}
	return import_all(&run, argv + optind, (size_t)(argc - optind));
}

static const char import_help[] =
	"Usage: cairn import [OPTION]... PATH...\n"
	"\n"
	"Puts each file, symlink or directory tree into the store, under the last part\n"
	"of its path as name, and prints its digest and name. The store is made when\n"
	"there is none. A tree gets its name only when all of it is stored.\n"
	"\n"
	"  -n, --name NAME        the name, for one PATH\n"
	"      --no-name          give no name, print the digest only\n"
	"      --replace, --force if the name stands for something else, replace that\n"
	"  -x, --one-file-system  do not descend into other file systems mounted below:\n"
	"                         their directories are empty\n"
	"      --skip-special     leave out sockets, devices and FIFOs instead of failing\n"
	"      --sizes=tvix       count entries of directories as Tvix and snix do, whose\n"
	"                         daemons refuse other sizes; gives other digests\n"
	"      --no-cache         read all files again, also those that seem unchanged\n"
	"                         since an earlier import\n"
	"      --threads N        read with N threads, 1 to 16 (default: one for each\n"
	"                         CPU, up to 12 while they wait for a disk)\n"
	"  -q, --quiet            no progress, no warnings\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

const struct cli_command import_command = {
	.name = "import",
	.program = "cairn import",
	.help = import_help,
	.run = run_import,
};
