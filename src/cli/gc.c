/* cairn gc */

#include <inttypes.h>

#include "base/text.h"
#include "cli/gc_paths.h"
#include "cli/json.h"
#include "cli/progress.h"

struct gc_run {
	struct cli *cli;
	const struct cli_command *command;
	struct gc_paths paths;
	struct store_collect_options options;
	struct store_collected result;
	bool mode_given;
	bool quiet;
};

/* A number and s, m, h, d or w behind it. */
static bool parse_age(const char *text, uint64_t *seconds)
{
	static const struct unit {
		char name;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (text[0] >= '0' && text[0] <= '9' && n <= UINT32_MAX &&
		    end[0] == units[i].name && end[1] == '\0') {
			*seconds = n * units[i].seconds;
			return true;
		}
	}
	return false;
}

static bool set_age(const struct gc_run *run, const char *option, uint64_t *seconds)
{
	if (parse_age(optarg, seconds)) {
		return true;
	}
	cli_usage(run->command, "%s takes an age, as 12h or 30d, not '%s'", option, optarg);
	return false;
}

static bool set_size(struct gc_run *run)
{
	if (text_to_size(optarg, &run->options.max_freed) && run->options.max_freed) {
		return true;
	}
	cli_usage(run->command, "--max-freed takes a number of bytes, as 10G, not '%s'",
		  optarg);
	return false;
}

static bool set_paths(struct gc_run *run)
{
	static const char *const words[] = {[GC_PATHS_ALL] = "all",
					    [GC_PATHS_ROOTS] = "roots",
					    [GC_PATHS_NONE] = "none",
					    NULL};
	int choice = cli_parse_choice(run->command, "--paths", optarg, words);

	run->mode_given = true;
	run->paths.mode = (enum gc_paths_mode)choice;
	return choice >= 0;
}

static void print_json(const struct gc_run *run)
{
	const struct store_collected *r = &run->result;
	struct json j;

	json_begin(&j);
	json_bool(&j, "dry_run", run->options.dry_run);
	json_number(&j, "live", r->live);
	json_number(&j, "absent", r->absent);
	json_number(&j, "paths_kept", run->paths.kept);
	json_number(&j, "paths_removed", run->paths.removed);
	json_number(&j, "blobs", r->blobs);
	json_number(&j, "directories", r->directories);
	json_number(&j, "object_bytes", r->object_bytes);
	json_number(&j, "files", r->files);
	json_number(&j, "packs", r->packs);
	json_number(&j, "packs_in_use", r->packs_in_use);
	json_number(&j, "copied_bytes", r->copied_bytes);
	json_number(&j, "freed_bytes", r->freed_bytes);
	json_end(&j);
}

static void print_result(const struct gc_run *run)
{
	const struct store_collected *r = &run->result;
	const char *would = run->options.dry_run ? "would be " : "";

	if (run->cli->json) {
		print_json(run);
		return;
	}
	if (run->paths.removed) {
		printf("%zu store paths %sforgotten, %zu kept\n", run->paths.removed, would,
		       run->paths.kept);
	}
	printf("%" PRIu64 " objects in use; %" PRIu64 " blobs and %" PRIu64
	       " directories %sdeleted\n",
	       r->live, r->blobs, r->directories, would);
	printf("%s %sfreed: %" PRIu64 " files and %" PRIu64 " packs\n",
	       progress_size(r->freed_bytes), would, r->files, r->packs);
	if (r->packs_in_use) {
		printf("%" PRIu64 " packs with garbage stay: somebody writes to them\n",
		       r->packs_in_use);
	}
	if (r->absent) {
		printf("%" PRIu64 " directories of trees are absent, as in stores near to "
		       "caches\n",
		       r->absent);
	}
}

/* Opened only for this: who collects opens the store again. */
static int choose_paths(struct gc_run *run, struct error *err)
{
	struct store store = {0};
	int r = cli_open_store(run->cli, run->options.dry_run ? STORE_READ_ONLY : 0u, &store,
			       err);

	if (r == 0 && store.path_infos) {
		r = gc_paths_choose(&run->paths, &store, run->options.dry_run, err);
	}
	store_close(&store);
	return r;
}

static int collect(struct gc_run *run, const char *address, struct error *err)
{
	struct store_collect_stats stats = {0};
	struct progress progress = {.verb = "looked at",
				    .noun = "objects, freed",
				    .files = &stats.objects,
				    .bytes = &stats.freed};

	run->options.stats = &stats;
	run->options.tree_of = gc_paths_tree;
	run->options.context = &run->paths;
	run->options.cancel = cli_catch_interrupts();
	progress_start(&progress, !run->quiet);
	int r = choose_paths(run, err);

	if (r == 0) {
		r = store_collect(address, &run->options, &run->result, err);
	}
	progress_stop(&progress);
	run->options.stats = NULL;
	return r;
}

static int run_collection(struct gc_run *run)
{
	char *address cleanup(cleanup_free) = cli_store_address(run->cli);
	struct error err;

	if (!address) {
		return cli_usage(run->command,
				 "no store: --store, $CAIRN_STORE or $HOME is needed");
	}
	int r = collect(run, address, &err);

	/* What was freed before a failure is free. */
	if (r == 0 || run->result.freed_bytes) {
		print_result(run);
	}
	gc_paths_done(&run->paths);
	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

enum { DRY_RUN = CLI_OPTION_OWN, MAX_FREED, OLDER_THAN, PATHS, PATHS_FROM, PATHS_WITHIN };

/* False after a usage message. */
static bool set_option(struct gc_run *run, int option)
{
	switch (option) {
	case MAX_FREED:
		return set_size(run);
	case OLDER_THAN:
		return set_age(run, "--older-than", &run->options.older_than);
	case PATHS:
		return set_paths(run);
	case PATHS_FROM:
		run->paths.list = optarg;
		return true;
	case PATHS_WITHIN:
		return set_age(run, "--paths-within", &run->paths.within);
	case DRY_RUN:
		run->options.dry_run = true;
		return true;
	default:
		run->quiet = true;
		return true;
	}
}

static int run_gc(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS,
		{"dry-run", no_argument, NULL, DRY_RUN},
		{"max-freed", required_argument, NULL, MAX_FREED},
		{"older-than", required_argument, NULL, OLDER_THAN},
		{"paths", required_argument, NULL, PATHS},
		{"paths-from", required_argument, NULL, PATHS_FROM},
		{"paths-within", required_argument, NULL, PATHS_WITHIN},
		{"quiet", no_argument, NULL, 'q'},
		{0}};
	struct gc_run run = {.cli = cli, .command = command};
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS "q", options,
				    &code)) != -1) {
		if (c == CLI_OPTION_STOP) {
			return code;
		}
		if (!set_option(&run, c)) {
			return EXIT_CODE_USAGE;
		}
	}
	if (optind < argc) {
		return cli_usage(command, "unexpected argument '%s'", argv[optind]);
	}
	/* Who says what to keep means that others go. */
	if (!run.mode_given && (run.paths.list || run.paths.within)) {
		run.paths.mode = GC_PATHS_NONE;
	}
	return run_collection(&run);
}

static const char gc_help[] =
	"Usage: cairn gc [OPTION]...\n"
	"\n"
	"Frees what nothing in a store refers to: no name, no store path of Nix, and no\n"
	"process that reads it or has just written it. Runs beside all of them, can be\n"
	"killed at any point, and goes on where the last one stopped.\n"
	"\n"
	"      --dry-run            only say what would go\n"
	"      --max-freed SIZE     stop when so much is freed: 500M, 10G\n"
	"      --older-than AGE     keep what was written within AGE: 12h, 30d, 2w\n"
	"      --paths=all|roots|none\n"
	"                           store paths of Nix that are kept, with all that they\n"
	"                           refer to: all (the default); those that a root has\n"
	"                           the name or the tree of; or none\n"
	"      --paths-from FILE    keep those in FILE (-: standard input), one a line,\n"
	"                           and others only as --paths says\n"
	"      --paths-within AGE   the same with those whose tree was written within AGE\n"
	"  -q, --quiet              no progress\n"
	"      --store ADDRESS, --json, -v, -h: see 'cairn --help'\n";

const struct cli_command gc_command = {
	.name = "gc",
	.program = "cairn gc",
	.help = gc_help,
	.run = run_gc,
};
